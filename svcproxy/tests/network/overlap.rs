//! Section 3, below the table: the service range must not swallow a real network.

use svcproxy::network::overlaps;

use crate::given::{nets, network};

const RANGES: &str = "10.96.0.0/12 fd00:10:96::/112";

/// What the network `text`, on eth0, eth1 and a dummy, has within the default ranges.
#[track_caller]
fn assert_found(text: &str, expected: &[&str]) {
    let network = network(&format!("eth0\neth1\ndummy0 dummy\n192.0.2.1/24 dev eth0\n{text}"));
    let found: Vec<String> = overlaps(&network, &nets(RANGES), &nets("10.244.0.0/16"))
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found, expected, "{text}");
}

#[test]
fn section_3_networks_of_interfaces_within_the_range_are_found_once() {
    assert_found(
        "10.96.5.1/24 dev eth1",
        &["the network 10.96.5.0/24 of eth1 (which has 10.96.5.1)"],
    );
    assert_found(
        "10.111.255.254/12 dev eth1",
        &["the network 10.96.0.0/12 of eth1 (which has 10.111.255.254)"],
    );
    assert_found(
        "fd00:10:96::1/120 dev eth1",
        &["the network fd00:10:96::/120 of eth1 (which has fd00:10:96::1)"],
    );
    assert_found("10.112.0.1/24 dev eth1", &[]);
}

#[test]
fn section_3_routes_no_broader_than_the_range_are_found() {
    assert_found(
        "route 10.100.0.0/16 via 192.0.2.9 dev eth0",
        &["the route 10.100.0.0/16 via 192.0.2.9 dev eth0"],
    );
    assert_found("route 10.96.0.0/12 dev eth0", &["the route 10.96.0.0/12 dev eth0"]);
    assert_found("route 10.96.0.7/32 dev eth1", &["the route 10.96.0.7/32 dev eth1"]);
}

#[test]
fn section_3_broader_networks_are_normal() {
    assert_found(
        "10.0.0.1/8 dev eth1
         route default via 192.0.2.9 dev eth0
         route 10.96.0.0/11 via 192.0.2.9 dev eth0
         route default6 via fe80::1 dev eth0
         route fd00::/8 dev eth0",
        &[],
    );
}

#[test]
fn section_3_addresses_parked_on_the_node_are_no_network() {
    // By hand, by keepalived, by kube-proxy in IPVS mode.
    assert_found("10.96.0.10/32 dev lo\nfd00:10:96::a/128 dev lo", &[]);
    assert_found("10.96.0.10/32 dev dummy0\nroute 10.96.0.0/12 dev dummy0", &[]);
    // The node's own address is told from a Service's; IPv6 has a route to it in the main table.
    assert_found("10.96.0.10/32 dev eth1\nfd00:10:96::a/128 dev eth1", &[]);
}

#[test]
fn section_3_pods_within_the_range_are_told_by_the_longer_prefix() {
    let network = network("cali1 veth\nroute 10.0.1.7/32 dev cali1");
    assert_eq!(
        overlaps(&network, &nets("10.0.0.0/8"), &nets("10.0.1.0/24")),
        Vec::new()
    );
    // The same prefix says Services.
    let found = overlaps(&network, &nets("10.0.0.0/8"), &nets("10.0.0.0/8"));
    assert_eq!(found.len(), 1);
}
