//! Which interfaces the packets of pods come by, and why.

use svcproxy::{
    input,
    manifest::{self, Source},
    model::Options,
    network::interfaces_of_pods,
    state::State,
};

use crate::given::{ips, nets, network};

/// The interfaces of these endpoints, pods and pod networks, each `name: why`, by ifindex.
#[track_caller]
fn assert_attached(text: &str, endpoints: &str, pods: &str, cluster_cidrs: &str, expected: &[&str]) {
    let network = network(text);
    let found: Vec<String> = interfaces_of_pods(&network, ips(endpoints), ips(pods), &nets(cluster_cidrs))
        .into_iter()
        .map(|(index, why)| format!("{}: {why}", network.link(index).unwrap().name))
        .collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn the_longest_prefix_leads_to_an_endpoint() {
    assert_attached(
        "eth0
         veth1 veth
         veth2 veth
         192.0.2.1/24 dev eth0
         route default via 192.0.2.9 dev eth0
         route 10.244.0.0/16 dev eth0
         route 10.244.0.11/32 dev veth1
         route fd00:10:244::11/128 dev veth2",
        "10.244.0.11 fd00:10:244::11",
        "",
        "",
        &[
            "veth1: endpoint 10.244.0.11 is behind it",
            "veth2: endpoint fd00:10:244::11 is behind it",
        ],
    );
}

#[test]
fn an_endpoint_elsewhere_answers_by_the_interface_that_leads_there() {
    assert_attached(
        "eth0\neth1\n10.1.0.1/24 dev eth1\nroute default via 192.0.2.9 dev eth0",
        "10.1.0.2 198.51.100.7",
        "",
        "",
        &[
            "eth0: endpoint 198.51.100.7 is behind it",
            "eth1: endpoint 10.1.0.2 is behind it",
        ],
    );
}

#[test]
fn of_several_next_hops_each_counts_of_several_routes_the_lowest_metric() {
    assert_attached(
        "eth0
         eth1
         eth2
         route 10.1.0.0/16 via 192.0.2.8 dev eth0 metric 20
         route 10.1.0.0/16 via 198.51.100.8 dev eth1 metric 10
         route 10.1.0.0/16 via 203.0.113.8 dev eth2 metric 10",
        "10.1.0.2",
        "",
        "",
        &[
            "eth1: endpoint 10.1.0.2 is behind it",
            "eth2: endpoint 10.1.0.2 is behind it",
        ],
    );
}

#[test]
fn the_node_itself_and_what_no_route_leads_to_need_nothing() {
    assert_attached(
        "eth0\n192.0.2.1/24 dev eth0\nroute 10.1.0.0/16 dev lo",
        "192.0.2.1 10.244.0.11 10.1.0.2 fd00::1",
        "",
        "",
        &[],
    );
}

#[test]
fn pods_that_are_clients_only_count_too() {
    assert_attached(
        "veth1 veth\nveth2 veth\nroute 10.244.0.11/32 dev veth1\nroute 10.244.0.12/32 dev veth2",
        "10.244.0.11",
        "10.244.0.11 10.244.0.12",
        "",
        &[
            "veth1: endpoint 10.244.0.11 is behind it",
            "veth2: pod 10.244.0.12 is behind it",
        ],
    );
}

#[test]
fn the_default_route_leads_to_endpoints_but_to_no_pod() {
    assert_attached("eth0\nroute default via 192.0.2.9 dev eth0", "", "10.244.0.12", "", &[]);
}

#[test]
fn pods_count_while_they_run_on_this_node_in_a_network_of_their_own() {
    let pod = |name: &str, spec: &str, status: &str| {
        format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{{spec}}}, status: {{{status}}}}}")
    };
    let text = [
        pod("b", "", "podIPs: [{ip: 10.244.0.12}, {ip: 'fd00::12'}]"),
        pod("a", "", "podIP: 10.244.0.11"),
        pod("here", "nodeName: here", "podIP: 10.244.0.14"),
        pod("elsewhere", "nodeName: elsewhere", "podIP: 10.244.1.11"),
        pod("on-the-host", "hostNetwork: true", "podIP: 192.0.2.1"),
        pod("done", "", "phase: Succeeded, podIP: 10.244.0.13"),
        pod("pending", "", "phase: Pending"),
    ];
    let source = Source {
        name: "f.yaml".into(),
        text: text.join("\n---\n"),
    };
    let options = Options {
        node_name: "here".into(),
        ..Options::default()
    };
    let input = input::join(manifest::parse(&[source]), &options, &State::default());
    assert_eq!(
        input.model.unwrap().pods,
        ips("10.244.0.11 10.244.0.12 10.244.0.14 fd00::12")
    );
}

#[test]
fn routes_within_the_cluster_cidr_lead_to_pods() {
    assert_attached(
        "eth0
         cali1 veth
         flannel.1 vxlan
         192.0.2.1/24 dev eth0
         route default via 192.0.2.9 dev eth0
         route 10.0.0.0/8 via 192.0.2.9 dev eth0
         route 10.244.0.7/32 dev cali1
         route 10.244.1.0/24 via 10.244.1.0 dev flannel.1",
        "",
        "",
        "10.244.0.0/16",
        &[
            "cali1: 10.244.0.7/32 of --cluster-cidr is behind it",
            "flannel.1: 10.244.1.0/24 of --cluster-cidr is behind it",
        ],
    );
}

#[test]
fn a_bridge_of_pods_brings_its_ports() {
    assert_attached(
        "eth0
         cni0 bridge
         veth1 veth master cni0
         veth2 veth master cni0
         br0 bridge
         veth3 veth master br0
         10.244.0.1/24 dev cni0",
        "10.244.0.11",
        "",
        "",
        &[
            "cni0: endpoint 10.244.0.11 is behind it",
            "veth1: a port of cni0, which pods are behind",
            "veth2: a port of cni0, which pods are behind",
        ],
    );
}
