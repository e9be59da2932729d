//! What may stand between the frame and the ports: VLAN tags, IPv4 options, IPv6 extension headers; and SCTP, whose
//! checksum is a CRC (rule 21); and hops (rule 24).

use svcproxy_common::{
    Reason, Verdict,
    abi::{
        Delivery,
        Protocol::{self, SCTP, TCP, UDP},
    },
};

use crate::{
    endpoints,
    model::{Cluster, Frame, Ip, Node, TcIn, Xdp, judge, next_hop, packet, sctp, service, tcp},
    node, vip,
};

/// A request through `edit`, and its reply through it too; `Node::run` has the judge compute the checksums of both.
fn round_trip(ip: Ip, protocol: Protocol, edit: impl Fn(Frame) -> Frame) {
    let node = node(ip, 3);
    let (client, vip) = (ip.client(1, 5000), vip(ip, protocol));
    let request = node.run(&edit(packet(protocol, client, vip, "S")));
    assert_eq!(request.verdict, Ok(Verdict::ROUTE));
    let (src, pod) = (request.src(), request.dst());
    assert_eq!(src, client);
    assert!((1..=3).any(|number| ip.pod(number, 0).ip() == pod.ip()), "{pod}");
    let reply = node.run(&edit(packet(protocol, pod, client, "S.")));
    assert_eq!((reply.src(), reply.dst()), (vip, client));
    assert_eq!(
        reply.bytes.len(),
        edit(packet(protocol, pod, client, "S.")).bytes().len()
    );
}

#[test]
fn rule_21_one_tag_and_two() {
    for ip in Ip::ALL {
        for protocol in [TCP, UDP, SCTP] {
            for tags in 0..=2 {
                round_trip(ip, protocol, |frame| frame.vlans(tags));
            }
        }
    }
}

#[test]
fn rule_21_tags_stay_and_a_tagged_packet_is_routed() {
    for ip in Ip::ALL {
        for (tags, hidden) in [(0, false), (1, false), (2, false), (0, true)] {
            let node = node(ip, 1);
            node.set_next_hop(ip.pod(1, 0).ip(), next_hop(7, 1500, Delivery::PEER));
            node.tagged.set(hidden);
            let frame = tcp(ip.client(1, 5000), vip(ip, TCP), "S").vlans(tags);
            let outcome = node.run_at::<TcIn>(&frame);
            let sent = outcome.verdict.is_ok_and(|verdict| verdict != Verdict::ROUTE);
            assert_eq!(sent, tags == 0 && !hidden, "the next hop may be of another VLAN");
            if !sent {
                assert_eq!(outcome.bytes[..14 + tags * 4], frame.bytes()[..14 + tags * 4]);
            }
        }
    }
}

#[test]
fn rule_21_ip_options() {
    for protocol in [TCP, UDP, SCTP] {
        for words in 0..=10 {
            round_trip(Ip::V4, protocol, |frame| frame.options(words));
        }
    }
}

#[test]
fn rule_21_extension_headers() {
    #[rustfmt::skip]
    let chains: [&[(u8, usize)]; 10] = [
        &[(0, 1)], &[(60, 1)], &[(43, 3)], &[(51, 3)],
        &[(0, 2), (60, 1)], &[(0, 1), (43, 1), (60, 1)], &[(51, 4), (60, 2)],
        &[(0, 1), (60, 1), (43, 3), (51, 3), (60, 1)],
        &[(0, 1), (60, 2), (43, 1), (51, 3), (60, 1), (60, 1)],
        &[(60, 256)],
    ];
    for protocol in [TCP, UDP, SCTP] {
        for chain in chains {
            for tags in 0..=2 {
                round_trip(Ip::V6, protocol, |frame| frame.extensions(chain).vlans(tags));
            }
        }
    }
}

#[test]
fn rule_21_an_atomic_fragment_is_a_whole_packet() {
    for protocol in [TCP, UDP, SCTP] {
        // A fragment header (RFC 6946) with the layout of an option header: offset and "more" are 0.
        round_trip(Ip::V6, protocol, |frame| frame.extensions(&[(44, 1)]));
        round_trip(Ip::V6, protocol, |frame| frame.extensions(&[(0, 1), (44, 1), (60, 1)]));
    }
}

#[test]
fn rule_21_sctp_s_crc_follows_a_change_of_ports_and_not_of_addresses() {
    for ip in Ip::ALL {
        for (target, changes) in [(80, false), (8080, true)] {
            for length in [0, 1, 3, 4, 100, 1401, 9000] {
                let node = Node::new();
                let (client, vip) = (ip.client(1, 5000), ip.vip(1, 80));
                let pod = endpoints(ip, target, [1]);
                Cluster::default().put(&node.tables, service(1, SCTP, vip, &pod));
                let frame = sctp(client, vip, 1).payload(vec![0x5a; length]).padding(length % 7);
                let outcome = node.run(&frame);
                assert_eq!(outcome.dst(), pod[0]);
                let crc = |bytes: &[u8]| judge::checksums(bytes).last().unwrap().found;
                assert_eq!(crc(&outcome.bytes) != crc(&frame.bytes()), changes, "{length}");
            }
        }
    }
}

#[test]
fn rule_21_sctp_chunks_open_and_end_an_association() {
    use svcproxy_common::abi::FlowState::*;
    const INIT: u8 = 1;
    for ip in Ip::ALL {
        let node = node(ip, 3);
        let (client, vip) = (ip.client(1, 5000), vip(ip, SCTP));
        let pod = node.forward(&sctp(client, vip, INIT));
        for (chunk, reply, state) in [
            (2, true, SYN_RECV),      // INIT ACK
            (10, false, ESTABLISHED), // COOKIE ECHO
            (11, true, ESTABLISHED),  // COOKIE ACK
            (0, false, ESTABLISHED),  // DATA
            (7, false, ESTABLISHED),  // SHUTDOWN
            (8, true, ESTABLISHED),   // SHUTDOWN ACK
            (14, false, CLOSING),     // SHUTDOWN COMPLETE
        ] {
            let frame = if reply {
                sctp(pod, client, chunk)
            } else {
                sctp(client, vip, chunk)
            };
            node.run(&frame);
            assert_eq!(node.flow(SCTP, client, vip).unwrap().1, state, "chunk {chunk}");
        }
        assert_eq!(node.entries(), [2, 0]);
        node.forward(&sctp(client, vip, INIT));
        assert_eq!(node.flow(SCTP, client, vip).unwrap().1, SYN_SENT, "an INIT begins anew");
    }
}

#[test]
fn xdp_leaves_all_but_plain_tcp_and_udp_to_another_program() {
    let plain = |frame: Frame, ip| {
        let verdict = node(ip, 1).run_once::<Xdp>(&frame.bytes(), 0).verdict;
        verdict.is_ok_and(|verdict| verdict == Verdict::ROUTE)
    };
    for ip in Ip::ALL {
        let syn = || tcp(ip.client(1, 5000), vip(ip, TCP), "S");
        assert!(plain(syn(), ip));
        assert!(plain(syn().tcp_options(3).padding(4), ip));
        for frame in [
            syn().vlans(1),
            syn().vlans(2),
            syn().options(1),
            sctp(ip.client(1, 5000), vip(ip, SCTP), 1),
        ] {
            assert!(!plain(frame, ip));
        }
    }
}

#[test]
fn rule_24_the_hop_is_taken_where_we_forward_and_nowhere_else() {
    for ip in Ip::ALL {
        for protocol in [TCP, UDP] {
            for (left, outcome) in [
                (0, Err(Reason::TtlExpired)),
                (1, Err(Reason::TtlExpired)),
                (2, Ok(1)),
                (255, Ok(254)),
            ] {
                let sending = node(ip, 1);
                sending.set_next_hop(ip.pod(1, 0).ip(), next_hop(7, 1500, Delivery::XDP));
                let frame = packet(protocol, ip.client(1, 5000), vip(ip, protocol), "S").ttl(left);
                let ttl = |bytes: &[u8]| bytes[if ip == Ip::V4 { 22 } else { 21 }];
                let sent = sending.run(&frame);
                assert_eq!(sent.verdict.map(|_| ttl(&sent.bytes)), outcome, "{protocol} {left}");
                let routed = node(ip, 1).run(&frame);
                assert_eq!(routed.verdict.map(|_| ttl(&routed.bytes)), Ok(left));
            }
        }
    }
}
