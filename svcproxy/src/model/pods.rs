//! Pods as endpoints, where no controller has written EndpointSlices: what kube-controller-manager's endpointslice
//! controller would do.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_openapi::{
    api::core::v1::{Container, Pod, ServicePort},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{Endpoint, Node};
use crate::manifest::{Objects, parse_ip};

/// Whether a Pod has every label of a selector and still runs.
pub(super) fn matches(pod: &Pod, selector: &BTreeMap<String, String>) -> bool {
    let labels = pod.metadata.labels.as_ref();
    runs(pod)
        && selector
            .iter()
            .all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
}

fn runs(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    !matches!(phase, Some("Failed" | "Succeeded"))
}

fn is_on_host(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
}

/// The addresses that Pods had which have ended and that no Pod has now, with the name of one. A Pod in the host's
/// network leaves its address to the host.
pub(super) fn ended(objects: &Objects) -> BTreeMap<IpAddr, String> {
    let pods = || objects.pods().map(|pod| &pod.object);
    let taken: BTreeSet<IpAddr> = pods().filter(|pod| runs(pod)).flat_map(addresses).collect();
    let mut ended = BTreeMap::new();
    for pod in pods().filter(|pod| !runs(pod) && !is_on_host(pod)) {
        for ip in addresses(pod).into_iter().filter(|ip| !taken.contains(ip)) {
            ended.insert(ip, pod.metadata.name.clone().unwrap_or_default());
        }
    }
    ended
}

/// The addresses of Pods that run on this node, or do not say where, in a network of their own. Sorted.
pub(super) fn addresses_here(objects: &Objects, node: &Node) -> Vec<IpAddr> {
    let here = |pod: &&Pod| {
        let elsewhere = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.node_name.as_ref())
            .is_some_and(|name| *name != node.name);
        runs(pod) && !is_on_host(pod) && !elsewhere
    };
    let pods = objects.pods().map(|pod| &pod.object).filter(here);
    let found: BTreeSet<IpAddr> = pods.flat_map(addresses).collect();
    found.into_iter().collect()
}

/// The Pod's addresses, at most one of each family, its first.
pub(super) fn addresses(pod: &Pod) -> Vec<IpAddr> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let listed = status.pod_ips.iter().flatten().map(|pod_ip| pod_ip.ip.as_str());
    let mut addresses: Vec<IpAddr> = Vec::new();
    for address in listed.chain(status.pod_ip.as_deref()).filter_map(parse_ip) {
        if !addresses.iter().any(|known| known.is_ipv4() == address.is_ipv4()) {
            addresses.push(address);
        }
    }
    addresses
}

/// The number a ServicePort's `targetPort` has in this Pod; `None` when the Pod has no port of that name.
pub(super) fn target_port(pod: &Pod, port: &ServicePort) -> Option<u16> {
    match &port.target_port {
        None => u16::try_from(port.port).ok(),
        Some(IntOrString::Int(number)) => u16::try_from(*number).ok(),
        Some(IntOrString::String(name)) => {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            let mut ports = containers(pod).flat_map(|container| container.ports.iter().flatten());
            let named = ports.find(|entry| {
                entry.name.as_deref() == Some(name) && entry.protocol.as_deref().unwrap_or("TCP") == protocol
            });
            u16::try_from(named?.container_port).ok()
        }
    }
}

/// The containers that run as long as the Pod does: init containers that restart always are sidecars.
fn containers(pod: &Pod) -> impl Iterator<Item = &Container> {
    let spec = pod.spec.as_ref();
    let sidecars = spec
        .and_then(|spec| spec.init_containers.as_ref())
        .into_iter()
        .flatten();
    let sidecars = sidecars.filter(|container| container.restart_policy.as_deref() == Some("Always"));
    spec.map(|spec| spec.containers.iter())
        .into_iter()
        .flatten()
        .chain(sidecars)
}

/// The Pod as an endpoint of a ServicePort, once for each of its families.
pub(super) fn endpoints(pod: &Pod, port: &ServicePort, publish_not_ready: bool) -> Vec<Endpoint> {
    let Some(number) = target_port(pod, port) else {
        return Vec::new();
    };
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let serving = is_ready(pod);
    let at = |address| Endpoint {
        address,
        port: number,
        ready: publish_not_ready || (serving && !terminating),
        serving,
        terminating,
        node_name: pod.spec.as_ref().and_then(|spec| spec.node_name.clone()),
        node_hints: Vec::new(),
        zone_hints: Vec::new(),
        pod: pod.metadata.name.clone(),
    };
    addresses(pod).into_iter().map(at).collect()
}

/// The `Ready` condition, true when it is not stated.
fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let stated = conditions.into_iter().find(|condition| condition.type_ == "Ready");
    stated.is_none_or(|condition| condition.status == "True")
}
