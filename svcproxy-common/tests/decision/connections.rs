//! Where a connection is kept, and what begins a new one.

use std::net::SocketAddr;

use svcproxy_common::{
    Reason, Table,
    Table::{Flows, Pending},
    abi::{
        FlowState::*,
        Protocol::{TCP, UDP},
    },
};

use crate::{
    endpoints,
    model::{Cluster, Ip, Node, packet, service, tcp, udp},
    node, vip,
};

/// Runs packets of one connection, `>` the client's and `<` the endpoint's, and returns the endpoint.
fn exchange(node: &Node, client: SocketAddr, vip: SocketAddr, packets: &[&str]) -> SocketAddr {
    let mut pod = None;
    for packet in packets {
        match packet.split_at(1) {
            (">", flags) => pod = Some(node.forward(&tcp(client, vip, flags))),
            (_, flags) => assert_eq!(node.run(&tcp(pod.unwrap(), client, flags)).src(), vip, "{packet}"),
        }
    }
    pod.unwrap()
}

#[test]
fn a_connection_moves_to_flows_when_the_client_answers_the_endpoint() {
    #[rustfmt::skip]
    let table: [(&[&str], Table, _); 13] = [
        (&[">S"], Pending, SYN_SENT),
        (&[">S", ">S", ">S"], Pending, SYN_SENT),
        (&[">S", "<S."], Pending, SYN_RECV),
        (&[">S", "<S.", ">S"], Pending, SYN_RECV),
        (&[">S", "<S.", "<S.", "<S."], Pending, SYN_RECV),
        (&[">S", "<S.", ">."], Flows, ESTABLISHED),
        (&[">S", "<S.", ">.", "<F."], Flows, FIN_ENDPOINT),
        (&[">S", "<S.", ">.", ">F."], Flows, FIN_CLIENT),
        (&[">S", "<S.", ">.", ">F.", "<F.", ">."], Flows, CLOSING),
        (&[">S", "<S.", ">.", "<R"], Flows, CLOSING),
        (&[">S", "<R."], Pending, CLOSING),
        (&[">S", "<S.", ">R"], Pending, CLOSING),
        (&[">.", "<.", ">."], Flows, ESTABLISHED), // picked up in the middle
    ];
    for ip in Ip::ALL {
        for (packets, place, state) in table {
            let node = node(ip, 3);
            let (client, vip) = (ip.client(1, 5000), vip(ip, TCP));
            let pod = exchange(&node, client, vip, packets);
            assert_eq!(node.flow(TCP, client, vip), Some((place, state)), "{packets:?}");
            let answered = packets.iter().any(|packet| packet.starts_with('<'));
            let reply = if answered { REPLY } else { AWAIT_REPLY };
            assert_eq!(node.flow(TCP, pod, client), Some((place, reply)), "{packets:?}");
            let expected = if place == Flows { [2, 0] } else { [0, 2] };
            assert_eq!(node.entries(), expected, "{packets:?}");
        }
    }
}

#[test]
fn udp_moves_to_flows_with_the_client_s_second_datagram_after_a_reply() {
    for ip in Ip::ALL {
        let node = node(ip, 3);
        let (client, vip) = (ip.client(1, 5000), vip(ip, UDP));
        let mut pod = vip;
        for _ in 0..5 {
            pod = node.forward(&udp(client, vip));
            assert_eq!(node.flow(UDP, client, vip), Some((Pending, UDP_UNREPLIED)));
        }
        node.forward(&udp(pod, client));
        assert_eq!(node.flow(UDP, client, vip), Some((Pending, UDP_REPLIED)));
        node.forward(&udp(client, vip));
        assert_eq!(node.flow(UDP, client, vip), Some((Flows, UDP_REPLIED)));
        assert_eq!(node.flow(UDP, pod, client), Some((Flows, REPLY)));
    }
}

#[test]
fn a_syn_flood_never_enters_flows() {
    for ip in Ip::ALL {
        let node = node(ip, 3);
        let vip = vip(ip, TCP);
        for port in 1..=1000 {
            let client = ip.client(port % 7, port);
            let pod = node.forward(&tcp(client, vip, "S"));
            node.forward(&tcp(pod, client, "S."));
            node.forward(&tcp(client, vip, "S"));
        }
        assert_eq!(node.entries(), [0, 2000]);
    }
}

/// A node whose endpoint is replaced after `packets`; the endpoint before, and that of a packet afterwards.
fn across_replacement(ip: Ip, packets: &[&str], then: &str) -> [SocketAddr; 2] {
    let node = Node::new();
    let mut cluster = Cluster::default();
    let (client, vip) = (ip.client(1, 5000), vip(ip, TCP));
    let mut serve = |pod| cluster.put(&node.tables, service(1, TCP, vip, &endpoints(ip, 8080, [pod])));
    serve(1);
    let before = exchange(&node, client, vip, packets);
    serve(2);
    [before, node.forward(&tcp(client, vip, then))]
}

#[test]
fn only_a_new_connection_goes_to_a_new_endpoint() {
    #[rustfmt::skip]
    let table: [(&[&str], &str, bool); 14] = [
        (&[">S"], "S", false), // a SYN sent again
        (&[">S", "<S."], "S", false),
        (&[">S", "<S."], ".", false),
        (&[">S", "<S.", ">."], ".", false),
        (&[">S", "<S.", ">."], "S", false), // the endpoint has its say: a challenge ACK
        (&[">S", "<S.", ">.", "<F."], "F.", false),
        (&[">S", "<S.", ">.", ">F.", "<F."], ".", false), // the last ACK
        (&[">S", "<S.", ">.", ">F.", "<F."], "F.", false),
        (&[">S", "<S.", ">.", ">F.", "<F."], "S", true),
        (&[">S", "<S.", ">.", "<F.", ">F."], "S", true),
        (&[">S", "<S.", ">.", ">F."], "S", true), // its endpoint has died before it could close
        (&[">S", "<S.", ">.", "<F."], "S", false),
        (&[">S", "<R."], "S", true),
        (&[">S", "<S.", ">.", ">R"], "S", true),
    ];
    for ip in Ip::ALL {
        for (packets, then, moves) in table {
            let [before, after] = across_replacement(ip, packets, then);
            assert_eq!(before != after, moves, "{packets:?} then {then}");
        }
    }
}

#[test]
fn an_evicted_direction_is_derived_from_the_other() {
    for ip in Ip::ALL {
        let (client, vip) = (ip.client(1, 5000), vip(ip, TCP));
        let open = || {
            let node = node(ip, 3);
            let pod = exchange(&node, client, vip, &[">S", "<S.", ">."]);
            (node, pod)
        };

        let (node, pod) = open();
        node.evict(TCP, pod, client);
        node.wait(1);
        assert_eq!(node.forward(&tcp(client, vip, ".")), pod);
        assert_eq!(node.flow(TCP, pod, client), Some((Flows, AWAIT_REPLY)));
        assert_eq!(node.run(&tcp(pod, client, ".")).src(), vip);
        assert_eq!(node.flow(TCP, pod, client), Some((Flows, REPLY)));

        let (node, pod) = open();
        node.evict(TCP, client, vip);
        node.wait(1);
        assert_eq!(node.run(&tcp(pod, client, ".")).src(), vip);
        assert_eq!(node.flow(TCP, client, vip), Some((Flows, ESTABLISHED)));
        assert_eq!(node.forward(&tcp(client, vip, ".")), pod);
        assert_eq!(node.entries(), [2, 0]);
    }
}

#[test]
fn a_forgotten_connection_finds_its_endpoint_again() {
    for ip in Ip::ALL {
        let vip = vip(ip, TCP);
        for port in 5000..5050 {
            let node = node(ip, 5);
            let client = ip.client(1, port);
            let pod = exchange(&node, client, vip, &[">S", "<S.", ">."]);
            node.evict(TCP, client, vip);
            node.evict(TCP, pod, client);
            assert_eq!(node.forward(&tcp(client, vip, ".")), pod);
        }
    }
}

#[test]
fn without_an_endpoint_packets_are_dropped() {
    for ip in Ip::ALL {
        let node = node(ip, 0);
        let drop = |frame| node.run(&frame).verdict;
        assert_eq!(
            drop(tcp(ip.client(1, 5000), vip(ip, TCP), "S")),
            Err(Reason::NoEndpoint)
        );
        assert_eq!(drop(udp(ip.client(1, 5000), vip(ip, UDP))), Err(Reason::NoEndpoint));
        assert_eq!(node.entries(), [0, 0]);
    }
}

#[test]
fn without_room_new_connections_are_dropped_and_old_ones_live() {
    for ip in Ip::ALL {
        for room in [0, 1] {
            let node = node(ip, 3);
            let (client, vip) = (ip.client(1, 5000), vip(ip, TCP));
            let pod = exchange(&node, client, vip, &[">S", "<S.", ">."]);
            node.tables.v4.pending.capacity.set(room);
            node.tables.v6.pending.capacity.set(room);
            let refused = node.run(&tcp(ip.client(1, 5001), vip, "S"));
            assert_eq!(refused.verdict, Err(Reason::FlowTableFull));
            assert_eq!(node.forward(&tcp(client, vip, ".")), pod);
        }
    }
}

#[test]
fn without_room_in_flows_a_connection_stays_pending_and_works() {
    for ip in Ip::ALL {
        for room in [0, 1] {
            let node = node(ip, 3);
            node.tables.v4.flows.capacity.set(room);
            node.tables.v6.flows.capacity.set(room);
            let (client, vip) = (ip.client(1, 5000), vip(ip, TCP));
            let pod = exchange(&node, client, vip, &[">S", "<S.", ">.", "<.", ">.", "<."]);
            assert_eq!(node.forward(&tcp(client, vip, ".")), pod);
        }
    }
}

#[test]
fn a_new_connection_begins_pending_and_leaves_nothing_of_the_old() {
    for ip in Ip::ALL {
        for protocol in [TCP, UDP] {
            let node = Node::new();
            let mut cluster = Cluster::default();
            let (client, vip) = (ip.client(1, 5000), vip(ip, protocol));
            let mut serve = |pod| cluster.put(&node.tables, service(1, protocol, vip, &endpoints(ip, 8080, [pod])));
            serve(1);
            let old = node.forward(&packet(protocol, client, vip, "S"));
            node.forward(&packet(protocol, old, client, "S."));
            node.forward(&packet(protocol, client, vip, "."));
            node.forward(&packet(protocol, client, vip, "R"));
            assert_eq!(node.entries(), [2, 0]);
            node.wait(if protocol == UDP { 121 } else { 0 });
            serve(2);
            let new = node.forward(&packet(protocol, client, vip, "S"));
            assert_ne!(new, old);
            assert_eq!(node.entries(), [0, 2], "{protocol}");

            // The former endpoint has no say in it.
            let before = node.flow(protocol, client, vip);
            let late = node.run(&packet(protocol, old, client, "R"));
            assert_eq!(late.verdict, Err(Reason::NotAService));
            assert_eq!(node.flow(protocol, client, vip), before);
        }
    }
}

#[test]
fn a_pending_connection_that_lost_a_direction_still_needs_the_client_s_answer() {
    for ip in Ip::ALL {
        let node = node(ip, 3);
        let (client, vip) = (ip.client(1, 5000), vip(ip, TCP));
        let pod = exchange(&node, client, vip, &[">S", "<S."]);
        node.evict(TCP, client, vip);
        node.forward(&tcp(pod, client, "S."));
        assert_eq!(node.forward(&tcp(client, vip, "S")), pod);
        assert_eq!(node.entries(), [0, 2]);
        node.forward(&tcp(client, vip, "."));
        assert_eq!(node.entries(), [2, 0]);
    }
}

#[test]
fn a_late_packet_of_a_former_endpoint_changes_nothing() {
    // The reply half of the old connection outlived its original half, which was evicted.
    for ip in Ip::ALL {
        let node = Node::new();
        let mut cluster = Cluster::default();
        let (client, vip) = (ip.client(1, 5000), vip(ip, TCP));
        let mut serve = |pod| cluster.put(&node.tables, service(1, TCP, vip, &endpoints(ip, 8080, [pod])));
        serve(1);
        let old = exchange(&node, client, vip, &[">S", "<S."]);
        node.evict(TCP, client, vip);
        serve(2);
        exchange(&node, client, vip, &[">S", "<S."]);
        assert_eq!(node.run(&tcp(old, client, "R")).verdict, Err(Reason::NotAService));
        assert_eq!(node.flow(TCP, client, vip), Some((Pending, SYN_RECV)));
    }
}
