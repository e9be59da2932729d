//! Whatever the addresses, the reply comes back to where the request came from, and checksums are what a judge computes.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;
use svcproxy_common::{
    Verdict,
    abi::{
        Delivery,
        Protocol::{self, SCTP, TCP, UDP},
    },
};

use crate::model::{Cluster, Ip, Node, judge, packet, service, tcp, udp};

/// Client, Service and endpoint of one family.
fn tuples() -> impl Strategy<Value = [SocketAddr; 3]> {
    let socket = |ip: IpAddr, port: u16| SocketAddr::new(ip, port);
    let v4 = any::<[([u8; 4], u16); 3]>().prop_map(move |all| all.map(|(ip, port)| socket(ip.into(), port)));
    let v6 = any::<[([u8; 16], u16); 3]>().prop_map(move |all| all.map(|(ip, port)| socket(ip.into(), port)));
    // Packets from these go no further than their link, or are from no host at all.
    let confined = |ip| match ip {
        IpAddr::V4(ip) => ip.octets()[0] == 0 || ip.is_loopback() || ip.octets()[0] >= 224,
        IpAddr::V6(ip) => ip.is_multicast() || ip.is_unicast_link_local() || ip.is_loopback() || ip.is_unspecified(),
    };
    prop_oneof![v4, v6].prop_filter(
        "three parties, each with an address of its own",
        move |all @ [client, vip, pod]| {
            client != vip && vip != pod && client.ip() != pod.ip() && all.iter().all(|party| !confined(party.ip()))
        },
    )
}

fn protocols() -> impl Strategy<Value = Protocol> {
    prop_oneof![Just(TCP), Just(UDP), Just(SCTP)]
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
        // SCTP is not XDP's.
        let delivery = if protocol == SCTP { Delivery::PEER } else { Delivery::XDP };
        if sent {
            for party in [client, pod] {
                node.set_next_hop(party.ip(), crate::model::next_hop(7, 1500, delivery));
            }
        }
        let verdict = if sent { Verdict { delivery, ifindex: 7 } } else { Verdict::ROUTE };
        for _ in 0..2 {
            let request = node.run(&packet(protocol, client, vip, "P.").payload(payload.clone()).ttl(ttl));
            prop_assert_eq!(request.verdict, Ok(verdict));
            prop_assert_eq!((request.src(), request.dst()), (client, pod));
            let reply = node.run(&packet(protocol, pod, client, "P.").payload(payload.clone()).ttl(ttl));
            prop_assert_eq!(reply.verdict, Ok(verdict));
            prop_assert_eq!((reply.src(), reply.dst()), (vip, client));
        }
    }

    #[test]
    fn udp_without_a_checksum_stays_without([client, vip, pod] in tuples()) {
        let node = node(UDP, vip, pod);
        let request = node.run(&udp(client, vip).without_checksum());
        prop_assert_eq!(request.dst(), pod);
        let udp = judge::layers(&request.bytes).unwrap().transport;
        prop_assert_eq!(&request.bytes[udp + 6..udp + 8], &[0, 0]);
    }

    #[test]
    fn a_udp_checksum_that_comes_out_as_zero_is_sent_as_ffff([client, vip, pod] in tuples()) {
        // Two bytes of payload that make the checksum of the translated packet 0.
        let node = node(UDP, vip, pod);
        let bare = udp(client, pod).payload([0, 0]);
        let checksum = judge::checksums(&bare.bytes()).last().unwrap().computed;
        let request = node.run(&udp(client, vip).payload((checksum as u16).to_be_bytes()));
        prop_assert_eq!(request.dst(), pod);
        prop_assert_eq!(judge::checksums(&request.bytes).last().unwrap().found, 0xffff);
    }
}

/// The judge of all these tests is judged by one that others wrote.
#[test]
fn the_judge_agrees_with_etherparse() {
    for ip in Ip::ALL {
        let (client, vip) = (ip.client(1, 5000), ip.vip(1, 80));
        for length in [0, 1, 2, 7, 100, 1001] {
            let payload: Vec<u8> = (0..length).map(|index| (index * 37) as u8).collect();
            for frame in [
                tcp(client, vip, "S").options(2),
                tcp(client, vip, ".").vlans(2),
                udp(client, vip),
            ] {
                let bytes = frame.payload(payload.clone()).bytes();
                let packet = SlicedPacket::from_ethernet(&bytes).unwrap();
                let theirs = match (packet.net.unwrap(), packet.transport.unwrap()) {
                    (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
                        assert_eq!(
                            ip.header().header_checksum(),
                            ip.header().to_header().calc_header_checksum()
                        );
                        tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination())
                    }
                    (NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
                        tcp.calc_checksum_ipv6(ip.header().source(), ip.header().destination())
                    }
                    (NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
                        let (src, dst) = (ip.header().source(), ip.header().destination());
                        udp.to_header().calc_checksum_ipv4_raw(src, dst, udp.payload())
                    }
                    (NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => {
                        let (src, dst) = (ip.header().source(), ip.header().destination());
                        udp.to_header().calc_checksum_ipv6_raw(src, dst, udp.payload())
                    }
                    other => panic!("{other:?}"),
                };
                let theirs = u32::from(theirs.unwrap());
                let ours = *judge::checksums(&bytes).last().unwrap();
                assert_eq!((ours.found, ours.computed), (theirs, theirs));
            }
        }
    }
}
