//! Real networks within a service range. What has no Service there is dropped, so they would go silent.

use std::{collections::BTreeSet, fmt, net::IpAddr};

use ipnet::IpNet;

use super::Snapshot;

/// A real network within a service range.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Overlap {
    /// The network.
    pub network: IpNet,
    /// The range it lies within.
    pub range: IpNet,
    /// The interface it is behind.
    pub interface: String,
    /// How it is known.
    pub known_by: KnownBy,
}

/// How a network is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum KnownBy {
    /// An address of the interface lies in it.
    Address(IpAddr),
    /// A route on the link leads to it.
    Link,
    /// A route by this router leads to it.
    Router(IpAddr),
}

impl fmt::Display for Overlap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (network, interface) = (self.network, &self.interface);
        match self.known_by {
            KnownBy::Address(ip) => write!(f, "the network {network} of {interface} (which has {ip})"),
            KnownBy::Link => write!(f, "the route {network} dev {interface}"),
            KnownBy::Router(ip) => write!(f, "the route {network} via {ip} dev {interface}"),
        }
    }
}

/// The networks of interfaces, and the routes, that are no broader than a service range and lie within it.
///
/// Not counted are:
///
/// * what leads to `lo` or a dummy: nobody is behind those, people park Services' addresses there (`ip addr add
///   10.96.0.10/32 dev lo`). Blackholes and the local table are not in a snapshot at all;
/// * a single address (/32, /128) of an interface: it is this node, which is told from Services anyway;
/// * what lies within a `--cluster-cidr` more specific than the range: the longest prefix counts, and that says pods.
///
/// A route equal to the range counts. It may have been made to lead Services' addresses to svcproxy's own node, but
/// nothing tells it from one to a real network, and a node needs none.
pub fn overlaps(snapshot: &Snapshot, ranges: &[IpNet], cluster_cidrs: &[IpNet]) -> Vec<Overlap> {
    let own: BTreeSet<IpAddr> = snapshot.addresses.iter().map(|own| own.ip).collect();
    let within = |network: IpNet| {
        let range = *ranges.iter().find(|range| range.contains(&network))?;
        let is_pods = |cidr: &IpNet| cidr.contains(&network) && cidr.prefix_len() > range.prefix_len();
        let is_node = network.prefix_len() == network.max_prefix_len() && own.contains(&network.addr());
        (!is_node && !cluster_cidrs.iter().any(is_pods)).then_some(range)
    };
    let overlap = |network: IpNet, interface: u32, known_by| {
        let link = snapshot.link(interface).filter(|link| !link.leads_nowhere())?;
        Some(Overlap {
            network,
            range: within(network)?,
            interface: link.name.clone(),
            known_by,
        })
    };
    let networks = snapshot.addresses.iter();
    let networks = networks.filter_map(|own| overlap(own.network, own.interface, KnownBy::Address(own.ip)));
    let routes = snapshot.routes.iter().filter_map(|route| {
        let known_by = route.gateway.map_or(KnownBy::Link, KnownBy::Router);
        overlap(route.destination, route.interface, known_by)
    });
    let mut found: Vec<Overlap> = networks.chain(routes).collect();
    // An address brings a route to its network: one of the two will do, and addresses sort first.
    found.sort();
    found.dedup_by(|later, first| (later.network, &later.interface) == (first.network, &first.interface));
    found
}
