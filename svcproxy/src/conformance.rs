//! The rules of Services as one function: what becomes of a new connection, told from the model alone.
//!
//! Tests compare the plan and the loaded programs with it. It is therefore written from the rules and not from the
//! plan: it shares no code with `plan/` nor with the selection of endpoints, and is slow and plain instead.

#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use svcproxy_common::{Fate, Reason};

use crate::model::{
    Endpoint, Family, Model, Node, NodePolicy, NodePortAddresses, Protocol, Service, ServicePort, TrafficPolicy,
};

/// What becomes of a packet that opens a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It goes to an endpoint.
    Forward,
    /// It disappears.
    Drop,
    /// It is answered with an ICMP port unreachable.
    Reject,
    /// It goes on untouched.
    Pass,
}

impl Verdict {
    /// `forward`, `drop`, `reject` or `pass`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Drop => "drop",
            Self::Reject => "reject",
            Self::Pass => "pass",
        }
    }
}

/// What the rules say of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// What becomes of its first packet.
    pub verdict: Verdict,
    /// Why; [`Reason::Translated`] for those forwarded.
    pub reason: Reason,
    /// `namespace/name:port`, the port by name if it has one, of the ServicePort it is for; `namespace/name` for a
    /// port of a cluster IP that there is not.
    pub service: Option<String>,
    /// The endpoints it may go to, sorted.
    pub backends: Vec<SocketAddr>,
    /// Whether it is masqueraded whichever endpoint it goes to; see [`Expected::masquerades`].
    pub masquerade: bool,
    /// The client.
    pub client: IpAddr,
}

impl Expected {
    /// Whether it is masqueraded if it goes to this endpoint: one that reaches itself always is.
    pub fn masquerades(&self, backend: SocketAddr) -> bool {
        self.masquerade || backend.ip() == self.client
    }
}

/// Says what becomes of a connection from `src` to `dst`.
pub fn decide(model: &Model, policy: &NodePolicy, src: IpAddr, dst: SocketAddr, protocol: Protocol) -> Expected {
    let rules = Rules {
        model,
        node: &model.node,
        policy,
        family: Family::of(dst.ip()),
    };
    let outcome = |reason: Reason, service: Option<String>| Expected {
        verdict: match reason.fate() {
            _ if reason == Reason::Translated => Verdict::Forward,
            Fate::Pass | Fate::Defer => Verdict::Pass,
            Fate::Drop => Verdict::Drop,
            Fate::Reject => Verdict::Reject,
        },
        reason,
        service,
        backends: Vec::new(),
        masquerade: false,
        client: src,
    };
    let Some((service, port, way)) = rules.find(dst, protocol) else {
        let owner = model
            .services
            .iter()
            .find(|service| service.cluster_ips.contains(&dst.ip()));
        return match owner {
            Some(owner) => outcome(Reason::OtherPort, Some(owner.name.to_string())),
            None if rules.belongs(dst.ip()) == Some(Net::Services) => outcome(Reason::Unallocated, None),
            None => outcome(Reason::NotAService, None),
        };
    };
    let name = match port.name.as_str() {
        "" => format!("{}:{}", service.name, port.port),
        name => format!("{}:{name}", service.name),
    };
    if is_martian(src) {
        return outcome(Reason::Martian, Some(name));
    }
    if way == Way::LoadBalancer && !rules.admits(service, src) {
        return outcome(Reason::SourceRange, Some(name));
    }
    let client = rules.client(src);
    let local = match way {
        Way::ClusterIp => service.internal_traffic_policy == TrafficPolicy::Local,
        _ => service.external_traffic_policy == TrafficPolicy::Local && client == Client::Outside,
    };
    let anywhere = rules.cluster_endpoints(port);
    let chosen = if local {
        rules.local_endpoints(port)
    } else {
        anywhere.clone()
    };
    let reason = match (chosen.is_empty(), anywhere.is_empty()) {
        (false, _) => Reason::Translated,
        (true, false) => Reason::NoLocalEndpoint,
        (true, true) => Reason::NoEndpoint,
    };
    let mut expected = outcome(reason, Some(name));
    if expected.verdict == Verdict::Forward {
        expected.backends = chosen.iter().map(|e| SocketAddr::new(e.address, e.port)).collect();
        expected.backends.sort();
        expected.masquerade = rules.masquerades(service, way, client);
    }
    expected
}

/// Whether no host sends from this address (RFC 1812, section 5.3.7; RFC 4291, section 2.5).
fn is_martian(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 0 || ip.is_loopback() || ip.octets()[0] >= 224,
        IpAddr::V6(ip) => ip.is_unspecified() || ip.is_loopback() || ip.is_multicast(),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    ClusterIp,
    LoadBalancer,
    ExternalIp,
    NodePort,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Client {
    Outside,
    Pod,
    Node,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Net {
    Pods,
    Services,
    Foreign,
}

struct Rules<'a> {
    model: &'a Model,
    node: &'a Node,
    policy: &'a NodePolicy,
    family: Family,
}

impl<'a> Rules<'a> {
    /// The ServicePort at an address and port, and the way in that this is. An address that a manifest names comes
    /// before a nodePort.
    fn find(&self, dst: SocketAddr, protocol: Protocol) -> Option<(&'a Service, &'a ServicePort, Way)> {
        let of_family = |service: &&Service| service.cluster_ips.iter().any(|ip| Family::of(*ip) == self.family);
        let services = || self.model.services.iter().map(|service| &**service).filter(of_family);
        let ports = || services().flat_map(|service| service.ports.iter().map(move |port| (service, port)));
        let ports = || ports().filter(|(_, port)| port.protocol == protocol);
        let named = |(service, port): (&'a Service, &'a ServicePort)| {
            let way = [
                (&service.cluster_ips, Way::ClusterIp),
                (&service.load_balancer_ips, Way::LoadBalancer),
                (&service.external_ips, Way::ExternalIp),
            ];
            let way = way.into_iter().find(|(ips, _)| ips.contains(&dst.ip()))?.1;
            (port.port == dst.port()).then_some((service, port, way))
        };
        let node_port = |(service, port): (&'a Service, &'a ServicePort)| {
            let answers = port.node_port == Some(dst.port()) && self.answers_on_node_ports(dst.ip());
            answers.then_some((service, port, Way::NodePort))
        };
        ports().find_map(named).or_else(|| ports().find_map(node_port))
    }

    /// `--nodeport-addresses`
    fn answers_on_node_ports(&self, address: IpAddr) -> bool {
        let is_own = self.node.addresses.contains(&address) && !address.is_loopback();
        is_own
            && match &self.policy.nodeport_addresses {
                NodePortAddresses::All => true,
                NodePortAddresses::Primary => self.primary() == Some(address),
                NodePortAddresses::Within(networks) => {
                    let mut of_family = networks
                        .iter()
                        .filter(|net| Family::of(net.addr()) == self.family)
                        .peekable();
                    of_family.peek().is_none() || of_family.any(|net| net.contains(&address))
                }
            }
    }

    fn primary(&self) -> Option<IpAddr> {
        let mut own = self.node.addresses.iter().copied();
        own.find(|ip| Family::of(*ip) == self.family)
    }

    /// `loadBalancerSourceRanges`: those of the family, if there are any.
    fn admits(&self, service: &Service, src: IpAddr) -> bool {
        let ranges = service.load_balancer_source_ranges.iter();
        let ranges: Vec<&IpNet> = ranges.filter(|range| Family::of(range.addr()) == self.family).collect();
        let admits = |ip: IpAddr| ranges.iter().any(|range| range.contains(&ip));
        let from_itself = service.load_balancer_ips.contains(&src) && self.primary().is_some_and(admits);
        ranges.is_empty() || admits(src) || from_itself
    }

    /// The most specific of the networks that the flags name.
    fn belongs(&self, address: IpAddr) -> Option<Net> {
        if self.node.addresses.contains(&address) && !self.is_pod_network(address) {
            return None;
        }
        let named = (self.policy.cluster_cidrs.iter().map(|net| (net, Net::Pods)))
            .chain(self.policy.service_ranges.iter().map(|net| (net, Net::Services)))
            .chain(self.node.foreign_networks.iter().map(|net| (net, Net::Foreign)));
        let holding = named.filter(|(net, _)| net.contains(&address));
        holding.max_by_key(|(net, _)| net.prefix_len()).map(|(_, net)| net)
    }

    fn is_pod_network(&self, address: IpAddr) -> bool {
        self.policy.cluster_cidrs.iter().any(|cidr| cidr.contains(&address))
    }

    fn client(&self, src: IpAddr) -> Client {
        if self.node.addresses.contains(&src) && !self.is_pod_network(src) {
            Client::Node
        } else if self.belongs(src) == Some(Net::Pods) {
            Client::Pod
        } else {
            Client::Outside
        }
    }

    fn masquerades(&self, service: &Service, way: Way, client: Client) -> bool {
        let cidrs = &self.policy.cluster_cidrs;
        let knows_pods = cidrs.iter().any(|cidr| Family::of(cidr.addr()) == self.family);
        match way {
            Way::ClusterIp => self.policy.masquerade_all || (knows_pods && client != Client::Pod),
            _ if service.external_traffic_policy == TrafficPolicy::Cluster => true,
            _ => client == Client::Node,
        }
    }

    fn cluster_endpoints(&self, port: &'a ServicePort) -> Vec<&'a Endpoint> {
        let all = || port.endpoints.iter().filter(|e| Family::of(e.address) == self.family);
        let ready: Vec<&Endpoint> = all().filter(|e| e.ready).collect();
        if ready.is_empty() {
            return all().filter(|e| e.serving && e.terminating).collect();
        }
        if ready.iter().all(|e| !e.node_hints.is_empty()) {
            let for_us: Vec<&Endpoint> = ready
                .iter()
                .copied()
                .filter(|e| e.node_hints.contains(&self.node.name))
                .collect();
            if !for_us.is_empty() {
                return for_us;
            }
        }
        if let Some(zone) = &self.node.zone
            && ready.iter().all(|e| !e.zone_hints.is_empty())
        {
            let for_us: Vec<&Endpoint> = ready.iter().copied().filter(|e| e.zone_hints.contains(zone)).collect();
            if !for_us.is_empty() {
                return for_us;
            }
        }
        ready
    }

    fn local_endpoints(&self, port: &'a ServicePort) -> Vec<&'a Endpoint> {
        let here = |e: &&Endpoint| e.node_name.as_ref() == Some(&self.node.name);
        let all = || {
            port.endpoints
                .iter()
                .filter(|e| Family::of(e.address) == self.family)
                .filter(here)
        };
        let ready: Vec<&Endpoint> = all().filter(|e| e.ready).collect();
        match ready.is_empty() {
            false => ready,
            true => all().filter(|e| e.serving && e.terminating).collect(),
        }
    }
}
