//! Services in the tables, as the control plane writes them:
//! `Cluster::default().put(node, service(1).port(TCP, vip, &pods))`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use svcproxy_common::{
    abi::{Backend, BackendKey, Empty, EndpointSet, Protocol, ServiceEntry, ServiceKey, V4Addr, V6Addr, Way},
    maglev::{self, Candidate},
};

use super::{HostTables, Side};

/// Gives out what the control plane gives out: numbers of sets and endpoints, and regions of slots.
#[derive(Default)]
pub struct Cluster {
    sets: BTreeMap<(SocketAddr, Protocol, bool), u32>,
    endpoints: BTreeMap<IpAddr, u32>,
    slots: u32,
}

/// A Service with one ServicePort; further ports are written under the same number.
#[derive(Clone, Copy, Debug)]
pub struct Port<'a> {
    service: u32,
    protocol: Protocol,
    vip: SocketAddr,
    outside: &'a [SocketAddr],
    inside: &'a [SocketAddr],
    empty: Empty,
    affinity_seconds: u32,
    way: Way,
    filtered: bool,
    masquerade: [bool; 3],
}

/// A ServicePort of the Service with this number: a cluster IP that nobody is masqueraded for.
pub fn service(number: u32, protocol: Protocol, vip: SocketAddr, endpoints: &[SocketAddr]) -> Port<'_> {
    Port {
        service: number,
        protocol,
        vip,
        outside: endpoints,
        inside: endpoints,
        empty: Empty::REJECT,
        affinity_seconds: 0,
        way: Way::CLUSTER_IP,
        filtered: false,
        masquerade: [false; 3],
    }
}

/// The entry for the ports of a cluster IP that no ServicePort has.
pub fn other_ports(number: u32, vip: IpAddr) -> Port<'static> {
    Port {
        way: Way::OTHER_PORT,
        ..service(number, Protocol::ANY, SocketAddr::new(vip, 0), &[])
    }
}

impl<'a> Port<'a> {
    /// `sessionAffinity: ClientIP`
    pub fn affinity(self, seconds: u32) -> Self {
        Self {
            affinity_seconds: seconds,
            ..self
        }
    }

    /// Which of the Service's addresses it is.
    pub fn way(self, way: Way) -> Self {
        Self { way, ..self }
    }

    /// Only these for clients outside the cluster, who get silence when there is none: `externalTrafficPolicy: Local`.
    pub fn local(self, endpoints: &'a [SocketAddr]) -> Self {
        Self {
            outside: endpoints,
            empty: Empty::DROP,
            ..self
        }
    }

    /// `loadBalancerSourceRanges`; see [`Node::set_source_range`](super::Node::set_source_range).
    pub fn filtered(self) -> Self {
        Self { filtered: true, ..self }
    }

    /// Who is masqueraded: clients outside, pods, this node.
    pub fn masquerade(self, masquerade: [bool; 3]) -> Self {
        Self { masquerade, ..self }
    }
}

impl Cluster {
    /// Writes a ServicePort, in place of what was at its address.
    pub fn put(&mut self, tables: &HostTables, port: Port<'_>) {
        match port.vip {
            SocketAddr::V4(_) => self.put_side::<V4Addr>(tables, port),
            SocketAddr::V6(_) => self.put_side::<V6Addr>(tables, port),
        }
    }

    fn put_side<A: Side>(&mut self, tables: &HostTables, port: Port<'_>) {
        let inside = self.set::<A>(tables, &port, true);
        let outside = match port.outside == port.inside {
            true => inside,
            false => self.set::<A>(tables, &port, false),
        };
        let key = ServiceKey {
            address: A::from_ip(port.vip.ip()),
            port: port.vip.port().into(),
            protocol: port.protocol,
        };
        let [masquerade_outside, masquerade_pods, masquerade_node] = port.masquerade;
        let entry = ServiceEntry {
            service: port.service,
            affinity_seconds: port.affinity_seconds,
            outside,
            inside,
            way: port.way,
            filtered: port.filtered,
            masquerade_outside,
            masquerade_pods,
            masquerade_node,
            reserved: [0; 3],
        };
        A::of(tables).services.insert(key, entry);
    }

    /// Writes one of the two sets of a ServicePort.
    fn set<A: Side>(&mut self, tables: &HostTables, port: &Port<'_>, inside: bool) -> EndpointSet {
        let maps = A::of(tables);
        let fresh = self.sets.len() as u32 + 1;
        let key = (port.vip, port.protocol, inside);
        let endpoint_set = *self.sets.entry(key).or_insert(fresh);
        for key in maps.backends.keys() {
            if key.endpoint_set == endpoint_set {
                maps.backends.remove(&key);
            }
        }
        let mut candidates = Vec::new();
        for endpoint in if inside { port.inside } else { port.outside } {
            let fresh = self.endpoints.len() as u32 + 101;
            let number = *self.endpoints.entry(endpoint.ip()).or_insert(fresh);
            let address = A::from_ip(endpoint.ip());
            candidates.push(Candidate::new(&address, 0, number));
            maps.backends.insert(
                BackendKey {
                    endpoint_set,
                    endpoint: number,
                },
                Backend {
                    address,
                    port: endpoint.port().into(),
                    protocol: port.protocol,
                },
            );
        }
        let slot_count = maglev::table_length(candidates.len()).unwrap();
        let mut region = vec![0; slot_count as usize];
        maglev::fill(&mut candidates, &mut region);
        let slot_offset = self.slots;
        self.slots += slot_count;
        for (index, endpoint) in (slot_offset..).zip(region) {
            tables.slots.insert(index, endpoint);
        }
        EndpointSet {
            number: endpoint_set,
            slot_offset,
            slot_count,
            empty: if inside { Empty::REJECT } else { port.empty },
        }
    }
}
