//! Connections spread evenly over the endpoints, whatever tells the clients apart.

use std::{collections::BTreeMap, net::SocketAddr};

use proptest::{
    prelude::Rng as _,
    test_runner::{RngAlgorithm, TestRng},
};
use svcproxy_common::abi::Protocol::TCP;

use crate::{
    endpoints,
    model::{Cluster, Ip, Node, service, tcp},
};

const CLIENTS: u32 = 10_000;

/// Connections per endpoint.
fn spread(ip: Ip, pods: u16, affinity: u32, client: impl Fn(u32) -> SocketAddr) -> BTreeMap<SocketAddr, u32> {
    let node = Node::new();
    let vip = ip.vip(1, 80);
    let endpoints = endpoints(ip, 8080, 1..=pods);
    let port = service(1, TCP, vip, &endpoints).affinity(affinity);
    Cluster::default().put(&node.tables, port);
    let mut count = BTreeMap::new();
    for number in 0..CLIENTS {
        *count.entry(node.forward(&tcp(client(number), vip, "S"))).or_default() += 1;
    }
    count
}

fn assert_even(count: &BTreeMap<SocketAddr, u32>, pods: u16, tolerance: f64) {
    let even = f64::from(CLIENTS) / f64::from(pods);
    assert_eq!(count.len(), usize::from(pods));
    for (pod, &connections) in count {
        let off = (f64::from(connections) - even).abs() / even;
        assert!(
            off <= tolerance,
            "{pod}: {connections} of {even} ({:.1} %)",
            off * 100.0
        );
    }
}

#[test]
fn ten_thousand_clients_over_three_endpoints_within_ten_per_cent() {
    let mut rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let numbers: Vec<u32> = (0..CLIENTS).map(|_| rng.next_u32()).collect();
    for ip in Ip::ALL {
        let by_address = |number: u32| ip.client((number >> 16) as u16, 5000);
        let by_port = |number: u32| ip.client(1, number as u16);
        let random = |number: u32| {
            let number = numbers[number as usize];
            ip.client((number >> 16) as u16, number as u16)
        };
        let in_order = |number: u32| ip.client(number as u16, 5000);
        assert_even(&spread(ip, 3, 0, random), 3, 0.1);
        assert_even(&spread(ip, 3, 0, by_port), 3, 0.1);
        assert_even(&spread(ip, 3, 0, in_order), 3, 0.1);
        assert_even(&spread(ip, 3, 10_800, in_order), 3, 0.1);
        assert_eq!(spread(ip, 3, 10_800, by_address).len(), 1, "one client, one endpoint");
    }
}

#[test]
fn every_number_of_endpoints_gets_its_share() {
    for ip in Ip::ALL {
        for pods in [1, 2, 3, 4, 5, 7, 10, 16, 25] {
            let count = spread(ip, pods, 0, |number| {
                ip.client((number / 100) as u16, 10_000 + (number % 100) as u16)
            });
            // Four standard deviations of a share, and the 3 % by which slot counts may differ.
            let tolerance = 4.0 * (f64::from(pods) / f64::from(CLIENTS)).sqrt() + 0.03;
            assert_even(&count, pods, tolerance);
        }
    }
}
