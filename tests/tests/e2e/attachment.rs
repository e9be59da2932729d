//! svcproxy attaches by itself to the interfaces that pods' packets come by.

use std::fs;

use nix::sys::signal::Signal;
use svcproxy_tests::{client, daemon::Daemon, lab::Lab, topology::PodSpec};

use crate::{
    network::{bare, eventually},
    over_xdp_and_tc,
    scenario::{HTTP, Scenario, kubia, pods, topology},
};

over_xdp_and_tc!(a_pod_reaches_others_by_their_service);

/// The interfaces that links are pinned of, sorted.
fn attached(lab: &Lab) -> Vec<String> {
    let entries = fs::read_dir(lab.pin_dir().join("links")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names
        .map(|name| name.split('-').next().unwrap_or_default().to_owned())
        .collect();
    names.retain(|name| name != "cgroup"); // the hooks of sockets
    names.sort();
    names.dedup();
    names
}

/// Asserts that svcproxy is attached to these interfaces, soon.
#[track_caller]
fn assert_attached(lab: &Lab, daemon: &Daemon, interfaces: &[&str]) {
    eventually(
        &format!("attached to {interfaces:?}, not {:?}:\n{}", attached(lab), daemon.log()),
        || attached(lab) == interfaces,
    );
}

#[test]
fn interfaces_of_pods_are_attached_to_as_they_come_and_go() {
    let mut lab = Lab::new(&topology("tc")).unwrap();
    lab.set_manifests(&[("kubia.yaml", &kubia().yaml()), ("pods.yaml", &pods(&lab.pods))])
        .unwrap();
    let flags = ["--iface", "eth0", "--cluster-cidr", "10.244.0.0/16"];
    let daemon = lab.start_daemon_with(&flags).unwrap();
    assert_attached(&lab, &daemon, &["eth0", "pod11", "pod12", "pod13"]);
    // A client that no manifest names, in the cluster's network.
    lab.add_pod(&PodSpec::new("visitor", 14)).unwrap();
    assert_attached(&lab, &daemon, &["eth0", "pod11", "pod12", "pod13", "pod14"]);
    lab.remove_pod("visitor").unwrap();
    let name = lab.pods[0].name.clone();
    lab.remove_pod(&name).unwrap();
    assert_attached(&lab, &daemon, &["eth0", "pod12", "pod13"]);
    assert!(
        daemon
            .log()
            .contains("pod14: tc-in and tc-out (10.244.0.14/32 of --cluster-cidr")
    );
    assert!(daemon.stop().unwrap().success());

    // The next one takes them over, or lets them go when told so.
    let daemon = lab.start_daemon_with(&flags).unwrap();
    assert_attached(&lab, &daemon, &["eth0", "pod12", "pod13"]);
    let adopted = "(endpoint 10.244.0.12 is behind it), taken over from the last run";
    assert!(daemon.log().contains(adopted), "{}", daemon.log());
    assert!(daemon.stop().unwrap().success());
    let off = [&flags[..], &["--auto-attach=false"]].concat();
    let daemon = lab.start_daemon_with(&off).unwrap();
    assert_attached(&lab, &daemon, &["eth0"]);
}

#[test]
fn a_renamed_interface_stays_attached() {
    let lab = Lab::new(&topology("tc")).unwrap();
    lab.set_manifests(&[("kubia.yaml", &kubia().yaml()), ("pods.yaml", &pods(&lab.pods))])
        .unwrap();
    let daemon = lab.start_daemon("tc").unwrap();
    assert_attached(&lab, &daemon, &["eth0", "pod11", "pod12", "pod13"]);
    lab.node.ip("link set pod13 name zoe").unwrap();
    assert_attached(&lab, &daemon, &["eth0", "pod11", "pod12", "zoe"]);
}

#[test]
fn ports_of_a_pod_bridge_are_attached_to() {
    let lab = bare();
    lab.set_manifests(&[("kubia.yaml", &kubia().yaml())]).unwrap();
    lab.node
        .ip("link add cni0 type bridge
             link add v1 type veth peer name w1
             link set v1 master cni0
             link set cni0 up
             addr add 10.244.0.1/24 dev cni0")
        .unwrap();
    let daemon = lab
        .start_daemon_with(&["--iface", "eth0", "--cluster-cidr", "10.244.0.0/16"])
        .unwrap();
    assert_attached(&lab, &daemon, &["cni0", "eth0", "v1"]);
    lab.node.ip("link set v1 nomaster").unwrap();
    assert_attached(&lab, &daemon, &["cni0", "eth0"]);
}

fn a_pod_reaches_others_by_their_service(mode: &str) {
    let scenario = Scenario::new(mode);
    let [client, others @ ..] = &scenario.lab.pods[..] else {
        panic!("no pods")
    };
    // Itself would need masquerading.
    let client_alone = pods([client]).replace("app: kubia", "app: client");
    let files = [
        ("kubia.yaml", kubia().yaml()),
        ("pods.yaml", pods(others) + &client_alone),
    ];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    scenario.lab.set_manifests(&files).unwrap();
    scenario.daemon.signal(Signal::SIGHUP).unwrap();
    eventually("reloaded", || scenario.daemon.log().contains("reloaded"));
    for target in scenario.targets(HTTP) {
        let enter = || client::block_on(client::sequential(target, 30));
        let tally = client.namespace.enter(enter);
        assert!(tally.failures.is_empty(), "{tally}");
    }
}
