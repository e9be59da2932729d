//! A random cluster, seen from a node with random flags: what packets are drawn for, and the tables they meet.

use std::net::{IpAddr, SocketAddr};

use fastrand::Rng;
use svcproxy::{
    datapath::links::Hook,
    model::{
        Endpoint, Model, Node, NodePolicy, NodePortAddresses, PortRange, Protocol, Service, ServiceName, ServicePort,
        ServiceType, TrafficPolicy,
    },
};
use svcproxy_common::abi::{
    Delivery::{self, PEER, XDP},
    Protocol::{SCTP, TCP, UDP},
};

use crate::{
    model::Ip,
    network::{NEIGHBOURS, NODE_ADDRESSES},
};

/// A cluster and the node.
pub(super) struct Scene {
    pub(super) model: Model,
    pub(super) policy: NodePolicy,
    /// Where packets come in and go out.
    pub(super) hooks: &'static [Hook],
    /// What veth0 and veth1 take without the kernel's routing.
    pub(super) deliveries: [Option<Delivery>; 2],
    /// Every address and port at which a Service may be.
    pub(super) targets: Vec<(Protocol, SocketAddr)>,
    /// Where clients are.
    pub(super) clients: Vec<IpAddr>,
    /// Whether the plan is caught half written: without one of its endpoints.
    pub(super) half_written: bool,
}

/// Which hooks, and what interfaces take: each alone, and all together on connections of each other.
const PLACES: [(&[Hook], [Option<Delivery>; 2]); 4] = [
    (&[Hook::Xdp], [Some(XDP), Some(XDP)]),
    (&[Hook::TcIn], [Some(PEER), Some(PEER)]),
    (&[Hook::TcIn, Hook::TcOut], [None, None]),
    (&[Hook::Xdp, Hook::TcIn, Hook::TcOut], [Some(XDP), Some(PEER)]),
];

impl Scene {
    pub(super) fn random(random: &mut Rng) -> Self {
        let (hooks, deliveries) = *choose(random, &PLACES);
        let services: Vec<Service> = (0..random.u16(1..=5)).map(|number| service(random, number)).collect();
        let addresses = NODE_ADDRESSES.map(|ip| ip.parse().unwrap());
        let most = if random.u8(..4) == 0 { 0 } else { 3 };
        let addresses = addresses.into_iter().filter(|_| random.u8(..4) < most);
        let model = Model {
            node: Node {
                name: "node-0".into(),
                addresses: addresses.collect(),
                zone: random.bool().then(|| "zone-0".into()),
                foreign_networks: subset(random, &["10.96.9.0/24", "fd00:10:96::900/120"]),
                ..Node::default()
            },
            services: services.into_iter().map(Into::into).collect(),
            ..Model::default()
        };
        let policy = policy(random);
        let targets = model
            .services
            .iter()
            .flat_map(|service| targets(service, &model.node))
            .collect();
        let clients = Ip::ALL.into_iter().flat_map(|ip| {
            let outside = (1..=4).map(move |number| ip.client(number, 0).ip());
            let pods = (1..=3).map(move |number| ip.pod(number, 0).ip());
            outside.chain(pods)
        });
        let balanced = model
            .services
            .iter()
            .flat_map(|service| service.load_balancer_ips.clone());
        Self {
            clients: clients
                .chain(NODE_ADDRESSES.map(|ip| ip.parse().unwrap()))
                .chain(balanced)
                .collect(),
            policy,
            hooks,
            deliveries,
            targets,
            half_written: random.u8(..8) == 0,
            model,
        }
    }
}

/// One of these.
pub(super) fn choose<'a, T>(random: &mut Rng, all: &'a [T]) -> &'a T {
    &all[random.usize(..all.len())]
}

/// Some of these, parsed.
fn subset<T: std::str::FromStr<Err: std::fmt::Debug>>(random: &mut Rng, all: &[&str]) -> Vec<T> {
    all.iter()
        .filter(|_| random.bool())
        .map(|text| text.parse().unwrap())
        .collect()
}

fn policy(random: &mut Rng) -> NodePolicy {
    NodePolicy {
        service_ranges: subset(random, &["10.96.0.0/12", "fd00:96::/64"]),
        cluster_cidrs: subset(random, &["10.244.0.0/16", "fd00:244::/64"]),
        masquerade_all: random.u8(..4) == 0,
        nodeport_addresses: match random.u8(..4) {
            0 => NodePortAddresses::Primary,
            1 => NodePortAddresses::Within(subset(random, &["10.244.0.0/16", "fd00:a::/64"])),
            _ => NodePortAddresses::All,
        },
        masquerade_ports: match random.u8(..3) {
            0 => PortRange {
                first: 61_000,
                last: 61_001,
            },
            _ => PortRange::MASQUERADE,
        },
    }
}

fn service(random: &mut Rng, number: u16) -> Service {
    let families = *choose::<&[Ip]>(random, &[&[Ip::V4][..], &[Ip::V6], &[Ip::V4, Ip::V6]]);
    let mut addresses = |first: u16| -> Vec<IpAddr> {
        let ips = families
            .iter()
            .flat_map(|ip| [first, first + 1].map(|host| external(*ip, host)));
        ips.filter(|_| random.u8(..3) == 0).collect()
    };
    let (external_ips, load_balancer_ips) = (addresses(number * 4 + 1), addresses(number * 4 + 3));
    let traffic_policy = |random: &mut Rng| *choose(random, &[TrafficPolicy::Cluster, TrafficPolicy::Local]);
    let ranges = [
        "10.0.0.0/30",
        "10.244.0.0/16",
        "fd00:a::/126",
        "fd00:244::/64",
        "192.0.2.0/24",
    ];
    let filtered = random.bool();
    let mut ports: Vec<ServicePort> = Vec::new();
    for nth in 0..random.u16(1..=3) {
        let (protocol, port) = (*choose(random, &[TCP, UDP, SCTP]), *choose(random, &[80, 443, 53]));
        if ports
            .iter()
            .any(|other| (other.protocol, other.port) == (protocol, port))
        {
            continue;
        }
        ports.push(ServicePort {
            name: format!("p{nth}"),
            protocol,
            port,
            node_port: random.bool().then_some(30_000 + number * 4 + nth),
            endpoints: endpoints(random),
        });
    }
    Service {
        name: ServiceName {
            namespace: "default".into(),
            name: format!("s{number}"),
        },
        service_type: ServiceType::LoadBalancer,
        cluster_ips: families.iter().map(|ip| ip.vip(number + 1, 0).ip()).collect(),
        external_ips,
        load_balancer_ips,
        load_balancer_source_ranges: if filtered { subset(random, &ranges) } else { Vec::new() },
        internal_traffic_policy: traffic_policy(random),
        external_traffic_policy: traffic_policy(random),
        health_check_node_port: None,
        affinity_seconds: (random.u8(..4) == 0).then(|| random.u32(1..200)),
        selector: Default::default(),
        ports,
    }
}

/// An external IP or a load balancer's, beyond the service range.
fn external(ip: Ip, host: u16) -> IpAddr {
    match ip {
        Ip::V4 => [192, 0, 2, host as u8].into(),
        Ip::V6 => [0xfd00, 0xe, 0, 0, 0, 0, 0, host].into(),
    }
}

/// Endpoints with a neighbour entry, without one, without a route, and among the clients.
fn endpoints(random: &mut Rng) -> Vec<Endpoint> {
    let count = *choose(random, &[0, 0, 1, 2, 3, 6]);
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for _ in 0..count {
        let ip = *choose(random, &Ip::ALL);
        let port = *choose(random, &[8080, 8443, 80, 53]);
        let host = random.u16(1..=3);
        let address = match random.u8(..16) {
            0 => ip.pod(NEIGHBOURS + 1, 0).ip(),
            1 | 2 if ip == Ip::V4 => [10, 250, 0, 1].into(),
            1 | 2 => [0xfd00, 0x250, 0, 0, 0, 0, 0, 1].into(),
            3 => ip.client(host, 0).ip(),
            4..=6 => ip.other_pod(host, 0).ip(),
            _ => ip.pod(host, 0).ip(),
        };
        if endpoints
            .iter()
            .any(|other| (other.address, other.port) == (address, port))
        {
            continue;
        }
        let (ready, serving, terminating) = match random.u8(..8) {
            0 => (false, true, true),
            1 => (false, random.bool(), random.bool()),
            _ => (true, true, false),
        };
        let hints = |random: &mut Rng, prefix: &str| match random.u8(..4) {
            0 => Vec::new(),
            _ => vec![format!("{prefix}-{}", random.u8(..2))],
        };
        endpoints.push(Endpoint {
            ready,
            serving,
            terminating,
            node_name: random.bool().then(|| format!("node-{}", random.u8(..2))),
            node_hints: hints(random, "node"),
            zone_hints: hints(random, "zone"),
            ..Endpoint::ready(address, port)
        });
    }
    endpoints.sort_by_key(|endpoint| (endpoint.address, endpoint.port));
    endpoints
}

fn targets(service: &Service, node: &Node) -> Vec<(Protocol, SocketAddr)> {
    let named = || {
        let external = service.external_ips.iter().chain(&service.load_balancer_ips);
        service.cluster_ips.iter().chain(external)
    };
    let ports = service.ports.iter();
    ports
        .flat_map(|port| {
            let named = named().map(|ip| SocketAddr::new(*ip, port.port));
            let own = node.addresses.iter();
            let own = own.filter_map(|ip| Some(SocketAddr::new(*ip, port.node_port?)));
            named.chain(own).map(|socket| (port.protocol, socket))
        })
        .collect()
}
