//! Given these ways into a Service and these flags, these are the maps.

use svcproxy::{
    model::{Model, NodePolicy, NodePortAddresses},
    plan::{Diff, MapContents, plan},
};

use crate::builder::{LIMITS, model, on_node, service};

const PODS: [&str; 2] = ["10.1.0.1:8080 node-1", "10.1.0.2:8080 node-2"];

#[test]
fn rule_12_each_policy_acts_on_its_own_ways() {
    let internal = service("internal", "10.96.0.10")
        .internal_local()
        .external("198.51.100.1")
        .port("", 80, PODS);
    let external = service("external", "10.96.0.11")
        .external_local()
        .external("198.51.100.2")
        .port("", 80, PODS);
    let node = on_node(model([internal, external]), "node-1", "192.0.2.1");
    insta::assert_snapshot!(entries(&planned(&node, &NodePolicy::default())), @r"
    10.96.0.10:80/TCP  service 2 cluster IP set 4 slots 195..196
    10.96.0.11:80/TCP  service 1 cluster IP set 1 slots 0..97
    198.51.100.1:80/TCP  service 2 external IP set 3 slots 98..195 masquerade all
    198.51.100.2:80/TCP  service 1 external IP outside set 2 slots 97..98, inside set 1 slots 0..97 masquerade node
    ");
}

#[test]
fn rule_13_outside_and_inside_differ_under_a_local_policy() {
    let kubia = || {
        service("kubia", "10.96.0.10")
            .external_local()
            .load_balancer("203.0.113.1", [])
    };
    let mut text = String::new();
    for node in ["node-1", "node-3"] {
        let model = on_node(model([kubia().port("", 80, PODS).node_port(30080)]), node, "192.0.2.1");
        let maps = planned(&model, &NodePolicy::default());
        text += &format!("on {node}\n{}\n", entries(&maps));
    }
    insta::assert_snapshot!(text, @r"
    on node-1
    10.96.0.10:80/TCP  service 1 cluster IP set 1 slots 0..97
    192.0.2.1:30080/TCP  service 1 nodePort outside set 2 slots 97..98, inside set 1 slots 0..97 masquerade node
    203.0.113.1:80/TCP  service 1 load balancer outside set 2 slots 97..98, inside set 1 slots 0..97 masquerade node
    on node-3
    10.96.0.10:80/TCP  service 1 cluster IP set 1 slots 0..97
    192.0.2.1:30080/TCP  service 1 nodePort outside set 2 DROP, inside set 1 slots 0..97 masquerade node
    203.0.113.1:80/TCP  service 1 load balancer outside set 2 DROP, inside set 1 slots 0..97 masquerade node
    ");
}

#[test]
fn rule_15_source_ranges_of_the_family_and_of_the_node() {
    let kubia = |name: &str, last: u8, ranges: &[&'static str]| {
        let addresses = format!("10.96.0.{last},fd00:10:96::{last}");
        let balanced = format!("203.0.113.{last},2001:db8::{last}");
        service(name, &addresses)
            .load_balancer(&balanced, ranges.iter().copied())
            .external("198.51.100.9")
            .port(name, last.into(), PODS)
    };
    let model = model([
        kubia("plain", 1, &["198.51.100.0/24"]),
        kubia("node", 2, &["192.0.2.0/24", "2001:db8:1::/48"]),
        kubia("all", 3, &["10.0.0.0/8", "0.0.0.0/0"]),
        kubia("none", 4, &[]),
    ]);
    let maps = planned(
        &on_node(model, "node-1", "192.0.2.1,2001:db8:2::1"),
        &NodePolicy::default(),
    );
    insta::assert_snapshot!(filters(&maps), @r"
    203.0.113.1:1/TCP  service 4 load balancer set 4 slots 291..388 filtered masquerade all
    203.0.113.2:2/TCP  service 2 load balancer set 2 slots 97..194 filtered masquerade all
    203.0.113.3:3/TCP  service 1 load balancer set 1 slots 0..97 masquerade all
    203.0.113.4:4/TCP  service 3 load balancer set 3 slots 194..291 masquerade all
    service 2 192.0.2.0/24
    service 2 203.0.113.2/32
    service 4 198.51.100.0/24
    [2001:db8::1]:1/TCP  service 4 load balancer set 8 REJECT masquerade all
    [2001:db8::2]:2/TCP  service 2 load balancer set 6 REJECT filtered masquerade all
    [2001:db8::3]:3/TCP  service 1 load balancer set 5 REJECT masquerade all
    [2001:db8::4]:4/TCP  service 3 load balancer set 7 REJECT masquerade all
    service 2 2001:db8:1::/48
    ");
}

#[test]
fn rule_16_node_ports_answer_where_the_flag_says() {
    let addresses = "192.0.2.1,192.0.2.2,10.0.0.1,127.0.0.1,2001:db8::1";
    let kubia = service("kubia", "10.96.0.10,fd00:10:96::a")
        .port("", 80, PODS)
        .node_port(30080);
    let model = on_node(model([kubia]), "node-1", addresses);
    let within =
        |networks: &str| NodePortAddresses::Within(networks.split(',').map(|net| net.parse().unwrap()).collect());
    for (addresses, answering) in [
        (NodePortAddresses::All, "192.0.2.1 192.0.2.2 10.0.0.1 2001:db8::1"),
        (NodePortAddresses::Primary, "192.0.2.1 2001:db8::1"),
        (within("192.0.2.0/24"), "192.0.2.1 192.0.2.2 2001:db8::1"),
        (within("10.0.0.0/8,fd00::/8"), "10.0.0.1"),
        (within("127.0.0.0/8,::/0"), "2001:db8::1"),
    ] {
        let policy = NodePolicy {
            nodeport_addresses: addresses.clone(),
            ..NodePolicy::default()
        };
        let mut expected: Vec<&str> = answering.split(' ').collect();
        let maps = planned(&model, &policy);
        let mut found = node_port_addresses(&maps);
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected, "{addresses:?}");
    }
}

#[test]
fn rule_16_a_node_port_gives_way_to_an_address_that_is_named() {
    let named = service("named", "10.96.0.10")
        .external("192.0.2.1")
        .port("", 30080, PODS);
    let other = service("other", "10.96.0.11").port("", 80, PODS).node_port(30080);
    let model = on_node(model([named, other]), "node-1", "192.0.2.1,192.0.2.2");
    insta::assert_snapshot!(entries(&planned(&model, &NodePolicy::default())), @r"
    10.96.0.10:30080/TCP  service 1 cluster IP set 1 slots 0..97
    10.96.0.11:80/TCP  service 2 cluster IP set 2 slots 97..194
    192.0.2.1:30080/TCP  service 1 external IP set 1 slots 0..97 masquerade all
    192.0.2.2:30080/TCP  service 2 nodePort set 2 slots 97..194 masquerade all
    ");
}

#[test]
fn rule_17_who_is_masqueraded() {
    let cluster = || service("cluster", "10.96.0.10,fd00:10:96::a").external("198.51.100.1,2001:db8:1::1");
    let local = || service("local", "10.96.0.11").external_local().external("198.51.100.2");
    let pods = || ["10.1.0.1:8080 node-1", "[fd00:1::1]:8080 node-1"];
    let model = on_node(
        model([cluster().port("", 80, pods()), local().port("", 80, pods())]),
        "node-1",
        "192.0.2.1",
    );
    let with = |cidrs: &[&str], masquerade_all| NodePolicy {
        cluster_cidrs: cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect(),
        masquerade_all,
        ..NodePolicy::default()
    };
    let mut text = String::new();
    for (flags, policy) in [
        ("no flag", with(&[], false)),
        ("--cluster-cidr 10.1.0.0/16", with(&["10.1.0.0/16"], false)),
        ("--masquerade-all", with(&[], true)),
    ] {
        text += &format!("{flags}\n{}\n", entries(&planned(&model, &policy)));
    }
    insta::assert_snapshot!(text, @r"
    no flag
    10.96.0.10:80/TCP  service 1 cluster IP set 1 slots 0..1
    10.96.0.11:80/TCP  service 2 cluster IP set 2 slots 1..2
    198.51.100.1:80/TCP  service 1 external IP set 1 slots 0..1 masquerade all
    198.51.100.2:80/TCP  service 2 external IP outside set 3 slots 2..3, inside set 2 slots 1..2 masquerade node
    [2001:db8:1::1]:80/TCP  service 1 external IP set 4 slots 3..4 masquerade all
    [fd00:10:96::a]:80/TCP  service 1 cluster IP set 4 slots 3..4
    --cluster-cidr 10.1.0.0/16
    10.96.0.10:80/TCP  service 1 cluster IP set 1 slots 0..1 masquerade outside+node
    10.96.0.11:80/TCP  service 2 cluster IP set 2 slots 1..2 masquerade outside+node
    198.51.100.1:80/TCP  service 1 external IP set 1 slots 0..1 masquerade all
    198.51.100.2:80/TCP  service 2 external IP outside set 3 slots 2..3, inside set 2 slots 1..2 masquerade node
    [2001:db8:1::1]:80/TCP  service 1 external IP set 4 slots 3..4 masquerade all
    [fd00:10:96::a]:80/TCP  service 1 cluster IP set 4 slots 3..4
    --masquerade-all
    10.96.0.10:80/TCP  service 1 cluster IP set 1 slots 0..1 masquerade all
    10.96.0.11:80/TCP  service 2 cluster IP set 2 slots 1..2 masquerade all
    198.51.100.1:80/TCP  service 1 external IP set 1 slots 0..1 masquerade all
    198.51.100.2:80/TCP  service 2 external IP outside set 3 slots 2..3, inside set 2 slots 1..2 masquerade node
    [2001:db8:1::1]:80/TCP  service 1 external IP set 4 slots 3..4 masquerade all
    [fd00:10:96::a]:80/TCP  service 1 cluster IP set 4 slots 3..4 masquerade all
    ");
}

#[test]
fn networks_ranges_pods_nodes_and_cluster_ips_elsewhere() {
    let kubia = service("kubia", "10.200.0.10,fd00:10:96::a").port("", 80, PODS);
    let inside = service("inside", "10.96.0.10").port("", 80, PODS);
    let mut model = on_node(model([kubia, inside]), "node-1", "192.0.2.1,10.1.0.254,2001:db8::1");
    model.node.foreign_networks.push("10.97.0.0/24".parse().unwrap());
    let policy = NodePolicy {
        cluster_cidrs: vec!["10.1.0.0/16".parse().unwrap(), "fd00:1::/48".parse().unwrap()],
        ..NodePolicy::default()
    };
    let mut maps = planned(&model, &policy);
    maps.v4.services.clear();
    maps.v6.services.clear();
    maps.v4.backends.clear();
    maps.slots.clear();
    insta::assert_snapshot!(maps, @r"
    networks_v4
      10.1.0.0/16  PODS
      10.96.0.0/12  SERVICES
      10.97.0.0/24  OUTSIDE
      10.200.0.10/32  SERVICES
      192.0.2.1/32  NODE
    config_v4
      node 192.0.2.1 masquerade ports 1024-29999 services 10.96.0.0/12
    networks_v6
      2001:db8::1/128  NODE
      fd00:1::/48  PODS
      fd00:10:96::/112  SERVICES
    config_v6
      node 2001:db8::1 masquerade ports 1024-29999 services fd00:10:96::/112
    ");
}

#[test]
fn a_real_network_that_is_the_whole_range_is_outside() {
    let mut model = on_node(
        model([service("kubia", "10.96.0.10").port("", 80, PODS)]),
        "node-1",
        "192.0.2.1",
    );
    model.node.foreign_networks.push("10.96.0.0/12".parse().unwrap());
    let mut maps = planned(&model, &NodePolicy::default());
    maps.v4.services.clear();
    maps.v4.backends.clear();
    maps.slots.clear();
    maps.v6 = Default::default();
    insta::assert_snapshot!(maps, @r"
    networks_v4
      10.96.0.0/12  OUTSIDE
      10.96.0.10/32  SERVICES
      192.0.2.1/32  NODE
    config_v4
      node 192.0.2.1 masquerade ports 1024-29999 services 10.96.0.0/12
    ");
}

#[test]
fn a_policy_that_changes_swings_the_entries_and_keeps_the_sets() {
    let kubia = || service("kubia", "10.96.0.10").load_balancer("203.0.113.1", []);
    let before = planned(
        &on_node(model([kubia().port("", 80, PODS)]), "node-1", "192.0.2.1"),
        &NodePolicy::default(),
    );
    let local = kubia()
        .external_local()
        .load_balancer("203.0.113.1", ["192.0.2.0/24"])
        .port("", 80, PODS);
    let after = on_node(model([local]), "node-1", "192.0.2.1");
    let after = plan(&after, &NodePolicy::default(), &before, &LIMITS).unwrap();
    insta::assert_snapshot!(Diff::between(&before, &after), @r"
    put source range service 1 192.0.2.0/24
    put source range service 1 203.0.113.1/32
    put backend set 2 endpoint 1  10.1.0.1:8080/TCP
    write slots 97..98
    put 203.0.113.1:80/TCP  service 1 load balancer outside set 2 slots 97..98, inside set 1 slots 0..97 filtered masquerade node
    ");
    insta::assert_snapshot!(Diff::between(&after, &before), @r"
    put 203.0.113.1:80/TCP  service 1 load balancer set 1 slots 0..97 masquerade all
    delete backend set 2 endpoint 1
    delete source range service 1 192.0.2.0/24
    delete source range service 1 203.0.113.1/32
    ");
}

fn planned(model: &Model, policy: &NodePolicy) -> MapContents {
    plan(model, policy, &MapContents::default(), &LIMITS).unwrap()
}

/// The services entries of cluster IPs, external IPs, load balancers and nodePorts.
fn entries(maps: &MapContents) -> String {
    let lines = maps.to_string();
    let entries = lines
        .lines()
        .filter(|line| line.contains("  service ") && !line.contains("other ports"));
    entries.map(str::trim_start).collect::<Vec<_>>().join("\n")
}

/// What decides who passes a filter.
fn filters(maps: &MapContents) -> String {
    let lines = maps.to_string();
    let filters = lines
        .lines()
        .filter(|line| line.contains("load balancer") || line.starts_with("  service "));
    filters.map(str::trim_start).collect::<Vec<_>>().join("\n")
}

/// The addresses of nodePort entries.
fn node_port_addresses(maps: &MapContents) -> Vec<String> {
    let lines = entries(maps);
    let lines = lines.lines().filter(|line| line.contains(" nodePort "));
    let address = |line: &str| {
        line.split(":30080")
            .next()
            .unwrap_or_default()
            .trim_matches(['[', ']'])
            .to_owned()
    };
    lines.map(address).collect()
}
