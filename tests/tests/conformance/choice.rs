//! Rules 8 to 11: which endpoints may be chosen.

use std::collections::BTreeSet;

use crate::given::{exposed, scene, service, slice};

const UNREADY: &str = "conditions: {ready: false}";
const LEAVING: &str = "conditions: {ready: false, serving: true, terminating: true}";
const GONE: &str = "conditions: {ready: false, serving: false, terminating: true}";

fn on(node: &str, address: &str, conditions: &str) -> String {
    format!("{address}, nodeName: {node}, {conditions}")
}

#[test]
fn rule_8_the_cluster_set_is_the_ready_ones_or_else_those_that_serve_while_they_terminate() {
    let endpoints = |list: &[(&str, &str)]| list.iter().map(|(ip, how)| format!("{ip}, {how}")).collect::<Vec<_>>();
    let of = |name: &str, list: &[(&str, &str)]| {
        let list = endpoints(list);
        slice(name, &list.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let ready = "conditions: {ready: true}";
    scene([
        service("mixed", "clusterIP: 10.96.0.1"),
        of(
            "mixed",
            &[
                ("10.1.0.1", ready),
                ("10.1.0.2", UNREADY),
                ("10.1.0.3", LEAVING),
                ("10.1.0.4", GONE),
            ],
        ),
        service("leaving", "clusterIP: 10.96.0.2"),
        of(
            "leaving",
            &[
                ("10.1.0.1", UNREADY),
                ("10.1.0.2", LEAVING),
                ("10.1.0.3", LEAVING),
                ("10.1.0.4", GONE),
            ],
        ),
        service("gone", "clusterIP: 10.96.0.3"),
        of("gone", &[("10.1.0.1", UNREADY), ("10.1.0.2", GONE)]),
        service("silent", "clusterIP: 10.96.0.4"),
        of(
            "silent",
            &[
                ("10.1.0.1", "conditions: {}"),
                ("10.1.0.2", "conditions: {serving: false}"),
            ],
        ),
    ])
    .judges(
        "
        pod 10.96.0.1:80/tcp  a
        pod 10.96.0.2:80/tcp  b c
        pod 10.96.0.3:80/tcp  reject
        pod 10.96.0.4:80/tcp  a b      # rule 6: ready unless said otherwise
        ",
    );
}

#[test]
fn rule_9_the_local_set_falls_back_by_itself() {
    let local = "externalTrafficPolicy: Local";
    let here_leaving = [
        on("here", "10.1.0.1", LEAVING),
        on("there", "10.1.0.2", "conditions: {ready: true}"),
    ];
    let here_gone = [on("here", "10.1.0.1", GONE), on("there", "10.1.0.2", LEAVING)];
    let both = [
        on("here", "10.1.0.1", "conditions: {}"),
        on("here", "10.1.0.2", LEAVING),
        on("there", "10.1.0.3", UNREADY),
    ];
    let list = |list: &[String], name: &str| slice(name, &list.iter().map(String::as_str).collect::<Vec<_>>());
    scene([
        exposed("leaving", 1, local),
        list(&here_leaving, "leaving"),
        exposed("gone", 2, local),
        list(&here_gone, "gone"),
        exposed("both", 3, local),
        list(&both, "both"),
        exposed("nameless", 4, local),
        slice("nameless", &["10.1.0.1"]),
    ])
    .judges(
        "
        out   203.0.113.1:80/tcp   a            # here it terminates, elsewhere one is ready
        pod   203.0.113.1:80/tcp   b
        out   10.96.0.1:80/tcp     b masq
        out   203.0.113.2:80/tcp   drop
        pod   203.0.113.2:80/tcp   b
        pod   10.96.0.2:80/tcp     b
        out   203.0.113.3:80/tcp   a
        out   192.0.2.1:30003/tcp  a
        out   203.0.113.4:80/tcp   drop         # on no node: not on this one
        pod   203.0.113.4:80/tcp   a
        ",
    );
}

#[test]
fn rule_10_topology_hints_are_followed_by_all_or_by_none() {
    let hints = |ip: &str, zone: &str| match zone {
        "" => ip.to_owned(),
        zone => format!("{ip}, hints: {{forZones: [{{name: {zone}}}]}}"),
    };
    let nodes = |ip: &str, node: &str, zone: &str| {
        format!("{ip}, hints: {{forNodes: [{{name: {node}}}], forZones: [{{name: {zone}}}]}}")
    };
    let list = |name: &str, list: &[String]| slice(name, &list.iter().map(String::as_str).collect::<Vec<_>>());
    let leaving = |ip: &str, zone: &str| format!("{}, {LEAVING}", hints(ip, zone));
    scene([
        service("zones", "clusterIP: 10.96.0.1"),
        list("zones", &[hints("10.1.0.1", "z1"), hints("10.1.0.2", "z2")]),
        service("partial", "clusterIP: 10.96.0.2"),
        list("partial", &[hints("10.1.0.1", "z1"), hints("10.1.0.2", "")]),
        service("elsewhere", "clusterIP: 10.96.0.3"),
        list("elsewhere", &[hints("10.1.0.1", "z2"), hints("10.1.0.2", "z3")]),
        service("nodes", "clusterIP: 10.96.0.4"),
        list(
            "nodes",
            &[nodes("10.1.0.1", "here", "z2"), nodes("10.1.0.2", "there", "z1")],
        ),
        service("others", "clusterIP: 10.96.0.5"),
        list(
            "others",
            &[nodes("10.1.0.1", "there", "z1"), nodes("10.1.0.2", "yonder", "z2")],
        ),
        service("unready", "clusterIP: 10.96.0.6"),
        list(
            "unready",
            &[
                hints("10.1.0.1", "z1"),
                format!("10.1.0.2, {UNREADY}"),
                hints("10.1.0.3", "z2"),
            ],
        ),
        service("leaving", "clusterIP: 10.96.0.7"),
        list("leaving", &[leaving("10.1.0.1", "z1"), leaving("10.1.0.2", "z2")]),
        exposed("local", 8, "externalTrafficPolicy: Local"),
        list(
            "local",
            &[
                "10.1.0.1, nodeName: here, hints: {forZones: [{name: z2}]}".into(),
                "10.1.0.2, nodeName: there, hints: {forZones: [{name: z1}]}".into(),
            ],
        ),
    ])
    .judges(
        "
        pod   10.96.0.1:80/tcp     a
        pod   10.96.0.2:80/tcp     a b
        pod   10.96.0.3:80/tcp     a b
        pod   10.96.0.4:80/tcp     a            # a node's hint before a zone's
        pod   10.96.0.5:80/tcp     a
        pod   10.96.0.6:80/tcp     a            # hints of the ready ones count
        pod   10.96.0.7:80/tcp     a b          # terminating ones are not cut
        out   203.0.113.8:80/tcp   a            # nor is the local set
        pod   203.0.113.8:80/tcp   b
        pod   10.96.0.8:80/tcp     b
        ",
    );
}

#[test]
fn rule_11_one_connection_finds_one_endpoint_and_many_find_all() {
    let endpoints = ["10.1.0.1", "10.1.0.2", "10.1.0.3"];
    let web = scene([service("web", "clusterIP: 10.96.0.10"), slice("web", &endpoints)]);
    let lines: Vec<_> = (0..300)
        .map(|n| format!("10.1.0.9:{} 10.96.0.10:80/tcp", 1025 + n % 150))
        .collect();
    let chosen: Vec<_> = web
        .explain(&lines)
        .iter()
        .map(|answer| answer["chosen"].to_string())
        .collect();
    assert_eq!(chosen[..150], chosen[150..]);
    assert_eq!(chosen.iter().collect::<BTreeSet<_>>().len(), 3);
    // Another order of the same endpoints changes nothing.
    let other = scene([
        service("web", "clusterIP: 10.96.0.10"),
        slice("web", &["10.1.0.3", "10.1.0.1", "10.1.0.2"]),
    ]);
    let again: Vec<_> = other
        .explain(&lines)
        .iter()
        .map(|answer| answer["chosen"].to_string())
        .collect();
    assert_eq!(again, chosen);
}
