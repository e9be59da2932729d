//! Datagrams in pieces, and UDP without a checksum (rule 23).

use std::net::SocketAddr;

use svcproxy_common::{
    Reason, Verdict,
    abi::Protocol::{self, TCP, UDP},
};

use crate::{
    model::{Ip, Node, TcIn, TcOut, judge, packet, pieces, sockets, udp},
    node, vip,
};

/// Runs pieces in this order; the pieces as they left.
fn run(node: &Node, pieces: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let outcomes = pieces.iter().map(|piece| node.run_bytes::<TcIn>(piece, 0));
    let outcome = |outcome: crate::model::Outcome| {
        assert_eq!(outcome.verdict, Ok(Verdict::ROUTE));
        outcome.bytes
    };
    outcomes.map(outcome).collect()
}

fn datagram(protocol: Protocol, src: SocketAddr, dst: SocketAddr, length: usize) -> crate::model::Frame {
    let payload: Vec<u8> = (0..length).map(|index| (index * 7) as u8).collect();
    packet(protocol, src, dst, "P.").payload(payload)
}

#[test]
fn rule_23_all_pieces_go_where_the_first_goes_both_ways() {
    for ip in Ip::ALL {
        for protocol in [TCP, UDP] {
            for (length, size, tags) in [(100, 24, 0), (8000, 1400, 0), (8000, 1400, 2), (65, 64, 1)] {
                let node = node(ip, 3);
                let (client, vip) = (ip.client(1, 5000), vip(ip, protocol));
                let whole = |src, dst| datagram(protocol, src, dst, length).vlans(tags).bytes();
                let there = pieces::join(&run(&node, &pieces::cut(&whole(client, vip), size, 1)));
                judge::assert_valid(&there);
                let (src, pod) = sockets(&there);
                assert_eq!(src, client);
                assert_ne!(pod, vip);
                let back = pieces::join(&run(&node, &pieces::cut(&whole(pod, client), size, 1)));
                judge::assert_valid(&back);
                assert_eq!(sockets(&back), (vip, client));
            }
        }
    }
}

#[test]
fn rule_23_datagrams_of_one_client_are_told_apart() {
    for ip in Ip::ALL {
        let node = node(ip, 5);
        let vip = vip(ip, UDP);
        let cut = |port: u16, identification| {
            let whole = datagram(UDP, ip.client(1, port), vip, 3000).bytes();
            pieces::cut(&whole, 1000, identification)
        };
        let mut reached = std::collections::BTreeSet::new();
        let all: Vec<_> = (0..20).map(|number| cut(5000 + number, 100 + number)).collect();
        // All first pieces, then all second ones, and so on.
        let mut left = vec![Vec::new(); all.len()];
        for turn in 0..all[0].len() {
            for (pieces, left) in all.iter().zip(&mut left) {
                left.extend(run(&node, &pieces[turn..=turn]));
            }
        }
        for (number, pieces) in (0..).zip(&left) {
            let whole = pieces::join(pieces);
            judge::assert_valid(&whole);
            let (src, pod) = sockets(&whole);
            assert_eq!(src, ip.client(1, 5000 + number));
            reached.insert(pod);
        }
        assert!(reached.len() > 1);
    }
}

#[test]
fn a_piece_whose_first_has_not_been_seen_is_left_alone() {
    for ip in Ip::ALL {
        let node = node(ip, 3);
        let whole = datagram(UDP, ip.client(1, 5000), vip(ip, UDP), 3000).bytes();
        let pieces = pieces::cut(&whole, 1000, 1);
        for later in &pieces[1..] {
            assert_eq!(node.run_bytes::<TcIn>(later, 0).verdict, Err(Reason::Fragment));
        }
        // Another datagram's first piece is of no use to them.
        run(&node, &pieces::cut(&whole, 1000, 2)[..1]);
        assert_eq!(node.run_bytes::<TcIn>(&pieces[1], 0).verdict, Err(Reason::Fragment));
        run(&node, &pieces);
    }
}

#[test]
fn rule_23_pieces_that_are_not_for_a_service_pass() {
    for ip in Ip::ALL {
        let node = node(ip, 3);
        let whole = datagram(UDP, ip.client(1, 5000), ip.pod(1, 5353), 3000).bytes();
        for piece in pieces::cut(&whole, 1000, 1) {
            assert_eq!(node.run_bytes::<TcIn>(&piece, 0).verdict, Err(Reason::NotAService));
            assert_eq!(node.run_bytes::<TcOut>(&piece, 0).verdict, Err(Reason::NotAService));
        }
        assert_eq!(node.entries(), [0, 0]);
    }
}

#[test]
fn rule_23_pieces_without_a_checksum_stay_without() {
    let node = node(Ip::V4, 3);
    let (client, vip) = (Ip::V4.client(1, 5000), vip(Ip::V4, UDP));
    let whole = udp(client, vip).payload(vec![1; 3000]).without_checksum().bytes();
    let joined = pieces::join(&run(&node, &pieces::cut(&whole, 1480, 1)));
    assert_eq!(joined[40..42], [0, 0]);
    judge::assert_valid(&joined);
}

#[test]
fn a_later_piece_of_an_icmp_message_is_not_read_as_one() {
    // What follows its IP header is payload, which may look like an error about a connection of ours.
    for ip in Ip::ALL {
        let node = node(ip, 3);
        let (client, vip) = (ip.client(1, 5000), vip(ip, UDP));
        let request = node.run(&udp(client, vip));
        let kind = if ip == Ip::V4 { (3, 4) } else { (2, 0) };
        let error = pieces::error(ip.router(), kind, 1280, &request.bytes, 64);
        let mut later = pieces::cut(&error, 2000, 1).remove(0);
        let layers = judge::layers(&later).unwrap();
        match layers.fragment_header {
            Some(at) => later[at + 2..at + 4].copy_from_slice(&[1, 0]),
            None => later[layers.ip + 6..layers.ip + 8].copy_from_slice(&[0, 32]),
        }
        let outcome = node.run_bytes::<TcIn>(&later, 0);
        assert!(outcome.verdict.is_err_and(crate::passes), "{:?}", outcome.verdict);
    }
}
