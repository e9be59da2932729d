//! `healthCheckNodePort`.

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::SystemTime,
};

use svcproxy::{
    health::{Health, ServiceServers, health_checks},
    manifest::{Source, parse},
    model::{self, Model, NodePolicy, NodePortAddresses, Options},
    state::State,
};

use crate::client::{ask, get};

/// A Service with a health check on `port`, and its local ready endpoints.
struct Balanced<'a> {
    name: &'a str,
    port: u16,
    endpoints: &'a [&'a str],
}

/// These Services on a node with the addresses 127.0.0.2 and 127.0.0.3.
fn model(services: &[Balanced<'_>]) -> Model {
    let documents = services.iter().map(|Balanced { name, port, endpoints }| {
        let of = |address: &&str| format!("{{addresses: ['{address}'], nodeName: here}}");
        let slice = |family: &str, v6: bool| {
            let endpoints: Vec<_> = endpoints.iter().filter(|e| e.contains(':') == v6).map(of).collect();
            format!(
                "---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}-{v6}, labels: \
                 {{kubernetes.io/service-name: {name}}}}}, addressType: {family}, ports: [{{port: 8080}}], endpoints: [{}]}}\n",
                endpoints.join(", ")
            )
        };
        format!(
            "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{type: LoadBalancer, \
             externalTrafficPolicy: Local, healthCheckNodePort: {port}, ipFamilyPolicy: PreferDualStack, ports: [{{port: 80}}]}}}}\n{}{}",
            slice("IPv4", false),
            slice("IPv6", true)
        )
    });
    let loaded = parse(&[Source {
        name: "services.yaml".to_owned(),
        text: documents.collect(),
    }]);
    let options = Options {
        node_name: "here".to_owned(),
        node_ips: vec!["192.0.2.1".parse().unwrap(), "127.0.0.2".parse().unwrap()],
        ..Options::default()
    };
    let built = model::build(&loaded.objects, &options, &State::default());
    let said = (loaded.diagnostics, built.diagnostics);
    built.model.unwrap_or_else(|| panic!("{said:?}"))
}

/// The first of two ports that nobody listens on, out of the range from which the kernel gives ports to others: another
/// pair for each process, whose numbers follow each other, and each call.
fn free_port() -> u16 {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    let start = u32::from(TRIED.fetch_add(1, Ordering::Relaxed)) * 100 + std::process::id() % 1_350 * 2;
    let free = |port: &u16| {
        [*port, port + 1]
            .iter()
            .all(|port| TcpListener::bind(("::", *port)).is_ok())
    };
    let mut ports = (0..2_700).map(|n| 30_000 + ((start + n * 2) % 2_700) as u16);
    ports.find(free).expect("free ports")
}

struct Scene {
    health: Arc<Health>,
    servers: ServiceServers,
    policy: NodePolicy,
}

impl Scene {
    fn new() -> Self {
        let health = Arc::new(Health::default());
        health.updated(SystemTime::now());
        Self {
            servers: ServiceServers::new(health.clone()),
            health,
            policy: NodePolicy::default(),
        }
    }

    fn sync(&mut self, services: &[Balanced<'_>]) {
        self.servers.sync(&health_checks(&model(services), &self.policy));
    }
}

fn local(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

#[tokio::test]
async fn rule_30_the_answer_counts_local_ready_endpoints() {
    let mut scene = Scene::new();
    let port = free_port();
    for (endpoints, status, count) in [
        (&["10.1.0.1", "10.1.0.2"][..], 200, "2"),
        (&[], 503, "0"),
        (&["10.1.0.1", "fd00:1::1"], 200, "1"),
        (&["fd00:1::1"], 200, "1"),
    ] {
        scene.sync(&[Balanced {
            name: "kubia",
            port,
            endpoints,
        }]);
        for address in [local(port), SocketAddr::new("::1".parse().unwrap(), port)] {
            let answer = get(address, "/any/path").await;
            assert_eq!(answer.status, status, "{answer:?}");
            assert_eq!(answer.header("Content-Type"), Some("application/json"));
            assert_eq!(answer.header("X-Content-Type-Options"), Some("nosniff"));
            assert_eq!(answer.header("X-Load-Balancing-Endpoint-Weight"), Some(count));
            assert_eq!(
                answer.body,
                format!(
                    r#"{{"service":{{"namespace":"default","name":"kubia"}},"localEndpoints":{count},"serviceProxyHealthy":true}}"#
                )
            );
        }
    }
}

#[tokio::test]
async fn rule_30_a_proxy_that_is_not_healthy_says_so_and_one_whose_node_leaves_does_not() {
    let mut scene = Scene::new();
    let port = free_port();
    scene.sync(&[Balanced {
        name: "kubia",
        port,
        endpoints: &["10.1.0.1"],
    }]);
    scene.health.set_node_leaves(true);
    assert_eq!(get(local(port), "/").await.status, 200);
    scene.health.queued(SystemTime::UNIX_EPOCH);
    let answer = get(local(port), "/").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["serviceProxyHealthy"], false);
    assert_eq!(answer.json()["localEndpoints"], 1);
}

#[tokio::test]
async fn rule_30_servers_come_and_go_with_their_services() {
    let mut scene = Scene::new();
    let port = free_port();
    let ports = [port, port + 1];
    let named = |name, port| Balanced {
        name,
        port,
        endpoints: &["10.1.0.1"],
    };
    let owner = async |port| {
        let answer = ask("GET", local(port), "/").await?;
        Some(answer.json()["service"]["name"].as_str()?.to_owned())
    };
    let steps: [(&[Balanced<'_>], [Option<&str>; 2]); 4] = [
        (&[named("a", ports[0])], [Some("a"), None]),
        (&[named("a", ports[1]), named("b", ports[0])], [Some("b"), Some("a")]),
        (&[named("b", ports[0])], [Some("b"), None]),
        (&[], [None, None]),
    ];
    for (services, owners) in steps {
        scene.sync(services);
        // A server that ends does so with the next turn of the runtime.
        tokio::task::yield_now().await;
        for (port, expected) in ports.into_iter().zip(owners) {
            assert_eq!(owner(port).await.as_deref(), expected, "{port}");
        }
    }
}

#[tokio::test]
async fn rule_30_a_port_in_use_stops_nothing_and_is_tried_again() {
    let mut scene = Scene::new();
    let port = free_port();
    let other = TcpListener::bind(("::", port)).unwrap();
    let services = [
        Balanced {
            name: "a",
            port,
            endpoints: &[],
        },
        Balanced {
            name: "b",
            port: port + 1,
            endpoints: &[],
        },
    ];
    scene.sync(&services);
    let running = |scene: &Scene| {
        scene
            .servers
            .addresses()
            .map(|(_, name)| name.name.clone())
            .collect::<Vec<_>>()
    };
    assert_eq!(running(&scene), ["b"]);
    drop(other);
    scene.sync(&services);
    assert_eq!(running(&scene), ["a", "b"]);
}

#[tokio::test]
async fn rule_30_only_addresses_that_answer_on_node_ports_are_listened_to() {
    let mut scene = Scene::new();
    let port = free_port();
    let listening = |policy: NodePortAddresses| {
        let policy = NodePolicy {
            nodeport_addresses: policy,
            ..NodePolicy::default()
        };
        let checks = health_checks(
            &model(&[Balanced {
                name: "kubia",
                port,
                endpoints: &[],
            }]),
            &policy,
        );
        let addresses = checks.into_iter().flat_map(|check| check.addresses);
        addresses.map(|address| address.ip().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(listening(NodePortAddresses::All), ["::"]);
    assert_eq!(listening(NodePortAddresses::Primary), ["192.0.2.1"]);
    let network = "192.0.2.0/24".parse().unwrap();
    assert_eq!(listening(NodePortAddresses::Within(vec![network])), ["192.0.2.1"]);
    let network = "198.51.100.0/24".parse().unwrap();
    assert_eq!(listening(NodePortAddresses::Within(vec![network])), [""; 0]);

    // An address that is not this machine's is no reason to stop.
    scene.policy.nodeport_addresses = NodePortAddresses::Primary;
    scene.sync(&[Balanced {
        name: "kubia",
        port,
        endpoints: &[],
    }]);
    assert_eq!(scene.servers.addresses().count(), 0);
}
