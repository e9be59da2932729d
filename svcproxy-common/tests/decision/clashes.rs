//! Two connections of one client, from one port, through two addresses, to one endpoint: the endpoint must not take
//! them for one.

use std::net::SocketAddr;

use svcproxy_common::abi::Protocol::{self, SCTP, TCP, UDP};

use crate::{
    endpoints,
    model::{Cluster, Ip, Node, Outcome, packet, service, tcp},
};

/// A node where Services 1 to 9, and two ports of Service 1, lead to one pod.
fn node(ip: Ip, protocol: Protocol) -> Node {
    let node = Node::new();
    let mut cluster = Cluster::default();
    let pod = endpoints(ip, 8080, [1]);
    for number in 1..=9 {
        cluster.put(&node.tables, service(number, protocol, ip.vip(number as u16, 80), &pod));
    }
    cluster.put(&node.tables, service(1, protocol, ip.vip(1, 8080), &pod));
    node
}

/// Opens a connection and exchanges packets until it is established; the request as the endpoint sees it.
fn establish(node: &Node, protocol: Protocol, client: SocketAddr, vip: SocketAddr) -> Outcome {
    let request = node.run(&packet(protocol, client, vip, "S"));
    for (flags, answer) in [("S.", "."), (".", "P.")] {
        let reply = node.run(&packet(protocol, request.dst(), request.src(), flags));
        assert_eq!((reply.src(), reply.dst()), (vip, client));
        let again = node.run(&packet(protocol, client, vip, answer));
        assert_eq!((again.src(), again.dst()), (request.src(), request.dst()));
    }
    request
}

#[test]
fn the_second_connection_gets_another_port() {
    for ip in Ip::ALL {
        for protocol in [TCP, UDP, SCTP] {
            for other in [ip.vip(2, 80), ip.vip(1, 8080)] {
                let node = node(ip, protocol);
                let client = ip.client(1, 5000);
                let first = establish(&node, protocol, client, ip.vip(1, 80));
                let second = establish(&node, protocol, client, other);
                assert_eq!(first.src(), client);
                assert_eq!(first.dst(), second.dst());
                assert_eq!(second.src().ip(), client.ip());
                assert_ne!(second.src().port(), client.port());
                assert!(second.src().port() >= 1024);
                // And the first goes on as before, after a second too.
                for wait in [0, 1] {
                    node.wait(wait);
                    let reply = node.run(&packet(protocol, first.dst(), first.src(), "."));
                    assert_eq!((reply.src(), reply.dst()), (ip.vip(1, 80), client));
                    let reply = node.run(&packet(protocol, second.dst(), second.src(), "."));
                    assert_eq!((reply.src(), reply.dst()), (other, client));
                }
            }
        }
    }
}

#[test]
fn nine_connections_from_one_port_get_nine_ports() {
    for ip in Ip::ALL {
        let node = node(ip, UDP);
        let client = ip.client(1, 5000);
        let mut seen: Vec<_> = (1..=9)
            .map(|vip| establish(&node, UDP, client, ip.vip(vip, 80)).src())
            .collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen.len(), 9);
    }
}

#[test]
fn a_closed_connection_keeps_its_port_until_it_is_forgotten() {
    for ip in Ip::ALL {
        for (silence, own) in [(0, false), (120, false), (121, true)] {
            let node = node(ip, TCP);
            let client = ip.client(1, 5000);
            let first = establish(&node, TCP, client, ip.vip(1, 80));
            node.forward(&tcp(client, ip.vip(1, 80), "F."));
            node.forward(&tcp(first.dst(), client, "F."));
            node.wait(silence);
            let second = establish(&node, TCP, client, ip.vip(2, 80));
            assert_eq!(second.src() == client, own, "{silence} s");
        }
    }
}

#[test]
fn an_orphaned_reply_of_the_same_connection_is_no_obstacle() {
    for ip in Ip::ALL {
        let node = node(ip, TCP);
        let (client, vip) = (ip.client(1, 5000), ip.vip(1, 80));
        establish(&node, TCP, client, vip);
        node.evict(TCP, client, vip);
        let again = establish(&node, TCP, client, vip);
        assert_eq!(again.src(), client);
        assert_eq!(node.entries(), [2, 0]);
    }
}
