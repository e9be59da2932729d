//! UDP flows to endpoints that are gone are taken out of the tables at once, so that the client's next datagram goes
//! to a live one. TCP and SCTP connections stay for as long as their endpoint answers.
//!
//! To be called after the plan without these endpoints has been applied: what is removed here must not be opened anew.

use aya::Pod;
use svcproxy_common::{
    abi::{FlowEntry, FlowKey, Protocol},
    flow::reverse_key,
};

use super::{DatapathError, Family, MapKeys, Maps, entries, grace, maps::delete};
use crate::plan::{MapAddress, Serving, UdpEndpoints};

/// How often a flow is removed again that a packet between the removals of its two halves has restored.
const ATTEMPTS: u32 = 16;

impl Maps {
    /// Removes the UDP flows whose endpoint serves no more; returns how many table entries that were.
    ///
    /// # Errors
    ///
    /// When a table cannot be read or changed.
    pub fn forget_stale(&mut self, endpoints: &UdpEndpoints) -> Result<usize, DatapathError> {
        // A program that chose its endpoint by the old plan may not have stored the flow yet.
        grace::wait();
        Ok(self.v4.forget_stale(&endpoints.v4)? + self.v6.forget_stale(&endpoints.v6)?)
    }
}

impl<A: MapKeys + MapAddress> Family<A>
where
    FlowKey<A>: Pod,
    FlowEntry<A>: Pod,
{
    fn forget_stale(&mut self, serving: &Serving<A>) -> Result<usize, DatapathError> {
        let mut removed = 0;
        // In the direction in which another processor may be moving a flow.
        for (table, name) in [(&mut self.pending, "pending"), (&mut self.flows, "flows")] {
            let mut keys = stale(entries(table, name)?, serving);
            removed += keys.len();
            for _ in 0..ATTEMPTS {
                if keys.is_empty() {
                    break;
                }
                delete(table, &keys, name)?;
                let restored = keys.iter().filter_map(|key| Some((*key, table.get(key, 0).ok()?)));
                keys = stale(restored, serving);
            }
        }
        Ok(removed)
    }
}

/// The keys of all UDP entries whose endpoint does not serve, the two halves of a flow one after the other: a packet
/// between their removals can restore the first.
fn stale<A: MapAddress>(
    table: impl IntoIterator<Item = (FlowKey<A>, FlowEntry<A>)>,
    serving: &Serving<A>,
) -> Vec<FlowKey<A>> {
    let judge = |(key, entry): (FlowKey<A>, FlowEntry<A>)| {
        let reply = entry.state.is_reply();
        let (service, endpoint) = match reply {
            false => ((key.dst, key.dst_port), (entry.dst, entry.dst_port)),
            true => ((entry.src, entry.src_port), (key.src, key.src_port)),
        };
        let original = if reply { reverse_key(&key, &entry) } else { key };
        (key.protocol == Protocol::UDP && !serving.has(service, endpoint)).then_some((original, reply, key))
    };
    let mut found: Vec<_> = table.into_iter().filter_map(judge).collect();
    found.sort_unstable();
    found.into_iter().map(|(.., key)| key).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use svcproxy_common::{
        abi::{FlowState, V4Addr, V6Addr},
        flow::NextHop,
    };

    use super::*;
    use crate::model::{Endpoint, Model, NodePolicy, Service, ServiceName, ServicePort, ServiceType, TrafficPolicy};

    /// Addresses of a client, a Service, the node, an endpoint that serves and one that is gone.
    struct World<A> {
        client: A,
        vip: A,
        node: A,
        alive: A,
        gone: A,
    }

    fn world<A: MapAddress>(addresses: [&str; 5]) -> World<A> {
        let [client, vip, node, alive, gone] =
            addresses.map(|text| A::from_ip(text.parse::<IpAddr>().unwrap()).expect("of this family"));
        World {
            client,
            vip,
            node,
            alive,
            gone,
        }
    }

    fn v4() -> World<V4Addr> {
        world(["203.0.113.7", "10.96.0.10", "192.0.2.1", "10.244.0.1", "10.244.0.2"])
    }

    fn v6() -> World<V6Addr> {
        world(["2001:db8::7", "fd00:10:96::a", "2001:db8::1", "fd00::1", "fd00::2"])
    }

    impl<A: MapAddress> World<A> {
        /// What `vip:53` is, with these endpoints on port 5353.
        fn endpoints(&self, protocol: Protocol, endpoints: &[A]) -> UdpEndpoints {
            let endpoints = endpoints.iter().map(|address| Endpoint::ready(address.ip(), 5353));
            let service = Service {
                name: ServiceName {
                    namespace: "default".to_owned(),
                    name: "dns".to_owned(),
                },
                service_type: ServiceType::ClusterIp,
                cluster_ips: vec![self.vip.ip()],
                external_ips: Vec::new(),
                load_balancer_ips: Vec::new(),
                load_balancer_source_ranges: Vec::new(),
                internal_traffic_policy: TrafficPolicy::Cluster,
                external_traffic_policy: TrafficPolicy::Cluster,
                health_check_node_port: None,
                affinity_seconds: None,
                selector: Default::default(),
                ports: vec![ServicePort {
                    name: String::new(),
                    protocol,
                    port: 53,
                    node_port: None,
                    endpoints: endpoints.collect(),
                }],
            };
            let model = Model {
                services: vec![service.into()],
                ..Model::default()
            };
            UdpEndpoints::of(&model, &NodePolicy::default())
        }

        /// The two entries of a flow to `endpoint`, original first. A masqueraded one has the node's address.
        fn flow(&self, protocol: Protocol, endpoint: A, masquerade: bool) -> [(FlowKey<A>, FlowEntry<A>); 2] {
            let key = FlowKey {
                src: self.client,
                dst: self.vip,
                src_port: 40_000,
                dst_port: 53,
                protocol,
            };
            let source = if masquerade {
                (self.node, 61_000)
            } else {
                (self.client, 40_000)
            };
            let mut entry = FlowEntry::blank(self.client);
            let state = FlowState::initial(protocol);
            entry.fill(&key, source, (endpoint, 5353), state, 1);
            let mut reply = entry;
            reply.reverse(&key, NextHop::ROUTING, FlowState::REPLY);
            [(key, entry), (reverse_key(&key, &entry), reply)]
        }
    }

    /// In a family: what serves, the flow, how many of its entries are stale.
    fn check<A: MapAddress>(world: &World<A>, serving: fn(&UdpEndpoints) -> &Serving<A>) {
        use Protocol::{SCTP, TCP, UDP};
        let both = world.endpoints(UDP, &[world.alive, world.gone]);
        let one = world.endpoints(UDP, &[world.alive]);
        let none = world.endpoints(UDP, &[]);
        let tcp = world.endpoints(TCP, &[world.alive]);
        let deleted = UdpEndpoints::default();
        for (endpoints, protocol, endpoint, entries) in [
            (&both, UDP, world.gone, 2),
            (&one, UDP, world.alive, 2),
            (&one, UDP, world.gone, 0),
            (&none, UDP, world.alive, 0),
            (&deleted, UDP, world.alive, 0),
            (&tcp, UDP, world.alive, 0),
            (&deleted, TCP, world.gone, 2),
            (&deleted, SCTP, world.gone, 2),
        ] {
            for masquerade in [false, true] {
                let [original, reply] = world.flow(protocol, endpoint, masquerade);
                let left = |table: &[_]| table.len() - stale(table.iter().copied(), serving(endpoints)).len();
                assert_eq!(
                    left(&[reply, original]),
                    entries,
                    "{protocol} {endpoint:?} {masquerade}"
                );
                // Whichever half is alone in the table.
                assert_eq!(left(&[original]), entries / 2);
                assert_eq!(left(&[reply]), entries / 2);
            }
        }
    }

    #[test]
    fn rule_26_udp_flows_to_endpoints_that_are_gone_are_stale_and_rule_27_no_others() {
        check(&v4(), |endpoints| &endpoints.v4);
        check(&v6(), |endpoints| &endpoints.v6);
    }

    #[test]
    fn the_halves_of_a_flow_are_neighbours() {
        let world = v4();
        let mut flows = [1, 2, 3].map(|octet| {
            let client = V4Addr {
                octets: [203, 0, 113, octet],
            };
            World { client, ..v4() }.flow(Protocol::UDP, world.gone, false)
        });
        flows.reverse();
        let table = flows.map(|[original, _]| original).into_iter();
        let table = table.chain(flows.map(|[_, reply]| reply));
        let keys = stale(table, &Serving::default());
        flows.reverse();
        let wanted: Vec<_> = flows.iter().flatten().map(|(key, _)| *key).collect();
        assert_eq!(keys, wanted);
    }
}
