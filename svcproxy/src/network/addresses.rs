//! Which addresses are the node's own: they answer on nodePorts, and packets from them are the node's.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use super::{Link, Snapshot};
use crate::model::{Family, Model, NodePolicy, NodePortAddresses, ServiceName};

/// The addresses of all interfaces, each once: first those of the interface that the default route leads through,
/// which are primary where neither `--node-ip` nor a Node object names any.
///
/// As under kube-proxy, an address counts wherever it lies, on `lo` or a dummy too, as long as it is none of loopback.
/// IPv6 link-local addresses are left out: they mean something on their own link only. So are addresses in `cluster_ips`,
/// which people park on `lo` or a dummy and which stay the Services'.
pub fn node_addresses(snapshot: &Snapshot, cluster_ips: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
    let uplink = |family: Family| {
        let routes = snapshot
            .routes
            .iter()
            .filter(|route| route.destination.prefix_len() == 0 && Family::of(route.destination.addr()) == family);
        routes.min_by_key(|route| route.metric).map(|route| route.interface)
    };
    let uplinks: BTreeMap<Family, Option<u32>> = Family::ALL.map(|family| (family, uplink(family))).into();
    let usable = |ip: &IpAddr| {
        let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        !ip.is_loopback() && !link_local && !cluster_ips.contains(ip)
    };
    let mut own: Vec<_> = snapshot.addresses.iter().filter(|own| usable(&own.ip)).collect();
    own.sort_by_key(|own| {
        let parked = snapshot.link(own.interface).is_some_and(Link::leads_nowhere);
        (uplinks[&Family::of(own.ip)] != Some(own.interface), parked)
    });
    let mut known = BTreeSet::new();
    own.iter().map(|own| own.ip).filter(|ip| known.insert(*ip)).collect()
}

/// Cluster IPs that are also addresses of an interface other hosts talk to, with its name. Carrying such a Service would
/// refuse every other port of that address.
pub fn taken_cluster_ips<'a>(
    snapshot: &'a Snapshot,
    model: &'a Model,
) -> impl Iterator<Item = (&'a ServiceName, IpAddr, &'a str)> {
    let interface = |ip: IpAddr| {
        let mut holding = snapshot.addresses.iter().filter(move |own| own.ip == ip);
        holding.find_map(|own| snapshot.link(own.interface).filter(|link| !link.leads_nowhere()))
    };
    let cluster_ips = model.services.iter().flat_map(|service| {
        let ips = service.cluster_ips.iter();
        ips.map(move |ip| (&service.name, *ip))
    });
    cluster_ips.filter_map(move |(name, ip)| Some((name, ip, interface(ip)?.name.as_str())))
}

/// A sentence for each Service with nodePorts that no address of this node answers on.
pub fn unreachable_node_ports(model: &Model, policy: &NodePolicy) -> Vec<String> {
    let answers = |family| !policy.nodeport_addresses.of(&model.node, family).is_empty();
    let unreachable = model.services.iter().filter(|service| {
        let has_node_port = service.ports.iter().any(|port| port.node_port.is_some());
        has_node_port && !service.cluster_ips.iter().any(|ip| answers(Family::of(*ip)))
    });
    let advice = match &policy.nodeport_addresses {
        NodePortAddresses::Within(_) => "no address of this node is within --nodeport-addresses",
        NodePortAddresses::All | NodePortAddresses::Primary => {
            "this node has no address of its family but loopback; give an interface one"
        }
    };
    let say = |name: &ServiceName| format!("Service {name}: nothing answers on its nodePorts: {advice}");
    unreachable.map(|service| say(&service.name)).collect()
}
