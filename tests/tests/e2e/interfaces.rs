//! `--iface` is a name: interfaces that go, come back, or come late are served as if they had always been there.

use std::{
    fs,
    time::{Duration, Instant},
};

use svcproxy_tests::{
    client::{self, Connection},
    daemon::Daemon,
    lab::Lab,
    manifest::Service,
    topology::{NODE, PodSpec, Topology},
};

use crate::{
    network::{bare, eventually},
    over_xdp_and_tc,
    scenario::{HTTP, Scenario, kubia, pods, topology},
};

over_xdp_and_tc!(
    an_interface_that_is_made_anew_is_attached_to_again,
    an_interface_that_comes_late_is_attached_to,
    an_interface_that_is_elsewhere_for_a_while_is_attached_to_again,
    an_interface_with_live_connections_keeps_its_hooks,
);

const NODE_PORT: u16 = 30_080;

/// The hooks that are pinned of an interface with its present ifindex, sorted.
fn hooks(lab: &Lab, interface: &str) -> Vec<String> {
    let Ok(text) = lab.node.run("ip", &["-o", "link", "show", interface]) else {
        return Vec::new();
    };
    let index = text.split(':').next().unwrap_or_default().trim();
    let start = format!("{interface}-{index}-");
    let entries = fs::read_dir(lab.pin_dir().join("links")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut hooks: Vec<_> = names
        .filter_map(|name| Some(name.strip_prefix(&start)?.trim_end_matches("-clsact").to_owned()))
        .collect();
    hooks.sort();
    hooks
}

/// The hooks of an interface of `--iface` in a mode.
fn hooks_of(mode: &str) -> &'static [&'static str] {
    match mode {
        "xdp" => &["after-xdp", "tc-out", "xdp"],
        _ => &["tc-in", "tc-out"],
    }
}

/// Asserts that an interface has the hooks of a mode within so many milliseconds.
#[track_caller]
fn assert_hooked(lab: &Lab, daemon: &Daemon, interface: &str, mode: &str, limit: u64) {
    let start = Instant::now();
    while hooks(lab, interface) != hooks_of(mode) {
        assert!(
            start.elapsed() < Duration::from_millis(limit),
            "{interface} has {:?} after {limit} ms:\n{}",
            hooks(lab, interface),
            daemon.log()
        );
    }
}

fn assert_serves(scenario: &Scenario) {
    scenario.lab.client.enter(|| {
        client::block_on(async {
            for target in scenario.targets(HTTP) {
                let tally = client::sequential(target, 30).await;
                assert!(tally.failures.is_empty(), "{tally}\n{}", scenario.daemon.log());
            }
        });
    });
}

/// A driver that is bound anew, a VM's NIC that is plugged in again: another ifindex, the same name.
fn an_interface_that_is_made_anew_is_attached_to_again(mode: &str) {
    let scenario = Scenario::new(mode);
    let lab = &scenario.lab;
    assert_serves(&scenario);
    for _ in 0..3 {
        lab.node.ip("link del eth0").unwrap();
        eventually(&scenario.daemon.log(), || {
            scenario.daemon.log().contains("eth0 of --iface is not there")
        });
        lab.link_client().unwrap();
        assert_hooked(lab, &scenario.daemon, "eth0", mode, 500);
        assert_serves(&scenario);
    }
    let links = fs::read_dir(lab.pin_dir().join("links")).unwrap();
    let of_eth0 = links.filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with("eth0-")
    });
    assert_eq!(of_eth0.count(), hooks_of(mode).len(), "pins of dead interfaces stay");
}

fn an_interface_that_comes_late_is_attached_to(mode: &str) {
    let lab = Lab::new(&topology(mode)).unwrap();
    lab.set_manifests(&[("kubia.yaml", &kubia().yaml()), ("pods.yaml", &pods(&lab.pods))])
        .unwrap();
    lab.node.ip("link del eth0").unwrap();
    let daemon = lab.start_daemon(mode).unwrap();
    assert!(
        daemon.log().contains("WARN eth0 of --iface is not there"),
        "{}",
        daemon.log()
    );
    lab.link_client().unwrap();
    assert_hooked(&lab, &daemon, "eth0", mode, 500);
    let ip = lab.cluster_ips("default/kubia").unwrap()[0];
    lab.client.enter(|| {
        client::block_on(async {
            let tally = client::sequential((ip, HTTP).into(), 30).await;
            assert!(tally.failures.is_empty(), "{tally}");
        });
    });
}

fn an_interface_that_is_elsewhere_for_a_while_is_attached_to_again(mode: &str) {
    let scenario = Scenario::new(mode);
    let lab = &scenario.lab;
    let away = &lab.pods[0].namespace;
    lab.node
        .ip(&format!("link set eth0 name away\nlink set away netns {}", away.name()))
        .unwrap();
    eventually(&scenario.daemon.log(), || {
        scenario.daemon.log().contains("eth0 of --iface is not there")
    });
    away.ip(&format!("link set away netns {}", lab.node.name())).unwrap();
    let [v4, v6] = NODE;
    lab.node
        .ip(&format!(
            "link set away name eth0
             link set eth0 up
             addr add {v4}/24 dev eth0
             addr add {v6}/64 dev eth0 nodad"
        ))
        .unwrap();
    assert_hooked(lab, &scenario.daemon, "eth0", mode, 500);
    assert_serves(&scenario);
}

/// The endpoint of a masqueraded connection leaves its Service, and nothing else is behind its interface.
fn an_interface_with_live_connections_keeps_its_hooks(mode: &str) {
    let topology = Topology {
        pods: vec![PodSpec::new("old", 11), PodSpec::new("new", 12)],
        ..topology(mode)
    };
    let lab = Lab::new(&topology).unwrap();
    let service = Service::new("kubia")
        .field("type: NodePort")
        .node_port("http", "TCP", HTTP, "8080", NODE_PORT);
    let of_pod = |name: &str| pods([lab.pod(name).unwrap()]);
    let manifests = lab
        .set_manifests(&[("kubia.yaml", &service.yaml()), ("pods.yaml", &of_pod("old"))])
        .unwrap();
    let daemon = lab.start_daemon(mode).unwrap();
    let target = (NODE[0], NODE_PORT).into();
    lab.client.enter(|| {
        client::block_on(async {
            let mut connection = Connection::open(target).await.unwrap();
            assert_eq!(connection.get("/").await.unwrap(), "old");
            let fresh = lab.directory().join("fresh");
            fs::write(&fresh, of_pod("new")).unwrap();
            fs::rename(&fresh, manifests.join("pods.yaml")).unwrap();
            eventually(&daemon.log(), || daemon.log().contains("pod12: tc-in"));
            for _ in 0..20 {
                std::thread::sleep(Duration::from_millis(50));
                assert_eq!(connection.get("/").await.unwrap(), "old", "{}", daemon.log());
            }
            let tally = client::sequential(target, 10).await;
            assert!(tally.failures.is_empty(), "{tally}");
        });
    });
    assert_eq!(hooks(&lab, "pod11"), ["tc-in", "tc-out"], "{}", daemon.log());
}

#[test]
fn a_pattern_takes_the_interfaces_of_its_names_and_never_the_loopback() {
    let lab = bare();
    lab.set_manifests(&[("kubia.yaml", &kubia().yaml())]).unwrap();
    lab.node
        .ip("link add uplink0 type veth peer name x0
             link add uplink1 type veth peer name x1")
        .unwrap();
    let daemon = lab
        .start_daemon_with(&["--iface", "eth0,uplink*", "--iface", "y+", "--mode", "tc"])
        .unwrap();
    for interface in ["eth0", "uplink0", "uplink1"] {
        assert_hooked(&lab, &daemon, interface, "tc", 1);
    }
    assert!(hooks(&lab, "x0").is_empty() && hooks(&lab, "lo").is_empty());
    lab.node.ip("link set x0 name yes\nlink set uplink1 name no").unwrap();
    assert_hooked(&lab, &daemon, "yes", "tc", 500);
    eventually(&daemon.log(), || hooks(&lab, "no").is_empty());
}
