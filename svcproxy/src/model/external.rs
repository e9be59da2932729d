//! The addresses a Service has besides its cluster IPs, and what its spec says of clients that use them.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_openapi::api::core::v1;

use super::TrafficPolicy;
use crate::manifest::parse_ip;

/// `spec.externalIPs`, of the families the Service has.
pub(super) fn external_ips(spec: &v1::ServiceSpec, cluster_ips: &[IpAddr]) -> Vec<IpAddr> {
    let listed = spec.external_ips.iter().flatten();
    carried(listed.filter_map(|ip| parse_ip(ip)), cluster_ips)
}

/// The load balancer's addresses that packets arrive with, of the families the Service has.
///
/// An ingress of `ipMode: Proxy` ends the connection itself: packets reach this node with another destination. In
/// file mode no controller moves `spec.loadBalancerIP` to the status, so that counts too.
pub(super) fn load_balancer_ips(service: &v1::Service, spec: &v1::ServiceSpec, cluster_ips: &[IpAddr]) -> Vec<IpAddr> {
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = || status.iter().flat_map(|status| status.ingress.iter().flatten());
    let is_proxy = |ingress: &&v1::LoadBalancerIngress| ingress.ip_mode.as_deref() == Some("Proxy");
    let address = |ingress: &v1::LoadBalancerIngress| ingress.ip.as_deref().and_then(parse_ip);
    let proxied: Vec<IpAddr> = ingress().filter(is_proxy).filter_map(address).collect();
    let asked_for = match spec.type_.as_deref() {
        Some("LoadBalancer") => spec.load_balancer_ip.as_deref().and_then(parse_ip),
        _ => None,
    };
    let virtual_ips = ingress().filter(|ingress| !is_proxy(ingress)).filter_map(address);
    let all = virtual_ips.chain(asked_for.filter(|ip| !proxied.contains(ip)));
    carried(all, cluster_ips)
}

/// Addresses of the families of `cluster_ips`, no one twice, none of `cluster_ips` itself.
fn carried(addresses: impl Iterator<Item = IpAddr>, cluster_ips: &[IpAddr]) -> Vec<IpAddr> {
    let mut carried = Vec::new();
    for address in addresses {
        let of_family = cluster_ips.iter().any(|ip| ip.is_ipv4() == address.is_ipv4());
        if of_family && !cluster_ips.contains(&address) && !carried.contains(&address) {
            carried.push(address);
        }
    }
    carried
}

/// `spec.loadBalancerSourceRanges`. Kubernetes allows blanks around them.
pub(super) fn source_ranges(spec: &v1::ServiceSpec) -> Vec<IpNet> {
    let listed = spec.load_balancer_source_ranges.iter().flatten();
    let ranges = listed.filter_map(|range| range.trim().parse::<IpNet>().ok());
    ranges.map(|range| range.trunc()).collect()
}

/// A traffic policy; `Cluster` when absent.
pub(super) fn traffic_policy(policy: Option<&str>) -> TrafficPolicy {
    match policy {
        Some("Local") => TrafficPolicy::Local,
        _ => TrafficPolicy::Cluster,
    }
}
