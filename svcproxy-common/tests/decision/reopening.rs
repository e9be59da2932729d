//! A client comes back with the addresses and ports of a connection that has ended: to the same endpoint, the new one takes
//! over the two entries where they are.

use std::net::SocketAddr;

use svcproxy_common::{
    Table::{Flows, Pending},
    abi::{
        Delivery, FlowState,
        FlowState::*,
        Protocol::{self, TCP, UDP},
    },
};

use crate::{
    endpoints,
    model::{Cluster, Ip, Node, next_hop, packet, service, tcp, udp},
    vip,
};

/// A client's connection to a Service of one pod.
struct Connection {
    node: Node,
    cluster: Cluster,
    ip: Ip,
    protocol: Protocol,
    client: SocketAddr,
    vip: SocketAddr,
    masqueraded: bool,
}

impl Connection {
    fn new(ip: Ip, protocol: Protocol, masqueraded: bool) -> Self {
        let node = Node::new();
        node.set_config(ip.node(), 61_000, 4_536);
        let (client, vip) = (ip.client(1, 5000), vip(ip, protocol));
        let mut connection = Self {
            node,
            cluster: Cluster::default(),
            ip,
            protocol,
            client,
            vip,
            masqueraded,
        };
        connection.serve(1);
        connection
    }

    fn serve(&mut self, pod: u16) {
        let pods = endpoints(self.ip, 8080, [pod]);
        let port = service(1, self.protocol, self.vip, &pods).masquerade([self.masqueraded; 3]);
        self.cluster.put(&self.node.tables, port);
    }

    /// The client whom the endpoint sees.
    fn seen(&self) -> SocketAddr {
        match self.masqueraded {
            true => SocketAddr::new(self.ip.node(), self.client.port()),
            false => self.client,
        }
    }

    /// Runs packets, `>` the client's and `<` those of a pod.
    fn exchange(&self, pod: u16, packets: &[&str]) {
        let pod = self.ip.pod(pod, 8080);
        for step in packets {
            match step.split_at(1) {
                (">", flags) => {
                    let there = self.node.run(&packet(self.protocol, self.client, self.vip, flags));
                    assert_eq!((there.src(), there.dst()), (self.seen(), pod), "{step}");
                }
                (_, flags) => {
                    let back = self.node.run(&packet(self.protocol, pod, self.seen(), flags));
                    assert_eq!((back.src(), back.dst()), (self.vip, self.client), "{step}");
                }
            }
        }
    }

    /// Asserts that a connection to this pod, of which the first packet has been run, becomes like any other.
    fn assert_completes(&self, pod: u16) {
        assert_eq!(self.node.entries(), [0, 2]);
        self.exchange(pod, &["<S.", ">."]);
        assert_eq!(self.states(pod), [self.open(), REPLY]);
    }

    /// The state once it has been answered both ways.
    fn open(&self) -> FlowState {
        if self.protocol == UDP { UDP_REPLIED } else { ESTABLISHED }
    }

    /// States of the two entries, which must be in `flows` and the only ones.
    fn states(&self, pod: u16) -> [FlowState; 2] {
        assert_eq!(self.node.entries(), [2, 0]);
        let flow = |src, dst| match self.node.flow(self.protocol, src, dst) {
            Some((Flows, state)) => state,
            other => panic!("{other:?}"),
        };
        [flow(self.client, self.vip), flow(self.ip.pod(pod, 8080), self.seen())]
    }
}

/// Packets of connections that have ended, and the seconds after that.
const ENDED: [(Protocol, &[&str], u32); 5] = [
    (TCP, &[">S", "<S.", ">.", "<.", ">R"], 0),
    (TCP, &[">S", "<S.", ">.", "<F.", ">F.", "<."], 0),
    (TCP, &[">S", "<S.", ">.", ">F."], 5),
    (TCP, &[">S", "<S.", ">."], 86_401),
    (UDP, &[">", "<", ">"], 121),
];

/// A connection, and another after it.
fn all(mut with: impl FnMut(Connection)) {
    for ip in Ip::ALL {
        for masqueraded in [false, true] {
            for (protocol, packets, seconds) in ENDED {
                let connection = Connection::new(ip, protocol, masqueraded);
                connection.exchange(1, packets);
                connection.node.wait(seconds);
                with(connection);
            }
        }
    }
}

#[test]
fn a_new_connection_takes_over_the_entries_of_one_that_has_ended() {
    all(|connection| {
        // All in one second: no packet may pass for one of a connection that is known already.
        let udp = connection.protocol == UDP;
        for _ in 0..3 {
            connection.exchange(1, &[">S"]);
            let opening = if udp { UDP_UNREPLIED } else { SYN_SENT };
            assert_eq!(connection.states(1), [opening, AWAIT_REPLY]);
        }
        connection.exchange(1, &["<S."]);
        let answered = if udp { UDP_REPLIED } else { SYN_RECV };
        assert_eq!(connection.states(1), [answered, REPLY]);
        connection.exchange(1, &[">."]);
        assert_eq!(connection.states(1), [connection.open(), REPLY]);
        if !udp {
            connection.exchange(1, &["<F."]);
            assert_eq!(connection.states(1), [FIN_ENDPOINT, REPLY]);
        }
    });
}

#[test]
fn to_another_endpoint_it_begins_as_any_other() {
    all(|mut connection| {
        connection.serve(2);
        connection.exchange(2, &[">S"]);
        connection.assert_completes(2);
    });
}

#[test]
fn half_of_what_was_is_not_taken_over() {
    for evict_request in [true, false] {
        all(|connection| {
            let pod = connection.ip.pod(1, 8080);
            let (src, dst) = match evict_request {
                true => (connection.client, connection.vip),
                false => (pod, connection.seen()),
            };
            connection.node.evict(connection.protocol, src, dst);
            connection.exchange(1, &[">S"]);
            connection.assert_completes(1);
        });
    }
}

#[test]
fn a_port_that_a_process_of_this_node_has_taken_meanwhile_is_not() {
    for ip in Ip::ALL {
        let connection = Connection::new(ip, TCP, true);
        connection.exchange(1, &[">S", "<S.", ">.", ">R"]);
        connection.node.own_ports.borrow_mut().insert(5000);
        let there = connection.node.run(&tcp(connection.client, connection.vip, "S"));
        assert!(there.src().port() >= 61_000, "{:?}", there.src());
        assert_eq!(connection.node.entries(), [0, 2]);
    }
}

#[test]
fn the_way_is_asked_for_anew() {
    for ip in Ip::ALL {
        let connection = Connection::new(ip, TCP, false);
        let (client, pod) = (connection.client, ip.pod(1, 8080));
        let ways = [1, 2].map(|ifindex| next_hop(ifindex, 1500, Delivery::XDP));
        let used = |src, dst, flags| connection.node.run(&tcp(src, dst, flags)).verdict.unwrap().ifindex;
        connection.node.set_next_hop(pod.ip(), ways[0]);
        connection.exchange(1, &[">S", "<S.", ">.", "<R"]);
        // Found out of reach, and back by another way.
        connection.node.lose(TCP, client, connection.vip);
        connection.node.set_next_hop(pod.ip(), ways[1]);
        connection.node.set_next_hop(client.ip(), ways[0]);
        assert_eq!(used(client, connection.vip, "S"), 2);
        assert_eq!(used(pod, client, "S."), 1);
        assert_eq!(used(client, connection.vip, "."), 2);
        assert_eq!(connection.states(1), [ESTABLISHED, REPLY]);
    }
}

#[test]
fn what_is_opened_so_lasts_as_long_as_any_other() {
    for ip in Ip::ALL {
        for (packets, seconds) in [(&[">S"] as &[_], 120), (&[">S", "<S."], 60)] {
            for (silence, pod) in [(seconds - 1, 1), (seconds + 1, 2)] {
                let mut connection = Connection::new(ip, TCP, false);
                connection.exchange(1, &[">S", "<S.", ">.", ">R"]);
                connection.exchange(1, packets);
                connection.serve(2);
                connection.node.wait(silence);
                connection.exchange(pod, &[">."]);
            }
        }
        // Datagrams that nobody answers.
        let mut connection = Connection::new(ip, UDP, false);
        connection.exchange(1, &[">", "<", ">"]);
        connection.node.wait(121);
        for _ in 0..10 {
            connection.exchange(1, &[">"]);
            connection.serve(2);
            connection.node.wait(29);
            assert_eq!(connection.states(1), [UDP_UNREPLIED, AWAIT_REPLY]);
        }
        connection.node.wait(2);
        connection.exchange(2, &[">"]);
        assert_eq!(
            connection.node.flow(UDP, connection.client, connection.vip).unwrap().0,
            Pending
        );
        assert_eq!(
            connection.node.forward(&udp(connection.client, connection.vip)),
            ip.pod(2, 8080)
        );
    }
}
