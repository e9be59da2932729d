//! What tells clients apart: the networks of one family, source ranges, and what holds for the whole node.

use std::collections::BTreeMap;

use ipnet::IpNet;
use svcproxy_common::abi::{Config, Network, NetworkAddress, SourceRange};

use super::contents::{MapAddress, Prefix};
use crate::model::{Family, Model, Node, NodePolicy, Service};

/// `networks_`: what addresses belong to. The longest prefix counts.
///
/// An address of this node within `--cluster-cidr` (a bridge to its pods) stays a pod's, as for kube-proxy. A cluster
/// IP is the service range's wherever it lies, so that its other ports are refused.
pub(super) fn networks<A: MapAddress>(
    model: &Model,
    policy: &NodePolicy,
) -> BTreeMap<Prefix<NetworkAddress<A>>, Network> {
    let node = &model.node;
    let mut networks: Vec<(IpNet, Network)> = Vec::new();
    networks.extend(policy.cluster_cidrs.iter().map(|net| (*net, Network::PODS)));
    networks.extend(policy.service_ranges.iter().map(|net| (*net, Network::SERVICES)));
    // After the ranges: one may be a whole range, and of equal prefixes the last counts.
    networks.extend(node.foreign_networks.iter().map(|net| (*net, Network::OUTSIDE)));
    let is_pod = |ip: &&std::net::IpAddr| policy.cluster_cidrs.iter().any(|cidr| cidr.contains(*ip));
    let own = node.addresses.iter().filter(|ip| !is_pod(ip));
    let own: Vec<(IpNet, Network)> = own.map(|ip| (IpNet::from(*ip), Network::NODE)).collect();
    networks.retain(|(network, _)| A::prefix(*network).is_some());

    let belongs = |ip| {
        let holding = networks.iter().filter(|(network, _)| network.contains(&ip));
        holding
            .max_by_key(|(network, _)| network.prefix_len())
            .map(|(_, what)| *what)
    };
    let cluster_ips = model.services.iter().flat_map(|service| &service.cluster_ips);
    let elsewhere = cluster_ips
        .filter(|ip| A::from_ip(**ip).is_some() && belongs(**ip) != Some(Network::SERVICES))
        .map(|ip| (IpNet::from(*ip), Network::SERVICES));
    let elsewhere: Vec<_> = elsewhere.collect();
    let all = networks.into_iter().chain(elsewhere).chain(own);
    all.filter_map(|(network, what)| Some((A::prefix(network)?, what)))
        .collect()
}

/// The source ranges of a Service in one family; `None` when it admits everyone.
pub(super) fn source_ranges<A: MapAddress>(service: &Service, node: &Node) -> Option<Vec<Prefix<A::Octets>>> {
    let ranges = service.load_balancer_source_ranges.iter();
    let ranges: Vec<IpNet> = ranges.filter(|range| A::prefix(**range).is_some()).copied().collect();
    if ranges.is_empty() || ranges.iter().any(|range| range.prefix_len() == 0) {
        return None;
    }
    let mut prefixes: Vec<_> = ranges.iter().filter_map(|range| A::prefix(*range)).collect();
    // Where the load balancer's address is also one of this node's interfaces, the node reaches it from that address.
    let admits_node = node
        .primary(A::FAMILY)
        .is_some_and(|ip| ranges.iter().any(|range| range.contains(&ip)));
    if admits_node {
        let own = service.load_balancer_ips.iter().filter_map(|ip| A::from_ip(*ip));
        prefixes.extend(own.map(A::host));
    }
    Some(prefixes)
}

/// The keys that these prefixes have in `source_ranges_` for a Service.
pub(super) fn source_range_keys<A: MapAddress>(
    service: u32,
    prefixes: Vec<Prefix<A::Octets>>,
) -> impl Iterator<Item = (Prefix<SourceRange<A>>, u32)> {
    prefixes.into_iter().map(move |prefix| {
        let data = SourceRange {
            service,
            client: prefix.data,
        };
        // The number of the Service must match as a whole.
        let length = u32::BITS + prefix.length;
        (Prefix { data, length }, 1)
    })
}

/// `config_`
pub(super) fn config<A: MapAddress>(node: &Node, policy: &NodePolicy) -> Config<A> {
    let primary = node.primary(A::FAMILY).and_then(A::from_ip);
    let ranges = policy.service_ranges.iter().copied();
    let services = covering(ranges.filter(|range| A::prefix(*range).is_some()));
    let services = services.unwrap_or_else(|| A::UNSPECIFIED.ip().into());
    let address = |ip| A::from_ip(ip).expect("of this family");
    Config {
        node_address: primary.unwrap_or(A::UNSPECIFIED),
        masquerade_port_first: policy.masquerade_ports.first.into(),
        masquerade_port_count: policy.masquerade_ports.count(),
        service_network: address(services.network()),
        service_mask: address(services.netmask()),
        routes_by_destination: node.destination_routed.contains(&A::FAMILY),
        reserved: [0; 7],
    }
}

/// The smallest network that all these, of one family, are in.
fn covering(mut networks: impl Iterator<Item = IpNet>) -> Option<IpNet> {
    let first = networks.next()?;
    networks.try_fold(first, |mut cover, network| {
        while !cover.contains(&network) {
            cover = cover.supernet()?;
        }
        Some(cover)
    })
}

/// The addresses of this node that answer on nodePorts.
pub(super) fn node_port_addresses<A: MapAddress>(node: &Node, policy: &NodePolicy) -> Vec<A> {
    let addresses = policy.nodeport_addresses.of(node, A::FAMILY);
    addresses.into_iter().filter_map(A::from_ip).collect()
}

/// Whether `--cluster-cidr` tells pods from clients outside in a family.
pub(super) fn knows_pods(policy: &NodePolicy, family: Family) -> bool {
    policy
        .cluster_cidrs
        .iter()
        .any(|cidr| Family::of(cidr.addr()) == family)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_network_with_all_ranges_in_it() {
        let cover =
            |ranges: &[&str]| covering(ranges.iter().map(|range| range.parse().unwrap())).map(|net| net.to_string());
        assert_eq!(cover(&[]), None);
        assert_eq!(cover(&["10.96.0.0/12"]).as_deref(), Some("10.96.0.0/12"));
        assert_eq!(
            cover(&["10.96.0.0/12", "10.97.0.0/16"]).as_deref(),
            Some("10.96.0.0/12")
        );
        assert_eq!(
            cover(&["10.96.0.0/16", "10.97.0.0/16"]).as_deref(),
            Some("10.96.0.0/15")
        );
        assert_eq!(cover(&["10.96.0.0/12", "192.168.0.0/16"]).as_deref(), Some("0.0.0.0/0"));
        assert_eq!(
            cover(&["fd00:10:96::/112", "fd00:10:97::/112"]).as_deref(),
            Some("fd00:10:96::/47")
        );
    }
}
