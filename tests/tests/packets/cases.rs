//! What each program makes of each kind of packet, and under which reason it counts it.

use svcproxy::datapath::{links::Hook, trial::Action};
use svcproxy_common::{
    Reason::{self, *},
    abi::Protocol::{TCP, UDP},
};

use crate::{
    cluster::service,
    model::{Frame, Ip, arp, judge, packet, sockets, tcp, udp},
    world::{World, least, world},
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

/// Frames, and what becomes of them.
fn table(ip: Ip) -> Vec<(&'static str, Vec<u8>, Reason)> {
    let client = ip.client(1, 5000);
    let web = || tcp(client, ip.vip(1, 80), "S");
    let dns = || udp(client, ip.vip(1, 53));
    let bytes = |name, frame: Frame, reason| (name, frame.bytes(), reason);
    let mut table = vec![
        bytes("SYN", web(), Translated),
        bytes("ACK", tcp(client, ip.vip(1, 80), "."), Translated),
        bytes("RST", tcp(client, ip.vip(1, 80), "R"), Translated),
        bytes("FIN", tcp(client, ip.vip(1, 80), "F."), Translated),
        bytes("SYN with options", web().tcp_options(5), Translated),
        bytes("SYN without payload", web().payload([]), Translated),
        bytes("datagram", dns(), Translated),
        bytes("odd payload", dns().payload([1, 2, 3]), Translated),
        bytes("empty datagram", dns().payload([]), Translated),
        bytes("TTL 1, routed", web().ttl(1), Translated),
        bytes("9000 bytes", web().payload(vec![9; 2000]), Translated),
        bytes("padding", web().payload([]).padding(6), Translated),
        bytes("Service without endpoints", tcp(client, ip.vip(2, 80), "S"), NoEndpoint),
        bytes("other port", tcp(client, ip.vip(1, 81), "S"), NotAService),
        bytes("other protocol", udp(client, ip.vip(1, 80)), NotAService),
        bytes("other address", tcp(client, ip.vip(3, 80), "S"), NotAService),
        bytes(
            "reply of no connection",
            tcp(ip.pod(1, 8080), client, "S."),
            NotAService,
        ),
        bytes("one VLAN tag", web().vlans(1), NotIp),
        bytes("two VLAN tags", web().vlans(2), NotIp),
        ("ARP", arp(), NotIp),
    ];
    table.extend(match ip {
        Ip::V4 => vec![
            bytes("datagram without checksum", dns().without_checksum(), Translated),
            bytes("IP options", web().options(3), Translated),
            bytes("all IP options", web().options(10), Translated),
            bytes("first fragment", web().edit(6, 0x20), Fragment),
            bytes("later fragment", web().edit(7, 5), Fragment),
            bytes("ICMP", web().edit(9, 1), OtherProtocol),
            bytes("SCTP", web().edit(9, 132), OtherProtocol),
            bytes("version 5", web().edit(0, 0x55), Malformed),
            bytes("IHL 4", web().edit(0, 0x44), Malformed),
            bytes("shorter than TCP", web().edit(3, 39), Malformed),
            bytes("shorter than UDP", dns().edit(3, 27), Malformed),
            bytes("IHL 15, short", web().payload([]).edit(0, 0x4f), Truncated),
        ],
        Ip::V6 => vec![
            bytes("extension header", web().options(1), OtherProtocol),
            bytes("fragment", web().edit(6, 44), OtherProtocol),
            bytes("neighbour solicitation", web().edit(6, 58), OtherProtocol),
            bytes("version 4", web().edit(0, 0x40), Malformed),
            bytes("shorter than TCP", web().edit(5, 19), Malformed),
            bytes("shorter than UDP", dns().edit(5, 7), Malformed),
        ],
    });
    table
}

/// Where packets come in: only there do connections open.
const INGRESS: [Hook; 2] = [Hook::Xdp, Hook::TcIn];

/// What becomes of a first packet at a hook for which the table says `reason`.
fn at(hook: Hook, reason: Reason) -> Reason {
    match reason {
        Translated | NoEndpoint if hook == Hook::TcOut => NotAService,
        reason => reason,
    }
}

#[test]
fn every_program_counts_every_packet_under_its_reason() {
    let mut world = world();
    serve(&mut world);
    for ip in Ip::ALL {
        for (name, frame, reason) in table(ip) {
            for hook in Hook::DECIDING {
                world.forget();
                let (counted, outcome) = world.counted(hook, &frame);
                assert_eq!(counted, at(hook, reason), "{hook} {ip:?} {name}");
                if counted == Translated {
                    assert_eq!(outcome.action, Action::Pass, "{hook} {ip:?} {name}");
                    assert_ne!(outcome.frame, frame, "{hook} {ip:?} {name}");
                    judge::assert_valid(&outcome.frame);
                }
            }
        }
    }
}

#[test]
fn a_packet_cut_off_anywhere_within_its_headers_passes_unchanged() {
    let mut world = world();
    serve(&mut world);
    for ip in Ip::ALL {
        for (name, frame, reason) in table(ip) {
            for hook in Hook::DECIDING {
                for length in least(hook, &frame)..headers(&frame).min(frame.len()) {
                    world.forget();
                    let (counted, outcome) = world.counted(hook, &frame[..length]);
                    assert_eq!(outcome.action, Action::Pass, "{hook} {ip:?} {name} {length}");
                    assert!(
                        counted == Truncated || counted == at(hook, reason),
                        "{hook} {ip:?} {name} {length}: {counted:?}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_packet_cut_off_in_its_payload_is_translated_as_the_whole_would_be() {
    let mut world = world();
    serve(&mut world);
    for ip in Ip::ALL {
        for (name, frame, reason) in table(ip).into_iter().filter(|(_, frame, _)| frame.len() < 200) {
            for hook in INGRESS {
                world.forget();
                let whole = world.run_bytes(hook, &frame, 0);
                for length in headers(&frame).max(least(hook, &frame))..frame.len() {
                    let (counted, outcome) = world.counted(hook, &frame[..length]);
                    assert_eq!(
                        (counted, outcome.action),
                        (reason, whole.action),
                        "{hook} {ip:?} {name} {length}"
                    );
                    assert_eq!(outcome.frame, whole.frame[..length], "{hook} {ip:?} {name} {length}");
                }
            }
        }
    }
}

/// Length of Ethernet, IP and transport headers without TCP's options: what a program looks at.
fn headers(frame: &[u8]) -> usize {
    let (ip, protocol) = match (frame[12], frame[13]) {
        (0x08, 0x00) => (usize::from(frame[14] & 0xf) * 4, frame[23]),
        (0x86, 0xdd) => (40, frame[20]),
        _ => return 14,
    };
    14 + ip + if protocol == 17 { 8 } else { 20 }
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
