//! What leaves without the kernel's routing, and what must not.

use std::net::SocketAddr;

use svcproxy_common::{
    Reason, Table, Verdict,
    abi::{Delivery, FlowState, Protocol},
    flow::NextHop,
};

use crate::{
    model::{Frame, Ip, Node, Outcome, TcIn, TcOut, Xdp, packet, tcp},
    node, vip,
};

const HOP: NextHop = NextHop {
    delivery: Delivery::XDP,
    ifindex: 7,
    mtu: 1500,
    dst_mac: [2, 0, 0, 0, 9, 1],
    src_mac: [2, 0, 0, 0, 9, 2],
};

const fn send(ifindex: u32) -> Verdict {
    Verdict {
        delivery: Delivery::XDP,
        ifindex,
    }
}

/// A node with one pod behind `hop`, and the two ends of a connection to it.
fn behind(ip: Ip, hop: NextHop) -> (Node, SocketAddr, SocketAddr) {
    let node = node(ip, 1);
    node.set_next_hop(ip.pod(1, 0).ip(), hop);
    (node, ip.client(1, 5000), vip(ip, Protocol::TCP))
}

const fn ttl(ip: Ip, bytes: &[u8]) -> u8 {
    bytes[match ip {
        Ip::V4 => 22,
        Ip::V6 => 21,
    }]
}

#[test]
fn a_packet_we_send_has_new_hardware_addresses_and_a_hop_less() {
    for ip in Ip::ALL {
        let (node, client, vip) = behind(ip, HOP);
        for left in [255, 64, 2] {
            let outcome = node.run(&tcp(client, vip, "S").ttl(left));
            assert_eq!(outcome.verdict, Ok(send(7)));
            assert_eq!(outcome.bytes[..12], [HOP.dst_mac, HOP.src_mac].concat());
            assert_eq!(ttl(ip, &outcome.bytes), left - 1);
        }
    }
}

#[test]
fn a_packet_on_its_last_hop_is_the_kernel_s_only_where_we_would_send_it() {
    for ip in Ip::ALL {
        for left in [0, 1] {
            let (sending, client, vip) = behind(ip, HOP);
            let frame = tcp(client, vip, "S").ttl(left);
            assert_eq!(sending.run(&frame).verdict, Err(Reason::TtlExpired));
            let routed = node(ip, 1).run(&frame);
            assert_eq!(routed.verdict, Ok(Verdict::ROUTE));
            assert_eq!(ttl(ip, &routed.bytes), left, "routing takes the hop");
        }
    }
}

#[test]
fn every_hook_names_the_way_that_routing_gave() {
    let run: [fn(&Node, &Frame) -> Outcome; 2] = [Node::run_at::<Xdp>, Node::run_at::<TcIn>];
    let hops = [Delivery::XDP, Delivery::PEER, Delivery::NEIGHBOUR].map(|delivery| NextHop { delivery, ..HOP });
    for ip in Ip::ALL {
        for hop in hops.into_iter().chain([NextHop::ROUTING]) {
            let NextHop { delivery, ifindex, .. } = hop;
            for run in run {
                let (node, client, vip) = behind(ip, hop);
                let expected = Ok(Verdict { delivery, ifindex });
                assert_eq!(run(&node, &tcp(client, vip, "S")).verdict, expected);
            }
        }
    }
}

#[test]
fn once_a_second_a_frame_goes_by_the_kernel_s_neighbour() {
    let run: [fn(&Node, &Frame) -> Outcome; 2] = [Node::run_at::<Xdp>, Node::run_at::<TcIn>];
    let link = NextHop {
        delivery: Delivery::LINK,
        ..HOP
    };
    for ip in Ip::ALL {
        for run in run {
            let (node, client, vip) = behind(ip, link);
            node.set_next_hop(client.ip(), link);
            let pod = ip.pod(1, 8080);
            let way = |src, dst, flags| {
                let outcome = run(&node, &tcp(src, dst, flags));
                assert_eq!(outcome.bytes[..12], [HOP.dst_mac, HOP.src_mac].concat());
                outcome.verdict.unwrap().delivery
            };
            for (src, dst, flags) in [(client, vip, "S"), (pod, client, "S."), (client, vip, ".")] {
                assert_eq!(way(src, dst, flags), Delivery::NEIGHBOUR, "{flags}");
            }
            for second in 0..3 {
                for (src, dst) in [(client, vip), (pod, client)] {
                    if second > 0 {
                        assert_eq!(way(src, dst, "."), Delivery::NEIGHBOUR, "after {second} s");
                    }
                    assert_eq!(way(src, dst, "."), Delivery::LINK, "after {second} s");
                }
                node.wait(1);
            }
        }
    }
}

#[test]
fn on_its_way_out_a_packet_is_translated_but_opens_nothing() {
    for ip in Ip::ALL {
        let (node, client, vip) = behind(ip, HOP);
        let syn = tcp(client, vip, "S");
        assert_eq!(node.run_at::<TcOut>(&syn).verdict, Err(Reason::NotAService));
        assert_eq!(node.entries(), [0, 0]);
        node.run_at::<TcIn>(&syn);
        assert_eq!(node.run_at::<TcOut>(&syn).verdict, Ok(Verdict::ROUTE), "routed already");
    }
}

#[test]
fn rule_22_what_does_not_fit_the_next_hop_and_may_not_be_cut_is_answered_with_its_mtu() {
    for ip in Ip::ALL {
        let headers = if ip == Ip::V4 { 40 } else { 60 };
        for (length, options, fits) in [(1500, 0, true), (1501, 0, false), (1500, 3, true), (1501, 3, false)] {
            let (node, client, vip) = behind(ip, HOP);
            let payload = vec![7; length - headers - options * 4];
            let frame = tcp(client, vip, "S").tcp_options(options).payload(payload);
            let outcome = node.run_bytes::<TcIn>(&frame.bytes(), 0);
            let expected = if fits {
                (Ok(send(7)), 0)
            } else {
                (Err(Reason::TooBig), 1500)
            };
            assert_eq!((outcome.verdict, outcome.mtu), expected, "{length} bytes");
            let at_xdp = node.run_once::<Xdp>(&frame.bytes(), 0);
            assert_eq!(
                at_xdp.verdict.err(),
                (!fits).then_some(Reason::NotPlain),
                "XDP cannot answer"
            );
        }
    }
}

#[test]
fn what_does_not_fit_and_may_be_cut_is_routed() {
    let (node, client, vip) = behind(Ip::V4, HOP);
    for (length, sent) in [(1501, false), (1500, true)] {
        let frame = tcp(client, vip, "S").payload(vec![7; length - 40]).may_be_cut();
        let outcome = node.run_at::<TcIn>(&frame);
        assert_eq!(outcome.verdict, Ok(if sent { send(7) } else { Verdict::ROUTE }));
        assert_eq!(outcome.dst(), Ip::V4.pod(1, 8080));
        // Routing takes the hop itself.
        assert_eq!(ttl(Ip::V4, &outcome.bytes), if sent { 63 } else { 64 });
    }
}

#[test]
fn a_packet_to_be_cut_apart_fits_when_its_parts_do() {
    for ip in Ip::ALL {
        let headers = if ip == Ip::V4 { 40 } else { 60 };
        let peer = NextHop {
            delivery: Delivery::PEER,
            ..HOP
        };
        for (part, sent) in [(1500 - headers, true), (1501 - headers, false)] {
            for (protocol, smaller) in [(Protocol::TCP, 0), (Protocol::UDP, 12)] {
                let (node, client, _) = behind(ip, peer);
                let frame = packet(protocol, client, vip(ip, protocol), ".");
                let outcome = node.run_at::<TcIn>(&frame.payload(vec![7; 20_000]).segments(part + smaller));
                assert_eq!(
                    outcome.verdict.is_ok_and(|verdict| verdict != Verdict::ROUTE),
                    sent,
                    "{protocol} {part}"
                );
            }
        }
    }
}

#[test]
fn the_next_hop_is_asked_again_once_a_second_in_each_direction() {
    for ip in Ip::ALL {
        let (node, client, vip) = behind(ip, HOP);
        let reply_hop = NextHop { ifindex: 8, ..HOP };
        node.set_next_hop(client.ip(), reply_hop);
        let pod = ip.pod(1, 8080);
        for flags in ["S", "."] {
            assert_eq!(node.run(&tcp(client, vip, flags)).verdict, Ok(send(7)));
            assert_eq!(node.run(&tcp(pod, client, ".")).verdict, Ok(send(8)));
        }
        node.set_next_hop(pod.ip(), NextHop { ifindex: 9, ..HOP });
        node.set_next_hop(client.ip(), NextHop::ROUTING);
        assert_eq!(node.run(&tcp(client, vip, ".")).verdict, Ok(send(7)));
        node.wait(1);
        assert_eq!(node.run(&tcp(client, vip, ".")).verdict, Ok(send(9)));
        assert_eq!(node.run(&tcp(pod, client, ".")).verdict, Ok(Verdict::ROUTE));
    }
}

#[test]
fn rule_27_a_client_whose_endpoint_is_lost_is_reset_until_its_syn_begins_anew() {
    for ip in Ip::ALL {
        for tagged in [false, true] {
            let (node, client, vip) = behind(ip, HOP);
            let pod = ip.pod(1, 8080);
            for (src, dst, flags) in [(client, vip, "S"), (pod, client, "S."), (client, vip, ".")] {
                node.forward(&tcp(src, dst, flags));
            }
            node.lose(Protocol::TCP, client, vip);
            node.tagged.set(tagged);
            let sent = tcp(client, vip, ".");
            assert_eq!(node.run_once::<Xdp>(&sent.bytes(), 0).verdict, Err(Reason::NotPlain));
            for wait in [0, 0, 1] {
                node.wait(wait);
                let outcome = node.run_bytes::<TcIn>(&sent.bytes(), 0);
                assert_eq!(
                    (outcome.verdict, outcome.bytes),
                    (Err(Reason::EndpointUnreachable), sent.bytes())
                );
                let flow = node.flow(Protocol::TCP, client, vip);
                assert_eq!(flow, Some((Table::Flows, FlowState::CLOSING)));
            }
            assert_eq!(node.run_at::<TcOut>(&sent).verdict, Ok(Verdict::ROUTE), "too late");
            node.tagged.set(false);
            assert_eq!(node.run_at::<TcIn>(&tcp(client, vip, "S")).verdict, Ok(send(7)));
        }
    }
}
