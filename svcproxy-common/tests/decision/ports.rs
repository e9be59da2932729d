//! Ports of masqueraded connections: the client's own where it is free, never one that another connection has (rule 18).

use std::{collections::BTreeSet, net::SocketAddr};

use svcproxy_common::{
    Reason,
    abi::Protocol::{self, SCTP, TCP, UDP},
};

use crate::{
    endpoints,
    model::{Cluster, Ip, Node, packet, service, tcp, udp},
};

/// A node that masquerades everyone behind its address, with so many ports from 61000 on, for one pod.
fn node(ip: Ip, protocol: Protocol, ports: u32) -> Node {
    let node = Node::new();
    let pod = endpoints(ip, 8080, [1]);
    let port = service(1, protocol, ip.vip(1, 80), &pod).masquerade([true; 3]);
    Cluster::default().put(&node.tables, port);
    node.set_config(ip.node(), 61_000, ports);
    node
}

fn open(node: &Node, protocol: Protocol, client: SocketAddr, vip: SocketAddr) -> Result<SocketAddr, Reason> {
    let outcome = node.run(&packet(protocol, client, vip, "S"));
    outcome.verdict.map(|_| outcome.src())
}

#[test]
fn rule_18_two_clients_with_one_port_get_two_and_each_its_own_replies() {
    for ip in Ip::ALL {
        for protocol in [TCP, UDP, SCTP] {
            let node = node(ip, protocol, 4_536);
            let clients: Vec<_> = (1..=50).map(|number| ip.client(number, 5000)).collect();
            let seen: Vec<_> = clients
                .iter()
                .map(|client| open(&node, protocol, *client, ip.vip(1, 80)).unwrap())
                .collect();
            assert_eq!(seen[0], SocketAddr::new(ip.node(), 5000), "the first keeps its own");
            for other in &seen[1..] {
                assert_eq!(other.ip(), ip.node());
                assert!((61_000..=65_535).contains(&other.port()), "{other}");
            }
            assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 50);
            for (client, seen) in clients.iter().zip(&seen) {
                let reply = node.run(&packet(protocol, ip.pod(1, 8080), *seen, "S."));
                assert_eq!((reply.src(), reply.dst()), (ip.vip(1, 80), *client));
            }
        }
    }
}

#[test]
fn rule_18_a_port_of_the_nodes_own_connections_is_taken() {
    for ip in Ip::ALL {
        for protocol in [TCP, UDP] {
            let node = node(ip, protocol, 4_536);
            node.own_ports.borrow_mut().insert(5000);
            let seen = [5000, 5001].map(|port| open(&node, protocol, ip.client(1, port), ip.vip(1, 80)).unwrap());
            assert!((61_000..=65_535).contains(&seen[0].port()), "{}", seen[0]);
            assert_eq!(seen[1], SocketAddr::new(ip.node(), 5001));
        }
    }
}

#[test]
fn rule_18_when_no_port_is_left_the_connection_is_dropped_and_the_others_live() {
    for ip in Ip::ALL {
        let node = node(ip, TCP, 4);
        let outcomes: Vec<_> = (1..=200)
            .map(|number| open(&node, TCP, ip.client(number, 5000), ip.vip(1, 80)))
            .collect();
        let given: Vec<SocketAddr> = outcomes.iter().filter_map(|outcome| outcome.ok()).collect();
        assert_eq!(given.len(), 1 + 4, "the client's own and four more");
        assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), given.len());
        assert!(
            outcomes
                .iter()
                .all(|outcome| outcome.is_ok() || *outcome == Err(Reason::NoSourcePort))
        );
        assert_eq!(outcomes[199], Err(Reason::NoSourcePort));
        assert_eq!(node.entries(), [0, 2 * given.len()]);
        assert_eq!(open(&node, TCP, ip.client(1, 5000), ip.vip(1, 80)), Ok(given[0]));
    }
}

#[test]
fn rule_18_a_port_is_free_again_when_its_connection_is_forgotten() {
    for ip in Ip::ALL {
        let node = node(ip, UDP, 1);
        let vip = ip.vip(1, 80);
        for number in 1..=2 {
            open(&node, UDP, ip.client(number, 5000), vip).unwrap();
        }
        assert_eq!(open(&node, UDP, ip.client(3, 5000), vip), Err(Reason::NoSourcePort));
        node.wait(31);
        assert_eq!(
            open(&node, UDP, ip.client(3, 5000), vip),
            Ok(SocketAddr::new(ip.node(), 5000))
        );
    }
}

/// Who comes back after its connection was forgotten, and its port given to another, must not share that one.
#[test]
fn rule_18_a_forgotten_client_that_comes_back_gets_another_port() {
    for ip in Ip::ALL {
        for confirmed in [false, true] {
            let node = node(ip, UDP, 4_536);
            let (first, second, vip) = (ip.client(1, 5000), ip.client(2, 5000), ip.vip(1, 80));
            let talk = |client| {
                let seen = open(&node, UDP, client, vip).unwrap();
                if confirmed {
                    node.run(&udp(ip.pod(1, 8080), seen));
                    node.run(&udp(client, vip));
                }
                seen
            };
            let shared = talk(first);
            node.wait(121);
            assert_eq!(talk(second), shared, "its connection is forgotten");
            let again = talk(first);
            assert_ne!(again, shared, "{ip:?} confirmed {confirmed}");
            for (client, seen) in [(first, again), (second, shared)] {
                let reply = node.run(&udp(ip.pod(1, 8080), seen));
                assert_eq!((reply.src(), reply.dst()), (vip, client));
            }
        }
    }
}

/// A half that the LRU has evicted does not make its connection's port free for two.
#[test]
fn rule_18_a_connection_that_lost_its_reply_half_shares_its_port_with_nobody() {
    for ip in Ip::ALL {
        let node = node(ip, TCP, 4_536);
        let (first, second, vip) = (ip.client(1, 5000), ip.client(2, 5000), ip.vip(1, 80));
        let shared = open(&node, TCP, first, vip).unwrap();
        node.evict(TCP, ip.pod(1, 8080), shared);
        assert_eq!(open(&node, TCP, second, vip), Ok(shared));
        let again = node.run(&tcp(first, vip, "S"));
        assert!(
            again.verdict.is_err() || again.src() != shared,
            "two connections as {shared}"
        );
    }
}

#[test]
fn rule_18_a_client_s_own_address_has_all_unprivileged_ports() {
    for ip in Ip::ALL {
        let node = Node::new();
        let mut cluster = Cluster::default();
        let pod = endpoints(ip, 8080, [1]);
        for number in 1..=200 {
            cluster.put(&node.tables, service(number, TCP, ip.vip(number as u16, 80), &pod));
        }
        node.set_config(ip.node(), 61_000, 1);
        let seen: BTreeSet<_> = (1..=200)
            .map(|number| open(&node, TCP, ip.client(1, 5000), ip.vip(number, 80)).unwrap())
            .collect();
        assert_eq!(seen.len(), 200);
        assert!(
            seen.iter()
                .all(|seen| seen.ip() == ip.client(1, 0).ip() && seen.port() >= 1024)
        );
    }
}
