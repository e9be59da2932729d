//! With the kernel's own answers about routes and neighbours: what is sent, where to, what is answered, and what is left
//! to routing.

use std::net::SocketAddr;

use svcproxy::datapath::{links::Hook, trial::Action};
use svcproxy_common::abi::{
    Delivery::{self, NEIGHBOUR, PEER, ROUTING, XDP},
    Protocol::TCP,
};

use crate::{
    answer::Answer,
    cluster::service,
    model::{Frame, Ip, MAC_CLIENT, MAC_NODE, judge, sockets, tcp},
    network::{MTU_VETH1, NEIGHBOUR as NEIGHBOUR_MAC, NEIGHBOURS},
    world::{Left, World, left_to_tc, world},
};

/// Where the one pod of a Service is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pod {
    /// Behind the interface that the client is behind.
    Veth0,
    /// Behind the other.
    Veth1,
    /// There, but its hardware address is not known.
    Unresolved,
    /// Nowhere: no route.
    Unrouted,
}

impl Pod {
    fn address(self, ip: Ip) -> SocketAddr {
        match self {
            Self::Veth0 => ip.other_pod(1, 8080),
            Self::Veth1 => ip.pod(1, 8080),
            Self::Unresolved => ip.pod(NEIGHBOURS + 1, 8080),
            Self::Unrouted => ip.vip(99, 8080),
        }
    }
}

/// How a packet leaves a program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    /// To the kernel's routing.
    Routing,
    /// Out of the interface it came in by.
    Back,
    /// Sent, by the interface its pod is behind.
    Sent,
    /// Left to tc, for it to send by that interface.
    Tc(Delivery),
}

impl Way {
    /// What the program says, where the pod is behind `ifindex`.
    fn expected(self, ifindex: u32) -> (Action, Vec<u8>) {
        match self {
            Self::Routing => (Action::Pass, Vec::new()),
            Self::Back => (Action::Transmit, Vec::new()),
            Self::Sent => (Action::Redirect, Vec::new()),
            Self::Tc(delivery) => (Action::Pass, left_to_tc(ifindex, delivery)),
        }
    }
}

/// A Service with one pod in an emptied world, and the first packet of a client.
fn request(world: &mut World, ip: Ip, pod: Pod) -> Frame {
    let (client, vip) = (ip.client(1, 5000), ip.vip(1, 80));
    world.forget();
    world.serve(&[service("web", None, &[(TCP, vip, &[pod.address(ip)])])]);
    tcp(client, vip, "S")
}

/// Checks that a request has been translated, and that it lost as many hops.
fn assert_translated(ip: Ip, pod: Pod, request: &Frame, left: &Left, hops: u8) {
    let ttl = |frame: &[u8]| frame[if ip == Ip::V4 { 22 } else { 21 }];
    assert_eq!(sockets(&left.frame), (ip.client(1, 5000), pod.address(ip)));
    judge::assert_valid(&left.frame);
    assert_eq!(ttl(&left.frame), ttl(&request.bytes()) - hops, "{ip:?} {pod:?}");
}

#[test]
fn packets_are_sent_where_the_kernel_says_and_interfaces_allow() {
    let mut world = world();
    #[rustfmt::skip]
    let table: [(Hook, Pod, [Option<Delivery>; 2], Way); 13] = [
        // hook, where the pod is, what veth0 and veth1 take
        (Hook::Xdp, Pod::Veth0, [Some(XDP), Some(XDP)], Way::Back),
        (Hook::Xdp, Pod::Veth1, [Some(XDP), Some(XDP)], Way::Sent),
        (Hook::Xdp, Pod::Veth1, [None, Some(XDP)], Way::Sent),
        (Hook::Xdp, Pod::Veth1, [Some(XDP), None], Way::Tc(NEIGHBOUR)),
        (Hook::Xdp, Pod::Veth1, [Some(XDP), Some(PEER)], Way::Tc(PEER)),
        (Hook::Xdp, Pod::Veth0, [None, Some(XDP)], Way::Tc(NEIGHBOUR)),
        (Hook::Xdp, Pod::Unresolved, [Some(XDP), Some(XDP)], Way::Tc(NEIGHBOUR)),
        (Hook::Xdp, Pod::Unrouted, [Some(XDP), Some(XDP)], Way::Routing),
        (Hook::TcIn, Pod::Veth1, [None, Some(PEER)], Way::Sent),
        (Hook::TcIn, Pod::Veth1, [Some(XDP), Some(XDP)], Way::Sent),
        (Hook::TcIn, Pod::Veth1, [None, None], Way::Sent),
        (Hook::TcIn, Pod::Unresolved, [None, Some(PEER)], Way::Sent),
        (Hook::TcIn, Pod::Unrouted, [None, Some(PEER)], Way::Routing),
    ];
    for ip in Ip::ALL {
        for (hook, pod, [veth0, veth1], way) in table {
            world.deliver(veth0, veth1);
            let frame = request(&mut world, ip, pod);
            let left = world.run(hook, &frame);
            let (ifindex, mac) = match pod {
                Pod::Veth0 => (world.veth0, 2),
                _ => (world.veth1, 3),
            };
            let (action, mark) = way.expected(ifindex);
            let name = format!("{ip:?} {hook} {pod:?} {veth0:?} {veth1:?}");
            assert_eq!((left.action, &left.mark), (action, &mark), "{name}");
            assert_translated(ip, pod, &frame, &left, u8::from(way != Way::Routing));
            let addresses = match (way, pod) {
                (Way::Routing, _) => [MAC_NODE, MAC_CLIENT],
                // The kernel finds them.
                (_, Pod::Unresolved) => [[0; 6]; 2],
                _ => [NEIGHBOUR_MAC, [2, 0, 0, 0, 0, mac]],
            };
            assert_eq!(left.frame[..12], addresses.concat(), "{name}");
        }
    }
}

/// Hooks, and a delivery by which each sends packets itself.
const SENDERS: [(Hook, Delivery); 2] = [(Hook::Xdp, XDP), (Hook::TcIn, PEER)];

/// Payload of a request that makes an IP packet of so many bytes.
fn payload(ip: Ip, length: u16) -> Vec<u8> {
    vec![1; usize::from(length) - if ip == Ip::V4 { 40 } else { 60 }]
}

#[test]
fn rule_24_the_last_hop_is_the_kernel_s() {
    let mut world = world();
    for ip in Ip::ALL {
        for (hook, delivery) in SENDERS {
            world.deliver(None, Some(delivery));
            for (ttl, sent) in [(2, true), (1, false), (0, false)] {
                let frame = request(&mut world, ip, Pod::Veth1).ttl(ttl);
                let left = world.run(hook, &frame);
                if sent {
                    assert_eq!(left.action, Action::Redirect, "{ip:?} {hook} TTL {ttl}");
                    assert_translated(ip, Pod::Veth1, &frame, &left, 1);
                } else {
                    let untouched = (Action::Pass, frame.bytes());
                    assert_eq!((left.action, left.frame), untouched, "{ip:?} {hook} TTL {ttl}");
                }
            }
        }
    }
}

#[test]
fn rule_22_what_does_not_fit_its_way_is_answered_with_the_mtu_there() {
    let mut world = world();
    for ip in Ip::ALL {
        for (hook, delivery) in SENDERS {
            world.deliver(None, Some(delivery));
            for (length, fits) in [(MTU_VETH1, true), (MTU_VETH1 + 1, false)] {
                let frame = request(&mut world, ip, Pod::Veth1).payload(payload(ip, length));
                let left = world.run(hook, &frame);
                match (fits, hook) {
                    (true, _) => {
                        assert_eq!(left.action, Action::Redirect, "{ip:?} {hook}");
                        assert_translated(ip, Pod::Veth1, &frame, &left, 1);
                    }
                    // Only tc can answer.
                    (false, Hook::Xdp) => {
                        let untouched = (Action::Pass, left_to_tc(0, ROUTING), frame.bytes());
                        assert_eq!((left.action, left.mark, left.frame), untouched, "{ip:?}");
                    }
                    (false, _) => assert_too_big(&frame, left),
                }
            }
        }
    }
}

/// Checks that the sender of a frame is told veth1's MTU.
fn assert_too_big(frame: &Frame, left: Left) {
    let answer = Answer::TooBig(MTU_VETH1).to(&frame.bytes()).unwrap();
    assert_eq!((left.action, left.frame), (Action::Redirect, answer));
}

#[test]
fn what_does_not_fit_its_way_and_may_be_cut_is_routed() {
    let mut world = world();
    for (hook, delivery) in SENDERS {
        world.deliver(None, Some(delivery));
        let length = MTU_VETH1 + 1;
        let frame = request(&mut world, Ip::V4, Pod::Veth1)
            .payload(payload(Ip::V4, length))
            .may_be_cut();
        let left = world.run(hook, &frame);
        assert_eq!((left.action, &left.mark), (Action::Pass, &Vec::new()), "{hook}");
        assert_translated(Ip::V4, Pod::Veth1, &frame, &left, 0);
    }
}

#[test]
fn a_packet_to_be_cut_apart_is_sent_when_its_parts_fit() {
    let mut world = world();
    world.deliver(None, Some(PEER));
    for ip in Ip::ALL {
        let most = u32::from(MTU_VETH1) - if ip == Ip::V4 { 40 } else { 60 };
        for (part, fits) in [(most, true), (most + 1, false)] {
            let frame = request(&mut world, ip, Pod::Veth1)
                .payload(vec![1; 3000])
                .segments(part);
            let left = world.run(Hook::TcIn, &frame);
            if fits {
                assert_eq!(left.action, Action::Redirect, "{ip:?}");
                assert_translated(ip, Pod::Veth1, &frame, &left, 1);
            } else {
                assert_too_big(&frame, left);
            }
        }
    }
}
