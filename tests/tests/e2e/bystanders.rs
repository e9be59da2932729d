//! Traffic that is none of svcproxy's business goes on as if it were not there.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use pnet_datalink::{DataLinkReceiver, DataLinkSender};

use svcproxy_tests::{
    client,
    namespace::Namespace,
    topology::{CLIENT, NODE},
};

use crate::{
    over_xdp_and_tc,
    scenario::{HTTP, Scenario, ask},
};

over_xdp_and_tc!(
    pings_pass,
    tcp_to_the_node_itself_passes,
    traffic_straight_to_a_pod_passes,
    vlan_frames_pass,
    bridged_frames_pass,
    neighbours_are_found_again,
);

fn ping(from: &Namespace, to: &str) {
    from.run("ping", &["-c2", "-i0.05", "-W2", to]).unwrap();
}

fn pings_pass(mode: &str) {
    let Scenario {
        daemon: _daemon, lab, ..
    } = Scenario::new(mode);
    for address in NODE.iter().chain(&lab.pods[0].addresses) {
        ping(&lab.client, &address.to_string());
        // As large as a packet gets, and larger: in fragments.
        lab.client
            .run("ping", &["-c1", "-W2", "-s1452", &address.to_string()])
            .unwrap();
        lab.client
            .run("ping", &["-c1", "-W2", "-s4000", &address.to_string()])
            .unwrap();
    }
    for address in CLIENT {
        ping(&lab.node, &address.to_string());
        ping(&lab.pods[0].namespace, &address.to_string());
    }
}

fn tcp_to_the_node_itself_passes(mode: &str) {
    let Scenario {
        daemon: _daemon, lab, ..
    } = Scenario::new(mode);
    // A port that a Service has, and one that none has.
    for (address, port) in NODE.into_iter().flat_map(|address| [(address, HTTP), (address, 5001)]) {
        let target = SocketAddr::new(address, port);
        let listener = lab.node.enter(|| TcpListener::bind(target)).unwrap();
        thread::scope(|scope| {
            scope.spawn(|| listener.accept().unwrap().0.write_all(b"the node").unwrap());
            let mut answer = String::new();
            let mut stream = lab
                .client
                .enter(|| TcpStream::connect_timeout(&target, Duration::from_secs(5)))
                .unwrap();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "the node");
        });
    }
}

fn traffic_straight_to_a_pod_passes(mode: &str) {
    let Scenario {
        daemon: _daemon, lab, ..
    } = Scenario::new(mode);
    for pod in &lab.pods {
        for address in pod.addresses {
            let target = SocketAddr::new(address, 8080);
            let tally = ask(&lab, target, 20);
            assert_eq!(tally.answers.get(&pod.name), Some(&20), "{tally}");
            assert_eq!(lab.client.enter(|| client::udp(target, b"hello")).unwrap(), pod.name);
        }
    }
}

/// Frames with one tag and with two, sent and seen raw: not every kernel has VLAN interfaces.
fn vlan_frames_pass(mode: &str) {
    let Scenario {
        daemon: _daemon, lab, ..
    } = Scenario::new(mode);
    let (mut sender, _) = lab.client.enter(raw);
    let (_, mut receiver) = lab.node.enter(raw);
    for tags in [[0x8100, 7].as_slice(), &[0x88a8, 7, 0x8100, 8]] {
        let mut frame = [[0xff; 6], [2, 0, 0, 0, 0, 9]].concat();
        frame.extend(tags.iter().flat_map(|tag: &u16| tag.to_be_bytes()));
        // What follows belongs to no protocol that anyone here speaks.
        let mut inner = 0x88b5_u16.to_be_bytes().to_vec();
        inner.extend([0x5a; 100]);
        frame.extend(&inner);
        sender.send_to(&frame, None).unwrap().unwrap();
        let deadline = Instant::now() + Duration::from_secs(3);
        // The kernel takes the outer tag off on the way to a socket.
        while !receiver
            .next()
            .is_ok_and(|seen| seen.ends_with(&inner) && seen[..12] == frame[..12])
        {
            assert!(Instant::now() < deadline, "no frame tagged {tags:x?}");
        }
    }
}

/// Frames on `eth0` of this namespace.
pub(crate) fn raw() -> (Box<dyn DataLinkSender>, Box<dyn DataLinkReceiver>) {
    let interfaces = pnet_datalink::interfaces();
    let eth0 = interfaces.iter().find(|interface| interface.name == "eth0").unwrap();
    let config = pnet_datalink::Config {
        read_timeout: Some(Duration::from_millis(200)),
        ..Default::default()
    };
    match pnet_datalink::channel(eth0, config).unwrap() {
        pnet_datalink::Channel::Ethernet(sender, receiver) => (sender, receiver),
        _ => unreachable!("the only kind of channel there is"),
    }
}

/// `eth0` as a port of a bridge, frames between the client and a pod that the node only switches.
fn bridged_frames_pass(mode: &str) {
    let Scenario {
        daemon: _daemon, lab, ..
    } = Scenario::new(mode);
    let pod = &lab.pods[0].namespace;
    lab.node
        .ip(&format!(
            "link add port9 type veth peer name eth9 netns {}
             link add br0 type bridge forward_delay 0
             link set port9 master br0
             link set eth0 master br0
             link set port9 up
             link set br0 up",
            pod.name()
        ))
        .unwrap();
    pod.ip("link set eth9 up
         addr add 10.9.0.1/24 dev eth9
         addr add fd00:9::1/64 dev eth9 nodad")
        .unwrap();
    lab.client
        .ip("addr add 10.9.0.2/24 dev eth0
             addr add fd00:9::2/64 dev eth0 nodad")
        .unwrap();
    for address in ["10.9.0.1", "fd00:9::1"] {
        ping(&lab.client, address);
        assert_eq!(
            lab.client
                .enter(|| client::udp(SocketAddr::new(address.parse().unwrap(), 8080), b"hello"))
                .unwrap(),
            lab.pods[0].name
        );
    }
}

fn neighbours_are_found_again(mode: &str) {
    let scenario = Scenario::new(mode);
    for _ in 0..3 {
        let places = scenario
            .lab
            .pods
            .iter()
            .map(|pod| &pod.namespace)
            .chain([&scenario.lab.client, &scenario.lab.node]);
        for namespace in places {
            namespace.run("ip", &["neigh", "flush", "all"]).unwrap();
        }
        for target in scenario.targets(HTTP) {
            let tally = ask(&scenario.lab, target, 30);
            assert!(tally.failures.is_empty(), "{tally}");
        }
    }
}
