//! What becomes of clients outside the cluster and of pods, at every kind of address and under every policy: who
//! answers, whom that one sees, who is refused, who hears nothing.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use svcproxy_tests::{
    client, manifest,
    namespace::Namespace,
    probe::{self, Outcome, Protocol},
    topology::CLIENT,
};

use crate::{
    exposed::{Case, INSIDE, LOCAL, Place, ask, assert_all, cases, slices, start, try_all},
    over_xdp_and_tc,
};

over_xdp_and_tc!(
    rules_8_9_12_13_16_17_every_way_in_under_every_policy,
    section_3_addresses_and_ports_without_a_service,
    rule_15_source_ranges_filter_the_load_balancer_alone,
    rule_20_affinity_is_shared_by_all_ways_in,
    rule_5_addresses_that_are_not_ready_are_published,
);

/// Services whose endpoints are on this node (`L`), on another (`R`) or nowhere, what policies they have, and what
/// becomes of a client outside at their cluster IP and at their other addresses, and of a pod. `~` says that the
/// endpoint sees this node's address instead of the client's. `T` is an endpoint that terminates, `N` one that is not
/// ready at all.
#[rustfmt::skip]
const SERVICES: [(&str, &str, &str, [&str; 4]); 15] = [
    // name            endpoints  policies             outside            pod
    ("cluster-here",   "L",       "",                  ["~L",     "~L",     "L",      "~L"]),
    ("cluster-there",  "R",       "",                  ["~R",     "~R",     "R",      "~R"]),
    ("cluster-both",   "LR",      "",                  ["~LR",    "~LR",    "LR",     "~LR"]),
    ("cluster-none",   "",        "",                  ["refuse", "refuse", "refuse", "refuse"]),
    ("outer-here",     "L",       "external",          ["~L",     "L",      "L",      "L"]),
    ("outer-both",     "LR",      "external",          ["~LR",    "L",      "LR",     "LR"]),
    ("outer-there",    "R",       "external",          ["~R",     "drop",   "R",      "R"]),
    ("outer-none",     "",        "external",          ["refuse", "refuse", "refuse", "refuse"]),
    ("inner-both",     "LR",      "internal",          ["~L",     "~LR",    "L",      "~LR"]),
    ("inner-there",    "R",       "internal",          ["drop",   "~R",     "drop",   "~R"]),
    ("inner-none",     "",        "internal",          ["refuse", "refuse", "refuse", "refuse"]),
    ("all-there",      "R",       "internal external", ["drop",   "drop",   "drop",   "R"]),
    ("ending",         "TN",      "",                  ["~T",     "~T",     "T",      "~T"]),
    ("ending-here",    "TR",      "external",          ["~R",     "T",      "R",      "R"]),
    ("not-ready",      "N",       "",                  ["refuse", "refuse", "refuse", "refuse"]),
];

fn places() -> impl Iterator<
    Item = (
        Place,
        &'static (&'static str, &'static str, &'static str, [&'static str; 4]),
    ),
> {
    (1..).map(Place).zip(&SERVICES)
}

fn rules_8_9_12_13_16_17_every_way_in_under_every_policy(mode: &str) {
    let (_daemon, lab) = start(mode, |lab| {
        let document = |(place, (name, endpoints, policies, _)): (Place, &(&str, &str, &str, _))| {
            let policies = policies.split_whitespace();
            let service = policies.fold(place.service(name), |service, policy| {
                service.field(&format!("{policy}TrafficPolicy: Local"))
            });
            service.yaml() + &slices(lab, name, endpoints)
        };
        places().map(document).collect()
    });
    let rows = |who: &str, own: [IpAddr; 2], column: usize| -> Vec<Case> {
        let row = |(place, (name, .., cells)): (Place, &(&str, &str, &str, [&str; 4]))| {
            let what = format!("{who} to {name}");
            let cluster_ips = place.cluster_ips().map(|ip| SocketAddr::new(ip, 80));
            let mut row = cases(&what, cells[column], own, cluster_ips);
            row.extend(cases(&what, cells[column + 1], own, place.others()));
            row
        };
        places().flat_map(row).collect()
    };
    let inside = lab.pod(INSIDE).unwrap();
    let mut wrong = try_all(&lab.client, rows("outside", CLIENT, 0));
    wrong.extend(try_all(&inside.namespace, rows("pod", inside.addresses, 2)));
    assert_all(wrong);
}

/// What `ping` says of one echo request.
fn ping(from: &Namespace, target: IpAddr) -> String {
    let said = from.run("ping", &["-c1", "-W1", &target.to_string()]);
    said.unwrap_or_else(|error| format!("{error:#}"))
}

/// As kube-proxy's `cluster-ips-check` has it: of a live Service's cluster IP everything else is rejected, whatever its
/// protocol, and the rest of the service range hears nothing. Other addresses are the node's business.
fn section_3_addresses_and_ports_without_a_service(mode: &str) {
    let place = Place(1);
    let (_daemon, lab) = start(mode, |lab| place.service("kubia").yaml() + &slices(lab, "kubia", "L"));
    let (live, dead) = (place.cluster_ips(), Place(99).cluster_ips());
    let node: Vec<IpAddr> = place.external_ips().into_iter().chain(place.load_balancer()).collect();
    for ip in &node {
        lab.node.ip(&format!("addr add {ip} dev lo nodad")).unwrap();
    }
    let inside = lab.pod(INSIDE).unwrap();
    for (from, own) in [(&lab.client, CLIENT), (&inside.namespace, inside.addresses)] {
        let at = |port: u16| move |ip| SocketAddr::new(ip, port);
        let node = || node.iter().copied();
        let mut all = cases("other port of a cluster IP", "refuse", own, live.map(at(81)));
        all.extend(cases("no cluster IP", "drop", own, dead.map(at(80))));
        all.extend(cases(
            "other port of another address",
            "refuse",
            own,
            node().map(at(82)),
        ));
        all.extend(cases("another address", "~L", own, node().map(at(80))));
        thread::scope(|scope| {
            for ip in live {
                scope.spawn(move || assert!(ping(from, ip).to_lowercase().contains("port unreachable"), "{ip}"));
            }
            for ip in dead {
                scope.spawn(move || {
                    let said = ping(from, ip);
                    assert!(
                        said.contains("100% packet loss") && !said.contains("nreachable"),
                        "{said}"
                    );
                });
            }
            assert_all(try_all(from, all));
        });
        for ip in node() {
            let _listener = lab.node.enter(|| TcpListener::bind((ip, 81))).unwrap();
            let connect = || TcpStream::connect_timeout(&(ip, 81).into(), Duration::from_secs(2));
            from.enter(connect).unwrap();
            assert!(ping(from, ip).contains(" 0% packet loss"), "{ip}");
        }
    }
}

fn rule_15_source_ranges_filter_the_load_balancer_alone(mode: &str) {
    let (listed, other_family, node) = (Place(1), Place(2), Place(3));
    let (_daemon, lab) = start(mode, |lab| {
        let ranges = [
            ("listed", &listed, "[\" 10.0.0.2/32 \", \"fd00:a::2/128\"]"),
            ("other-family", &other_family, "[\"10.9.0.0/16\"]"),
            ("node", &node, "[\"10.0.0.1/32\", \"fd00:a::1/128\"]"),
        ];
        let document = |(name, place, ranges): (&str, &Place, &str)| {
            let service = place
                .service(name)
                .field(&format!("loadBalancerSourceRanges: {ranges}"));
            let more = [place.load_balancer(), Place(place.0 + 100).load_balancer()].concat();
            service.load_balancer(&more).yaml() + &slices(lab, name, "L")
        };
        ranges.map(document).concat()
    });
    let at = |ip| SocketAddr::new(ip, 80);
    let inside = lab.pod(INSIDE).unwrap();
    let [v4, v6] = other_family.load_balancer().map(at);
    // A range of the other family filters nothing.
    let mut outside = cases("listed", "~L", CLIENT, listed.load_balancer().map(at));
    outside.extend(cases("other family", "drop", CLIENT, [v4]));
    outside.extend(cases("other family", "~L", CLIENT, [v6]));
    outside.extend(cases("not the node", "drop", CLIENT, node.load_balancer().map(at)));
    assert_all(try_all(&lab.client, outside));
    let (filtered, others): (Vec<_>, Vec<_>) = listed
        .others()
        .into_iter()
        .partition(|target| listed.load_balancer().contains(&target.ip()));
    let own = inside.addresses;
    let mut from_pod = cases("not listed", "drop", own, filtered);
    from_pod.extend(cases("not filtered", "~L", own, others));
    from_pod.extend(cases("cluster IP", "L", own, listed.cluster_ips().map(at)));
    assert_all(try_all(&inside.namespace, from_pod));

    // A range with this node's address admits the Service's load balancer addresses too: from these a node that has
    // them reaches them.
    for (source, target) in node.load_balancer().into_iter().zip(Place(103).load_balancer()) {
        let (length, client) = if source.is_ipv4() {
            (32, CLIENT[0])
        } else {
            (128, CLIENT[1])
        };
        lab.client
            .ip(&format!("addr add {source}/{length} dev lo nodad"))
            .unwrap();
        lab.node
            .ip(&format!("route add {source}/{length} via {client}"))
            .unwrap();
        for protocol in [Protocol::Tcp, Protocol::Udp] {
            let probe = probe::probe_from(protocol, (source, 0).into(), at(target));
            let outcome = lab.client.enter(|| client::block_on(probe));
            assert!(
                matches!(outcome, Outcome::Answer { .. }),
                "{protocol:?} {target}: {outcome}"
            );
        }
    }
}

fn rule_20_affinity_is_shared_by_all_ways_in(mode: &str) {
    let place = Place(1);
    let (_daemon, lab) = start(mode, |lab| {
        place.service("kubia").affinity().yaml() + &slices(lab, "kubia", "LR")
    });
    for from in [&lab.client, &lab.pod(INSIDE).unwrap().namespace] {
        for v6 in [false, true] {
            let targets = place
                .cluster_ips()
                .map(|ip| SocketAddr::new(ip, 80))
                .into_iter()
                .chain(place.others());
            let targets: Vec<_> = targets.filter(|target| target.is_ipv6() == v6).collect();
            let pods: BTreeSet<_> = [Protocol::Tcp, Protocol::Udp, Protocol::Tcp]
                .into_iter()
                .flat_map(|protocol| targets.iter().map(move |target| ask(from, protocol, *target)))
                .map(|outcome| match outcome {
                    Outcome::Answer { pod, .. } => pod,
                    other => panic!("{other}"),
                })
                .collect();
            assert_eq!(pods.len(), 1, "{pods:?}");
        }
    }
}

/// Pods that are not ready are endpoints of the Services that say so, and of no other.
fn rule_5_addresses_that_are_not_ready_are_published(mode: &str) {
    let (early, late) = (Place(1), Place(2));
    let (_daemon, lab) = start(mode, |lab| {
        let service = |place: &Place, name: &str| place.service(name).selector("kubia");
        let pod = lab.pod(LOCAL).unwrap();
        let pod = manifest::pod(&pod.name, &pod.addresses, &[]);
        service(&early, "early").field("publishNotReadyAddresses: true").yaml()
            + &service(&late, "late").yaml()
            + &pod.replace(
                "  phase: Running\n",
                "  phase: Running\n  conditions: [{type: Ready, status: \"False\"}]\n",
            )
    });
    for (early, late) in early.cluster_ips().into_iter().zip(late.cluster_ips()) {
        assert!(matches!(
            ask(&lab.client, Protocol::Tcp, (early, 80).into()),
            Outcome::Answer { .. }
        ));
        assert_eq!(ask(&lab.client, Protocol::Tcp, (late, 80).into()), Outcome::Refused);
    }
}
