//! Requests to a Service reach an endpoint, and replies come from the Service.

use svcproxy_common::{Verdict, abi::Protocol};

use crate::{
    model::{Frame, Ip, Node, TcIn, TcOut, Xdp, packet, tcp, udp},
    node, passes, vip,
};

#[test]
fn a_request_goes_to_an_endpoint_and_its_reply_comes_from_the_service() {
    for ip in Ip::ALL {
        for protocol in [Protocol::TCP, Protocol::UDP, Protocol::SCTP] {
            let packet = |src, dst| packet(protocol, src, dst, "S");
            for port in [1, 4_000, 65_535] {
                let node = node(ip, 3);
                let (client, vip) = (ip.client(1, port), vip(ip, protocol));
                let request = node.run(&packet(client, vip));
                assert_eq!(request.verdict, Ok(Verdict::ROUTE));
                assert_eq!(request.src(), client);
                let pod = request.dst();
                assert!((1..=3).any(|number| pod.ip() == ip.pod(number, 0).ip()), "{pod}");

                let reply = node.run(&packet(pod, client));
                assert_eq!(reply.verdict, Ok(Verdict::ROUTE));
                assert_eq!((reply.src(), reply.dst()), (vip, client));
            }
        }
    }
}

#[test]
fn only_headers_that_must_change_do() {
    let changed = |one: &[u8], other: &[u8]| -> Vec<usize> {
        assert_eq!(one.len(), other.len());
        (0..one.len()).filter(|&index| one[index] != other[index]).collect()
    };
    // ip, frame → where its destination address and port and its checksums are
    let v4 = |frame: fn(_, _) -> Frame, check: usize| (Ip::V4, frame, vec![24..26, 30..34, 36..38, check..check + 2]);
    let v6 = |frame: fn(_, _) -> Frame, check: usize| (Ip::V6, frame, vec![38..54, 56..58, check..check + 2]);
    let tcp: fn(_, _) -> Frame = |client, vip| tcp(client, vip, "S");
    for (ip, frame, allowed) in [v4(tcp, 50), v6(tcp, 70), v4(udp, 40), v6(udp, 60)] {
        let protocol = if allowed.last().unwrap().start % 20 == 10 {
            Protocol::TCP
        } else {
            Protocol::UDP
        };
        let frame = frame(ip.client(1, 5000), vip(ip, protocol)).payload(vec![0xa5; 1000]);
        let outcome = node(ip, 3).run(&frame);
        assert_eq!(outcome.verdict, Ok(Verdict::ROUTE));
        for index in changed(&frame.bytes(), &outcome.bytes) {
            assert!(
                allowed.iter().any(|range| range.contains(&index)),
                "{ip:?} {protocol}: byte {index}"
            );
        }
    }
}

#[test]
fn the_second_packet_of_a_connection_asks_no_service() {
    for ip in Ip::ALL {
        let node = node(ip, 3);
        let (client, vip) = (ip.client(1, 5000), vip(ip, Protocol::TCP));
        let pod = node.forward(&tcp(client, vip, "S"));
        assert_eq!(node.tables.service_lookups.get(), 1);
        for frame in [
            tcp(pod, client, "S."),
            tcp(client, vip, "."),
            tcp(pod, client, "."),
            tcp(client, vip, "F."),
        ] {
            node.forward(&frame);
            assert_eq!(node.tables.service_lookups.get(), 1, "{frame:?}");
        }
    }
}

#[test]
fn every_hook_continues_what_another_began() {
    let run: [fn(&Node, &Frame) -> _; 3] = [Node::run_at::<Xdp>, Node::run_at::<TcIn>, Node::run_at::<TcOut>];
    for ip in Ip::ALL {
        for (request, reply) in (0..9).map(|pair| (run[pair / 3], run[pair % 3])) {
            let node = node(ip, 3);
            let (client, vip) = (ip.client(1, 5000), vip(ip, Protocol::TCP));
            let pod = request(&node, &tcp(client, vip, "S")).dst();
            assert_eq!(reply(&node, &tcp(pod, client, "S.")).src(), vip);
            assert_eq!(request(&node, &tcp(client, vip, ".")).dst(), pod);
        }
    }
}

#[test]
fn a_packet_is_translated_once() {
    for ip in Ip::ALL {
        let node = node(ip, 3);
        let (client, vip) = (ip.client(1, 5000), vip(ip, Protocol::TCP));
        let request = node.run(&tcp(client, vip, "S"));
        let again = node.run_bytes::<TcOut>(&request.bytes, 0);
        assert!(again.verdict.is_err_and(passes), "{:?}", again.verdict);
        let reply = node.run(&tcp(request.dst(), client, "S."));
        let again = node.run_bytes::<TcOut>(&reply.bytes, 0);
        assert!(again.verdict.is_err_and(passes), "{:?}", again.verdict);
    }
}

#[test]
fn options_do_not_hide_the_ports() {
    let node = node(Ip::V4, 3);
    let vip = vip(Ip::V4, Protocol::TCP);
    for words in 0..=10 {
        for tcp_options in [0, 3, 10] {
            let frame = tcp(Ip::V4.client(1, 5000 + words as u16), vip, "S")
                .options(words)
                .tcp_options(tcp_options);
            assert_ne!(node.forward(&frame), vip, "{words} {tcp_options}");
        }
    }
}
