//! What svcproxy learns of the node's network by netlink, at its start and while it runs.

use std::{
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use svcproxy::{
    datapath::Maps,
    model::Family,
    network::{Monitor, Snapshot},
};
use svcproxy_tests::{
    client,
    lab::Lab,
    topology::{NODE, Topology},
};

use crate::scenario::{Scenario, kubia, pods, topology};

/// A lab without pods and daemon.
pub(crate) fn bare() -> Lab {
    let topology = Topology {
        pods: Vec::new(),
        ..topology("tc")
    };
    Lab::new(&topology).unwrap()
}

/// Waits until `condition` holds.
#[track_caller]
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Whether a connection of the client comes about, within half a second.
fn connects(lab: &Lab, target: &str) -> bool {
    let target = target.parse().unwrap();
    let patience = Duration::from_millis(500);
    lab.client
        .enter(|| TcpStream::connect_timeout(&target, patience).is_ok())
}

/// The routes of a snapshot as `ip route` would show them, sorted.
fn routes(snapshot: &Snapshot) -> Vec<String> {
    let routes = snapshot.routes.iter().map(|route| {
        let dev = &snapshot.link(route.interface).unwrap().name;
        let via = route.gateway.map(|ip| format!(" via {ip}")).unwrap_or_default();
        format!("{}{via} dev {dev} metric {}", route.destination, route.metric)
    });
    let mut routes: Vec<_> = routes.filter(|route| !route.starts_with("fe80:")).collect();
    routes.sort();
    routes
}

/// The addresses of a snapshot, link-local ones excepted, sorted.
fn addresses(snapshot: &Snapshot) -> Vec<String> {
    let addresses = snapshot.addresses.iter().map(|own| {
        let dev = &snapshot.link(own.interface).unwrap().name;
        format!("{} in {} dev {dev}", own.ip, own.network)
    });
    let mut addresses: Vec<_> = addresses.filter(|own| !own.starts_with("fe80:")).collect();
    addresses.sort();
    addresses
}

#[test]
fn a_snapshot_has_what_ip_shows() {
    let lab = bare();
    lab.node
        .ip("link add br9 type bridge
             link add v9 type veth peer name w9
             link set v9 master br9
             link set w9 up
             link set v9 up
             link set br9 up
             addr add 198.51.100.1 peer 198.51.100.2/32 dev w9
             addr add 203.0.113.5/32 dev lo
             route add default via 10.0.0.2 metric 7
             route add 10.50.0.0/16 nexthop via 10.0.0.2 nexthop via 10.0.0.3
             route add fd00:50::/32 via fd00:a::2
             route add blackhole 10.51.0.0/16
             route add local 10.52.0.1 dev lo
             route add 10.53.0.0/16 via 10.0.0.2 table 99")
        .unwrap();
    let snapshot = lab
        .node
        .enter(|| client::block_on(async { Monitor::open().unwrap().snapshot().await.unwrap() }));
    let link = |name: &str| snapshot.links.iter().find(|link| link.name == name).unwrap();
    assert!(link("lo").loopback && link("lo").leads_nowhere() && !link("eth0").leads_nowhere());
    assert!(link("eth0").is_veth() && link("eth0").ethernet && link("eth0").peer_elsewhere);
    assert!(link("br9").is_bridge());
    assert_eq!(link("v9").master, Some(link("br9").index));
    assert_eq!(snapshot.link(link("w9").index), Some(link("w9")));
    assert_eq!(
        addresses(&snapshot),
        [
            "10.0.0.1 in 10.0.0.0/24 dev eth0",
            "127.0.0.1 in 127.0.0.0/8 dev lo",
            "198.51.100.1 in 198.51.100.2/32 dev w9",
            "203.0.113.5 in 203.0.113.5/32 dev lo",
            "::1 in ::1/128 dev lo",
            "fd00:a::1 in fd00:a::/64 dev eth0",
        ]
    );
    assert_eq!(
        routes(&snapshot),
        [
            "0.0.0.0/0 via 10.0.0.2 dev eth0 metric 7",
            "10.0.0.0/24 dev eth0 metric 0",
            "10.50.0.0/16 via 10.0.0.2 dev eth0 metric 0",
            "10.50.0.0/16 via 10.0.0.3 dev eth0 metric 0",
            "198.51.100.2/32 dev w9 metric 0",
            "fd00:50::/32 via fd00:a::2 dev eth0 metric 1024",
            "fd00:a::/64 dev eth0 metric 256",
        ]
    );
}

/// Each with what takes it back, and the family of which it makes routing depend on more than the destination.
const CHOOSY: [(&str, &str, Family); 6] = [
    (
        "rule add from 10.0.0.0/24 lookup 99",
        "rule del from 10.0.0.0/24",
        Family::V4,
    ),
    ("-6 rule add fwmark 7 lookup 99", "-6 rule del fwmark 7", Family::V6),
    ("rule add iif eth0 lookup 99", "rule del iif eth0", Family::V4),
    (
        "rule add lookup main suppress_prefixlength 0",
        "rule del lookup main suppress_prefixlength 0",
        Family::V4,
    ),
    (
        "route add 10.50.0.0/16 nexthop via 10.0.0.2 nexthop via 10.0.0.3",
        "route del 10.50.0.0/16",
        Family::V4,
    ),
    (
        "route add fd00:50::/32 from fd00:a::/64 via fd00:a::2",
        "route del fd00:50::/32 from fd00:a::/64",
        Family::V6,
    ),
];

/// Runs `ip` with these words on the node; a batch takes no options.
fn ip(lab: &Lab, words: &str) {
    let words: Vec<_> = words.split_whitespace().collect();
    lab.node.run("ip", &words).unwrap();
}

#[test]
fn rules_and_routes_that_ask_for_more_than_a_destination_are_noticed() {
    let lab = bare();
    let destination_routed = || {
        lab.node.enter(|| {
            client::block_on(async {
                let snapshot = Monitor::open().unwrap().snapshot().await;
                snapshot.unwrap().destination_routed
            })
        })
    };
    assert_eq!(destination_routed(), [Family::V4, Family::V6]);
    // A table of its own for all packets is no choice.
    lab.node.ip("rule add lookup 98").unwrap();
    assert_eq!(destination_routed(), [Family::V4, Family::V6]);
    for (add, remove, family) in CHOOSY {
        ip(&lab, add);
        let rest = [Family::V4, Family::V6].into_iter().filter(|other| *other != family);
        assert_eq!(destination_routed(), rest.collect::<Vec<_>>(), "{add}");
        ip(&lab, remove);
    }
    assert_eq!(destination_routed(), [Family::V4, Family::V6]);
}

#[test]
fn a_rule_that_appears_makes_every_connection_ask() {
    let lab = bare();
    lab.set_manifests(&[("kubia.yaml", &kubia().yaml())]).unwrap();
    let _daemon = lab.start_daemon("tc").unwrap();
    let by_destination = || {
        let contents = Maps::pinned(&lab.pin_dir()).unwrap().contents().unwrap();
        let [v4, v6] = [
            contents.v4.config.map(|config| config.routes_by_destination),
            contents.v6.config.map(|config| config.routes_by_destination),
        ];
        [v4, v6].map(|family| family.expect("it has been written"))
    };
    assert_eq!(by_destination(), [true, true]);
    for (add, remove, family) in [CHOOSY[0], CHOOSY[1]] {
        ip(&lab, add);
        let expected = [family != Family::V4, family != Family::V6];
        eventually(add, || by_destination() == expected);
        ip(&lab, remove);
        eventually(remove, || by_destination() == [true, true]);
    }
}

#[test]
fn changes_are_told_once_they_have_settled() {
    let lab = bare();
    // Answers for duplicate address detection take a second to stay away.
    lab.node.sysctl(&["ipv6/conf/eth0/accept_dad=1"]).unwrap();
    lab.node.enter(|| {
        client::block_on(async {
            let mut monitor = Monitor::open().unwrap();
            for (command, appears) in [
                ("addr add 10.9.0.1/24 dev eth0", "10.9.0.1"),
                ("addr add fd00:9::1/64 dev eth0", "fd00:9::1"),
            ] {
                lab.node.ip(command).unwrap();
                let limit = Instant::now() + Duration::from_secs(5);
                let mut seen = false;
                while !seen && Instant::now() < limit {
                    tokio::time::timeout(Duration::from_secs(5), monitor.changed())
                        .await
                        .unwrap_or_else(|_| panic!("{command} is not told"));
                    let snapshot = monitor.snapshot().await.unwrap();
                    seen = snapshot.addresses.iter().any(|own| own.ip.to_string() == appears);
                    let ip = lab.node.run("ip", &["-o", "addr", "show", "dev", "eth0"]).unwrap();
                    let tentative = ip
                        .lines()
                        .any(|line| line.contains(appears) && line.contains("tentative"));
                    assert!(!(seen && tentative), "{appears} is not usable yet");
                }
                assert!(seen, "{appears}");
            }
            let (brief, long) = (Duration::from_millis(20), Duration::from_millis(1500));
            while tokio::time::timeout(long, monitor.changed()).await.is_ok() {}
            // Given up and taken up again, the wait still tells; a burst is told once, and not while the monitor rests.
            monitor.rest(brief * 2);
            lab.node
                .ip("route add 10.50.0.0/16 via 10.0.0.2\nroute add 10.51.0.0/16 via 10.0.0.2")
                .unwrap();
            assert!(tokio::time::timeout(brief, monitor.changed()).await.is_err());
            assert!(tokio::time::timeout(long, monitor.changed()).await.is_ok());
            assert!(tokio::time::timeout(long, monitor.changed()).await.is_err());
        });
    });
}

#[test]
fn section_3_a_start_that_would_swallow_a_network_is_refused() {
    let lab = bare();
    lab.set_manifests(&[("kubia.yaml", &kubia().yaml())]).unwrap();
    for (add, remove, words) in [
        (
            "addr add 10.96.5.1/24 dev eth0",
            "addr del 10.96.5.1/24 dev eth0",
            ["10.96.5.0/24 of eth0", "10.96.0.0/12"],
        ),
        (
            "addr add fd00:10:96::501/120 dev eth0 nodad",
            "addr del fd00:10:96::501/120 dev eth0",
            ["fd00:10:96::500/120 of eth0", "fd00:10:96::/112"],
        ),
        (
            "route add 10.100.0.0/16 via 10.0.0.2",
            "route del 10.100.0.0/16",
            ["10.100.0.0/16 via 10.0.0.2 dev eth0", "10.96.0.0/12"],
        ),
        (
            "route add 10.96.0.0/12 dev eth0",
            "route del 10.96.0.0/12",
            ["10.96.0.0/12 dev eth0", "10.96.0.0/12"],
        ),
    ] {
        lab.node.ip(add).unwrap();
        let (status, said) = lab.run_daemon(&["--iface", "eth0", "--mode", "tc"]).unwrap();
        let last = said.lines().last().unwrap_or_default();
        assert!(!status.success(), "{add}: {said}");
        for word in words.iter().chain(&["--service-cluster-ip-range"]) {
            assert!(last.contains(word), "{add}: no {word:?} in the last line of:\n{said}");
        }
        assert!(!lab.pin_dir().exists(), "a refused start touches nothing");
        lab.node.ip(remove).unwrap();
    }
}

#[test]
fn section_3_broad_routes_and_parked_addresses_are_normal() {
    let lab = bare();
    lab.set_manifests(&[("kubia.yaml", &kubia().yaml())]).unwrap();
    lab.node
        .ip("route add default via 10.0.0.2
             route add 10.0.0.0/8 via 10.0.0.2
             route add blackhole 10.96.0.0/12
             route add local 10.96.0.10 dev lo
             addr add 10.96.0.11/32 dev lo")
        .unwrap();
    let _daemon = lab.start_daemon("tc").unwrap();
}

#[test]
fn a_cluster_ip_that_an_interface_has_is_refused() {
    let lab = bare();
    let service = kubia().cluster_ips(&NODE[..1]);
    lab.set_manifests(&[("kubia.yaml", &service.yaml())]).unwrap();
    let (status, said) = lab.run_daemon(&["--iface", "eth0", "--mode", "tc"]).unwrap();
    assert!(!status.success(), "{said}");
    assert!(
        said.contains("default/kubia") && said.contains("10.0.0.1") && said.contains("eth0"),
        "{said}"
    );
    assert!(!lab.pin_dir().exists(), "a refused start leaves nothing");
}

#[test]
fn section_3_a_network_that_appears_later_is_not_dropped() {
    let scenario = Scenario::new("tc");
    let (daemon, lab) = (&scenario.daemon, &scenario.lab);
    let pod = &lab.pods[0];
    pod.namespace.ip("addr add 10.97.5.2/24 dev eth0").unwrap();
    let reaches = || connects(lab, "10.97.5.2:8080");
    // The route alone, where svcproxy does not look, shows that the drop is its own.
    lab.node
        .ip(&format!(
            "route add 10.97.5.0/24 dev {} table 97
             rule add to 10.97.5.0/24 lookup 97",
            pod.interface
        ))
        .unwrap();
    assert!(!reaches(), "what no Service has in the range is dropped");
    lab.node
        .ip(&format!("addr add 10.97.5.1/24 dev {}", pod.interface))
        .unwrap();
    eventually("the network is not dropped any more", reaches);
    let warned = format!("10.97.5.0/24 of {}", pod.interface);
    assert!(
        daemon
            .log()
            .lines()
            .any(|line| line.contains("WARN") && line.contains(&warned))
    );
    lab.node
        .ip(&format!("addr del 10.97.5.1/24 dev {}", pod.interface))
        .unwrap();
    eventually("it is dropped again", || !reaches());
}

#[test]
fn rule_16_an_address_that_appears_later_answers_on_node_ports() {
    let lab = Lab::new(&topology("tc")).unwrap();
    let service = kubia()
        .yaml()
        .replace("spec:\n", "spec:\n  type: NodePort\n")
        .replace("      port: 80\n", "      port: 80\n      nodePort: 30080\n");
    lab.set_manifests(&[("kubia.yaml", &service), ("pods.yaml", &pods(&lab.pods))])
        .unwrap();
    let _daemon = lab.start_daemon("tc").unwrap();
    let answers = |ip: &str| connects(&lab, &format!("{ip}:30080"));
    assert!(answers("[fd00:a::1]"));
    assert!(!answers("[fd00:a::7]"));
    lab.node.ip("addr add fd00:a::7/64 dev eth0 nodad").unwrap();
    eventually("it answers", || answers("[fd00:a::7]"));
    lab.node.ip("addr del fd00:a::7/64 dev eth0").unwrap();
    eventually("it does not any more", || !answers("[fd00:a::7]"));
}
