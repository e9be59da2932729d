//! With the kernel's own answers about routes and neighbours: what is sent, where to, and what is left to routing.

use std::net::SocketAddr;

use svcproxy::datapath::{
    links::Hook,
    trial::{Action, Outcome},
};
use svcproxy_common::abi::{
    Delivery::{self, PEER, XDP},
    Protocol::TCP,
};

use crate::{
    cluster::service,
    model::{Frame, Ip, judge, sockets, tcp},
    world::{MTU_VETH1, NEIGHBOUR, NEIGHBOURS, World, world},
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

/// Serves the Service and runs its first packet.
fn request(world: &mut World, ip: Ip, pod: Pod, hook: Hook, edit: impl Fn(Frame) -> Frame) -> Outcome {
    let (client, vip) = (ip.client(1, 5000), ip.vip(1, 80));
    world.forget();
    world.serve(&[service("web", None, &[(TCP, vip, &[pod.address(ip)])])]);
    let outcome = world.run(hook, &edit(tcp(client, vip, "S")));
    if ttl(ip, &outcome.frame) > 1 || outcome.action != Action::Pass {
        assert_eq!(sockets(&outcome.frame), (client, pod.address(ip)));
        judge::assert_valid(&outcome.frame);
    }
    outcome
}

fn ttl(ip: Ip, frame: &[u8]) -> u8 {
    frame[if ip == Ip::V4 { 22 } else { 21 }]
}

#[test]
fn packets_are_sent_where_the_kernel_says_and_interfaces_allow() {
    let mut world = world();
    #[rustfmt::skip]
    let table: [(Hook, Pod, [Option<Delivery>; 2], Action); 12] = [
        // hook, where the pod is, what veth0 and veth1 take
        (Hook::Xdp, Pod::Veth0, [Some(XDP), Some(XDP)], Action::Transmit),
        (Hook::Xdp, Pod::Veth1, [Some(XDP), Some(XDP)], Action::Redirect),
        (Hook::Xdp, Pod::Veth1, [None, Some(XDP)], Action::Redirect),
        (Hook::Xdp, Pod::Veth1, [Some(XDP), None], Action::Pass),
        (Hook::Xdp, Pod::Veth1, [Some(XDP), Some(PEER)], Action::Pass),
        (Hook::Xdp, Pod::Veth0, [None, Some(XDP)], Action::Pass),
        (Hook::Xdp, Pod::Unresolved, [Some(XDP), Some(XDP)], Action::Pass),
        (Hook::Xdp, Pod::Unrouted, [Some(XDP), Some(XDP)], Action::Pass),
        (Hook::TcIn, Pod::Veth1, [None, Some(PEER)], Action::Redirect),
        (Hook::TcIn, Pod::Veth1, [Some(XDP), Some(XDP)], Action::Pass),
        (Hook::TcIn, Pod::Unresolved, [None, Some(PEER)], Action::Pass),
        (Hook::TcIn, Pod::Unrouted, [None, Some(PEER)], Action::Pass),
    ];
    for ip in Ip::ALL {
        for (hook, pod, [veth0, veth1], action) in table {
            world.deliver(veth0, veth1);
            let outcome = request(&mut world, ip, pod, hook, |frame| frame);
            assert_eq!(outcome.action, action, "{ip:?} {hook} {pod:?} {veth0:?} {veth1:?}");
            let sent = action != Action::Pass;
            assert_eq!(outcome.frame[..6] == NEIGHBOUR, sent);
            assert_eq!(
                outcome.frame[6..12] == [2, 0, 0, 0, 0, if pod == Pod::Veth0 { 2 } else { 3 }],
                sent
            );
            assert_eq!(ttl(ip, &outcome.frame), if sent { 63 } else { 64 });
        }
    }
}

#[test]
fn the_last_hop_and_packets_too_long_are_the_kernel_s() {
    let mut world = world();
    for ip in Ip::ALL {
        for (hook, delivery) in [(Hook::Xdp, XDP), (Hook::TcIn, PEER)] {
            world.deliver(Some(delivery), Some(delivery));
            for (left, action) in [(2, Action::Redirect), (1, Action::Pass), (0, Action::Pass)] {
                let outcome = request(&mut world, ip, Pod::Veth1, hook, |frame| frame.ttl(left));
                assert_eq!(outcome.action, action, "{ip:?} {hook} TTL {left}");
                if left < 2 {
                    let untouched = tcp(ip.client(1, 5000), ip.vip(1, 80), "S").ttl(left);
                    assert_eq!(outcome.frame, untouched.bytes(), "{ip:?} {hook} TTL {left}");
                }
            }
            let headers = if ip == Ip::V4 { 40 } else { 60 };
            for (length, action) in [(MTU_VETH1, Action::Redirect), (MTU_VETH1 + 1, Action::Pass)] {
                let payload = vec![1; usize::from(length) - headers];
                let outcome = request(&mut world, ip, Pod::Veth1, hook, |frame| frame.payload(payload.clone()));
                assert_eq!(outcome.action, action, "{ip:?} {hook} {length} bytes");
            }
        }
    }
}

#[test]
fn a_packet_to_be_cut_apart_is_sent_when_its_parts_fit() {
    let mut world = world();
    world.deliver(None, Some(PEER));
    for ip in Ip::ALL {
        let most = u32::from(MTU_VETH1) - if ip == Ip::V4 { 40 } else { 60 };
        for (part, action) in [(most, Action::Redirect), (most + 1, Action::Pass)] {
            let edit = |frame: Frame| frame.payload(vec![1; 3000]).segments(part);
            let outcome = request(&mut world, ip, Pod::Veth1, Hook::TcIn, edit);
            assert_eq!(outcome.action, action, "{ip:?} parts of {part}");
        }
    }
}
