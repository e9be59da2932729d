//! TCP connections whose endpoint is out of reach are marked, so that the programs reset them with the client's next
//! segment; nobody else would answer it. Those whose endpoint is back go on.
//!
//! UDP has no connection to reset, and SCTP's heartbeats notice by themselves.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use aya::Pod;
use svcproxy_common::abi::{Delivery, FlowEntry, FlowKey, FlowState, Protocol};

use super::{DatapathError, Family, MapKeys, Maps, entries, grace, maps::is_gone};
use crate::plan::MapAddress;

/// `BPF_EXIST`: changes an element, and never adds one.
const EXIST: u64 = 2;

/// Addresses of endpoints, of both families.
#[derive(Debug, Clone, Default)]
pub struct Shift {
    /// Whose connections are to be reset.
    pub lost: BTreeSet<IpAddr>,
    /// Whose connections are to go on.
    pub back: BTreeSet<IpAddr>,
}

impl Maps {
    /// Marks the TCP connections to the endpoints that are lost, and takes the mark off those to endpoints that are back.
    /// Returns how many were marked, by endpoint.
    ///
    /// # Errors
    ///
    /// When a table cannot be read or changed.
    pub fn shift(&mut self, shift: &Shift) -> Result<BTreeMap<IpAddr, usize>, DatapathError> {
        // A program that chose its endpoint by an older plan may not have stored the connection yet.
        grace::wait();
        let mut marked = BTreeMap::new();
        self.v4.shift(shift, &mut marked)?;
        self.v6.shift(shift, &mut marked)?;
        Ok(marked)
    }
}

impl<A: MapKeys + MapAddress> Family<A>
where
    FlowKey<A>: Pod,
    FlowEntry<A>: Pod,
{
    fn shift(&mut self, shift: &Shift, marked: &mut BTreeMap<IpAddr, usize>) -> Result<(), DatapathError> {
        // In the direction in which another processor may be moving a connection.
        for (table, name) in [(&mut self.pending, "pending"), (&mut self.flows, "flows")] {
            for (key, entry) in shifted(entries(table, name)?, shift) {
                // Whole, so a time that a program writes just now is lost: the connection seems a second older.
                match table.insert(key, entry, EXIST) {
                    Ok(()) if entry.delivery == Delivery::RESET => *marked.entry(entry.dst.ip()).or_default() += 1,
                    Err(error) if !is_gone(&error) => return Err(DatapathError::map(name)(error)),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

/// The entries that change, as they are to be.
fn shifted<A: MapAddress>(
    table: impl IntoIterator<Item = (FlowKey<A>, FlowEntry<A>)>,
    shift: &Shift,
) -> impl Iterator<Item = (FlowKey<A>, FlowEntry<A>)> {
    table.into_iter().filter_map(|(key, mut entry)| {
        let of_client = key.protocol == Protocol::TCP && !entry.state.is_reply();
        let endpoint = entry.dst.ip();
        entry.delivery = match entry.delivery {
            Delivery::RESET if shift.back.contains(&endpoint) => Delivery::ROUTING,
            Delivery::RESET => return None,
            // Over already.
            _ if entry.state == FlowState::CLOSING => return None,
            _ if shift.lost.contains(&endpoint) => Delivery::RESET,
            _ => return None,
        };
        entry.ifindex = 0;
        of_client.then_some((key, entry))
    })
}

#[cfg(test)]
mod tests {
    use svcproxy_common::{
        abi::{V4Addr, V6Addr},
        flow::{NextHop, reverse_key},
    };

    use super::*;

    /// In a family: client, Service, endpoint.
    fn check<A: MapAddress>(addresses: [&str; 3]) {
        use Delivery::{PEER, RESET, ROUTING};
        use FlowState::{CLOSING, ESTABLISHED, REPLY, SYN_SENT, UDP_REPLIED};
        use Protocol::{SCTP, TCP, UDP};
        let ips = addresses.map(|text| text.parse::<IpAddr>().unwrap());
        let [client, vip, endpoint] = ips.map(|ip| A::from_ip(ip).expect("of this family"));
        let lost = || Shift {
            lost: BTreeSet::from([ips[2]]),
            ..Shift::default()
        };
        let back = || Shift {
            back: BTreeSet::from([ips[2]]),
            ..Shift::default()
        };
        // Neither the client nor the Service is the endpoint.
        let others = || Shift {
            lost: BTreeSet::from([ips[0], ips[1]]),
            back: BTreeSet::from([ips[0], ips[1]]),
        };
        for (protocol, state, delivery, shift, expected) in [
            (TCP, ESTABLISHED, PEER, lost(), Some(RESET)),
            (TCP, SYN_SENT, ROUTING, lost(), Some(RESET)),
            (TCP, ESTABLISHED, RESET, lost(), None),
            (TCP, CLOSING, PEER, lost(), None),
            (UDP, UDP_REPLIED, PEER, lost(), None),
            (SCTP, ESTABLISHED, PEER, lost(), None),
            (TCP, ESTABLISHED, RESET, back(), Some(ROUTING)),
            (TCP, CLOSING, RESET, back(), Some(ROUTING)),
            (TCP, ESTABLISHED, PEER, back(), None),
            (TCP, ESTABLISHED, PEER, others(), None),
            (TCP, ESTABLISHED, RESET, others(), None),
        ] {
            let key = FlowKey {
                src: client,
                dst: vip,
                src_port: 40_000,
                dst_port: 80,
                protocol,
            };
            let mut entry = FlowEntry::blank(client);
            entry.fill(&key, (client, 40_000), (endpoint, 8080), state, 1);
            let mut reply = entry;
            reply.reverse(&key, NextHop::ROUTING, REPLY);
            entry.delivery = delivery;
            entry.ifindex = 7;
            let table = [(reverse_key(&key, &entry), reply), (key, entry)];
            let expected = expected.map(|delivery| {
                let entry = FlowEntry {
                    delivery,
                    ifindex: 0,
                    ..entry
                };
                (key, entry)
            });
            let found: Vec<_> = shifted(table, &shift).collect();
            assert_eq!(
                found,
                Vec::from_iter(expected),
                "{protocol} {state:?} {delivery:?} {shift:?}"
            );
        }
    }

    #[test]
    fn rule_27_the_clients_half_of_tcp_connections_to_lost_endpoints_is_marked_and_no_other() {
        check::<V4Addr>(["203.0.113.7", "10.96.0.10", "10.244.0.1"]);
        check::<V6Addr>(["2001:db8::7", "fd00:10:96::a", "fd00::1"]);
    }
}
