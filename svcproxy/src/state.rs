//! The state file: what must outlive the daemon and does not stand in the pinned maps.
//!
//! Cluster IPs and nodePorts once assigned stay with their Service for its life, whatever order the files come in; and `svcproxy
//! get` needs names for the numbers it finds in the maps.

use std::{collections::BTreeMap, net::IpAddr};

use serde::{Deserialize, Serialize};

mod file;

pub use file::{FILE_NAME, LoadedState, StateError};

/// Contents of `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// Version of this format.
    pub version: u32,
    /// The Services, by `namespace/name`.
    pub services: BTreeMap<String, ServiceRecord>,
}

impl State {
    /// The version this release reads and writes.
    pub const VERSION: u32 = 1;
}

impl Default for State {
    fn default() -> Self {
        Self {
            version: Self::VERSION,
            services: BTreeMap::new(),
        }
    }
}

/// What is to be remembered after a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memory {
    /// All of this. It must be on disk before a packet can depend on an address or a port in it.
    All(State),
    /// This of some Services, by `namespace/name`. No address and no port among it is new.
    Some(Vec<(String, ServiceRecord)>),
}

/// What is remembered of one Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServiceRecord {
    /// The cluster IPs it has, primary first.
    #[serde(rename = "clusterIPs")]
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs` that are carried.
    #[serde(rename = "externalIPs", default, skip_serializing_if = "Vec::is_empty")]
    pub external_ips: Vec<IpAddr>,
    /// The load balancer's addresses.
    #[serde(rename = "loadBalancerIPs", default, skip_serializing_if = "Vec::is_empty")]
    pub load_balancer_ips: Vec<IpAddr>,
    /// `healthCheckNodePort`, given or assigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_node_port: Option<u16>,
    /// `spec.type`.
    #[serde(rename = "type")]
    pub service_type: String,
    /// When it was first seen, or its `metadata.creationTimestamp`; seconds since the Unix epoch.
    pub created: u64,
    /// `spec.selector`.
    pub selector: BTreeMap<String, String>,
    /// `spec.ports`.
    pub ports: Vec<PortRecord>,
    /// Pod names by endpoint address, where known.
    pub pods: BTreeMap<IpAddr, String>,
}

/// What is remembered of one ServicePort.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PortRecord {
    /// `name`, empty when absent.
    pub name: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// `port`.
    pub port: u16,
    /// `nodePort`, given or assigned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_port: Option<u16>,
}
