//! Objects to the model: which Services count, their addresses, their ports with endpoints, and what to remember.
//!
//! In come valid objects and the state of the last time, out go the model, the new state and what concerns more than
//! one object. Pure: no I/O, no clock.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

use ipnet::IpNet;
use k8s_openapi::api::core::v1;

use super::{
    Model, Node, PortRange, Protocol, Service, ServiceName, ServicePort, ServiceType, allocate,
    conflicts::conflicts,
    endpoints::{self, Backing, Index},
    external, findings, node,
    node_ports::{self, NodePorts},
    pods,
};
use crate::{
    manifest::{Diagnostic, Objects, Severity, Sourced, is_headless, namespace},
    state::{PortRecord, ServiceRecord, State},
};

/// The label that hands a Service to another proxy.
const PROXY_NAME_LABEL: &str = "service.kubernetes.io/service-proxy-name";

/// `timeoutSeconds` where a Service with affinity does not state it: three hours.
const DEFAULT_AFFINITY_SECONDS: u32 = 10800;

/// What the model depends on besides the manifests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `--service-cluster-ip-range`, at most one of each family; the first one's is the default family.
    pub ranges: Vec<IpNet>,
    /// `--service-node-port-range`: where nodePorts are assigned from.
    pub node_ports: PortRange,
    /// `--hostname-override`, or else the hostname.
    pub node_name: String,
    /// `--node-ip`. When there is none, the addresses of the Node object of that name count.
    pub node_ips: Vec<IpAddr>,
    /// Seconds since the Unix epoch.
    pub now: u64,
}

impl Default for Options {
    /// The flags' defaults, for a node without a name, in 1970.
    fn default() -> Self {
        Self {
            ranges: node::default_service_ranges(),
            node_ports: PortRange::NODE_PORTS,
            node_name: String::new(),
            node_ips: Vec::new(),
            now: 0,
        }
    }
}

/// The outcome of [`build`].
#[derive(Debug, Clone)]
pub struct Built {
    /// The model; `None` when a diagnostic is an error.
    pub model: Option<Model>,
    /// What to save: the new state, or the one passed in when there is no model.
    pub state: State,
    /// Everything there is to say, in reading order.
    pub diagnostics: Vec<Diagnostic>,
    pub(super) said: Said,
}

/// What will be said of the next model as well, by what it depends on.
#[derive(Debug, Clone, Default)]
pub(super) struct Said {
    /// On the endpoints of a Service.
    pub(super) endpoints: BTreeMap<ServiceName, Vec<Diagnostic>>,
    /// On anything else.
    pub(super) rest: Vec<Diagnostic>,
}

impl Said {
    /// All of it in reading order, and what is said but once.
    pub(super) fn all(&self, once: Vec<Diagnostic>) -> Vec<Diagnostic> {
        let mut all = once;
        all.extend(self.endpoints.values().flatten().chain(&self.rest).cloned());
        all.sort_by(Diagnostic::reading_order);
        // Two Services may have found the same pod wanting.
        all.dedup();
        all
    }
}

/// A Service that gets an address.
pub(super) struct Candidate<'a> {
    pub(super) name: ServiceName,
    pub(super) source: &'a Sourced<v1::Service>,
    pub(super) spec: &'a v1::ServiceSpec,
}

/// Builds the model. Deterministic: the same objects in any order, options and state give the same model.
pub fn build(objects: &Objects, options: &Options, state: &State) -> Built {
    let (mut said, mut once) = (Said::default(), Vec::new());
    let candidates = candidates(objects, &mut said.rest);
    let addresses = allocate::cluster_ips(objects, &candidates, options, state, &mut once);
    let node_ports = node_ports::node_ports(&candidates, options, state, &mut said.rest);
    let node = node::node(objects, options);
    let index = Index::of(objects, |_| true);
    let mut services = Vec::new();
    for ((candidate, cluster_ips), node_ports) in candidates.iter().zip(addresses).zip(node_ports) {
        let (service, findings) = joined(candidate, cluster_ips, &node_ports, &index, &node);
        if !findings.is_empty() {
            said.endpoints.insert(candidate.name.clone(), findings);
        }
        services.push(Arc::new(service));
    }
    findings::slices_of_nothing(objects, &mut said.rest);
    conflicts(&candidates, &services, &node, &mut said.rest);
    let diagnostics = said.all(once);
    if diagnostics.iter().any(Diagnostic::is_error) {
        return Built {
            model: None,
            state: state.clone(),
            diagnostics,
            said,
        };
    }
    let records = candidates.iter().zip(&services).map(|(candidate, service)| {
        let key = service.name.to_string();
        let known = state.services.get(&key);
        (key, record(candidate, service, known, options.now))
    });
    Built {
        state: State {
            version: State::VERSION,
            services: records.collect(),
        },
        model: Some(Model {
            services,
            pods: pods::addresses_here(objects, &node),
            ended: pods::ended(objects),
            node,
        }),
        diagnostics,
        said,
    }
}

/// A Service with its endpoints, and what there is to say of these.
pub(super) fn joined(
    candidate: &Candidate<'_>,
    cluster_ips: Vec<IpAddr>,
    node_ports: &NodePorts,
    index: &Index<'_>,
    node: &Node,
) -> (Service, Vec<Diagnostic>) {
    let backing = index.backing(&candidate.source.object);
    let service = service(candidate, cluster_ips, node_ports, &backing);
    let mut findings = Vec::new();
    findings::without_endpoints(candidate, &service, &backing, &mut findings);
    findings::ignored_hints(candidate, &service, node, &mut findings);
    (service, findings)
}

/// The Services that get an address, by namespace and name, and a notice for each of the others.
fn candidates<'a>(objects: &'a Objects, diagnostics: &mut Vec<Diagnostic>) -> Vec<Candidate<'a>> {
    let mut candidates = Vec::new();
    for source in objects.services() {
        match candidate(source) {
            Some(Ok(candidate)) => candidates.push(candidate),
            Some(Err(reason)) => diagnostics.push(source.origin.diagnostic(Severity::Notice, "", reason, "")),
            None => {}
        }
    }
    candidates.sort_by(|a, b| a.name.cmp(&b.name));
    candidates
}

/// A Service that gets an address, or why it gets none.
pub(super) fn candidate(source: &Sourced<v1::Service>) -> Option<Result<Candidate<'_>, String>> {
    let metadata = &source.object.metadata;
    let (spec, name) = (source.object.spec.as_ref()?, metadata.name.as_ref()?);
    let proxy = metadata.labels.as_ref().and_then(|labels| labels.get(PROXY_NAME_LABEL));
    Some(if let Some(proxy) = proxy {
        Err(format!(
            "skipped: its label {PROXY_NAME_LABEL} leaves it to the proxy {proxy:?}"
        ))
    } else if spec.type_.as_deref() == Some("ExternalName") {
        Err("skipped: a Service of type ExternalName is a DNS name, no traffic goes through it".to_owned())
    } else if is_headless(spec) {
        Err("skipped: a headless Service (`clusterIP: None`) has no address".to_owned())
    } else {
        Ok(Candidate {
            name: ServiceName {
                namespace: namespace(metadata).to_owned(),
                name: name.clone(),
            },
            source,
            spec,
        })
    })
}

fn service(
    candidate: &Candidate<'_>,
    cluster_ips: Vec<IpAddr>,
    node_ports: &NodePorts,
    backing: &Backing<'_>,
) -> Service {
    let spec = candidate.spec;
    let publish_not_ready = spec.publish_not_ready_addresses.unwrap_or(false);
    let ports = spec
        .ports
        .iter()
        .flatten()
        .zip(&node_ports.ports)
        .filter_map(|(port, node_port)| {
            Some(ServicePort {
                name: port.name.clone().unwrap_or_default(),
                protocol: protocol(port)?,
                port: u16::try_from(port.port).ok()?,
                node_port: *node_port,
                endpoints: endpoints::of_port(backing, port, publish_not_ready, &cluster_ips),
            })
        });
    Service {
        name: candidate.name.clone(),
        service_type: match spec.type_.as_deref() {
            Some("NodePort") => ServiceType::NodePort,
            Some("LoadBalancer") => ServiceType::LoadBalancer,
            _ => ServiceType::ClusterIp,
        },
        external_ips: external::external_ips(spec, &cluster_ips),
        load_balancer_ips: external::load_balancer_ips(&candidate.source.object, spec, &cluster_ips),
        load_balancer_source_ranges: external::source_ranges(spec),
        internal_traffic_policy: external::traffic_policy(spec.internal_traffic_policy.as_deref()),
        external_traffic_policy: external::traffic_policy(spec.external_traffic_policy.as_deref()),
        health_check_node_port: node_ports.health_check,
        affinity_seconds: affinity_seconds(spec),
        selector: spec.selector.clone().unwrap_or_default(),
        ports: ports.collect(),
        cluster_ips,
    }
}

/// The protocol of a port; `None` when it is none that a Service can have.
pub(super) fn protocol(port: &v1::ServicePort) -> Option<Protocol> {
    match port.protocol.as_deref() {
        None | Some("TCP") => Some(Protocol::TCP),
        Some("UDP") => Some(Protocol::UDP),
        Some("SCTP") => Some(Protocol::SCTP),
        Some(_) => None,
    }
}

fn affinity_seconds(spec: &v1::ServiceSpec) -> Option<u32> {
    let config = spec.session_affinity_config.as_ref();
    let stated = config.and_then(|config| config.client_ip.as_ref()?.timeout_seconds);
    let seconds = stated.and_then(|seconds| u32::try_from(seconds).ok());
    (spec.session_affinity.as_deref() == Some("ClientIP")).then(|| seconds.unwrap_or(DEFAULT_AFFINITY_SECONDS))
}

/// What to remember of a Service, given what is known of it.
pub(super) fn record(
    candidate: &Candidate<'_>,
    service: &Service,
    known: Option<&ServiceRecord>,
    now: u64,
) -> ServiceRecord {
    let stated = candidate.source.object.metadata.creation_timestamp.as_ref();
    let stated = stated.and_then(|time| u64::try_from(time.0.as_second()).ok());
    let ports = service.ports.iter().map(|port| PortRecord {
        name: port.name.clone(),
        protocol: port.protocol.to_string(),
        port: port.port,
        node_port: port.node_port,
    });
    let endpoints = service.ports.iter().flat_map(|port| &port.endpoints);
    ServiceRecord {
        cluster_ips: service.cluster_ips.clone(),
        external_ips: service.external_ips.clone(),
        load_balancer_ips: service.load_balancer_ips.clone(),
        health_check_node_port: service.health_check_node_port,
        service_type: service.service_type.to_string(),
        created: stated.or_else(|| known.map(|known| known.created)).unwrap_or(now),
        selector: service.selector.clone(),
        ports: ports.collect(),
        pods: endpoints
            .filter_map(|endpoint| Some((endpoint.address, endpoint.pod.clone()?)))
            .collect(),
    }
}
