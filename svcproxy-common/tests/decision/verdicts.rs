//! What becomes of a connection that gets no endpoint: the table of section 3, and source ranges (rule 15).

use std::net::SocketAddr;

use svcproxy_common::{
    Fate, Reason,
    abi::{
        Network,
        Protocol::{SCTP, TCP, UDP},
        Way,
    },
};

use crate::{
    endpoints,
    model::{Cluster, Frame, Ip, Node, TcIn, TcOut, other_ports, packet, pieces, sctp, service, tcp, udp},
};

/// A node with the service range and in it: Service 1 at vip 1, TCP 80 on a pod; Service 2 at vip 2 without endpoints,
/// Service 3 at vip 3 with none for clients outside. The same three at external addresses beyond the range.
fn node(ip: Ip) -> Node {
    let node = Node::new();
    let mut cluster = Cluster::default();
    let pod = endpoints(ip, 8080, [1]);
    for (number, endpoints, local) in [(1, &pod[..], &pod[..]), (2, &[], &[]), (3, &pod, &[])] {
        for (way, vip) in [
            (Way::CLUSTER_IP, ip.vip(number, 80)),
            (Way::EXTERNAL_IP, external(ip, number, 80)),
            (Way::NODE_PORT, SocketAddr::new(ip.node(), 30_000 + number)),
        ] {
            let mut port = service(number.into(), TCP, vip, endpoints).way(way);
            if number == 3 {
                port = port.local(local);
            }
            cluster.put(&node.tables, port);
        }
        cluster.put(&node.tables, other_ports(number.into(), ip.vip(number, 0).ip()));
    }
    node.set_network(&ip.network(Ip::vip), Network::SERVICES);
    node.set_network(&ip.network(Ip::pod), Network::PODS);
    node
}

/// An external IP or a load balancer's.
fn external(ip: Ip, number: u16, port: u16) -> SocketAddr {
    ip.other_pod(number, port)
}

#[test]
fn section_3_each_way_and_each_kind_of_emptiness_has_its_verdict() {
    let syn = |src, dst| tcp(src, dst, "S");
    for ip in Ip::ALL {
        let (client, pod) = (ip.client(1, 5000), ip.pod(9, 5000));
        let node_port = |number: u16| SocketAddr::new(ip.node(), 30_000 + number);
        #[rustfmt::skip]
        let table: Vec<(&str, Frame, Option<Reason>)> = vec![
            ("clusterIP, endpoints", syn(client, ip.vip(1, 80)), None),
            ("clusterIP, none", syn(client, ip.vip(2, 80)), Some(Reason::NoEndpoint)),
            ("clusterIP, none that the policy allows", syn(client, ip.vip(3, 80)), Some(Reason::NoLocalEndpoint)),
            ("the same from a pod", syn(pod, ip.vip(3, 80)), None),
            ("clusterIP, another port", syn(client, ip.vip(1, 81)), Some(Reason::OtherPort)),
            ("clusterIP, another protocol", udp(client, ip.vip(1, 80)), Some(Reason::OtherPort)),
            ("clusterIP, SCTP", sctp(client, ip.vip(1, 80), 1), Some(Reason::OtherPort)),
            ("clusterIP without endpoints, another port", syn(client, ip.vip(2, 81)), Some(Reason::OtherPort)),
            ("unallocated", syn(client, ip.vip(9, 80)), Some(Reason::Unallocated)),
            ("unallocated, SCTP", sctp(client, ip.vip(9, 80), 1), Some(Reason::Unallocated)),
            ("unallocated from a pod", udp(pod, ip.vip(9, 53)), Some(Reason::Unallocated)),
            ("external IP, endpoints", syn(client, external(ip, 1, 80)), None),
            ("external IP, none", syn(client, external(ip, 2, 80)), Some(Reason::NoEndpoint)),
            ("external IP, none here", syn(client, external(ip, 3, 80)), Some(Reason::NoLocalEndpoint)),
            ("external IP, none here, from a pod", syn(pod, external(ip, 3, 80)), None),
            ("external IP, another port", syn(client, external(ip, 1, 81)), Some(Reason::NotAService)),
            ("nodePort, endpoints", syn(client, node_port(1)), None),
            ("nodePort, none", syn(client, node_port(2)), Some(Reason::NoEndpoint)),
            ("nodePort, none here", syn(client, node_port(3)), Some(Reason::NoLocalEndpoint)),
            ("no nodePort", syn(client, node_port(4)), Some(Reason::NotAService)),
            ("elsewhere", syn(client, ip.pod(1, 8080)), Some(Reason::NotAService)),
            // Not only what opens a connection.
            ("RST to a Service without endpoints", tcp(client, ip.vip(2, 80), "R"), Some(Reason::NoEndpoint)),
            ("ACK to an unallocated address", tcp(client, ip.vip(9, 80), "."), Some(Reason::Unallocated)),
        ];
        for (name, frame, reason) in table {
            for tags in 0..=2 {
                let node = node(ip);
                let outcome = node.run(&frame.clone().vlans(tags));
                assert_eq!(outcome.verdict.err(), reason, "{ip:?} {name} {tags} tags");
                if reason.is_some() {
                    assert_eq!(node.entries(), [0, 0], "{ip:?} {name}");
                    // On its way out nothing is refused any more.
                    let out = node.run_at::<TcOut>(&frame).verdict;
                    assert_eq!(out, Err(Reason::NotAService), "{ip:?} {name}");
                }
            }
        }
    }
}

#[test]
fn section_3_reasons_say_what_becomes_of_the_packet() {
    for (reason, fate) in [
        (Reason::NoEndpoint, Fate::Reject),
        (Reason::OtherPort, Fate::Reject),
        (Reason::NoLocalEndpoint, Fate::Drop),
        (Reason::Unallocated, Fate::Drop),
        (Reason::SourceRange, Fate::Drop),
        (Reason::NotAService, Fate::Pass),
    ] {
        assert_eq!(reason.fate(), fate, "{reason:?}");
    }
}

#[test]
fn section_3_other_protocols_are_refused_in_the_service_range_only() {
    for ip in Ip::ALL {
        let node = node(ip);
        let ping = if ip == Ip::V4 { (9, 1, 20, 8) } else { (6, 58, 40, 128) };
        let echo = |dst| {
            udp(ip.client(1, 5000), dst)
                .edit(ping.0, ping.1)
                .edit(ping.2, ping.3)
                .bytes()
        };
        for (dst, reason) in [
            (ip.vip(1, 80), Reason::OtherPort),
            (ip.vip(9, 80), Reason::Unallocated),
            (external(ip, 1, 80), Reason::OtherProtocol),
            (ip.pod(1, 80), Reason::OtherProtocol),
        ] {
            assert_eq!(node.run_bytes::<TcIn>(&echo(dst), 0).verdict, Err(reason), "{dst}");
            assert_eq!(
                node.run_bytes::<TcOut>(&echo(dst), 0).verdict,
                Err(Reason::OtherProtocol),
                "{dst}"
            );
        }
    }
}

#[test]
fn a_real_network_within_the_service_range_is_left_alone() {
    for ip in Ip::ALL {
        let node = node(ip);
        let (host, length) = (ip.vip(9, 80), if ip == Ip::V4 { 24 } else { 127 });
        node.set_network(&format!("{}/{length}", ip.vip(8, 0).ip()), Network::OUTSIDE);
        assert_eq!(
            node.run(&tcp(ip.client(1, 5000), host, "S")).verdict,
            Err(Reason::NotAService)
        );
    }
}

#[test]
fn rule_15_source_ranges_filter_the_load_balancer_s_address_alone() {
    for ip in Ip::ALL {
        for protocol in [TCP, UDP, SCTP] {
            for (way, filters) in [
                (Way::LOAD_BALANCER, true),
                (Way::CLUSTER_IP, false),
                (Way::EXTERNAL_IP, false),
                (Way::NODE_PORT, false),
            ] {
                let node = Node::new();
                let (pod, vip) = (endpoints(ip, 8080, [1]), external(ip, 1, 80));
                let port = service(7, protocol, vip, &pod).way(way).filtered();
                Cluster::default().put(&node.tables, port);
                // Clients 4 to 7, and another Service's 8 to 11.
                let bits = if ip == Ip::V4 { 30 } else { 126 };
                node.set_source_range(7, &format!("{}/{bits}", ip.client(4, 0).ip()));
                node.set_source_range(8, &format!("{}/{bits}", ip.client(8, 0).ip()));
                for number in 1..=12 {
                    let verdict = node.run(&packet(protocol, ip.client(number, 5000), vip, "S")).verdict;
                    let admitted = !filters || (4..8).contains(&number);
                    let expected = if admitted { None } else { Some(Reason::SourceRange) };
                    assert_eq!(verdict.err(), expected, "{way:?} client {number}");
                }
            }
        }
    }
}

#[test]
fn rule_15_comes_before_the_lack_of_endpoints() {
    for ip in Ip::ALL {
        let node = Node::new();
        let vip = external(ip, 1, 80);
        let port = service(7, TCP, vip, &[]).way(Way::LOAD_BALANCER).filtered();
        Cluster::default().put(&node.tables, port);
        let verdict = node.run(&tcp(ip.client(1, 5000), vip, "S")).verdict;
        assert_eq!(verdict, Err(Reason::SourceRange), "an outsider learns nothing");
    }
}

#[test]
fn a_refused_datagram_in_pieces_is_refused_as_a_whole() {
    for ip in Ip::ALL {
        let node = node(ip);
        let whole = udp(ip.client(1, 5000), ip.vip(1, 53)).payload(vec![7; 3000]).bytes();
        for piece in pieces::cut(&whole, 1000, 9) {
            assert_eq!(node.run_bytes::<TcIn>(&piece, 0).verdict, Err(Reason::OtherPort));
        }
    }
}
