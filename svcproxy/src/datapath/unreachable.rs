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
