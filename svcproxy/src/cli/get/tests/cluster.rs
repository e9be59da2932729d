//! The maps and the state file of a small cluster.

use std::net::SocketAddr;

use clap::Parser;
use svcproxy_common::abi::Protocol;

use super::super::{Snapshot, render};
use crate::{
    cli::{Cli, Command},
    model::{Endpoint, Model, Node, NodePolicy, Service, ServiceName, ServicePort, ServiceType, TrafficPolicy},
    plan::{Limits, MapContents, plan},
    state::{PortRecord, ServiceRecord, State},
};

const NOW: u64 = 1_700_000_000;
const MINUTE: u64 = 60;

/// What `svcproxy get` prints for these arguments.
pub(super) fn get(snapshot: &Snapshot, arguments: &str) -> String {
    let arguments = ["svcproxy", "get"].into_iter().chain(arguments.split_whitespace());
    let Some(Command::Get(args)) = Cli::parse_from(arguments).command else {
        panic!("not `get`")
    };
    render(snapshot, &args).unwrap()
}

/// `kubia` dual-stack with affinity and two ports, `api` with five pods, and `empty`, all in `default`.
pub(super) fn cluster() -> Snapshot {
    let kubia = service("default/kubia", &["10.96.0.10", "fd00:10:96::a"], Some(10800))
        .port("http", 80, &["10.1.0.1:8080", "10.1.0.2:9090", "[fd00:1::1]:8080"])
        .port("https", 443, &["10.1.0.1:8443", "10.1.0.2:9443", "[fd00:1::1]:8443"]);
    let api = service("default/api", &["10.96.0.11"], None).port(
        "",
        8080,
        &[
            "10.1.0.1:80",
            "10.1.0.2:80",
            "10.1.0.3:80",
            "10.1.0.4:80",
            "10.1.0.5:80",
        ],
    );
    let empty = service("default/empty", &["10.96.0.12"], None).port("dns", 53, &[]);
    snapshot([kubia, api, empty])
}

pub(super) fn service(name: &str, cluster_ips: &[&str], affinity_seconds: Option<u32>) -> Service {
    let (namespace, name) = name.split_once('/').unwrap();
    Service {
        name: ServiceName {
            namespace: namespace.into(),
            name: name.into(),
        },
        service_type: ServiceType::ClusterIp,
        cluster_ips: cluster_ips.iter().map(|ip| ip.parse().unwrap()).collect(),
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        load_balancer_source_ranges: Vec::new(),
        internal_traffic_policy: TrafficPolicy::Cluster,
        external_traffic_policy: TrafficPolicy::Cluster,
        health_check_node_port: None,
        affinity_seconds,
        selector: [
            ("app".to_owned(), name.to_owned()),
            ("tier".to_owned(), "web".to_owned()),
        ]
        .into(),
        ports: Vec::new(),
    }
}

impl Service {
    pub(super) fn port(mut self, name: &str, port: u16, endpoints: &[&str]) -> Self {
        let endpoint = |text: &&str| {
            let socket: SocketAddr = text.parse().unwrap();
            Endpoint::ready(socket.ip(), socket.port())
        };
        let endpoints = endpoints.iter().map(endpoint).collect();
        self.ports.push(ServicePort {
            name: name.into(),
            protocol: Protocol::TCP,
            port,
            node_port: None,
            endpoints,
        });
        self
    }
}

/// The maps as planned and the state as written, each Service some minutes older than the one before.
pub(super) fn snapshot(services: impl IntoIterator<Item = Service>) -> Snapshot {
    let mut services: Vec<_> = services.into_iter().collect();
    services.sort_by(|one, other| one.name.cmp(&other.name));
    let mut state = State {
        version: 1,
        ..State::default()
    };
    for (index, service) in services.iter().enumerate() {
        let port = |port: &ServicePort| PortRecord {
            name: port.name.clone(),
            protocol: port.protocol.to_string(),
            port: port.port,
            node_port: port.node_port,
        };
        let addresses = service
            .ports
            .iter()
            .flat_map(|port| &port.endpoints)
            .map(|endpoint| endpoint.address);
        let pods = addresses.map(|address| (address, format!("{}-{address}", service.name.name)));
        let record = ServiceRecord {
            cluster_ips: service.cluster_ips.clone(),
            external_ips: service.external_ips.clone(),
            load_balancer_ips: service.load_balancer_ips.clone(),
            health_check_node_port: service.health_check_node_port,
            service_type: service.service_type.to_string(),
            created: NOW - MINUTE * (5 + 4000 * index as u64),
            selector: service.selector.clone(),
            ports: service.ports.iter().map(port).collect(),
            pods: pods.collect(),
        };
        state.services.insert(service.name.to_string(), record);
    }
    let maps = plan(
        &Model {
            services: services.into_iter().map(Into::into).collect(),
            node: Node {
                name: "node".into(),
                addresses: vec!["192.0.2.1".parse().unwrap()],
                ..Node::default()
            },
            ..Model::default()
        },
        &NodePolicy::default(),
        &MapContents::default(),
        &Limits { backend_slots: 4096 },
    )
    .unwrap();
    Snapshot {
        maps,
        state,
        now_monotonic: 100_000,
        now: NOW,
        ..Snapshot::default()
    }
}
