//! Whose address the endpoint sees, and that the client never sees another than the one it asked for (rules 13, 17, 19).

use std::net::{IpAddr, SocketAddr};

use svcproxy_common::{
    Reason,
    abi::{
        Delivery, Network,
        Protocol::{self, SCTP, TCP, UDP},
    },
    flow::NextHop,
};

use crate::{
    endpoints,
    model::{Cluster, Ip, Node, next_hop, packet, service, tcp},
};

/// The three kinds of client, in the order of `Port::masquerade`.
fn clients(ip: Ip) -> [SocketAddr; 3] {
    [ip.client(1, 5000), ip.pod(9, 5000), SocketAddr::new(ip.node(), 5000)]
}

/// A node that tells them apart, with a Service on pods 1 and 2 that masquerades these.
fn node(ip: Ip, protocol: Protocol, masquerade: [bool; 3]) -> Node {
    let node = Node::new();
    let pods = endpoints(ip, 8080, [1, 2]);
    let port = service(1, protocol, ip.vip(1, 80), &pods).masquerade(masquerade);
    Cluster::default().put(&node.tables, port);
    node.set_network(&ip.network(Ip::pod), Network::PODS);
    let own = format!("{}/{}", ip.node(), if ip == Ip::V4 { 32 } else { 128 });
    node.set_network(&own, Network::NODE);
    node.set_config(ip.node(), 61_000, 4_536);
    node
}

/// A request and its reply; the source that the endpoint saw.
fn round_trip(node: &Node, protocol: Protocol, client: SocketAddr, vip: SocketAddr) -> SocketAddr {
    let request = node.run(&packet(protocol, client, vip, "S"));
    assert!(request.verdict.is_ok(), "{:?}", request.verdict);
    let reply = node.run(&packet(protocol, request.dst(), request.src(), "S."));
    assert!(reply.verdict.is_ok(), "{:?}", reply.verdict);
    assert_eq!((reply.src(), reply.dst()), (vip, client), "rule 19");
    request.src()
}

#[test]
fn rule_17_each_kind_of_client_is_masqueraded_where_its_flag_says() {
    for ip in Ip::ALL {
        for protocol in [TCP, UDP, SCTP] {
            for flags in 0..8 {
                let flags = [flags & 1 != 0, flags & 2 != 0, flags & 4 != 0];
                for (client, masqueraded) in clients(ip).into_iter().zip(flags) {
                    let seen = round_trip(&node(ip, protocol, flags), protocol, client, ip.vip(1, 80));
                    let expected = if masqueraded { ip.node() } else { client.ip() };
                    assert_eq!(
                        seen,
                        SocketAddr::new(expected, client.port()),
                        "{protocol} {client} {flags:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn rule_17_the_address_is_that_of_the_interface_the_packet_leaves_by() {
    for ip in Ip::ALL {
        for hop in [NextHop::ROUTING, next_hop(7, 1500, Delivery::XDP)] {
            let node = node(ip, TCP, [true; 3]);
            let towards = ip.other_pod(200, 0).ip();
            for pod in [1, 2] {
                node.set_route(ip.pod(pod, 0).ip(), hop, Some(towards));
            }
            assert_eq!(round_trip(&node, TCP, ip.client(1, 5000), ip.vip(1, 80)).ip(), towards);
        }
    }
}

#[test]
fn rule_17_an_endpoint_that_reaches_itself_is_masqueraded() {
    for ip in Ip::ALL {
        for protocol in [TCP, UDP, SCTP] {
            let mut hairpins = 0;
            for port in 5000..5020 {
                let node = node(ip, protocol, [false; 3]);
                let client = ip.pod(1, port);
                let request = node.run(&packet(protocol, client, ip.vip(1, 80), "S"));
                let expected = match request.dst().ip() == client.ip() {
                    true => ip.node(),
                    false => client.ip(),
                };
                hairpins += u32::from(request.dst().ip() == client.ip());
                assert_eq!(request.src(), SocketAddr::new(expected, port));
                let reply = node.run(&packet(protocol, request.dst(), request.src(), "S."));
                assert_eq!((reply.src(), reply.dst()), (ip.vip(1, 80), client));
            }
            assert!((1..20).contains(&hairpins));
        }
    }
}

#[test]
fn without_an_address_to_masquerade_behind_a_connection_is_dropped() {
    for ip in Ip::ALL {
        let unspecified: IpAddr = if ip == Ip::V4 { [0; 4].into() } else { [0; 16].into() };
        let syn = tcp(ip.client(1, 5000), ip.vip(1, 80), "S");
        let node = node(ip, TCP, [true; 3]);
        node.set_config(unspecified, 61_000, 4_536);
        assert_eq!(node.run(&syn).verdict, Err(Reason::NoSourceAddress));
        assert_eq!(node.entries(), [0, 0]);
    }
}

#[test]
fn rule_13_clients_outside_choose_from_another_set_than_pods_and_the_node() {
    for ip in Ip::ALL {
        let node = node(ip, TCP, [false; 3]);
        let (all, local) = (endpoints(ip, 8080, 1..=6), endpoints(ip, 8080, [4]));
        let port = service(1, TCP, ip.vip(1, 80), &all).local(&local);
        Cluster::default().put(&node.tables, port);
        for ([outside, pod, own], number) in (5000..5030).map(|port| (clients(ip), port)) {
            let reached =
                |client: SocketAddr| node.forward(&tcp(SocketAddr::new(client.ip(), number), ip.vip(1, 80), "S"));
            assert_eq!(reached(outside), local[0]);
            // The hash falls on the same endpoint only for one in six.
            assert!(all.contains(&reached(pod)) && all.contains(&reached(own)));
        }
        let used: std::collections::BTreeSet<_> = (1..50)
            .map(|port| node.forward(&tcp(ip.pod(9, port), ip.vip(1, 80), "S")))
            .collect();
        assert_eq!(used.len(), 6);
    }
}
