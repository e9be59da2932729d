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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Command {
        #[command(flatten)]
        node: NodeArgs,
    }

    fn parse(flags: &str) -> Result<NodeArgs, String> {
        let words = std::iter::once("svcproxy").chain(flags.split_whitespace());
        let command = Command::try_parse_from(words).map_err(|error| error.to_string())?;
        Ok(command.node)
    }

    #[test]
    fn no_flag_is_the_default() {
        let node = parse("").unwrap();
        assert_eq!(node.policy().unwrap(), NodePolicy::default());
        let options = node.options().unwrap();
        let default = Options {
            node_name: hostname().unwrap().trim().to_lowercase(),
            now: options.now,
            ..Options::default()
        };
        assert_eq!(format!("{options:?}"), format!("{default:?}"));
    }

    #[test]
    fn lists_are_separated_by_commas_or_flags() {
        let flags = "--hostname-override Node-1 --node-ip 192.0.2.1,2001:db8::1 --node-ip 192.0.2.2 --masquerade-all \
                     --cluster-cidr 10.244.0.0/16,fd00:10:244::/56 --nodeport-addresses 192.0.2.0/24,::/0 \
                     --service-cluster-ip-range 10.0.0.0/24 --masquerade-port-range 50000-50099";
        let node = parse(flags).unwrap();
        let options = node.options().unwrap();
        assert_eq!(options.node_name, "node-1");
        assert_eq!(options.node_ips.len(), 3);
        assert_eq!(options.ranges.len(), 1);
        let policy = node.policy().unwrap();
        assert_eq!(policy.cluster_cidrs.len(), 2);
        assert!(policy.masquerade_all);
        assert!(matches!(policy.nodeport_addresses, NodePortAddresses::Within(networks) if networks.len() == 2));
        assert_eq!(policy.masquerade_ports.count(), 100);
        let primary = parse("--nodeport-addresses primary").unwrap().policy().unwrap();
        assert_eq!(primary.nodeport_addresses, NodePortAddresses::Primary);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (flags, reason) in [
            ("--node-ip 192.0.2", "invalid IP address"),
            ("--cluster-cidr 10.244.0.0", "invalid value"),
            (
                "--nodeport-addresses eth0",
                "write a network such as 10.0.0.0/8, or `primary`",
            ),
            ("--masquerade-port-range 65535-61000", "the lower one first"),
            ("--masquerade-port-range 0-100", "write two ports"),
            ("--masquerade-port-range 61000", "write two ports"),
            ("--nodeport-addresses primary,10.0.0.0/8", "write `primary` alone"),
            ("--hostname-override= ", "this node has no name"),
            ("--cluster-cidr 10.96.0.0/12", "networks of their own"),
        ] {
            let error = match parse(flags) {
                Err(error) => error,
                Ok(node) => {
                    let errors = [node.options().err(), node.policy().err()];
                    errors.into_iter().flatten().map(|error| error.to_string()).collect()
                }
            };
            assert!(error.contains(reason), "{flags}: {error}");
        }
    }
}
