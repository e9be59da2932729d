//! Whom endpoints see, and whom clients: where the node stands in for a client, and that every answer comes from the
//! address that was asked.

use std::net::{IpAddr, SocketAddr};

use svcproxy_tests::{
    beyond::Behind,
    client,
    lab::{Lab, Pod},
    manifest::{self, Endpoint},
    namespace::Namespace,
    probe::{self, Outcome, Protocol},
    topology::{CLIENT, NODE},
};

use crate::{
    exposed::{HERE, INSIDE, POD_NETWORKS, Place, ask, lab, run},
    over_xdp_and_tc,
    scenario::assert_transferred,
};

over_xdp_and_tc!(
    rule_17_whom_endpoints_see,
    rule_17_masquerade_all,
    rules_17_18_19_clients_are_told_apart_and_answered,
);

/// 2 MB.
const LENGTH: u64 = 2_000_000;

/// A Service of these endpoints.
fn service(place: &Place, name: &str, endpoints: &[[IpAddr; 2]]) -> String {
    let endpoints = endpoints.iter().map(|addresses| Endpoint {
        addresses: *addresses,
        node: HERE,
        conditions: "",
    });
    let ports = [("tcp", "TCP", 8080), ("udp", "UDP", 8080)];
    place.service(name).yaml() + &manifest::slices(name, &ports, &endpoints.collect::<Vec<_>>())
}

/// The Service's cluster IP and its nodePort, in each family.
fn targets(place: &Place) -> [[SocketAddr; 2]; 2] {
    let cluster_ips = place.cluster_ips().map(|ip| SocketAddr::new(ip, 80));
    [cluster_ips, NODE.map(|ip| SocketAddr::new(ip, place.node_port()))]
}

/// Asserts that `pod` answers over TCP and UDP, having seen `source`, and that much arrives intact both ways.
#[track_caller]
fn assert_served(from: &Namespace, target: SocketAddr, pod: &str, source: IpAddr) {
    let pod = pod.to_owned();
    let expected = Outcome::Answer { pod, source };
    for protocol in [Protocol::Tcp, Protocol::Udp] {
        assert_eq!(ask(from, protocol, target), expected, "{protocol:?} {target}");
    }
    assert_transferred(from, target, LENGTH);
}

fn ips(v4: &str, v6: &str) -> [IpAddr; 2] {
    [v4, v6].map(|ip| ip.parse().unwrap())
}

/// A pod that is its Service's only endpoint reaches itself, in every way.
#[track_caller]
fn assert_reaches_itself(pod: &Pod, place: &Place) {
    let node = ips("10.244.0.1", "fd00:10:244::1");
    for (target, node) in targets(place)
        .into_iter()
        .flat_map(|targets| targets.into_iter().zip(node))
    {
        assert_served(&pod.namespace, target, &pod.name, node);
    }
}

fn rule_17_whom_endpoints_see(mode: &str) {
    let mut lab = lab(mode);
    let far = lab.add_beyond("far", 6, Behind::Remote, 1500).unwrap();
    let host = lab.serve_on_node("host").unwrap();
    let itself = &lab.pods[0];
    let manifests = service(&Place(1), "far", &[far])
        + &service(&Place(2), "host", &[host])
        + &service(&Place(3), "itself", &[itself.addresses]);
    let _daemon = run(mode, &lab, &manifests, &[POD_NETWORKS]);
    let inside = lab.pod(INSIDE).unwrap();
    // Behind two routers: the node's interface to the first.
    let node = ips("10.1.0.1", "fd00:b::1");
    let [cluster_ips, node_ports] = targets(&Place(1));
    for family in [0, 1] {
        assert_served(&lab.client, cluster_ips[family], "far", node[family]);
        assert_served(&lab.client, node_ports[family], "far", node[family]);
        assert_served(&inside.namespace, cluster_ips[family], "far", inside.addresses[family]);
        assert_served(&inside.namespace, node_ports[family], "far", node[family]);
    }
    // On the node itself, as a pod with `hostNetwork`: the kernel masquerades nothing that it delivers to itself.
    for (family, target) in targets(&Place(2))
        .into_iter()
        .flat_map(|targets| targets.into_iter().enumerate())
    {
        assert_served(&lab.client, target, "host", CLIENT[family]);
        // Its UDP socket would answer a pod from another of its addresses, as any does that is bound to none.
        let (pod, source) = ("host".to_owned(), inside.addresses[family]);
        let expected = Outcome::Answer { pod, source };
        assert_eq!(ask(&inside.namespace, Protocol::Tcp, target), expected, "{target}");
    }
    assert_reaches_itself(itself, &Place(3));
}

fn rule_17_masquerade_all(mode: &str) {
    let lab = lab(mode);
    let pod = &lab.pods[0];
    let manifests = service(&Place(1), "kubia", &[pod.addresses]);
    let _daemon = run(mode, &lab, &manifests, &[POD_NETWORKS, "--masquerade-all"]);
    let inside = &lab.pod(INSIDE).unwrap().namespace;
    let node = ips("10.244.0.1", "fd00:10:244::1");
    for (target, node) in targets(&Place(1))
        .into_iter()
        .flat_map(|targets| targets.into_iter().zip(node))
    {
        assert_served(&lab.client, target, &pod.name, node);
        assert_served(inside, target, &pod.name, node);
    }
}

/// Without `--cluster-cidr`, which none of this needs.
fn rules_17_18_19_clients_are_told_apart_and_answered(mode: &str) {
    let lab = lab(mode);
    let all: Vec<_> = lab.pods.iter().map(|pod| pod.addresses).collect();
    let manifests = service(&Place(1), "one", &all[..1]) + &service(&Place(2), "all", &all);
    let _daemon = run(mode, &lab, &manifests, &[]);
    assert_reaches_itself(&lab.pods[0], &Place(1));
    two_clients_with_one_port(&lab);
    answers_come_from_the_address_that_was_asked(&lab);
}

/// Both reach the endpoint from the node's address.
fn two_clients_with_one_port(lab: &Lab) {
    let others = ips("10.0.0.3", "fd00:a::3");
    for (ip, length) in others.into_iter().zip([24, 64]) {
        lab.client
            .ip(&format!("addr add {ip}/{length} dev eth0 nodad"))
            .unwrap();
    }
    let [_, node_ports] = targets(&Place(1));
    let node = ips("10.244.0.1", "fd00:10:244::1");
    for (family, target) in node_ports.into_iter().enumerate() {
        let expected = Outcome::Answer {
            pod: lab.pods[0].name.clone(),
            source: node[family],
        };
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            // The first's connection is there while the second comes, and answers again afterwards.
            for (turn, ip) in [CLIENT, others, CLIENT, others]
                .iter()
                .map(|ips| ips[family])
                .enumerate()
            {
                if protocol == Protocol::Tcp && turn > 1 {
                    continue; // its port is in TIME_WAIT
                }
                let probe = probe::probe_from(protocol, SocketAddr::new(ip, 40_000), target);
                let outcome = lab.client.enter(|| client::block_on(probe));
                assert_eq!(outcome, expected, "{protocol:?} from {ip} to {target}");
            }
        }
    }
}

/// `client::udp` looks where an answer comes from, and a TCP connection lives by it: every address of the Service, asked
/// from outside and from a pod.
fn answers_come_from_the_address_that_was_asked(lab: &Lab) {
    let place = Place(2);
    let targets: Vec<_> = place
        .cluster_ips()
        .map(|ip| SocketAddr::new(ip, 80))
        .into_iter()
        .chain(place.others())
        .collect();
    for from in [&lab.client, &lab.pod(INSIDE).unwrap().namespace] {
        for target in &targets {
            let tally = from.enter(|| client::udp_sequential(*target, 20));
            assert!(
                tally.failures.is_empty() && tally.answers.len() > 1,
                "{target}: {tally}"
            );
            let tally = from.enter(|| client::block_on(client::sequential(*target, 20)));
            assert!(
                tally.failures.is_empty() && tally.answers.len() > 1,
                "{target}: {tally}"
            );
        }
    }
}
