//! The flags that say what node this is and how it treats clients; kube-proxy's names where it has one.

use std::{net::IpAddr, path::Path, str::FromStr, time::SystemTime};

use anyhow::{Context as _, bail};
use clap::Args;
use ipnet::IpNet;

use crate::model::{DEFAULT_SERVICE_RANGES, NodePolicy, NodePortAddresses, Options, PortRange};

/// This node and its policy, for every command that reads manifests.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Node")]
pub struct NodeArgs {
    /// Name of this node, compared with endpoints' nodeName; default: the hostname
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// Address of this node, the primary one of its family first; repeatable; default: those of the Node object
    #[arg(long, value_name = "IP,…", value_delimiter = ',')]
    pub node_ip: Vec<IpAddr>,
    /// Networks that cluster IPs are assigned from, at most one of each family; what no Service has there is dropped
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',', default_value = DEFAULT_SERVICE_RANGES)]
    pub service_cluster_ip_range: Vec<IpNet>,
    /// Ports that nodePorts are assigned from
    #[arg(long, value_name = "FIRST-LAST", default_value_t = PortRange::NODE_PORTS)]
    pub service_node_port_range: PortRange,
    /// Networks of the pods: tells them from clients outside, who are masqueraded on their way to cluster IPs
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',')]
    pub cluster_cidr: Vec<IpNet>,
    /// Masquerade every client of a cluster IP
    #[arg(long)]
    pub masquerade_all: bool,
    /// Which of this node's addresses answer on nodePorts: networks, or `primary`; default: all but loopback
    #[arg(long, value_name = "CIDR,…", value_delimiter = ',')]
    pub nodeport_addresses: Vec<NodePortAddress>,
    /// Ports for masqueraded connections that cannot keep the client's; keep out of net.ipv4.ip_local_port_range
    #[arg(long, value_name = "FIRST-LAST", default_value_t = PortRange::MASQUERADE)]
    pub masquerade_port_range: PortRange,
}

impl NodeArgs {
    /// What the model is built with, now.
    ///
    /// # Errors
    ///
    /// When this node has no name, or the clock is before 1970.
    pub fn options(&self) -> anyhow::Result<Options> {
        let name = match &self.hostname_override {
            Some(name) => name.clone(),
            None => hostname()?,
        };
        // As kube-proxy compares it: hostnames are lower case in Kubernetes.
        let node_name = name.trim().to_lowercase();
        if node_name.is_empty() {
            bail!("this node has no name: give one with --hostname-override");
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(Options {
            ranges: self.service_cluster_ip_range.clone(),
            node_ports: self.service_node_port_range,
            node_name,
            node_ips: self.node_ip.clone(),
            now: now.context("the clock is before 1970")?.as_secs(),
        })
    }

    /// How clients are treated.
    ///
    /// # Errors
    ///
    /// When flags contradict each other.
    pub fn policy(&self) -> anyhow::Result<NodePolicy> {
        let primary = self.nodeport_addresses.contains(&NodePortAddress::Primary);
        let networks = self.nodeport_addresses.iter().filter_map(|address| match address {
            NodePortAddress::Primary => None,
            NodePortAddress::Within(network) => Some(*network),
        });
        let networks: Vec<IpNet> = networks.collect();
        let nodeport_addresses = match (primary, networks.is_empty()) {
            (true, true) => NodePortAddresses::Primary,
            (true, false) => bail!("--nodeport-addresses: write `primary` alone, or networks without it"),
            (false, true) => NodePortAddresses::All,
            (false, false) => NodePortAddresses::Within(networks),
        };
        for (cidr, range) in self.cluster_cidr.iter().flat_map(|cidr| {
            let ranges = self.service_cluster_ip_range.iter();
            ranges.map(move |range| (cidr, range))
        }) {
            if cidr.trunc() == range.trunc() {
                bail!(
                    "{cidr} is given as --cluster-cidr and as --service-cluster-ip-range: pods and Services need networks of their own"
                );
            }
        }
        Ok(NodePolicy {
            service_ranges: self.service_cluster_ip_range.clone(),
            cluster_cidrs: self.cluster_cidr.clone(),
            masquerade_all: self.masquerade_all,
            nodeport_addresses,
            masquerade_ports: self.masquerade_port_range,
        })
    }
}

/// One entry of `--nodeport-addresses`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodePortAddress {
    /// `primary`
    Primary,
    /// A network.
    Within(IpNet),
}

impl FromStr for NodePortAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "primary" => Ok(Self::Primary),
            _ => text
                .parse()
                .map(Self::Within)
                .map_err(|_| "write a network such as 10.0.0.0/8, or `primary`".to_owned()),
        }
    }
}

fn hostname() -> anyhow::Result<String> {
    let path = Path::new("/proc/sys/kernel/hostname");
    std::fs::read_to_string(path).with_context(|| format!("cannot read {}: give --hostname-override", path.display()))
}
