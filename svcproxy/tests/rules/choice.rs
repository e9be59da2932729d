//! Section 2: which endpoints may be chosen; and rule 20, who is remembered.

use svcproxy::model::{Family, Hints, IgnoredHints, LeftOut, Stage, cluster_set, local_set};

use crate::given::{Cluster, cluster, service, slice};

const OUTSIDE: &str = "198.51.100.7";
const VIP: &str = "10.96.0.10:80";
const LOCAL: &str = "10.96.0.11:80";

const READY: &str = "conditions: {}";
const UNREADY: &str = "conditions: {ready: false, serving: false}";
const LEAVING: &str = "conditions: {ready: false, serving: true, terminating: true}";
const GONE: &str = "conditions: {ready: false, serving: false, terminating: true}";

/// Two Services with the same endpoints, of which one has a Local policy.
fn both(endpoints: &[String]) -> Cluster {
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    cluster([
        service("cluster", "clusterIP: 10.96.0.10"),
        slice("cluster", &endpoints),
        service("local", "clusterIP: 10.96.0.11, internalTrafficPolicy: Local"),
        slice("local", &endpoints),
    ])
}

fn at(last: u8, node: &str, conditions: &str) -> String {
    format!("10.1.0.{last}, nodeName: {node}, {conditions}")
}

#[test]
fn rule_8_ready_endpoints_or_else_all_that_serve_while_they_terminate() {
    for (conditions, expected) in [
        ([READY, LEAVING, UNREADY, GONE], "10.1.0.1:8080"),
        ([LEAVING, LEAVING, UNREADY, GONE], "10.1.0.1:8080 10.1.0.2:8080"),
        ([UNREADY, LEAVING, UNREADY, GONE], "10.1.0.2:8080"),
        ([UNREADY, UNREADY, UNREADY, GONE], "reject"),
    ] {
        let endpoints: Vec<_> = (1..)
            .zip(conditions)
            .map(|(last, conditions)| at(last, "there", conditions))
            .collect();
        both(&endpoints).judges([(OUTSIDE, VIP, expected)]);
    }
}

#[test]
fn rule_9_the_local_set_is_found_by_itself() {
    for (endpoints, expected) in [
        (
            vec![at(1, "here", READY), at(2, "here", LEAVING), at(3, "there", READY)],
            "10.1.0.1:8080",
        ),
        // Terminating ones here count although others are ready elsewhere.
        (
            vec![at(1, "here", LEAVING), at(2, "here", GONE), at(3, "there", READY)],
            "10.1.0.1:8080",
        ),
        (vec![at(1, "here", UNREADY), at(3, "there", READY)], "drop"),
        (vec![at(3, "there", LEAVING)], "drop"),
        (vec![at(3, "there", UNREADY)], "reject"),
    ] {
        both(&endpoints).judges([(OUTSIDE, LOCAL, expected)]);
    }
}

#[test]
fn rule_10_topology_hints_are_followed_by_all_or_none() {
    let node = |zone: &str| {
        format!(
            "{{apiVersion: v1, kind: Node, metadata: {{name: here, labels: {{topology.kubernetes.io/zone: {zone}}}}}}}"
        )
    };
    let hints = |nodes: &str, zones: &str| format!("hints: {{forNodes: [{nodes}], forZones: [{zones}]}}");
    let (here, there, zone_a, zone_b) = ("{name: here}", "{name: there}", "{name: a}", "{name: b}");
    let all = "10.1.0.1:8080 10.1.0.2:8080";
    for (zone, one, two, expected, what) in [
        ("a", hints(here, ""), hints(there, ""), "10.1.0.1:8080", Hints::Node),
        (
            "a",
            hints("{name: here}, {name: there}", ""),
            hints(here, ""),
            all,
            Hints::Node,
        ),
        ("a", hints("", zone_a), hints("", zone_b), "10.1.0.1:8080", Hints::Zone),
        ("b", hints("", zone_a), hints("", zone_b), "10.1.0.2:8080", Hints::Zone),
        // Node hints that are for others leave it to zone hints.
        (
            "b",
            hints(there, zone_a),
            hints(there, zone_b),
            "10.1.0.2:8080",
            Hints::Zone,
        ),
        (
            "b",
            hints(here, zone_a),
            hints("", zone_b),
            "10.1.0.2:8080",
            Hints::Zone,
        ),
        (
            "a",
            hints(here, ""),
            hints("", ""),
            all,
            Hints::Ignored(IgnoredHints::Incomplete),
        ),
        (
            "a",
            hints("", zone_a),
            hints("", ""),
            all,
            Hints::Ignored(IgnoredHints::Incomplete),
        ),
        (
            "a",
            hints(there, ""),
            hints(there, ""),
            all,
            Hints::Ignored(IgnoredHints::OtherNodes),
        ),
        (
            "c",
            hints("", zone_a),
            hints("", zone_b),
            all,
            Hints::Ignored(IgnoredHints::OtherZones),
        ),
        (
            "''",
            hints("", zone_a),
            hints("", zone_b),
            all,
            Hints::Ignored(IgnoredHints::NoZone),
        ),
        ("a", hints("", ""), hints("", ""), all, Hints::Absent),
    ] {
        let cluster = cluster([
            node(zone),
            service("kubia", "clusterIP: 10.96.0.10"),
            slice("kubia", &[&format!("10.1.0.1, {one}"), &format!("10.1.0.2, {two}")]),
        ]);
        cluster.judges([(OUTSIDE, VIP, expected)]);
        let model = cluster.model();
        let found = cluster_set(&model.services[0].ports[0], Family::V4, &model.node).hints;
        assert_eq!(found, what, "{zone} {one} {two}");
        let said = cluster.said();
        match what {
            Hints::Ignored(reason) => assert!(said.contains(&format!("are ignored: {reason}")), "{said}"),
            _ => assert_eq!(said, ""),
        }
    }
}

#[test]
fn rule_10_hints_are_not_for_the_local_set_nor_for_terminating_endpoints() {
    let node = "{apiVersion: v1, kind: Node, metadata: {name: here, labels: {topology.kubernetes.io/zone: a}}}";
    let hint = |zone: &str| format!("hints: {{forZones: [{{name: {zone}}}]}}");
    let endpoints = [
        format!("10.1.0.1, nodeName: here, {}", hint("b")),
        format!("10.1.0.2, nodeName: there, {}", hint("a")),
    ];
    let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
    let leaving = format!("10.1.0.3, {LEAVING}, {}", hint("b"));
    cluster([
        node.to_owned(),
        service("cluster", "clusterIP: 10.96.0.10"),
        slice("cluster", &endpoints),
        service("local", "clusterIP: 10.96.0.11, internalTrafficPolicy: Local"),
        slice("local", &endpoints),
        service("leaving", "clusterIP: 10.96.0.12"),
        slice("leaving", &[&leaving]),
    ])
    .judges([
        (OUTSIDE, VIP, "10.1.0.2:8080"),
        (OUTSIDE, LOCAL, "10.1.0.1:8080"),
        (OUTSIDE, "10.96.0.12:80", "10.1.0.3:8080"),
    ]);
}

#[test]
fn sets_say_why_endpoints_are_left_out() {
    let endpoints = [
        at(1, "here", READY),
        at(2, "there", LEAVING),
        at(3, "there", UNREADY),
        at(4, "there", GONE),
    ];
    let model = both(&endpoints).model();
    let port = &model.services[0].ports[0];
    let reasons =
        |selection: svcproxy::model::Selection<'_>| selection.left_out().map(|(_, why)| why).collect::<Vec<_>>();
    let all = cluster_set(port, Family::V4, &model.node);
    assert_eq!(
        reasons(all),
        [LeftOut::Terminating, LeftOut::NotReady, LeftOut::NotServing]
    );
    assert_eq!(
        reasons(local_set(port, Family::V4, &model.node)),
        [LeftOut::NotLocal; 3]
    );
    let none = cluster_set(port, Family::V6, &model.node);
    assert_eq!(
        (none.stage, reasons(none)),
        (Stage::Empty, vec![LeftOut::OtherFamily; 4])
    );
}

#[test]
fn rule_11_every_node_builds_the_same_table_and_a_change_moves_few() {
    let of = |node: &str, endpoints: &[&str]| {
        let mut cluster = cluster([service("kubia", "clusterIP: 10.96.0.10"), slice("kubia", endpoints)]);
        cluster.options.node_name = node.into();
        let maps = cluster.maps();
        let address = |number: &u32| {
            maps.v4
                .backends
                .iter()
                .find(|(key, _)| key.endpoint == *number)
                .unwrap()
                .1
                .address
        };
        maps.slots[&0].iter().map(address).collect::<Vec<_>>()
    };
    let three = ["10.1.0.1", "10.1.0.2", "10.1.0.3"];
    let before = of("here", &three);
    assert_eq!(before, of("there", &three));
    assert_eq!(before, of("here", &["10.1.0.3", "10.1.0.1", "10.1.0.2"]));
    let after = of("here", &three[..2]);
    let stayed = before
        .iter()
        .zip(&after)
        .filter(|(before, after)| before == after)
        .count();
    assert!(
        stayed * 100 > before.len() * 55,
        "{stayed} of {} slots stay",
        before.len()
    );
}

#[test]
fn rule_20_all_ways_and_ports_share_one_memory() {
    let affinity = "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}";
    let spec = format!(
        "clusterIP: 10.96.0.10, type: LoadBalancer, loadBalancerIP: 203.0.113.1, externalIPs: [198.51.100.1], {affinity}, \
         ports: [{{name: a, port: 80, nodePort: 30080}}, {{name: b, port: 81, nodePort: 30081}}]"
    );
    let cluster = cluster([
        service("kubia", &spec),
        crate::given::slice_of(
            "kubia",
            "{name: a, port: 8080}, {name: b, port: 8081}",
            &["10.1.0.1", "10.1.0.2"],
        ),
        service("forgetful", "clusterIP: 10.96.0.11"),
        service("default", "clusterIP: 10.96.0.12, sessionAffinity: ClientIP"),
    ]);
    let maps = cluster.maps();
    let kubia: Vec<_> = maps
        .v4
        .services
        .iter()
        .filter(|(key, _)| [80, 81, 30080, 30081].contains(&key.port))
        .collect();
    let kubia: Vec<_> = kubia
        .into_iter()
        .filter(|(_, entry)| entry.affinity_seconds == 60)
        .collect();
    assert_eq!(kubia.len(), 8, "two ports, four ways");
    assert!(
        kubia.iter().all(|(_, entry)| entry.service == kubia[0].1.service),
        "one scope"
    );
    let numbers = |set: u32| {
        maps.v4
            .set(set)
            .map(|(number, backend)| (number, backend.address))
            .collect::<Vec<_>>()
    };
    let sets: Vec<_> = kubia.iter().map(|(_, entry)| numbers(entry.inside.number)).collect();
    assert!(
        sets.iter().all(|set| *set == sets[0]),
        "an endpoint has one number: {sets:?}"
    );
    assert_eq!(cluster.service("forgetful").affinity_seconds, None);
    assert_eq!(cluster.service("default").affinity_seconds, Some(10_800));
}
