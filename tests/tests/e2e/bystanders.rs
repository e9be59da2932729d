//! Traffic that is none of svcproxy's business goes on as if it were not there.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

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

fn vlan_frames_pass(mode: &str) {
    let Scenario {
        daemon: _daemon, lab, ..
    } = Scenario::new(mode);
    for (namespace, host) in [(&lab.client, 2), (&lab.node, 1)] {
        namespace
            .ip(&format!(
                "link add link eth0 name eth0.7 type vlan id 7
                 link add link eth0.7 name eth0.7.8 type vlan id 8
                 link set eth0.7 up
                 link set eth0.7.8 up
                 addr add 10.7.0.{host}/24 dev eth0.7
                 addr add fd00:7::{host}/64 dev eth0.7 nodad
                 addr add 10.78.0.{host}/24 dev eth0.7.8"
            ))
            .unwrap();
    }
    for address in ["10.7.0.1", "fd00:7::1", "10.78.0.1"] {
        ping(&lab.client, address);
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
