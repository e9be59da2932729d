//! This node: who it is, and what its flags say about clients.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use k8s_openapi::api::core::v1;

use super::{Family, Options};
use crate::manifest::{Objects, parse_ip};

/// The label of a Node that names its zone.
const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// The taint of a Node that the cluster autoscaler is about to delete.
const LEAVING_TAINT: &str = "ToBeDeletedByClusterAutoscaler";

/// Default of `--service-cluster-ip-range`.
pub const DEFAULT_SERVICE_RANGES: &str = "10.96.0.0/12,fd00:10:96::/112";

/// The node that svcproxy runs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Node {
    /// What endpoints' `nodeName` is compared with.
    pub name: String,
    /// Its addresses, no one twice. The first of each family is the primary one.
    pub addresses: Vec<IpAddr>,
    /// Its label `topology.kubernetes.io/zone`, where it has one.
    pub zone: Option<String>,
    /// Whether it is being deleted, or marked for that by the cluster autoscaler: load balancers are to leave it.
    pub leaving: bool,
    /// Real networks within a service range: addresses there that no Service has are not ours to refuse.
    pub foreign_networks: Vec<IpNet>,
    /// Families in which the way to an address depends on the address alone; see
    /// [`Config::routes_by_destination`](svcproxy_common::abi::Config::routes_by_destination).
    pub destination_routed: Vec<Family>,
}

impl Node {
    /// Its primary address of a family.
    pub fn primary(&self, family: Family) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|ip| Family::of(*ip) == family)
    }
}

/// The node that the options name: its addresses are those given or else those of its Node object.
pub(super) fn node(objects: &Objects, options: &Options) -> Node {
    let is_this = |node: &&v1::Node| node.metadata.name.as_deref() == Some(&options.node_name);
    let object = objects.nodes().map(|node| &node.object).find(is_this);
    let mut addresses = options.node_ips.clone();
    if addresses.is_empty() {
        addresses = object.map(addresses_of).unwrap_or_default();
    }
    let mut known = Vec::new();
    addresses.retain(|ip| {
        !known.contains(ip) && {
            known.push(*ip);
            true
        }
    });
    let labels = object.and_then(|node| node.metadata.labels.as_ref());
    Node {
        name: options.node_name.clone(),
        addresses,
        zone: labels
            .and_then(|labels| labels.get(ZONE_LABEL))
            .filter(|zone| !zone.is_empty())
            .cloned(),
        leaving: object.is_some_and(is_leaving),
        foreign_networks: Vec::new(),
        destination_routed: Vec::new(),
    }
}

fn is_leaving(node: &v1::Node) -> bool {
    let mut taints = node.spec.iter().flat_map(|spec| spec.taints.iter().flatten());
    node.metadata.deletion_timestamp.is_some() || taints.any(|taint| taint.key == LEAVING_TAINT)
}

/// The addresses of a Node object, internal ones first, as kube-proxy ranks them.
fn addresses_of(node: &v1::Node) -> Vec<IpAddr> {
    let listed = || node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    ["InternalIP", "ExternalIP"]
        .iter()
        .flat_map(|kind| listed().filter(move |address| address.type_ == *kind))
        .filter_map(|address| parse_ip(&address.address))
        .collect()
}

/// What the flags say about clients and addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodePolicy {
    /// `--service-cluster-ip-range`: what has no Service there is dropped.
    pub service_ranges: Vec<IpNet>,
    /// `--cluster-cidr`: where pods are. A family without one cannot tell pods from clients outside.
    pub cluster_cidrs: Vec<IpNet>,
    /// `--masquerade-all`: every client of a cluster IP.
    pub masquerade_all: bool,
    /// `--nodeport-addresses`
    pub nodeport_addresses: NodePortAddresses,
    /// `--masquerade-port-range`
    pub masquerade_ports: PortRange,
}

impl Default for NodePolicy {
    fn default() -> Self {
        Self {
            service_ranges: default_service_ranges(),
            cluster_cidrs: Vec::new(),
            masquerade_all: false,
            nodeport_addresses: NodePortAddresses::All,
            masquerade_ports: PortRange::MASQUERADE,
        }
    }
}

/// [`DEFAULT_SERVICE_RANGES`], parsed.
pub(super) fn default_service_ranges() -> Vec<IpNet> {
    let ranges = DEFAULT_SERVICE_RANGES.split(',').map(str::parse);
    ranges.collect::<Result<_, _>>().expect("the default is valid")
}

/// `--nodeport-addresses`: the addresses of this node that answer on nodePorts. Never loopback.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum NodePortAddresses {
    /// All of them.
    #[default]
    All,
    /// `primary`: the primary one of each family.
    Primary,
    /// Those within these networks; in a family that has none, all.
    Within(Vec<IpNet>),
}

impl NodePortAddresses {
    /// Those among the node's addresses of one family.
    pub fn of(&self, node: &Node, family: Family) -> Vec<IpAddr> {
        let own = node.addresses.iter().copied();
        let mut own: Vec<IpAddr> = own
            .filter(|ip| Family::of(*ip) == family && !ip.is_loopback())
            .collect();
        match self {
            Self::All => {}
            Self::Primary => own.truncate(1),
            Self::Within(networks) => {
                let of_family: Vec<_> = networks.iter().filter(|net| Family::of(net.addr()) == family).collect();
                if !of_family.is_empty() {
                    own.retain(|ip| of_family.iter().any(|network| network.contains(ip)));
                }
            }
        }
        own
    }
}

/// Ports from one number to another, written `61000-65535`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The first of them.
    pub first: u16,
    /// The last of them, not below the first.
    pub last: u16,
}

impl PortRange {
    /// Default of `--masquerade-port-range`: all unprivileged ports below those of nodePorts and of the kernel's default
    /// `ip_local_port_range` (32768–60999). Thousands of masqueraded clients may share one endpoint.
    pub const MASQUERADE: Self = Self {
        first: 1_024,
        last: 29_999,
    };
    /// Default of `--service-node-port-range`, kube-apiserver's.
    pub const NODE_PORTS: Self = Self {
        first: 30_000,
        last: 32_767,
    };

    /// Whether a port is among them.
    pub fn contains(self, port: u16) -> bool {
        (self.first..=self.last).contains(&port)
    }

    /// How many there are.
    pub fn count(self) -> u32 {
        u32::from(self.last - self.first) + 1
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bounds = text.split_once('-').and_then(|(first, last)| {
            let range = Self {
                first: first.trim().parse().ok()?,
                last: last.trim().parse().ok()?,
            };
            (range.first > 0 && range.first <= range.last).then_some(range)
        });
        bounds.ok_or_else(|| "write two ports, the lower one first, as in 61000-65535".to_owned())
    }
}
