//! Whose senders are told that nobody is there or that a connection has ended, and who gets silence.

use svcproxy::datapath::{links::Hook, trial::Action};
use svcproxy_common::abi::{FlowState, Protocol::TCP};

use crate::{
    answer::Answer,
    cluster::service,
    model::{Ip, pieces, tcp, udp},
    world::{World, world},
};

/// Runs a frame at tc and checks whether it was answered.
fn refuse(world: &mut World, name: &str, frame: &[u8], answer: Option<Vec<u8>>) {
    let expected = match answer {
        Some(answer) => (Action::Redirect, answer),
        None => (Action::Drop, frame.to_vec()),
    };
    let outcome = world.run_bytes(Hook::TcIn, frame, 0);
    assert_eq!((outcome.action, outcome.frame), expected, "{name}");
}

#[test]
fn a_refusal_is_answered_where_the_rfcs_allow() {
    let mut world = world();
    for ip in Ip::ALL {
        let (client, vip) = (ip.client(1, 5000), ip.vip(1, 80));
        world.serve(&[service("none", None, &[(TCP, vip, &[])])]);
        let request = || tcp(client, vip, "S");
        let icmp = |kind| {
            let protocol = if ip == Ip::V4 { 1 } else { 58 };
            let rest = [&[kind, 0, 0, 0, 0, 0, 0, 0][..], &request().bytes()[14..]].concat();
            pieces::plain(&request().bytes()[..14], client.ip(), vip.ip(), protocol, &rest)
        };
        let pieces = pieces::cut(&request().payload([7; 64]).bytes(), 32, 9);
        let (v4, v6) = (ip == Ip::V4, ip == Ip::V6);
        let multicast = if v4 {
            request().edit(12, 224)
        } else {
            request().edit(8, 0xff)
        };
        // A source that no host has: left to the kernel, which drops it.
        let left = world.run_bytes(Hook::TcIn, &multicast.bytes(), 0);
        assert_eq!(
            (left.action, left.frame),
            (Action::Pass, multicast.bytes()),
            "{ip:?} multicast"
        );
        for (name, frame, answered) in [
            ("SYN", request().bytes(), true),
            ("datagram", udp(client, vip).bytes(), true),
            ("options", request().options(2).bytes(), true),
            ("first fragment", pieces[0].clone(), true),
            ("later fragment", pieces[1].clone(), v6),
            ("echo request", icmp(if v4 { 8 } else { 128 }), true),
            ("echo reply", icmp(if v4 { 0 } else { 129 }), false),
            ("unreachable", icmp(if v4 { 3 } else { 1 }), false),
            ("redirect", icmp(if v4 { 5 } else { 137 }), false),
        ] {
            let answer = answered.then(|| Answer::Unreachable.to(&frame).unwrap());
            refuse(&mut world, &format!("{ip:?} {name}"), &frame, answer);
        }
    }
}

#[test]
fn rule_27_what_a_client_sends_to_a_lost_endpoint_is_reset_where_the_rfcs_allow() {
    let mut world = world();
    for ip in Ip::ALL {
        let (client, vip, pod) = (ip.client(1, 5000), ip.vip(1, 80), ip.pod(1, 8080));
        world.serve(&[service("web", None, &[(TCP, vip, &[pod])])]);
        let request = |flags| tcp(client, vip, flags);
        let pieces = pieces::cut(&request(".").payload([7; 64]).bytes(), 32, 9);
        for (name, frame, answered) in [
            ("ACK", request(".").bytes(), true),
            ("ACK without payload", request(".").payload([]).bytes(), true),
            ("FIN", request("F.").bytes(), true),
            ("TCP options", request("P.").tcp_options(3).bytes(), true),
            ("padding", request(".").padding(6).bytes(), true),
            ("last hop", request(".").ttl(1).bytes(), true),
            ("SYN", request("S").bytes(), false),
            ("RST", request("R.").bytes(), false),
            ("IP options", request(".").options(2).bytes(), false),
            ("first fragment", pieces[0].clone(), false),
        ] {
            world.forget();
            for opening in [request("S"), tcp(pod, client, "S."), request(".")] {
                world.run(Hook::TcIn, &opening);
            }
            world.lose_endpoints();
            let answer = answered.then(|| Answer::Reset.to(&frame).unwrap());
            refuse(&mut world, &format!("{ip:?} {name}"), &frame, answer);
            assert_eq!(world.states(), [FlowState::CLOSING], "{ip:?} {name}");
            if name == "first fragment" {
                refuse(&mut world, &format!("{ip:?} later fragment"), &pieces[1], None);
            }
        }
    }
}
