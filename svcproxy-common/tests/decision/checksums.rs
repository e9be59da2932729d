//! Whatever the addresses, the reply comes back to where the request came from, and checksums are what a judge computes.

use std::net::{IpAddr, SocketAddr};

use proptest::prelude::*;
use svcproxy_common::{
    Verdict,
    abi::{
        Delivery,
        Protocol::{self, TCP, UDP},
    },
};

use crate::model::{Cluster, Frame, Node, judge, service, tcp, udp};

/// Client, Service and endpoint of one family.
fn tuples() -> impl Strategy<Value = [SocketAddr; 3]> {
    let socket = |ip: IpAddr, port: u16| SocketAddr::new(ip, port);
    let v4 = any::<[([u8; 4], u16); 3]>().prop_map(move |all| all.map(|(ip, port)| socket(ip.into(), port)));
    let v6 = any::<[([u8; 16], u16); 3]>().prop_map(move |all| all.map(|(ip, port)| socket(ip.into(), port)));
    prop_oneof![v4, v6].prop_filter(
        "three parties, each with an address of its own",
        |all @ [client, vip, pod]| {
            client != vip && vip != pod && client != pod && all.iter().all(|party| !party.ip().is_multicast())
        },
    )
}

fn protocols() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(TCP), Just(UDP)]
}

fn frame(protocol: Protocol, src: SocketAddr, dst: SocketAddr) -> Frame {
    match protocol {
        TCP => tcp(src, dst, "P."),
        UDP => udp(src, dst),
    }
}

fn node(protocol: Protocol, vip: SocketAddr, pod: SocketAddr) -> Node {
    let node = Node::new();
    Cluster::default().put(&node.tables, service(1, protocol, vip, &[pod]));
    node
}

proptest! {
    // `Node::run` has the judge compute every checksum of what was translated.
    #[test]
    fn a_reply_returns_to_where_its_request_came_from(
        [client, vip, pod] in tuples(),
        protocol in protocols(),
        payload in prop::collection::vec(any::<u8>(), 0..100),
        sent: bool,
        ttl in 2..=255_u8,
    ) {
        let node = node(protocol, vip, pod);
        if sent {
            for party in [client, pod] {
                node.set_next_hop(party.ip(), crate::model::next_hop(7, 1500, Delivery::XDP));
            }
        }
        let verdict = if sent { Verdict::Send { ifindex: 7 } } else { Verdict::Route };
        for _ in 0..2 {
            let request = node.run(&frame(protocol, client, vip).payload(payload.clone()).ttl(ttl));
            prop_assert_eq!(request.verdict, Ok(verdict));
            prop_assert_eq!((request.src(), request.dst()), (client, pod));
            let reply = node.run(&frame(protocol, pod, client).payload(payload.clone()).ttl(ttl));
            prop_assert_eq!(reply.verdict, Ok(verdict));
            prop_assert_eq!((reply.src(), reply.dst()), (vip, client));
        }
    }

    #[test]
    fn udp_without_a_checksum_stays_without([client, vip, pod] in tuples()) {
        let node = node(UDP, vip, pod);
        let request = node.run(&udp(client, vip).without_checksum());
        prop_assert_eq!(request.dst(), pod);
        prop_assert_eq!(judge::checksums(&request.bytes).last().unwrap().found, 0);
    }

    #[test]
    fn a_udp_checksum_that_comes_out_as_zero_is_sent_as_ffff([client, vip, pod] in tuples()) {
        // Two bytes of payload that make the checksum of the translated packet 0.
        let node = node(UDP, vip, pod);
        let bare = udp(client, pod).payload([0, 0]);
        let checksum = judge::checksums(&bare.bytes()).last().unwrap().computed;
        let request = node.run(&udp(client, vip).payload(checksum.to_be_bytes()));
        prop_assert_eq!(request.dst(), pod);
        prop_assert_eq!(judge::checksums(&request.bytes).last().unwrap().found, 0xffff);
    }
}
