//! What load balancers and probes are answered, in a node of their own.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use svcproxy_tests::{lab::Lab, namespace::Namespace, topology::NODE};

use crate::network::{bare, eventually};

pub(crate) const HEALTHZ: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 10256);
const PORT: u16 = 32_000;

/// Status and body of a `GET` in a namespace; `None` when nobody listens.
pub(crate) fn get(from: &Namespace, target: SocketAddr, path: &str) -> Option<(u16, String)> {
    from.enter(|| {
        let mut stream = TcpStream::connect(target).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    })
}

/// A balanced Service of one endpoint on a node.
fn balanced(node: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: kubia}}
spec:
  type: LoadBalancer
  externalTrafficPolicy: Local
  healthCheckNodePort: {PORT}
  ports: [{{port: 80}}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: kubia-1, labels: {{kubernetes.io/service-name: kubia}}}}
addressType: IPv4
ports: [{{port: 8080}}]
endpoints: [{{addresses: [10.244.0.11], nodeName: {node}}}]
"
    )
}

fn set(lab: &Lab, text: &str) {
    let path = lab.directory().join("manifests/kubia.yaml");
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

#[test]
fn rule_30_a_load_balancer_hears_of_local_endpoints_as_they_come_and_go() {
    let lab = bare();
    lab.set_manifests(&[("kubia.yaml", &balanced("here"))]).unwrap();
    let _daemon = lab
        .start_daemon_with(&["--iface", "eth0", "--mode", "tc", "--hostname-override", "here"])
        .unwrap();
    let check = NODE.map(|ip| SocketAddr::new(ip, PORT));
    let body = |count: u32| {
        format!(
            r#"{{"service":{{"namespace":"default","name":"kubia"}},"localEndpoints":{count},"serviceProxyHealthy":true}}"#
        )
    };
    let answers = |expected: Option<(u16, String)>| {
        for target in check {
            eventually(&format!("{target} never says {expected:?}"), || {
                get(&lab.client, target, "/healthz") == expected
            });
        }
    };
    answers(Some((200, body(1))));
    set(&lab, &balanced("there"));
    answers(Some((503, body(0))));
    set(&lab, &balanced("here"));
    answers(Some((200, body(1))));
    set(&lab, "");
    answers(None);
}

#[test]
fn rule_28_healthz_answers_once_the_maps_hold_the_plan_and_a_port_in_use_stops_nothing() {
    let lab = bare();
    lab.set_manifests(&[("kubia.yaml", &balanced("here"))]).unwrap();
    let healthz = |path| get(&lab.node, HEALTHZ, path).map(|(status, _)| status);
    assert_eq!(healthz("/healthz"), None);
    let daemon = lab.start_daemon("tc").unwrap();
    assert_eq!((healthz("/healthz"), healthz("/livez")), (Some(200), Some(200)));
    // A bad file is no reason to take this node away from its load balancer.
    let before = daemon.log().len();
    set(&lab, "kind: [");
    daemon.wait_for("not reloaded", before).unwrap();
    assert_eq!(healthz("/healthz"), Some(200));
    set(&lab, &balanced("here"));
    daemon.stop().unwrap();
    assert_eq!(healthz("/livez"), None);

    let _other = lab.node.enter(|| std::net::TcpListener::bind(HEALTHZ).unwrap());
    let daemon = lab.start_daemon("tc").unwrap();
    assert!(
        daemon.log().contains("no /healthz on 127.0.0.1:10256"),
        "{}",
        daemon.log()
    );
}

/// A pipe among the manifests holds the daemon up until somebody writes to it.
#[test]
fn probes_are_answered_while_the_daemon_is_stuck() {
    let lab = bare();
    lab.set_manifests(&[("kubia.yaml", &balanced("here"))]).unwrap();
    let daemon = lab.start_daemon("tc").unwrap();
    let before = daemon.log().len();
    let pipe = lab.directory().join("manifests/pipe.yaml");
    mkfifo(&pipe, Mode::S_IRWXU).unwrap();
    thread::sleep(Duration::from_secs(1));
    assert_eq!(get(&lab.node, HEALTHZ, "/livez").map(|(status, _)| status), Some(200));
    assert!(!daemon.log()[before..].contains("reloaded"), "it was not stuck");
    fs::write(&pipe, "").unwrap();
    daemon.wait_for("INFO reloaded", before).unwrap();
}

#[test]
fn rule_28_healthz_says_when_the_node_is_to_go() {
    let lab = bare();
    let node = |taints: &str| {
        format!("{{apiVersion: v1, kind: Node, metadata: {{name: here}}, spec: {{taints: [{taints}]}}}}")
    };
    lab.set_manifests(&[("kubia.yaml", &node(""))]).unwrap();
    let _daemon = lab
        .start_daemon_with(&["--iface", "eth0", "--mode", "tc", "--hostname-override", "here"])
        .unwrap();
    let answer = |path| get(&lab.node, HEALTHZ, path).unwrap();
    assert!(answer("/healthz").1.contains(r#""nodeEligible":true"#));
    set(&lab, &node("{key: ToBeDeletedByClusterAutoscaler, effect: NoSchedule}"));
    eventually("/healthz never says that the node goes", || answer("/healthz").0 == 503);
    assert!(answer("/healthz").1.contains(r#""nodeEligible":false"#));
    assert_eq!(answer("/livez").0, 200);
}
