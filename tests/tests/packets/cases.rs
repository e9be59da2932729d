//! What each program makes of each kind of packet, and under which reason it counts it.

use svcproxy::datapath::{links::Hook, sweep, trial::Action};
use svcproxy_common::{
    Fate,
    Reason::{self, *},
    abi::{
        Delivery,
        Protocol::{TCP, UDP},
    },
};

use crate::{
    cluster::service,
    model::{Frame, Ip, arp, judge, packet, pieces, sctp, sockets, tcp, udp},
    world::{World, least, left_to_tc, world},
};

/// Two Services: `ip.vip(1)` with TCP 80 and UDP 53 on pods 1 to 3, `ip.vip(2)` with TCP 80 and no pod.
fn serve(world: &mut World) {
    let services = Ip::ALL.map(|ip| {
        let pods = |port| [1, 2, 3].map(|pod| ip.pod(pod, port));
        [
            service(
                "web",
                None,
                &[(TCP, ip.vip(1, 80), &pods(8080)), (UDP, ip.vip(1, 53), &pods(5353))],
            ),
            service("none", None, &[(TCP, ip.vip(2, 80), &[])]),
        ]
    });
    let named = services
        .into_iter()
        .flatten()
        .zip(["a", "b", "c", "d"])
        .map(|(mut service, name)| {
            service.name.name = name.into();
            service
        });
    world.serve(&named.collect::<Vec<_>>());
}

/// A frame, and what becomes of it.
struct Case {
    name: &'static str,
    frame: Vec<u8>,
    /// Whether the first program that sees it decides, or leaves it to the one for any packet.
    plain: bool,
    reason: Reason,
}

impl Case {
    /// The reason under which a hook counts it as a connection's first packet.
    fn at(&self, hook: Hook) -> Reason {
        match (hook, self.reason) {
            // tc looks at it, or answers it.
            (Hook::Xdp, _) if !self.plain => NotPlain,
            (Hook::Xdp, NoEndpoint | OtherPort | TooBig) => NotPlain,
            (Hook::TcOut, Translated | NoEndpoint | OtherPort | TooBig | TtlExpired) => NotAService,
            (_, reason) => reason,
        }
    }

    /// Length of its headers without TCP's options: what a program looks at.
    fn headers(&self) -> usize {
        judge::layers(&self.frame).map_or(54, |layers| match (layers.fragment.0, layers.protocol) {
            (0, 17) => layers.transport + 8,
            (0, _) => layers.transport + 20,
            _ => layers.transport,
        })
    }
}

fn table(ip: Ip) -> Vec<Case> {
    let client = ip.client(1, 5000);
    let web = || tcp(client, ip.vip(1, 80), "S");
    let dns = || udp(client, ip.vip(1, 53));
    let foreign = || tcp(client, ip.pod(9, 80), "S");
    let case = |plain| {
        move |name, frame: Frame, reason| Case {
            name,
            frame: frame.bytes(),
            plain,
            reason,
        }
    };
    let (plain, any) = (case(true), case(false));
    let bytes = |name, frame, plain, reason| Case {
        name,
        frame,
        plain,
        reason,
    };
    let pieces = pieces::cut(&web().payload([7; 64]).bytes(), 32, 9);
    let mut table = vec![
        plain("SYN", web(), Translated),
        plain("ACK", tcp(client, ip.vip(1, 80), "."), Translated),
        plain("RST", tcp(client, ip.vip(1, 80), "R"), Translated),
        plain("FIN", tcp(client, ip.vip(1, 80), "F."), Translated),
        plain("SYN with options", web().tcp_options(5), Translated),
        plain("SYN without payload", web().payload([]), Translated),
        plain("datagram", dns(), Translated),
        plain("odd payload", dns().payload([1, 2, 3]), Translated),
        plain("empty datagram", dns().payload([]), Translated),
        plain("padding", web().payload([]).padding(6), Translated),
        plain("last hop", web().ttl(1), TtlExpired),
        plain("2000 bytes", web().payload(vec![9; 2000]), TooBig),
        plain("Service without endpoints", tcp(client, ip.vip(2, 80), "S"), NoEndpoint),
        plain("other port", tcp(client, ip.vip(1, 81), "S"), OtherPort),
        plain("other protocol", udp(client, ip.vip(1, 80)), OtherPort),
        plain("other address", tcp(client, ip.vip(3, 80), "S"), NotAService),
        plain("reply of no connection", tcp(ip.pod(1, 80), client, "S."), NotAService),
        any("one VLAN tag", web().vlans(1), Translated),
        any("two VLAN tags", web().vlans(2), Translated),
        any("three VLAN tags", web().vlans(3), NotIp),
        any("SCTP", sctp(client, ip.vip(3, 80), 1), NotAService),
        bytes("first fragment", pieces[0].clone(), false, Translated),
        bytes("later fragment", pieces[1].clone(), false, Fragment),
        bytes("ARP", arp(), true, NotIp),
    ];
    table.extend(match ip {
        Ip::V4 => vec![
            plain("datagram without checksum", dns().without_checksum(), Translated),
            any("IP options", web().options(3), Translated),
            any("all IP options", web().options(10), Translated),
            any("other IP protocol", foreign().edit(9, 47), OtherProtocol),
            plain("version 5", web().edit(0, 0x55), Malformed),
            plain("IHL 4", web().edit(0, 0x44), Malformed),
            plain("shorter than TCP", web().edit(3, 39), Malformed),
            plain("shorter than UDP", dns().edit(3, 27), Malformed),
            any("IHL 15, too much", web().payload([]).edit(0, 0x4f), Malformed),
            any("IHL 15, cut off", web().edit(0, 0x4f).edit(3, 100), Truncated),
            any("echo request", foreign().edit(9, 1).edit(20, 8), OtherProtocol),
        ],
        Ip::V6 => vec![
            any("other IP protocol", foreign().edit(6, 47), OtherProtocol),
            plain("version 4", web().edit(0, 0x40), Malformed),
            plain("shorter than TCP", web().edit(5, 19), Malformed),
            plain("shorter than UDP", dns().edit(5, 7), Malformed),
            any("extension header", web().options(1), Translated),
            any("six extension headers", web().extensions(&[(60, 1); 6]), Translated),
            any(
                "seven extension headers",
                foreign().extensions(&[(60, 1); 7]),
                OtherProtocol,
            ),
            any(
                "neighbour solicitation",
                foreign().edit(6, 58).edit(40, 135),
                OtherProtocol,
            ),
        ],
    });
    table
}

/// Where packets come in: only there do connections open.
const INGRESS: [Hook; 2] = [Hook::Xdp, Hook::TcIn];

#[test]
fn every_program_counts_every_packet_under_its_reason() {
    let mut world = world();
    serve(&mut world);
    for ip in Ip::ALL {
        for case in table(ip) {
            for hook in Hook::DECIDING {
                world.forget();
                let (counted, left) = world.counted(hook, &case.frame);
                let name = format!("{hook} {ip:?} {}", case.name);
                assert_eq!(counted, case.at(hook), "{name}");
                if counted == Translated {
                    // What has a tag goes to the kernel's routing, the rest to its neighbour.
                    let tagged = matches!(case.frame[12..14], [0x81, 0] | [0x88, 0xa8]);
                    let (action, mark) = match hook {
                        Hook::Xdp => (Action::Pass, left_to_tc(world.veth1, Delivery::NEIGHBOUR)),
                        _ if tagged => (Action::Pass, Vec::new()),
                        _ => (Action::Redirect, Vec::new()),
                    };
                    assert_eq!((left.action, left.mark), (action, mark), "{name}");
                    assert_ne!(left.frame, case.frame, "{name}");
                    assert_eq!(judge::errors(&left.frame), judge::errors(&case.frame), "{name}");
                }
            }
        }
    }
}

#[test]
fn a_packet_cut_off_anywhere_within_its_headers_is_not_translated() {
    let mut world = world();
    serve(&mut world);
    for ip in Ip::ALL {
        for case in table(ip) {
            for hook in Hook::DECIDING {
                for length in least(hook, &case.frame)..case.headers().min(case.frame.len()) {
                    world.forget();
                    let (counted, left) = world.counted(hook, &case.frame[..length]);
                    let name = format!("{hook} {ip:?} {} {length}", case.name);
                    assert_eq!(left.action == Action::Pass, counted != OtherPort, "{name}");
                    // Extension headers that break off lead to no protocol, which no Service has.
                    let broken = !case.plain && matches!(counted, OtherProtocol | OtherPort);
                    let expected = broken || counted == Truncated || counted == case.at(hook);
                    assert!(counted != Translated && expected, "{name}: {counted:?}");
                }
            }
        }
    }
}

#[test]
fn a_packet_cut_off_in_its_payload_fares_as_the_whole_would() {
    let mut world = world();
    serve(&mut world);
    for ip in Ip::ALL {
        for case in table(ip).into_iter().filter(|case| case.frame.len() < 200) {
            for hook in INGRESS {
                world.forget();
                let (reason, whole) = world.counted(hook, &case.frame);
                assert_eq!(reason, case.at(hook));
                for length in case.headers().max(least(hook, &case.frame))..case.frame.len() {
                    let (counted, left) = world.counted(hook, &case.frame[..length]);
                    let name = format!("{hook} {ip:?} {} {length}", case.name);
                    assert_eq!(
                        (counted, left.action, left.mark),
                        (reason, whole.action, whole.mark.clone()),
                        "{name}"
                    );
                    // An answer quotes headers alone.
                    let length = if reason.fate() == Fate::Reject {
                        whole.frame.len()
                    } else {
                        length
                    };
                    assert_eq!(left.frame, whole.frame[..length], "{name}");
                }
            }
        }
    }
}

#[test]
fn replies_come_from_the_service_whatever_hook_they_leave_by() {
    let mut world = world();
    serve(&mut world);
    for ip in Ip::ALL {
        for (forward, back) in (0..6).map(|pair| (INGRESS[pair / 3], Hook::DECIDING[pair % 3])) {
            for (protocol, vip) in [(TCP, ip.vip(1, 80)), (UDP, ip.vip(1, 53))] {
                world.forget();
                let client = ip.client(1, 5000);
                let frame = |src, dst, flags| packet(protocol, src, dst, flags);
                for flags in ["S", ".", "F."] {
                    let request = world.run(forward, &frame(client, vip, flags));
                    judge::assert_valid(&request.frame);
                    let (src, pod) = sockets(&request.frame);
                    assert_eq!(src, client);
                    let reply = world.run(back, &frame(pod, client, "."));
                    judge::assert_valid(&reply.frame);
                    assert_eq!(sockets(&reply.frame), (vip, client), "{forward} {back}");
                }
            }
        }
    }
}

#[test]
fn an_established_connection_asks_no_service() {
    let mut world = world();
    for ip in Ip::ALL {
        serve(&mut world);
        let (client, vip) = (ip.client(1, 5000), ip.vip(1, 80));
        let pod = sockets(&world.run(Hook::Xdp, &tcp(client, vip, "S")).frame).1;
        world.run(Hook::Xdp, &tcp(pod, client, "S."));
        world.serve(&[]);
        for hook in Hook::DECIDING {
            for (frame, src, dst) in [
                (tcp(client, vip, "."), client, pod),
                (tcp(pod, client, "."), vip, client),
            ] {
                let (counted, outcome) = world.counted(hook, &frame.bytes());
                assert_eq!(counted, Translated);
                assert_eq!(sockets(&outcome.frame), (src, dst));
            }
        }
    }
}

#[test]
fn a_connection_outlives_its_service_when_what_is_known_is_found_anew() {
    let mut world = world();
    for ip in Ip::ALL {
        serve(&mut world);
        world.forget();
        let (client, vip) = (ip.client(1, 5000), ip.vip(1, 80));
        let pod = sockets(&world.run(Hook::TcIn, &tcp(client, vip, "S")).frame).1;
        world.serve(&[]);
        world.datapath.maps.sweep(sweep::now()).unwrap();
        let (reason, reply) = world.counted(Hook::TcIn, &tcp(pod, client, "S.").bytes());
        assert_eq!((reason, sockets(&reply.frame)), (Translated, (vip, client)));
        let (reason, request) = world.counted(Hook::TcIn, &tcp(client, vip, ".").bytes());
        assert_eq!((reason, sockets(&request.frame)), (Translated, (client, pod)));
    }
}
