//! A backend that is no pod of this node: packets come in by one interface and leave by another.

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use svcproxy_tests::{
    client::{self, Connection},
    lab::Lab,
    payload,
    topology::{CLIENT, REMOTE, Topology},
};

use crate::{
    exposed::counted,
    over_xdp_and_tc,
    scenario::{ECHO, HTTP, Scenario, ask, assert_answered_by, kubia, pods, topology},
};

over_xdp_and_tc!(a_backend_beyond_the_node_is_reached);

/// No pods on the node.
fn beyond(mode: &str) -> Topology {
    Topology {
        pods: Vec::new(),
        remote: true,
        ..topology(mode)
    }
}

fn a_backend_beyond_the_node_is_reached(mode: &str) {
    let scenario = Scenario::with(mode, &beyond(mode), &kubia());
    let length = 5_000_000;
    for (family, target) in scenario.targets(HTTP).into_iter().enumerate() {
        assert_answered_by(&ask(&scenario.lab, target, 100), &[REMOTE]);
        let (peer, down) = scenario.lab.client.enter(|| {
            client::block_on(async {
                let mut connection = Connection::open(target).await.unwrap();
                let peer = connection.get("/peer").await.unwrap();
                (peer, connection.download(length).await.unwrap())
            })
        });
        assert_eq!(peer, CLIENT[family].to_string());
        assert_eq!(down, payload::hash(length));
        let echo = scenario.targets(ECHO)[family];
        assert_answered_by(
            &scenario.lab.client.enter(|| client::udp_sequential(echo, 50)),
            &[REMOTE],
        );
    }
}

/// A lab whose node has its addresses on bridges, those towards the client alone or (2) the others as well: what leaves by
/// one is sent to a hardware address.
fn bridged(bridges: usize) -> Lab {
    let lab = Lab::new(&beyond("tc")).unwrap();
    for (bridge, port, v4, v6) in [
        ("br0", "eth0", "10.0.0.1/24", "fd00:a::1/64"),
        ("br1", "eth1", "10.1.0.1/24", "fd00:b::1/64"),
    ]
    .into_iter()
    .take(bridges)
    {
        lab.node
            .ip(&format!(
                "link add {bridge} type bridge forward_delay 0 mcast_snooping 0
                 addr del {v4} dev {port}
                 addr del {v6} dev {port}
                 link set {port} master {bridge}
                 link set {bridge} up
                 addr add {v4} dev {bridge}
                 addr add {v6} dev {bridge} nodad"
            ))
            .unwrap();
    }
    lab.set_manifests(&[("kubia.yaml", &kubia().yaml()), ("pods.yaml", &pods(&lab.pods))])
        .unwrap();
    lab
}

#[test]
fn the_kernel_keeps_making_sure_of_a_neighbour_that_frames_are_sent_to() {
    let lab = bridged(2);
    lab.node
        .sysctl(&[
            "ipv4/neigh/br0/base_reachable_time_ms=2000",
            "ipv4/neigh/br0/delay_first_probe_time=1",
        ])
        .unwrap();
    let _daemon = lab
        .start_daemon_with(&["--iface", "br0", "--iface", "br1", "--mode", "tc"])
        .unwrap();
    let ips = lab.cluster_ips("default/kubia").unwrap();
    lab.client.enter(|| {
        let length = 5_000_000;
        for ip in &ips {
            let target = (*ip, HTTP).into();
            // The first connection finds out who the neighbours are.
            client::block_on(client::get(target, "/")).unwrap();
            thread::sleep(Duration::from_millis(1100));
            let down = client::block_on(async {
                let mut connection = Connection::open(target).await.unwrap();
                connection.download(length).await.unwrap()
            });
            assert_eq!(down, payload::hash(length));
        }
    });
    let flows = lab.get(&["flows", "-o", "wide"]).unwrap();
    assert!(flows.contains("LINK:if"), "{flows}");

    // Not TCP: its receivers confirm a neighbour by themselves, from one end of a veth to the other.
    let socket = lab.client.enter(|| UdpSocket::bind(("0.0.0.0", 0))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    socket.connect((ips[0], ECHO)).unwrap();
    let state = || {
        let client = CLIENT[0].to_string();
        let shown = lab.node.run("ip", &["neigh", "show", &client, "dev", "br0"]).unwrap();
        shown.split_whitespace().next_back().unwrap_or_default().to_owned()
    };
    let mut states = vec![state()];
    let deadline = Instant::now() + Duration::from_secs(20);
    // Only what is sent as to a neighbour makes the kernel ask. The first packets have, once.
    while states.iter().filter(|state| *state == "REACHABLE").count() < 3 {
        assert!(Instant::now() < deadline, "{states:?}");
        socket.send(b"x").unwrap();
        socket.recv(&mut [0; 100]).unwrap();
        let state = state();
        if states.last() != Some(&state) {
            states.push(state);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_has_been_sent_is_not_looked_at_again_where_it_leaves() {
    let lab = bridged(1);
    let _daemon = lab
        .start_daemon_with(&["--iface", "br0", "--iface", "eth1", "--mode", "tc"])
        .unwrap();
    let target = (lab.cluster_ips("default/kubia").unwrap()[0], HTTP).into();
    assert_answered_by(&ask(&lab, target, 1), &[REMOTE]);
    let before = ["translated", "not_a_service"].map(|reason| counted(&lab, reason));
    assert_answered_by(&ask(&lab, target, 50), &[REMOTE]);
    let after = ["translated", "not_a_service"].map(|reason| counted(&lab, reason));
    let (translated, passed) = (after[0] - before[0], after[1] - before[1]);
    assert!(
        translated > 300 && passed < 50,
        "{translated} translated, {passed} looked at in vain"
    );
}
