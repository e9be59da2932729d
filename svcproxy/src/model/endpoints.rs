//! Who serves a Service: its EndpointSlices, else its Endpoints object, else the Pods its selector matches.
//!
//! In comes one Service and all objects, out go the endpoints of each of its ports, sorted, no address and port twice.

use std::{collections::BTreeMap, net::IpAddr};

use k8s_openapi::api::{
    core::v1::{EndpointAddress, Endpoints, Pod, Service, ServicePort},
    discovery::v1::EndpointSlice,
};

use super::{Endpoint, pods};
use crate::manifest::{Objects, Sourced, name_of, namespace, parse_ip, service_of};

/// Where a Service's endpoints come from.
pub(super) enum Backing<'a> {
    /// Its EndpointSlices.
    Slices(Vec<&'a EndpointSlice>),
    /// Its Endpoints object.
    Endpoints(&'a Endpoints),
    /// The Pods its selector matches.
    Pods(Vec<&'a Sourced<Pod>>),
    /// It has no selector, no slice and no Endpoints.
    Nothing,
}

/// The objects of one namespace's name, found without searching all of them for every Service.
pub(super) struct Index<'a> {
    slices: BTreeMap<(&'a str, &'a str), Vec<&'a EndpointSlice>>,
    endpoints: BTreeMap<(&'a str, &'a str), &'a Endpoints>,
    pods: BTreeMap<&'a str, Vec<&'a Sourced<Pod>>>,
}

impl<'a> Index<'a> {
    /// That of the Services, by namespace and name, that are asked for.
    pub(super) fn of(objects: &'a Objects, wanted: impl Fn((&str, &str)) -> bool) -> Self {
        let mut index = Self {
            slices: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            pods: BTreeMap::new(),
        };
        for slice in objects.slices() {
            let key = service_of(&slice.object);
            if let Some(key) = key.filter(|key| wanted(*key)) {
                index.slices.entry(key).or_default().push(&slice.object);
            }
        }
        for endpoints in objects.endpoints() {
            let key = name_of(&endpoints.object.metadata);
            if wanted(key) {
                index.endpoints.insert(key, &endpoints.object);
            }
        }
        for pod in objects.pods() {
            index.pods.entry(namespace(&pod.object.metadata)).or_default().push(pod);
        }
        index
    }

    pub(super) fn backing(&self, service: &Service) -> Backing<'a> {
        let key = name_of(&service.metadata);
        if let Some(slices) = self.slices.get(&key) {
            return Backing::Slices(slices.clone());
        }
        if let Some(endpoints) = self.endpoints.get(&key) {
            return Backing::Endpoints(endpoints);
        }
        let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        match selector.filter(|selector| !selector.is_empty()) {
            None => Backing::Nothing,
            Some(selector) => {
                let candidates = self.pods.get(key.0).into_iter().flatten().copied();
                Backing::Pods(candidates.filter(|pod| pods::matches(&pod.object, selector)).collect())
            }
        }
    }
}

/// The endpoints of one port of a Service whose addresses are of the families of `cluster_ips`.
pub(super) fn of_port(
    backing: &Backing<'_>,
    port: &ServicePort,
    publish_not_ready: bool,
    cluster_ips: &[IpAddr],
) -> Vec<Endpoint> {
    let mut found = match backing {
        Backing::Slices(slices) => slices.iter().flat_map(|slice| in_slice(slice, port)).collect(),
        Backing::Endpoints(endpoints) => in_endpoints(endpoints, port),
        Backing::Pods(matching) => {
            let of_pod = |pod: &&Sourced<Pod>| pods::endpoints(&pod.object, port, publish_not_ready);
            matching.iter().flat_map(of_pod).collect()
        }
        Backing::Nothing => Vec::new(),
    };
    found.retain(|endpoint| cluster_ips.iter().any(|ip| ip.is_ipv4() == endpoint.address.is_ipv4()));
    unique(found)
}

/// Of several endpoints at one address and port, the one that is not terminating, then the one that is ready.
fn unique(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let rank = |e: &Endpoint| (e.address, e.port, e.terminating, !e.ready, !e.serving);
    // Names last, so that the order of the files decides nothing.
    endpoints.sort_by(|a, b| {
        rank(a)
            .cmp(&rank(b))
            .then_with(|| (&a.pod, &a.node_name).cmp(&(&b.pod, &b.node_name)))
    });
    endpoints.dedup_by_key(|e| (e.address, e.port));
    endpoints
}

/// Whether a port of a slice or an Endpoints object is the Service's: the same name and protocol.
fn is_port(port: &ServicePort, name: Option<&str>, protocol: Option<&str>) -> bool {
    name.unwrap_or_default() == port.name.as_deref().unwrap_or_default()
        && protocol.unwrap_or("TCP") == port.protocol.as_deref().unwrap_or("TCP")
}

fn in_slice(slice: &EndpointSlice, port: &ServicePort) -> Vec<Endpoint> {
    let ports = slice.ports.iter().flatten();
    let numbers = ports
        .filter(|p| is_port(port, p.name.as_deref(), p.protocol.as_deref()))
        .filter_map(|p| u16::try_from(p.port?).ok());
    let at = |number: u16| {
        slice.endpoints.iter().flatten().filter_map(move |endpoint| {
            let hints = endpoint.hints.clone().unwrap_or_default();
            let conditions = endpoint.conditions.clone().unwrap_or_default();
            Some(Endpoint {
                address: parse_ip(endpoint.addresses.first()?)?,
                port: number,
                ready: conditions.ready.unwrap_or(true),
                serving: conditions.serving.unwrap_or(true),
                terminating: conditions.terminating.unwrap_or(false),
                node_name: endpoint.node_name.clone(),
                node_hints: hints.for_nodes.into_iter().flatten().map(|node| node.name).collect(),
                zone_hints: hints.for_zones.into_iter().flatten().map(|zone| zone.name).collect(),
                pod: (endpoint.target_ref.as_ref())
                    .filter(|target| target.kind.as_deref() == Some("Pod"))
                    .and_then(|target| target.name.clone()),
            })
        })
    };
    numbers.flat_map(at).collect()
}

fn in_endpoints(endpoints: &Endpoints, port: &ServicePort) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for subset in endpoints.subsets.iter().flatten() {
        let ports = subset.ports.iter().flatten();
        let numbers = ports
            .filter(|p| is_port(port, p.name.as_deref(), p.protocol.as_deref()))
            .filter_map(|p| u16::try_from(p.port).ok());
        for number in numbers {
            let ready = subset.addresses.iter().flatten().map(|address| (address, true));
            let not_ready = subset
                .not_ready_addresses
                .iter()
                .flatten()
                .map(|address| (address, false));
            let at = |(address, ready): (&EndpointAddress, bool)| {
                Some(Endpoint {
                    address: parse_ip(&address.ip)?,
                    port: number,
                    ready,
                    serving: ready,
                    terminating: false,
                    node_name: address.node_name.clone(),
                    node_hints: Vec::new(),
                    zone_hints: Vec::new(),
                    pod: (address.target_ref.as_ref())
                        .filter(|target| target.kind.as_deref() == Some("Pod"))
                        .and_then(|target| target.name.clone()),
                })
            };
            found.extend(ready.chain(not_ready).filter_map(at));
        }
    }
    found
}
