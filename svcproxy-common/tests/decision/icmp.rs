//! ICMP errors about translated packets reach the sender, in its own words (rule 22).

use std::net::{IpAddr, SocketAddr};

use svcproxy_common::{
    Reason, Verdict,
    abi::Protocol::{self, SCTP, TCP, UDP},
};

use crate::{
    model::{Cluster, Ip, Node, Outcome, TcIn, TcOut, judge, packet, pieces, service, sockets, tcp, udp},
    node,
};

/// A connection, and the packets of both its directions before and after translation.
struct Connection {
    node: Node,
    request: [Vec<u8>; 2],
    reply: [Vec<u8>; 2],
}

/// What a router may say: packet too big, unreachable, time exceeded, parameter problem.
fn kinds(ip: Ip) -> Vec<(u8, u8)> {
    match ip {
        Ip::V4 => vec![(3, 4), (3, 1), (3, 3), (11, 0), (12, 0)],
        Ip::V6 => vec![(2, 0), (1, 0), (1, 4), (3, 0), (4, 0)],
    }
}

/// A connection to port 80 of a Service; `target` is the endpoint's port.
fn connect(ip: Ip, protocol: Protocol, target: u16, masquerade: bool, packets: usize) -> Connection {
    let node = Node::new();
    let (client, vip) = (ip.client(1, 5000), ip.vip(1, 80));
    let pods = [ip.pod(1, target)];
    let port = service(1, protocol, vip, &pods).masquerade([masquerade; 3]);
    Cluster::default().put(&node.tables, port);
    node.set_config(ip.node(), 61_000, 4_536);
    if masquerade {
        // Takes the client's port, so that ours gets another.
        node.forward(&packet(protocol, ip.client(2, 5000), vip, "S"));
    }
    let data = |src, dst, flags| packet(protocol, src, dst, flags).payload(vec![0xda; 600]);
    let mut request = data(client, vip, "S");
    let mut reply = data(pods[0], client, "S.");
    let mut run = |flags: [&'static str; 2]| {
        request = data(client, vip, flags[0]);
        let there = node.run(&request);
        reply = data(there.dst(), there.src(), flags[1]);
        let back = node.run(&reply);
        [there, back]
    };
    let mut outcomes = run(["S", "S."]);
    for _ in 1..packets {
        outcomes = run([".", "."]);
    }
    let [there, back] = outcomes.map(|Outcome { bytes, .. }| bytes);
    Connection {
        request: [request.bytes(), there],
        reply: [reply.bytes(), back],
        node,
    }
}

/// What its sender sent, as an ICMP error quotes it: so many bytes, but of a checksum that the error's sender saw
/// changed nothing is asked.
fn assert_quotes(error: &[u8], sent: &[u8], bytes: usize) {
    let (found, original) = (pieces::quoted(error), judge::layers(sent).unwrap());
    assert_eq!(sockets(&found), sockets(sent));
    let ip = judge::layers(&found).unwrap();
    assert_eq!((ip.protocol, ip.length), (original.protocol, original.length));
    assert_eq!(ip.transport - ip.ip, original.transport - original.ip);
    assert!(found.len() <= ip.transport + bytes);
    // Behind the eight bytes that suffice, and the checksum of TCP, all is as it was.
    let rest = |bytes: &[u8], transport: usize| bytes.get(transport + 20..found.len()).unwrap_or_default().to_vec();
    assert!(rest(sent, original.transport).starts_with(&rest(&found, ip.transport)));
}

#[test]
fn rule_22_an_error_about_a_request_reaches_the_client_who_sees_its_own_packet() {
    for ip in Ip::ALL {
        for protocol in [TCP, UDP, SCTP] {
            for (target, masquerade, packets) in [(80, false, 1), (8080, false, 2), (8080, true, 1), (80, true, 3)] {
                for kind in kinds(ip) {
                    for bytes in [8, 9, 28, 548] {
                        let Connection {
                            node,
                            request: [sent, seen],
                            ..
                        } = connect(ip, protocol, target, masquerade, packets);
                        let (client, vip) = sockets(&sent);
                        let (_, pod) = sockets(&seen);
                        // From a router, and from the endpoint, which the client knows as the Service.
                        for (from, expected) in [(ip.router(), ip.router()), (pod.ip(), vip.ip())] {
                            let error = pieces::error(from, kind, 1280, &seen, bytes);
                            judge::assert_valid(&error);
                            let outcome = node.arrive(&error);
                            assert_eq!(
                                outcome.verdict,
                                Ok(Verdict::ROUTE),
                                "{ip:?} {protocol} {kind:?} {bytes}"
                            );
                            judge::assert_valid(&outcome.bytes);
                            assert_ends(&outcome.bytes, expected, client.ip());
                            assert_quotes(&outcome.bytes, &sent, bytes);
                        }
                    }
                }
            }
        }
    }
}

#[test]
fn rule_22_an_error_about_a_reply_reaches_the_endpoint() {
    for ip in Ip::ALL {
        for protocol in [TCP, UDP, SCTP] {
            for (target, masquerade, packets) in [(80, false, 1), (8080, false, 2), (8080, true, 1), (80, true, 3)] {
                for kind in kinds(ip) {
                    for bytes in [8, 28, 548] {
                        let Connection {
                            node,
                            reply: [sent, seen],
                            ..
                        } = connect(ip, protocol, target, masquerade, packets);
                        let (pod, peer) = sockets(&sent);
                        let (_, client) = sockets(&seen);
                        // From a router, and from the client, whom a masqueraded endpoint knows as this node.
                        for (from, expected) in [(ip.router(), ip.router()), (client.ip(), peer.ip())] {
                            let outcome = node.arrive(&pieces::error(from, kind, 1280, &seen, bytes));
                            assert_eq!(
                                outcome.verdict,
                                Ok(Verdict::ROUTE),
                                "{ip:?} {protocol} {kind:?} {bytes}"
                            );
                            judge::assert_valid(&outcome.bytes);
                            assert_ends(&outcome.bytes, expected, pod.ip());
                            assert_quotes(&outcome.bytes, &sent, bytes);
                        }
                    }
                }
            }
        }
    }
}

fn assert_ends(frame: &[u8], src: IpAddr, dst: IpAddr) {
    let layers = judge::layers(frame).unwrap();
    assert_eq!((layers.src, layers.dst), (src, dst));
}

#[test]
fn rule_22_the_mtu_is_kept_and_tags_do_no_harm() {
    for ip in Ip::ALL {
        for tags in 0..=2 {
            let Connection {
                node,
                request: [sent, seen],
                ..
            } = connect(ip, TCP, 8080, false, 2);
            let mut error = pieces::error(ip.router(), kinds(ip)[0], 1280, &seen, 8);
            for _ in 0..tags {
                error.splice(12..12, [0x81, 0, 0, 7]);
            }
            let outcome = node.arrive(&error);
            assert_eq!(outcome.verdict, Ok(Verdict::ROUTE));
            let at = judge::layers(&outcome.bytes).unwrap().transport;
            assert_eq!(outcome.bytes[at + 6..at + 8], 1280_u16.to_be_bytes());
            assert_quotes(&outcome.bytes, &sent, 8);
        }
    }
}

#[test]
fn rule_22_an_error_on_its_way_out_is_translated_too() {
    for ip in Ip::ALL {
        let Connection {
            node,
            request: [sent, seen],
            ..
        } = connect(ip, UDP, 5353, false, 2);
        let error = pieces::error(ip.router(), kinds(ip)[0], 1280, &seen, 8);
        let outcome = node.run_bytes::<TcOut>(&error, 0);
        assert_eq!(outcome.verdict, Ok(Verdict::ROUTE));
        judge::assert_valid(&outcome.bytes);
        assert_quotes(&outcome.bytes, &sent, 8);
    }
}

#[test]
fn rule_22_a_quoted_packet_with_options_is_found() {
    let node = node(Ip::V4, 1);
    let sent = tcp(Ip::V4.client(1, 5000), Ip::V4.vip(1, 80), "S").options(4);
    let seen = node.run(&sent).bytes;
    let outcome = node.arrive(&pieces::error(Ip::V4.router(), (3, 4), 1280, &seen, 8));
    assert_eq!(outcome.verdict, Ok(Verdict::ROUTE));
    judge::assert_valid(&outcome.bytes);
    assert_quotes(&outcome.bytes, &sent.bytes(), 8);
}

#[test]
fn an_error_touches_no_state_of_the_connection() {
    for ip in Ip::ALL {
        let Connection {
            node,
            request: [sent, seen],
            ..
        } = connect(ip, TCP, 8080, false, 1);
        let (client, vip) = sockets(&sent);
        let before = node.flow(TCP, client, vip);
        node.arrive(&pieces::error(ip.router(), kinds(ip)[0], 1280, &seen, 8));
        assert_eq!(node.flow(TCP, client, vip), before);
    }
}

#[test]
fn errors_that_are_about_nothing_of_ours_pass() {
    for ip in Ip::ALL {
        let Connection {
            node,
            request: [_, seen],
            ..
        } = connect(ip, UDP, 5353, false, 1);
        let foreign = udp(ip.client(3, 5000), ip.pod(4, 53)).bytes();
        let error = |about: &[u8], bytes| pieces::error(ip.router(), kinds(ip)[0], 1280, about, bytes);
        let echo = if ip == Ip::V4 { (8, 0) } else { (128, 0) };
        let mut later = seen.clone();
        if ip == Ip::V4 {
            later[20..22].copy_from_slice(&[0, 5]); // its ports are payload
        }
        #[rustfmt::skip]
        let table = [
            ("about another connection", error(&foreign, 8), Some(Reason::NotAService)),
            ("quoting three bytes", error(&seen, 3), Some(Reason::Malformed)),
            ("quoting no transport header", error(&seen, 0), Some(Reason::Malformed)),
            ("an echo request with the same payload", pieces::error(ip.router(), echo, 0, &seen, 8), Some(Reason::OtherProtocol)),
            ("about a later fragment", error(&later, 8), (ip == Ip::V4).then_some(Reason::Malformed)),
        ];
        for (name, bytes, reason) in table {
            let verdict = node.run_bytes::<TcIn>(&bytes, 0).verdict;
            assert_eq!(verdict.err(), reason, "{ip:?} {name}");
        }
    }
}

#[test]
fn an_error_cut_off_anywhere_is_left_alone_or_translated_whole() {
    for ip in Ip::ALL {
        let Connection {
            node,
            request: [_, seen],
            ..
        } = connect(ip, TCP, 8080, false, 1);
        let error = pieces::error(ip.router(), kinds(ip)[0], 1280, &seen, 8);
        for length in 0..error.len() {
            let outcome = node.run_bytes::<TcIn>(&error[..length], 0);
            // The ports are the first four of the eight bytes quoted.
            match outcome.verdict {
                Ok(verdict) => assert!(verdict == Verdict::ROUTE && length >= error.len() - 4),
                Err(reason) => assert!(
                    crate::passes(reason) && length < error.len() - 4,
                    "{length}: {reason:?}"
                ),
            }
        }
    }
}

/// Addresses of a client, a Service and an endpoint are all that differs before and after.
#[test]
fn rule_22_errors_in_a_row_are_all_alike() {
    for ip in Ip::ALL {
        let Connection {
            node,
            request: [_, seen],
            ..
        } = connect(ip, UDP, 5353, true, 2);
        let error = pieces::error(ip.router(), kinds(ip)[0], 1280, &seen, 548);
        let outcomes: Vec<_> = (0..3).map(|_| node.arrive(&error)).collect();
        assert!(outcomes.iter().all(|outcome| *outcome == outcomes[0]));
        let _: SocketAddr = sockets(&pieces::quoted(&outcomes[0].bytes)).0;
    }
}

#[test]
fn what_is_quoted_lies_within_the_error_and_not_in_padding() {
    for ip in Ip::ALL {
        let connection = connect(ip, UDP, 5353, false, 1);
        let error = pieces::error(ip.router(), kinds(ip)[0], 1280, &connection.request[1], 8);
        let (at, headers) = if ip == Ip::V4 { (17, 20 + 8 + 20) } else { (19, 8 + 40) };
        for (bytes, verdict) in [(3, Err(Reason::Malformed)), (4, Ok(Verdict::ROUTE))] {
            let mut error = error.clone();
            error[at] = headers + bytes;
            assert_eq!(connection.node.arrive(&error).verdict, verdict, "{ip:?} {bytes}");
        }
    }
}
