//! What the manifests mean: Services with their addresses, ports and endpoints, free of Kubernetes' types.
//!
//! In come validated objects, out goes a [`Model`], the only thing `plan` and the CLI know of the input. Pure: no
//! I/O, no clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::Arc,
};

use ipnet::IpNet;
pub use svcproxy_common::abi::Protocol;

mod addresses;
mod allocate;
mod build;
mod conflicts;
mod endpoints;
mod external;
mod family;
mod findings;
mod node;
mod node_ports;
mod pods;
mod selection;
mod update;

pub use self::{
    build::{Built, Options, build},
    family::Family,
    node::{DEFAULT_SERVICE_RANGES, Node, NodePolicy, NodePortAddresses, PortRange},
    selection::{Hints, IgnoredHints, LeftOut, Selection, Stage, cluster_set, local_set},
    update::{Basis, Update},
};

/// Everything the input says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// The Services that get an address: neither headless nor ExternalName nor left to another proxy. Sorted by
    /// namespace and name. Shared with the model before where they are the same.
    pub services: Vec<Arc<Service>>,
    /// Addresses of the Pods that run on this node, or do not say where, in a network of their own, endpoints or not: they
    /// may be clients. Sorted.
    pub pods: Vec<IpAddr>,
    /// Addresses that only Pods have that have ended (`Succeeded` or `Failed`), with the name of one. Not those of Pods
    /// in the host's network.
    pub ended: BTreeMap<IpAddr, String>,
    /// The node we are on.
    pub node: Node,
}

/// Namespace and name of a Service. Prints as `namespace/name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceName {
    /// `metadata.namespace`, `default` when absent.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A Service with its addresses assigned and its endpoints joined.
///
/// A family in which it has no cluster IP is not its own: it has no address and no endpoint there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: ServiceName,
    /// `spec.type`: `ClusterIP`, `NodePort` or `LoadBalancer`.
    pub service_type: ServiceType,
    /// The cluster IPs, primary first; one, or one of each family.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`, no one twice.
    pub external_ips: Vec<IpAddr>,
    /// `status.loadBalancer.ingress[].ip` unless its `ipMode` is `Proxy`, and `spec.loadBalancerIP`; no one twice.
    pub load_balancer_ips: Vec<IpAddr>,
    /// `spec.loadBalancerSourceRanges`
    pub load_balancer_source_ranges: Vec<IpNet>,
    /// `spec.internalTrafficPolicy`: of the cluster IPs.
    pub internal_traffic_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`: of nodePorts, external IPs and load balancer IPs.
    pub external_traffic_policy: TrafficPolicy,
    /// `spec.healthCheckNodePort`, of type `LoadBalancer` with `externalTrafficPolicy: Local` only.
    pub health_check_node_port: Option<u16>,
    /// `sessionAffinityConfig.clientIP.timeoutSeconds` under `sessionAffinity: ClientIP`, else `None`. Seconds.
    pub affinity_seconds: Option<u32>,
    /// `spec.selector`.
    pub selector: BTreeMap<String, String>,
    /// `spec.ports`, in the manifest's order.
    pub ports: Vec<ServicePort>,
}

impl Model {
    /// The addresses of endpoints that are ready or serve.
    pub fn serving(&self) -> BTreeSet<IpAddr> {
        let ports = self.services.iter().flat_map(|service| &service.ports);
        let serving = ports
            .flat_map(|port| &port.endpoints)
            .filter(|endpoint| endpoint.ready || endpoint.serving);
        serving.map(|endpoint| endpoint.address).collect()
    }
}

impl Service {
    /// How many endpoint addresses of one family are ready and on this node, on whatever port: what
    /// `healthCheckNodePort` reports.
    pub fn local_ready_endpoints(&self, node: &Node, family: Family) -> usize {
        let endpoints = self.ports.iter().flat_map(|port| port.of_family(family));
        let local = endpoints.filter(|endpoint| endpoint.ready && endpoint.is_on(node));
        let mut addresses: Vec<IpAddr> = local.map(|endpoint| endpoint.address).collect();
        addresses.sort_unstable();
        addresses.dedup();
        addresses.len()
    }
}

/// `spec.type` of a Service that gets an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServiceType {
    /// `ClusterIP`
    ClusterIp,
    /// `NodePort`
    NodePort,
    /// `LoadBalancer`
    LoadBalancer,
}

impl fmt::Display for ServiceType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
        })
    }
}

/// `spec.internalTrafficPolicy`, `spec.externalTrafficPolicy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Endpoints everywhere.
    #[default]
    Cluster,
    /// Endpoints on this node.
    Local,
}

impl fmt::Display for TrafficPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cluster => "Cluster",
            Self::Local => "Local",
        })
    }
}

/// One entry of `spec.ports`, with the endpoints that serve it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`, empty when absent.
    pub name: String,
    /// `protocol`.
    pub protocol: Protocol,
    /// `port`.
    pub port: u16,
    /// `nodePort`, given or assigned.
    pub node_port: Option<u16>,
    /// Every endpoint of both families, whatever its conditions, sorted by address and port, no address and port twice.
    pub endpoints: Vec<Endpoint>,
}

impl ServicePort {
    /// The endpoints of one family, whatever their conditions.
    pub fn of_family(&self, family: Family) -> impl Iterator<Item = &Endpoint> {
        let is_of = move |endpoint: &&Endpoint| Family::of(endpoint.address) == family;
        self.endpoints.iter().filter(is_of)
    }
}

/// One address and port behind a ServicePort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The endpoint's address.
    pub address: IpAddr,
    /// The port it listens on.
    pub port: u16,
    /// May be chosen for new connections.
    pub ready: bool,
    /// Answers, ready or not: used while every endpoint terminates.
    pub serving: bool,
    /// On its way out.
    pub terminating: bool,
    /// `nodeName`, where stated.
    pub node_name: Option<String>,
    /// Nodes that are to prefer it: `hints.forNodes[].name`.
    pub node_hints: Vec<String>,
    /// Zones that are to prefer it: `hints.forZones[].name`.
    pub zone_hints: Vec<String>,
    /// Name of the Pod behind it (`targetRef` or the Pod itself), for people.
    pub pod: Option<String>,
}

impl Endpoint {
    /// An endpoint that is ready, and of which no more is known.
    pub fn ready(address: IpAddr, port: u16) -> Self {
        Self {
            address,
            port,
            ready: true,
            serving: true,
            terminating: false,
            node_name: None,
            node_hints: Vec::new(),
            zone_hints: Vec::new(),
            pod: None,
        }
    }

    /// Whether it is on a node.
    pub fn is_on(&self, node: &Node) -> bool {
        self.node_name.as_deref() == Some(node.name.as_str())
    }
}
