//! Services in the tables, as the control plane writes them:
//! `Cluster::default().put(node, service(1).port(TCP, vip, &pods))`.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use svcproxy_common::{
    abi::{Backend, BackendKey, Protocol, ServiceEntry, ServiceKey, V4Addr, V6Addr},
    maglev::{self, Candidate},
};

use super::{HostTables, Side};

/// Gives out what the control plane gives out: numbers of sets and endpoints, and regions of slots.
#[derive(Default)]
pub struct Cluster {
    sets: BTreeMap<(SocketAddr, Protocol), u32>,
    endpoints: BTreeMap<IpAddr, u32>,
    slots: u32,
}

/// A Service with one ServicePort; further ports are written under the same number.
#[derive(Clone, Copy, Debug)]
pub struct Port<'a> {
    service: u32,
    protocol: Protocol,
    vip: SocketAddr,
    endpoints: &'a [SocketAddr],
    affinity_seconds: u32,
}

/// A ServicePort of the Service with this number.
pub fn service(number: u32, protocol: Protocol, vip: SocketAddr, endpoints: &[SocketAddr]) -> Port<'_> {
    Port {
        service: number,
        protocol,
        vip,
        endpoints,
        affinity_seconds: 0,
    }
}

impl Port<'_> {
    /// `sessionAffinity: ClientIP`
    pub fn affinity(self, seconds: u32) -> Self {
        Self {
            affinity_seconds: seconds,
            ..self
        }
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
        let maps = A::of(tables);
        let fresh = self.sets.len() as u32 + 1;
        let endpoint_set = *self.sets.entry((port.vip, port.protocol)).or_insert(fresh);
        for key in maps.backends.keys() {
            if key.endpoint_set == endpoint_set {
                maps.backends.remove(&key);
            }
        }
        let mut candidates = Vec::new();
        for endpoint in port.endpoints {
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
        maps.services.insert(
            ServiceKey {
                address: A::from_ip(port.vip.ip()),
                port: port.vip.port().into(),
                protocol: port.protocol,
            },
            ServiceEntry {
                service: port.service,
                endpoint_set,
                slot_offset,
                slot_count,
                affinity_seconds: port.affinity_seconds,
            },
        );
    }
}
