//! What the manifests mean: Services with their addresses, ports and endpoints, free of Kubernetes' types.
//!
//! In come validated objects, out goes a [`Model`], the only thing `plan` and the CLI know of the input. Pure: no
//! I/O, no clock.

use std::{collections::BTreeMap, fmt, net::IpAddr};

pub use svcproxy_common::abi::Protocol;

mod addresses;
mod allocate;
mod build;
mod endpoints;
mod findings;
mod pods;

pub use build::{Built, Options, build};

/// Everything the input says, sorted by namespace and name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Model {
    /// The Services that get an address: neither headless nor ExternalName nor left to another proxy.
    pub services: Vec<Service>,
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Namespace and name.
    pub name: ServiceName,
    /// `spec.type`: `ClusterIP`, `NodePort` or `LoadBalancer`.
    pub service_type: ServiceType,
    /// The cluster IPs, primary first; one, or one of each family.
    pub cluster_ips: Vec<IpAddr>,
    /// `sessionAffinityConfig.clientIP.timeoutSeconds` under `sessionAffinity: ClientIP`, else `None`. Seconds.
    pub affinity_seconds: Option<u32>,
    /// `spec.selector`.
    pub selector: BTreeMap<String, String>,
    /// `spec.ports`, in the manifest's order.
    pub ports: Vec<ServicePort>,
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

/// One entry of `spec.ports`, with the endpoints that serve it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// `name`, empty when absent.
    pub name: String,
    /// `protocol`.
    pub protocol: Protocol,
    /// `port`.
    pub port: u16,
    /// Every endpoint of both families, whatever its conditions, sorted by address and port, no address and port twice.
    pub endpoints: Vec<Endpoint>,
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
    /// Name of the Pod behind it (`targetRef` or the Pod itself), for people.
    pub pod: Option<String>,
}
