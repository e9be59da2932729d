//! Rules 17, 18 and 20: source addresses and affinity.

use std::collections::BTreeSet;

use crate::given::{exposed, here_and_there, scene, service, slice, slice_of};

#[test]
fn rule_17_hairpin_is_masqueraded_in_both_families() {
    let local = "externalTrafficPolicy: Local";
    scene([
        exposed("one", 1, local),
        slice("one", &["10.1.0.1, nodeName: here"]),
        slice("one", &["fd00:1::1, nodeName: here"]),
        exposed("two", 2, local),
        here_and_there("two"),
    ])
    .judges(
        "
        10.1.0.1   10.96.0.1:80/tcp           a masq
        fd00:1::1  [fd00:10:96::1]:80/tcp     a6 masq
        10.1.0.1   198.18.0.1:80/tcp          a masq
        10.1.0.1   192.0.2.1:30001/tcp        a masq
        10.1.0.2   10.96.0.1:80/tcp           a
        10.1.0.1   10.96.0.2:80/tcp           a b self-masq
        10.1.0.2   10.96.0.2:80/tcp           a b self-masq
        fd00:1::2  [fd00:10:96::2]:80/tcp     a6 b6 self-masq
        ",
    );
}

#[test]
fn rule_17_masquerade_all() {
    scene([
        exposed("web", 10, "externalTrafficPolicy: Local"),
        here_and_there("web"),
    ])
    .flag("--masquerade-all")
    .judges(
        "
            pod   10.96.0.10:80/tcp          a b masq
            out   10.96.0.10:80/tcp          a b masq
            node  10.96.0.10:80/tcp          a b masq
            pod6  [fd00:10:96::10]:80/tcp    a6 b6 masq
            out   198.18.0.10:80/tcp         a            # a Local policy keeps its promise
            pod   198.18.0.10:80/tcp         a b
            ",
    );
}

#[test]
fn rule_17_a_cluster_cidr_of_one_family_says_nothing_of_the_other() {
    scene([exposed("web", 10, ""), here_and_there("web")])
        .without_cluster_cidr()
        .flag("--cluster-cidr=10.1.0.0/16")
        .judges(
            "
            out   10.96.0.10:80/tcp          a b masq
            pod   10.96.0.10:80/tcp          a b
            out6  [fd00:10:96::10]:80/tcp    a6 b6
            node6 [fd00:10:96::10]:80/tcp    a6 b6
            out6  [2001:db8:18::10]:80/tcp   a6 b6 masq
            ",
        );
}

#[test]
fn rule_18_questions_leave_no_connection_that_takes_the_next_one_s_port() {
    // All from one source port to one endpoint, behind one address with four ports more: what a fifth one left behind
    // would leave none for the sixth.
    let spec = "type: NodePort, ports: [{port: 80, targetPort: 8080, nodePort: 30010}]";
    let web = scene([service("web", spec), slice("web", &["10.1.0.1"])]).flag("--masquerade-port-range=61000-61003");
    let questions: Vec<_> = (1..250)
        .map(|client| format!("198.51.100.{client}:1234 192.0.2.1:30010/tcp"))
        .collect();
    for (question, answer) in questions.iter().zip(web.explain(&questions)) {
        assert_eq!(answer["verdict"], "forward", "{question}: {answer}");
        assert_eq!(answer["masquerade"], true, "{question}: {answer}");
    }
}

#[test]
fn rule_20_affinity_leads_a_client_to_one_endpoint_on_all_ports_and_addresses() {
    let ports = "ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30010}, {name: https, port: 443, targetPort: 8443, nodePort: 30011}]";
    let web = scene([
        service(
            "web",
            &format!(
                "type: NodePort, clusterIP: 10.96.0.10, externalIPs: [198.18.0.10], sessionAffinity: ClientIP, {ports}"
            ),
        ),
        slice_of(
            "web",
            "{name: http, port: 8080}, {name: https, port: 8443}",
            &["10.1.0.1", "10.1.0.2", "10.1.0.3", "10.1.0.4"],
        ),
    ]);
    web.judges(
        "
        pod   10.96.0.10:80/tcp          a b c d
        pod   10.96.0.10:443/tcp         10.1.0.1:8443 10.1.0.2:8443 10.1.0.3:8443 10.1.0.4:8443
        out   198.18.0.10:80/tcp         a b c d masq
        ",
    );
    let mut reached = BTreeSet::new();
    for client in [
        "10.1.0.9",
        "10.1.0.10",
        "10.1.0.11",
        "10.1.0.12",
        "198.51.100.7",
        "198.51.100.8",
        "198.51.100.9",
    ] {
        let ways = [
            "10.96.0.10:80",
            "10.96.0.10:443",
            "198.18.0.10:80",
            "192.0.2.1:30010",
            "192.0.2.1:30011",
        ];
        let asked = ways
            .iter()
            .flat_map(|way| [1025, 40_000].map(|port| format!("{client}:{port} {way}/tcp")));
        let answers = web.explain(&asked.collect::<Vec<_>>());
        let chosen: BTreeSet<_> = answers
            .iter()
            .map(|answer| answer["chosen"].as_str().unwrap().split(':').next().unwrap().to_owned())
            .collect();
        assert_eq!(chosen.len(), 1, "{client}: {chosen:?}");
        reached.extend(chosen);
    }
    assert!(reached.len() > 1, "all clients to {reached:?}");
}
