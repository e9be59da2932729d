//! The ways into a ServicePort: the addresses and ports at which clients find it, and by which policy each is served.
//!
//! In come a Service, one of its ports and the node's addresses; out go the keys of its services entries, no one
//! twice.

use svcproxy_common::abi::{ServiceKey, Way};

use super::contents::MapAddress;
use crate::model::{Service, ServicePort, TrafficPolicy};

/// One of the two sets a ServicePort may have in a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Endpoints everywhere.
    Cluster,
    /// Endpoints on this node.
    Local,
}

/// An address and port at which clients find a ServicePort.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entrance<A> {
    pub(super) key: ServiceKey<A>,
    pub(super) way: Way,
}

/// All of them. Where one address is there in several ways the first named counts, a load balancer's before an
/// external IP: only the former is filtered.
pub(super) fn entrances<A: MapAddress>(service: &Service, port: &ServicePort, node: &[A]) -> Vec<Entrance<A>> {
    let mut entrances: Vec<Entrance<A>> = Vec::with_capacity(1);
    let listed = [
        (Way::CLUSTER_IP, &service.cluster_ips),
        (Way::LOAD_BALANCER, &service.load_balancer_ips),
        (Way::EXTERNAL_IP, &service.external_ips),
    ];
    let mut add = |address: A, number: u16, way: Way| {
        let key = ServiceKey {
            address,
            port: number.into(),
            protocol: port.protocol,
        };
        if !entrances.iter().any(|known| known.key == key) {
            entrances.push(Entrance { key, way });
        }
    };
    for (way, addresses) in listed {
        for address in addresses.iter().filter_map(|ip| A::from_ip(*ip)) {
            add(address, port.port, way);
        }
    }
    for (number, address) in port
        .node_port
        .iter()
        .flat_map(|number| node.iter().map(|ip| (*number, *ip)))
    {
        add(address, number, Way::NODE_PORT);
    }
    entrances
}

/// What clients outside the cluster choose from, and what pods and this node do.
///
/// `externalTrafficPolicy: Local` is for those outside: traffic that is inside already is served as if it had gone
/// out to a load balancer and come back in by any node.
pub(super) fn roles(service: &Service, way: Way) -> (Role, Role) {
    let of = |policy| match policy {
        TrafficPolicy::Cluster => Role::Cluster,
        TrafficPolicy::Local => Role::Local,
    };
    match way {
        Way::CLUSTER_IP | Way::OTHER_PORT => {
            let role = of(service.internal_traffic_policy);
            (role, role)
        }
        Way::NODE_PORT | Way::EXTERNAL_IP | Way::LOAD_BALANCER => (of(service.external_traffic_policy), Role::Cluster),
    }
}
