//! Not ours, not touched (rules 23, 25 and 36): frames for other hosts, sources that no host has or that are not behind
//! the interface, and pieces of packets that would go round for ever.

use std::{fs, thread};

use svcproxy::{
    datapath::{links::Hook, trial::Action},
    model::{Model, NodePolicy},
};
use svcproxy_common::{
    Reason,
    abi::{
        Delivery, Interface, Metadata,
        Protocol::{TCP, UDP},
        RpFilter, XDP_INTERFACES, XdpInterface,
    },
};

use crate::{
    cluster::service,
    model::{Frame, Ip, pieces, tcp, udp},
    world::{World, world},
};

/// The hooks where packets come in.
const INCOMING: [Hook; 2] = [Hook::Xdp, Hook::TcIn];

/// A Service with one endpoint, and a packet that opens a connection to it.
fn request(world: &mut World, ip: Ip) -> Frame {
    let (client, vip, pod) = (ip.client(1, 5000), ip.vip(1, 80), ip.pod(1, 8080));
    world.forget();
    world.serve(&[service("web", None, &[(TCP, vip, &[pod])])]);
    tcp(client, vip, "S")
}

fn reason(world: &mut World, hook: Hook, frame: &[u8]) -> Reason {
    world.counted(hook, frame).0
}

#[test]
fn rule_36_frames_for_another_host_pass_by_known_connections_or_not() {
    let mut world = world();
    for ip in Ip::ALL {
        for hook in INCOMING {
            let own = request(&mut world, ip).bytes();
            let mut foreign = own.clone();
            foreign[5] ^= 1;
            let mut to_all = own.clone();
            to_all[..6].fill(0xff);
            for frame in [&foreign, &to_all] {
                assert_eq!(reason(&mut world, hook, frame), Reason::OtherHost, "{ip:?} {hook}");
            }
            assert_eq!(reason(&mut world, hook, &own), Reason::Translated, "{ip:?} {hook}");
            for frame in [&foreign, &to_all] {
                assert_eq!(reason(&mut world, hook, frame), Reason::OtherHost, "{ip:?} {hook}");
            }
        }
    }
}

/// A reply from one port of a bridge to another carries the other's hardware address.
#[test]
fn frames_that_a_bridge_switches_are_translated() {
    let mut world = world();
    for ip in Ip::ALL {
        let mut frame = request(&mut world, ip).bytes();
        frame[5] ^= 1;
        let port = Interface {
            is_port: true,
            ..Interface::new(Delivery::LINK)
        };
        let index = world.veth0;
        world.datapath.maps.interfaces.insert(index, port, 0).unwrap();
        assert_eq!(reason(&mut world, Hook::TcIn, &frame), Reason::Translated, "{ip:?}");
        world.deliver(None, None);
        // XDP, too: frames that are routed are for the bridge's address.
        let place = index % XDP_INTERFACES;
        let known = world.datapath.xdp_interfaces.get(&place, 0).unwrap();
        let entry = XdpInterface { is_port: true, ..known };
        world.datapath.xdp_interfaces.set(place, entry, 0).unwrap();
        let found = reason(&mut world, Hook::Xdp, &frame);
        world.datapath.xdp_interfaces.set(place, known, 0).unwrap();
        assert_eq!(found, Reason::Translated, "{ip:?}");
    }
}

#[test]
fn rule_36_sources_that_no_host_has_open_nothing() {
    let mut world = world();
    for ip in Ip::ALL {
        for hook in INCOMING {
            let request = request(&mut world, ip);
            let sources: &[&[u8]] = match ip {
                Ip::V4 => &[
                    &[127, 0, 0, 1],
                    &[0, 0, 0, 0],
                    &[0, 1, 2, 3],
                    &[224, 0, 0, 1],
                    &[255; 4],
                    &[240, 0, 0, 1],
                ],
                Ip::V6 => &[&[0; 16], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], &[0xff; 16]],
            };
            let offset = if ip == Ip::V4 { 12 } else { 8 };
            for source in sources {
                let bytes = source.iter().enumerate();
                let frame = bytes.fold(request.clone(), |frame, (index, byte)| {
                    frame.edit(offset + index, *byte)
                });
                assert_eq!(
                    reason(&mut world, hook, &frame.bytes()),
                    Reason::Martian,
                    "{hook} {source:?}"
                );
            }
            assert_eq!(reason(&mut world, hook, &request.bytes()), Reason::Translated);
        }
    }
}

/// The client is behind veth0, the pods' network behind veth1.
#[test]
fn rule_36_sources_from_the_wrong_side_open_nothing_where_rp_filter_says_so() {
    let mut world = world();
    for hook in INCOMING {
        let (vip, pod) = (Ip::V4.vip(1, 80), Ip::V4.pod(1, 8080));
        let (client, spoofed, nowhere) = (Ip::V4.client(1, 5000), Ip::V4.pod(2, 5000), Ip::V4.vip(99, 5000));
        for (filter, expected) in [
            (RpFilter::OFF, [Reason::Translated; 3]),
            (
                RpFilter::STRICT,
                [Reason::Translated, Reason::ReversePath, Reason::ReversePath],
            ),
            (
                RpFilter::LOOSE,
                [Reason::Translated, Reason::Translated, Reason::ReversePath],
            ),
        ] {
            world.forget();
            world.serve(&[service("web", None, &[(TCP, vip, &[pod])])]);
            let interface = Interface {
                rp_filter: filter,
                ..Interface::new(Delivery::LINK)
            };
            let index = world.veth0;
            world.datapath.maps.interfaces.insert(index, interface, 0).unwrap();
            let found =
                [client, spoofed, nowhere].map(|source| reason(&mut world, hook, &tcp(source, vip, "S").bytes()));
            assert_eq!(found, expected, "{hook} {filter:?}");
            world.deliver(None, None);
        }
    }
}

/// There the kernel's routing does not answer programs, and says nothing of the source.
#[test]
fn where_the_node_does_not_forward_rp_filter_is_the_kernel_s_own() {
    let mut world = world();
    let (client, vip, pod) = (Ip::V4.client(1, 5000), Ip::V4.vip(1, 80), Ip::V4.pod(1, 8080));
    let forwarding = |world: &World, value: &str| {
        thread::scope(|scope| {
            let write = || {
                world.enter();
                fs::write("/proc/sys/net/ipv4/conf/veth0/forwarding", value).unwrap();
            };
            scope.spawn(write).join().unwrap();
        });
    };
    let interface = Interface {
        rp_filter: RpFilter::STRICT,
        ..Interface::new(Delivery::LINK)
    };
    for hook in INCOMING {
        world.forget();
        world.serve(&[service("web", None, &[(TCP, vip, &[pod])])]);
        let index = world.veth0;
        world.datapath.maps.interfaces.insert(index, interface, 0).unwrap();
        forwarding(&world, "0");
        let found = reason(&mut world, hook, &tcp(client, vip, "S").bytes());
        forwarding(&world, "1");
        world.deliver(None, None);
        assert_eq!(found, Reason::Translated, "{hook}");
    }
}

/// 10 such packets made 1 270 with a router that sends the range back.
#[test]
fn rule_23_what_is_cut_off_is_dropped_for_the_service_range_alone() {
    let mut world = world();
    for ip in Ip::ALL {
        let range = if ip == Ip::V4 { "10.96.0.0/12" } else { "fd00:96::/64" };
        let vip = ip.vip(99, 80);
        let policy = NodePolicy {
            service_ranges: vec![range.parse().unwrap()],
            ..NodePolicy::default()
        };
        world.apply(&Model::default(), &policy);
        for (to, in_range) in [(vip, true), (ip.pod(1, 8080), false)] {
            let ethernet = tcp(ip.client(1, 5000), to, "S").bytes()[..14].to_vec();
            let short = |protocol| pieces::plain(&ethernet, ip.client(1, 5000).ip(), to.ip(), protocol, &[0; 6]);
            let expected = |other| if in_range { Reason::Stray } else { other };
            for protocol in [TCP, UDP] {
                let frame = short(protocol as u8);
                let found = reason(&mut world, Hook::TcIn, &frame);
                assert!(
                    found == expected(Reason::Truncated) || (!in_range && found == Reason::Malformed),
                    "{ip:?} {protocol} to {to}: {found:?}"
                );
            }
            // XDP leaves it to tc.
            if in_range {
                assert_eq!(reason(&mut world, Hook::Xdp, &short(6)), Reason::NotPlain);
            }
            let whole = udp(ip.client(1, 5000), to).payload([7; 200]).bytes();
            let later = &pieces::cut(&whole, 64, 9)[1];
            // With the program that keeps fragments until their first has come.
            world.datapath.take_over().unwrap();
            let left = world.run_bytes(Hook::TcIn, later, 0);
            world.datapath.maps.keep_no_fragments().unwrap();
            let expected = if in_range { Action::Drop } else { Action::Pass };
            assert_eq!((left.action, &left.frame), (expected, later), "{ip:?} to {to}");
        }
    }
}

/// A driver without metadata: XDP does what it can alone, and leaves every other frame as it was.
#[test]
fn without_metadata_xdp_touches_nothing_that_tc_must_send() {
    let mut world = world();
    for ip in Ip::ALL {
        let index = world.veth0;
        let known = world.datapath.xdp_interfaces.get(&(index % XDP_INTERFACES), 0).unwrap();
        for metadata in [Metadata::NO, Metadata::UNKNOWN] {
            let frame = request(&mut world, ip).bytes();
            world.deliver(None, Some(Delivery::PEER));
            let entry = XdpInterface { metadata, ..known };
            world
                .datapath
                .xdp_interfaces
                .set(index % XDP_INTERFACES, entry, 0)
                .unwrap();
            assert_eq!(
                reason(&mut world, Hook::Xdp, &frame),
                Reason::NotPlain,
                "{ip:?} {metadata:?}"
            );
            // This driver has it, and the program has found that out.
            let found = world.datapath.xdp_interfaces.get(&(index % XDP_INTERFACES), 0).unwrap();
            assert_eq!(found.metadata, Metadata::YES);
            assert_eq!(
                reason(&mut world, Hook::Xdp, &frame),
                Reason::Translated,
                "{ip:?} {metadata:?}"
            );
            world.deliver(None, None);
        }
    }
}
