//! Rule 16, the addresses: which of them are the node's, which of those are primary, and when none answers.

use std::collections::BTreeSet;

use svcproxy::{
    input,
    manifest::{self, Source},
    model::{Model, NodePolicy, NodePortAddresses, Options},
    network::{node_addresses, taken_cluster_ips, unreachable_node_ports},
    state::State,
};

use crate::given::{ips, nets, network};

#[track_caller]
fn assert_own(text: &str, expected: &str) {
    assert_eq!(
        node_addresses(&network(text), &BTreeSet::new()),
        ips(expected),
        "{text}"
    );
}

/// One Service with a nodePort and the cluster IP 10.96.0.10, on a node with these addresses.
fn model(addresses: &str) -> Model {
    let text = "{apiVersion: v1, kind: Service, metadata: {name: kubia}, spec: {type: NodePort, clusterIP: 10.96.0.10, \
                ports: [{port: 80, nodePort: 30080}]}}";
    let source = Source {
        name: "f.yaml".into(),
        text: text.into(),
    };
    let input = input::join(manifest::parse(&[source]), &Options::default(), &State::default());
    let mut model = input.model.unwrap();
    model.node.addresses = ips(addresses);
    model
}

#[test]
fn rule_16_all_local_addresses_are_the_nodes_but_loopback() {
    assert_own(
        "eth0
         dummy0 dummy
         127.0.0.1/8 dev lo
         ::1/128 dev lo
         192.0.2.1/24 dev eth0
         fe80::1/64 dev eth0
         2001:db8::1/64 dev eth0
         203.0.113.5/32 dev lo
         203.0.113.6/32 dev dummy0",
        "192.0.2.1 2001:db8::1 203.0.113.5 203.0.113.6",
    );
}

#[test]
fn rule_16_an_address_on_many_interfaces_is_one() {
    assert_own(
        "veth1 veth\nveth2 veth\n10.244.0.1/32 dev veth1\n10.244.0.1/32 dev veth2",
        "10.244.0.1",
    );
}

#[test]
fn rule_16_the_default_routes_interface_has_the_primary_address() {
    assert_own(
        "docker0 bridge
         eth0
         eth1
         172.17.0.1/16 dev docker0
         192.0.2.1/24 dev eth0
         198.51.100.1/24 dev eth1
         2001:db8::1/64 dev eth0
         route default via 192.0.2.9 dev eth0 metric 200
         route default via 198.51.100.9 dev eth1 metric 100
         route default6 via fe80::9 dev eth0",
        "198.51.100.1 2001:db8::1 172.17.0.1 192.0.2.1",
    );
}

#[test]
fn cluster_ips_parked_on_lo_stay_the_services() {
    let network = network("eth0\n10.96.0.10/32 dev lo\n192.0.2.1/24 dev eth0");
    let cluster_ips = ips("10.96.0.10").into_iter().collect();
    assert_eq!(node_addresses(&network, &cluster_ips), ips("192.0.2.1"));
    assert_eq!(taken_cluster_ips(&network, &model("")).count(), 0);
}

#[test]
fn a_cluster_ip_that_an_interface_has_is_taken() {
    let network = network("eth0\n10.96.0.10/32 dev eth0");
    let model = model("");
    let taken: Vec<_> = taken_cluster_ips(&network, &model).collect();
    assert_eq!(taken, [(&model.services[0].name, ips("10.96.0.10")[0], "eth0")]);
}

#[test]
fn rule_16_node_ports_that_nothing_answers_on_are_told() {
    let within = |networks| NodePolicy {
        nodeport_addresses: NodePortAddresses::Within(nets(networks)),
        ..NodePolicy::default()
    };
    let primary = NodePolicy {
        nodeport_addresses: NodePortAddresses::Primary,
        ..NodePolicy::default()
    };
    for (addresses, policy, told) in [
        ("192.0.2.1", NodePolicy::default(), None),
        ("192.0.2.1", primary.clone(), None),
        ("192.0.2.1", within("192.0.2.0/24"), None),
        // Networks of the other family leave this one alone.
        ("192.0.2.1", within("2001:db8::/32"), None),
        ("192.0.2.1", within("10.0.0.0/8"), Some("--nodeport-addresses")),
        ("192.0.2.1", within("127.0.0.0/8"), Some("--nodeport-addresses")),
        ("", NodePolicy::default(), Some("no address")),
        ("2001:db8::1", primary, Some("no address")),
    ] {
        let said = unreachable_node_ports(&model(addresses), &policy);
        assert_eq!(
            said.len(),
            usize::from(told.is_some()),
            "{addresses} {policy:?}: {said:?}"
        );
        if let Some(word) = told {
            assert!(
                said[0].contains("default/kubia") && said[0].contains(word),
                "{}",
                said[0]
            );
        }
    }
}
