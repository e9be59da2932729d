//! Which interfaces the packets of pods come by: there the programs must be attached, or replies of masqueraded
//! connections, which are addressed to the node, and connections that pods open to Services would pass untranslated.

use std::{collections::BTreeMap, fmt, net::IpAddr};

use ipnet::IpNet;

use super::{Link, Route, Snapshot, routing::Routing};

/// What makes an interface one of the pods'.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Behind {
    /// The route to this endpoint leads through it.
    Endpoint(IpAddr),
    /// The route to this Pod leads through it.
    Pod(IpAddr),
    /// A route within `--cluster-cidr` leads through it.
    PodNetwork(IpNet),
    /// A live connection's endpoint is behind it, though no Service has that endpoint any more.
    Connection(IpAddr),
    /// It is a port of this bridge. What one port sends another never passes the bridge's own hooks.
    Bridge(String),
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Endpoint(ip) => write!(f, "endpoint {ip} is behind it"),
            Self::Connection(ip) => write!(f, "a connection to {ip} still goes through it"),
            Self::Pod(ip) => write!(f, "pod {ip} is behind it"),
            Self::PodNetwork(network) => write!(f, "{network} of --cluster-cidr is behind it"),
            Self::Bridge(bridge) => write!(f, "a port of {bridge}, which pods are behind"),
        }
    }
}

/// The interfaces, by ifindex, that lead to endpoints, pods and the networks within `cluster_cidrs`, and why. The
/// loopback is never one of them; interfaces without Ethernet may be.
pub fn interfaces_of_pods(
    snapshot: &Snapshot,
    endpoints: impl IntoIterator<Item = IpAddr>,
    pods: impl IntoIterator<Item = IpAddr>,
    cluster_cidrs: &[IpNet],
) -> BTreeMap<u32, Behind> {
    let routing = Routing::of(snapshot);
    let endpoints = endpoints.into_iter().flat_map(|ip| {
        let routes = routing.routes(ip);
        routes.map(move |route| (route.interface, Behind::Endpoint(ip)))
    });
    // What only the default route leads to is no pod of this node, or not yet.
    let pods = pods.into_iter().flat_map(|ip| {
        let routes = routing.routes(ip).filter(|route| route.destination.prefix_len() > 0);
        routes.map(move |route| (route.interface, Behind::Pod(ip)))
    });
    let within = |route: &&Route| cluster_cidrs.iter().any(|cidr| cidr.contains(&route.destination));
    let networks = snapshot.routes.iter().filter(within);
    let networks = networks.map(|route| (route.interface, Behind::PodNetwork(route.destination)));

    let mut found = BTreeMap::new();
    for (index, what) in endpoints.chain(pods).chain(networks) {
        if snapshot.link(index).is_some_and(|link| !link.loopback) {
            found.entry(index).or_insert(what);
        }
    }
    let port = |link: &Link| {
        let bridge = snapshot.link(link.master?)?;
        let behind = bridge.is_bridge() && found.contains_key(&bridge.index);
        behind.then(|| (link.index, Behind::Bridge(bridge.name.clone())))
    };
    let ports: Vec<_> = snapshot.links.iter().filter_map(port).collect();
    for (index, what) in ports {
        found.entry(index).or_insert(what);
    }
    found
}
