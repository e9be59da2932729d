//! Datagrams in pieces go to the endpoint that their first piece goes to, whatever order they come in.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use etherparse::{IpFragOffset, IpNumber, Ipv4Header, Ipv6FragmentHeader, Ipv6Header, PacketBuilder, UdpHeader};
use svcproxy_tests::{client, namespace::Namespace, topology::CLIENT};

use crate::{
    bystanders::raw,
    exposed::{Place, counted, slices, start},
    over_xdp_and_tc,
};

over_xdp_and_tc!(rule_23_pieces_in_order, rule_23_pieces_in_any_order,);

/// More than five pieces' worth.
const LENGTH: usize = 8000;

/// The Service's cluster IP and nodePort, over UDP.
fn targets() -> Vec<SocketAddr> {
    let place = Place(1);
    let node_ports = place.others().into_iter().filter(|target| target.port() != 80);
    let cluster_ips = place.cluster_ips().map(|ip| SocketAddr::new(ip, 80));
    cluster_ips.into_iter().chain(node_ports).collect()
}

fn rule_23_pieces_in_order(mode: &str) {
    let (_daemon, lab) = start(mode, |lab| {
        Place(1).service("kubia").yaml() + &slices(lab, "kubia", "LR")
    });
    for from in [&lab.client, &lab.pods[1].namespace] {
        for target in targets() {
            for length in [LENGTH, 1473, 60_000] {
                let payload: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
                from.enter(|| client::udp(target, &payload)).unwrap();
            }
        }
    }
}

/// The answer comes in order, and tells that the pod has put the question together again.
fn rule_23_pieces_in_any_order(mode: &str) {
    let (_daemon, lab) = start(mode, |lab| {
        Place(1).service("kubia").yaml() + &slices(lab, "kubia", "LR")
    });
    // Whom the client's kernel knows by now.
    let gateways = [("10.0.0.1", 0), ("fd00:a::1", 1)].map(|(ip, family)| {
        lab.client.run("ping", &["-c1", "-W2", ip]).unwrap();
        (neighbour(&lab.client, ip), CLIENT[family])
    });
    let own = hardware_address(&lab.client);
    let payload: Vec<u8> = (0..LENGTH).map(|byte| byte as u8).collect();
    // What is no Service's passes.
    let straight = lab.pods[0].addresses.map(|ip| SocketAddr::new(ip, 8080));
    for target in targets().into_iter().chain(straight) {
        let (gateway, source) = gateways[usize::from(target.is_ipv6())];
        for (turn, order) in [
            [0, 1, 2, 3, 4, 5],
            [5, 4, 3, 2, 1, 0],
            [1, 0, 2, 3, 4, 5],
            [5, 0, 1, 2, 3, 4],
            [3, 5, 1, 0, 4, 2],
        ]
        .into_iter()
        .enumerate()
        {
            let answer = lab.client.enter(|| {
                let socket = UdpSocket::bind((source, 0)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                let from = socket.local_addr().unwrap();
                let pieces = pieces(from, target, turn as u32 + 77, &payload);
                let (mut sender, _) = raw();
                for index in order {
                    let ethertype: [u8; 2] = if target.is_ipv4() { [8, 0] } else { [0x86, 0xdd] };
                    let frame = [&gateway[..], &own, &ethertype, &pieces[index]].concat();
                    sender.send_to(&frame, None).unwrap().unwrap();
                }
                let mut buffer = vec![0; 65_536];
                let received = socket.recv_from(&mut buffer);
                received.map(|(length, from)| (from, buffer[..length].ends_with(&payload)))
            });
            let answer = answer.unwrap_or_else(|error| panic!("{target}, order {order:?}: {error}"));
            assert_eq!(answer, (target, true), "order {order:?}");
        }
    }
}

/// Of a raw frame of more than a page only the Ethernet header is in the skb itself, where the program for plain packets
/// looks for the others.
#[test]
fn headers_in_another_piece_of_memory() {
    let (_daemon, lab) = start("tc", |lab| {
        let jumbo = |namespace: &Namespace, interface: &str| {
            namespace.ip(&format!("link set {interface} mtu 9000")).unwrap();
        };
        jumbo(&lab.client, "eth0");
        jumbo(&lab.node, "eth0");
        for pod in &lab.pods {
            jumbo(&pod.namespace, "eth0");
            jumbo(&lab.node, &pod.interface);
        }
        Place(1).service("kubia").yaml() + &slices(lab, "kubia", "L") + &Place(2).service("nobody").yaml()
    });
    let own = hardware_address(&lab.client);
    let payload: Vec<u8> = (0..LENGTH).map(|byte| byte as u8).collect();
    for (gateway, source) in ["10.0.0.1", "fd00:a::1"].into_iter().zip(CLIENT) {
        lab.client.run("ping", &["-c1", "-W2", gateway]).unwrap();
        let gateway = neighbour(&lab.client, gateway);
        for (place, served) in [(1, true), (2, false)] {
            let target = SocketAddr::new(Place(place).cluster_ips()[usize::from(source.is_ipv6())], 80);
            let before = counted(&lab, "not_plain");
            let answer = lab.client.enter(|| {
                let socket = UdpSocket::bind((source, 0)).unwrap();
                socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
                socket.connect(target).unwrap();
                let port = socket.local_addr().unwrap().port();
                let mut frame = Vec::new();
                let ethernet = PacketBuilder::ethernet2(own, gateway);
                match (source, target.ip()) {
                    (IpAddr::V4(src), IpAddr::V4(dst)) => ethernet.ipv4(src.octets(), dst.octets(), 64),
                    (IpAddr::V6(src), IpAddr::V6(dst)) => ethernet.ipv6(src.octets(), dst.octets(), 64),
                    _ => unreachable!("two families"),
                }
                .udp(port, target.port())
                .write(&mut frame, &payload)
                .unwrap();
                raw().0.send_to(&frame, None).unwrap().unwrap();
                let mut buffer = vec![0; 65_536];
                let received = socket.recv(&mut buffer);
                received.map(|length| buffer[..length].ends_with(&payload))
            });
            match served {
                true => assert!(answer.unwrap(), "{target}"),
                false => assert_eq!(answer.unwrap_err().kind(), ErrorKind::ConnectionRefused, "{target}"),
            }
            assert!(counted(&lab, "not_plain") > before, "{target}");
        }
    }
}

/// A datagram as IP packets of 1480 bytes of payload at most.
fn pieces(from: SocketAddr, to: SocketAddr, identification: u32, payload: &[u8]) -> Vec<Vec<u8>> {
    const PIECE: usize = 1440;
    let (ports, mut datagram) = ((from.port(), to.port()), Vec::new());
    let header = match (from.ip(), to.ip()) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            UdpHeader::with_ipv4_checksum(ports.0, ports.1, &ip4(src.octets(), dst.octets(), 0), payload)
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            UdpHeader::with_ipv6_checksum(ports.0, ports.1, &ip6(src.octets(), dst.octets(), 0), payload)
        }
        _ => unreachable!("two families"),
    };
    header.unwrap().write(&mut datagram).unwrap();
    datagram.extend(payload);
    let count = datagram.len().div_ceil(PIECE);
    let piece = |(index, part): (usize, &[u8])| {
        let offset = IpFragOffset::try_new((index * PIECE / 8) as u16).unwrap();
        let more = index + 1 < count;
        let mut packet = Vec::new();
        match (from.ip(), to.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut header = ip4(src.octets(), dst.octets(), part.len());
                header.identification = identification as u16;
                header.fragment_offset = offset;
                header.more_fragments = more;
                header.header_checksum = header.calc_header_checksum();
                header.write(&mut packet).unwrap();
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                let mut header = ip6(src.octets(), dst.octets(), part.len() + 8);
                header.next_header = IpNumber::IPV6_FRAGMENTATION_HEADER;
                header.write(&mut packet).unwrap();
                let fragment = Ipv6FragmentHeader::new(IpNumber::UDP, offset, more, identification);
                fragment.write(&mut packet).unwrap();
            }
            _ => unreachable!("two families"),
        }
        packet.extend(part);
        packet
    };
    datagram.chunks(PIECE).enumerate().map(piece).collect()
}

fn ip4(src: [u8; 4], dst: [u8; 4], payload: usize) -> Ipv4Header {
    let mut header = Ipv4Header::new(payload as u16, 64, IpNumber::UDP, src, dst).unwrap();
    header.dont_fragment = false;
    header
}

fn ip6(source: [u8; 16], destination: [u8; 16], payload: usize) -> Ipv6Header {
    Ipv6Header {
        payload_length: payload as u16,
        next_header: IpNumber::UDP,
        hop_limit: 64,
        source,
        destination,
        ..Ipv6Header::default()
    }
}

/// The hardware address of a neighbour.
fn neighbour(namespace: &Namespace, ip: &str) -> [u8; 6] {
    hardware(&namespace.run("ip", &["neigh", "show", ip]).unwrap(), "lladdr")
}

/// That of `eth0` itself.
fn hardware_address(namespace: &Namespace) -> [u8; 6] {
    hardware(&namespace.run("ip", &["link", "show", "eth0"]).unwrap(), "link/ether")
}

fn hardware(text: &str, after: &str) -> [u8; 6] {
    let word = text
        .split_whitespace()
        .skip_while(|word| *word != after)
        .nth(1)
        .unwrap();
    let octets: Vec<u8> = word
        .split(':')
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    octets.try_into().unwrap()
}
