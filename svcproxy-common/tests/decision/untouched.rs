//! What is not ours passes, byte for byte (`Node::run_bytes` sees to that for every packet not translated).

use svcproxy_common::{
    Reason,
    Reason::{Fragment, Malformed, NotAService, NotIp, OtherProtocol, Truncated},
    abi::Protocol::{TCP, UDP},
};

use crate::{
    model::{Frame, Ip, TcIn, TcOut, Xdp, arp, tcp, udp},
    node, passes, vip,
};

/// A frame of either family that, but for one thing, is a request to the Service.
fn request(ip: Ip) -> Frame {
    tcp(ip.client(1, 5000), vip(ip, TCP), "S")
}

#[test]
fn packets_that_are_not_ours() {
    let (v4, v6) = (Ip::V4, Ip::V6);
    let bytes = |frame: Frame| frame.bytes();
    #[rustfmt::skip]
    let table: Vec<(&str, Vec<u8>, Reason)> = vec![
        ("ARP", arp(), NotIp),
        ("IPv4, version 5", bytes(request(v4).edit(0, 0x55)), Malformed),
        ("IPv6, version 4", bytes(request(v6).edit(0, 0x40)), Malformed),
        ("IPv4, header of 16 bytes", bytes(request(v4).edit(0, 0x44)), Malformed),
        ("IPv4, header of 60 bytes in a packet of 48", bytes(request(v4).edit(0, 0x4f)), Malformed),
        ("IPv4, header of 60 bytes that are not there", bytes(request(v4).edit(0, 0x4f).edit(3, 100)), Truncated),
        ("IPv4, shorter than TCP's header", bytes(request(v4).edit(3, 39)), Malformed),
        ("IPv4, shorter than its own header", bytes(request(v4).edit(3, 19)), Malformed),
        ("IPv4, one byte long", bytes(request(v4).edit(3, 1)), Malformed),
        ("IPv6, shorter than TCP's header", bytes(request(v6).edit(5, 19)), Malformed),
        ("second fragment", bytes(request(v4).edit(7, 1)), Fragment),
        ("last fragment", bytes(request(v4).edit(6, 0x1f)), Fragment),
        ("IPv6, last fragment", bytes(request(v6).edit(6, 44).edit(40, 6).edit(42, 1).edit(43, 0)), Fragment),
        ("ping", bytes(request(v4).edit(9, 1).edit(20, 8)), OtherProtocol),
        ("GRE", bytes(request(v4).edit(9, 47)), OtherProtocol),
        ("neighbour solicitation", bytes(request(v6).edit(6, 58).edit(40, 135)), OtherProtocol),
        ("ESP", bytes(request(v6).edit(6, 50)), OtherProtocol),
        ("seven extension headers", bytes(request(v6).extensions(&[(60, 1); 7])), OtherProtocol),
        ("extension headers without end", bytes(request(v6).extensions(&[(60, 1)]).edit(40, 60)), Malformed),
        ("an extension header longer than the packet", bytes(request(v6).options(1).edit(41, 200)), Malformed),
        ("three VLAN tags", bytes(request(v4).vlans(3)), NotIp),
        ("IPv4, another port", bytes(tcp(v4.client(1, 5000), v4.vip(1, 81), "S")), NotAService),
        ("IPv6, another port", bytes(tcp(v6.client(1, 5000), v6.vip(1, 81), "S")), NotAService),
        ("IPv4, the other protocol", bytes(udp(v4.client(1, 5000), v4.vip(1, 80))), NotAService),
        ("IPv6, the other protocol", bytes(tcp(v6.client(1, 5000), v6.vip(1, 53), "S")), NotAService),
        ("IPv4, another address", bytes(udp(v4.client(1, 5000), v4.vip(2, 53))), NotAService),
        ("IPv6, another address", bytes(udp(v6.client(1, 5000), v6.vip(2, 53))), NotAService),
        ("an endpoint's own traffic", bytes(tcp(v4.pod(1, 8080), v4.client(1, 5000), "S.")), NotAService),
    ];
    for (name, frame, reason) in table {
        let ip = if frame[12..14] == [0x86, 0xdd] { v6 } else { v4 };
        let node = node(ip, 3);
        for outcome in [
            node.arrive(&frame),
            node.run_bytes::<TcIn>(&frame, 0),
            node.run_bytes::<TcOut>(&frame, 0),
        ] {
            assert_eq!(outcome.verdict, Err(reason), "{name}");
        }
        assert_eq!(node.entries(), [0, 0], "{name}");
    }
}

#[test]
fn padding_is_not_a_transport_header() {
    // 40 bytes of IPv4 in a frame of 60: what looks like UDP's ports to the Service is padding.
    let mut frame = udp(Ip::V4.client(1, 5000), vip(Ip::V4, UDP))
        .payload([])
        .padding(18)
        .bytes();
    assert_eq!(frame.len(), 60);
    for length in 20..28 {
        frame[17] = length;
        assert_eq!(
            node(Ip::V4, 3).run_bytes::<Xdp>(&frame, 0).verdict,
            Err(Malformed),
            "{length}"
        );
    }
    // And padding behind a whole packet does no harm.
    frame[17] = 28;
    assert!(node(Ip::V4, 3).run_bytes::<Xdp>(&frame, 0).verdict.is_ok());
}

#[test]
fn a_packet_cut_off_within_its_headers_is_left_alone() {
    for ip in Ip::ALL {
        for frame in [
            request(ip),
            udp(ip.client(1, 5000), vip(ip, UDP)),
            request(ip).options(2),
        ] {
            let bytes = frame.payload([]).bytes();
            for length in 0..bytes.len() {
                let outcome = node(ip, 3).arrive(&bytes[..length]);
                assert!(outcome.verdict.is_err_and(passes), "{length}: {:?}", outcome.verdict);
            }
        }
    }
}
