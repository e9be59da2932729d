//! Datagrams: the answer comes from the Service's address, and each socket stays with its pod.

use std::net::{SocketAddr, UdpSocket};

use svcproxy_tests::client;

use crate::{
    over_xdp_and_tc,
    scenario::{ECHO, Scenario, assert_answered_by},
};

over_xdp_and_tc!(datagrams_are_answered_from_the_service, a_socket_stays_with_its_pod);

fn datagrams_are_answered_from_the_service(mode: &str) {
    let scenario = Scenario::new(mode);
    for target in scenario.targets(ECHO) {
        let tally = scenario.lab.client.enter(|| client::udp_sequential(target, 300));
        assert_answered_by(&tally, &scenario.names());
        for payload in [vec![], vec![b'x'], vec![0; 1400]] {
            scenario.lab.client.enter(|| client::udp(target, &payload)).unwrap();
        }
    }
}

fn a_socket_stays_with_its_pod(mode: &str) {
    let scenario = Scenario::new(mode);
    for target in scenario.targets(ECHO) {
        let answers = scenario.lab.client.enter(|| talk(target, 20));
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "{answers:?}");
    }
}

/// The names in the answers to `count` datagrams from one connected socket.
fn talk(target: SocketAddr, count: u32) -> Vec<String> {
    let any = if target.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).unwrap();
    socket
        .set_read_timeout(Some(std::time::Duration::from_secs(3)))
        .unwrap();
    socket.connect(target).unwrap();
    let mut buffer = [0; 100];
    let mut exchange = || {
        socket.send(b"hello").unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    (0..count).map(|_| exchange()).collect()
}
