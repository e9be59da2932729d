//! Sockets of the node's own processes: led to an endpoint, told the Service's address.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use svcproxy_common::{
    Reason, Tables,
    abi::{
        Network,
        Protocol::{self, TCP, UDP},
        V4Addr, V6Addr, Way,
    },
    socket::{self, Socket},
};

use crate::{
    endpoints,
    model::{Cluster, HostTables, Ip, Node, Side, other_ports, service},
    node, vip,
};

/// Where the socket `cookie` goes when it wants to reach `target`.
fn connect(node: &Node, cookie: u64, protocol: Protocol, target: SocketAddr) -> Result<SocketAddr, Reason> {
    fn side<A: Side>(node: &Node, cookie: u64, protocol: Protocol, target: SocketAddr) -> Result<SocketAddr, Reason>
    where
        HostTables: Tables<A>,
    {
        let socket = Socket {
            cookie,
            protocol,
            address: A::from_ip(target.ip()),
            port: target.port(),
        };
        let (address, port) = socket::connect(&node.tables, &socket, node.now.get())?;
        Ok((address.ip(), port).into())
    }
    if node.tables.v4.config.len() == 0 {
        for ip in Ip::ALL {
            node.set_config(ip.node(), 61_000, 1_000);
        }
    }
    match target {
        SocketAddr::V4(_) => side::<V4Addr>(node, cookie, protocol, target),
        SocketAddr::V6(_) => side::<V6Addr>(node, cookie, protocol, target),
    }
}

/// Whom the socket `cookie` is told that it deals with, when that is really `endpoint`.
fn peer(node: &Node, cookie: u64, endpoint: SocketAddr) -> Option<SocketAddr> {
    fn side<A: Side>(node: &Node, cookie: u64, endpoint: SocketAddr) -> Option<SocketAddr>
    where
        HostTables: Tables<A>,
    {
        let (address, port) = socket::peer(&node.tables, cookie, A::from_ip(endpoint.ip()), endpoint.port())?;
        Some((address.ip(), port).into())
    }
    match endpoint {
        SocketAddr::V4(_) => side::<V4Addr>(node, cookie, endpoint),
        SocketAddr::V6(_) => side::<V6Addr>(node, cookie, endpoint),
    }
}

#[test]
fn sockets_spread_over_the_endpoints_and_see_only_the_service() {
    for ip in Ip::ALL {
        let node = node(ip, 3);
        for protocol in [TCP, UDP] {
            let target = vip(ip, protocol);
            let mut tally: BTreeMap<IpAddr, u32> = BTreeMap::new();
            for cookie in 1..=600 {
                let endpoint = connect(&node, cookie, protocol, target).unwrap();
                assert!((1..=3).any(|pod| endpoint == ip.pod(pod, if protocol == TCP { 8080 } else { 5353 })));
                *tally.entry(endpoint.ip()).or_default() += 1;
                assert_eq!(peer(&node, cookie, endpoint), Some(target));
                assert_eq!(peer(&node, cookie + 1_000, endpoint), None, "another socket");
                assert_eq!(peer(&node, cookie, target), None, "named once already");
            }
            assert!(
                tally.len() == 3 && tally.values().all(|&count| count > 150),
                "{tally:?}"
            );
        }
    }
}

/// Under a Local policy the node chooses from the cluster's endpoints, on its way in from nowhere else.
#[test]
fn rule_13_the_node_gets_the_cluster_set() {
    for ip in Ip::ALL {
        let (node, mut cluster) = (Node::new(), Cluster::default());
        let pods = endpoints(ip, 8080, 1..=2);
        for (way, target) in [(Way::NODE_PORT, ip.node()), (Way::EXTERNAL_IP, ip.vip(9, 0).ip())] {
            let target = SocketAddr::new(target, 30_080);
            cluster.put(&node.tables, service(1, TCP, target, &pods).way(way).local(&[]));
            assert!(pods.contains(&connect(&node, 1, TCP, target).unwrap()), "{way:?}");
        }
    }
}

#[test]
fn rule_15_source_ranges_ask_for_the_nodes_address() {
    for ip in Ip::ALL {
        let (node, mut cluster) = (Node::new(), Cluster::default());
        let (pods, target) = (endpoints(ip, 8080, [1]), ip.vip(9, 80));
        let balanced = service(1, TCP, target, &pods).way(Way::LOAD_BALANCER).filtered();
        cluster.put(&node.tables, balanced);
        assert_eq!(connect(&node, 1, TCP, target), Err(Reason::SourceRange));
        let length = if ip == Ip::V4 { 32 } else { 128 };
        node.set_source_range(1, &format!("{}/{length}", ip.node()));
        assert_eq!(connect(&node, 1, TCP, target), Ok(pods[0]));
    }
}

#[test]
fn section_3_refusals() {
    for ip in Ip::ALL {
        let (node, mut cluster) = (Node::new(), Cluster::default());
        node.set_network(&ip.network(Ip::vip), Network::SERVICES);
        cluster.put(&node.tables, service(1, TCP, ip.vip(1, 80), &[]));
        cluster.put(&node.tables, service(2, TCP, ip.vip(2, 80), &[]).local(&[]));
        cluster.put(&node.tables, other_ports(1, ip.vip(1, 0).ip()));
        for (protocol, target, reason) in [
            (TCP, ip.vip(1, 80), Reason::NoEndpoint),
            (TCP, ip.vip(1, 81), Reason::OtherPort),
            (UDP, ip.vip(1, 80), Reason::OtherPort),
            (TCP, ip.vip(3, 80), Reason::Unallocated),
            (TCP, ip.client(1, 80), Reason::NotAService),
        ] {
            assert_eq!(connect(&node, 1, protocol, target), Err(reason), "{target}");
        }
        assert_eq!(peer(&node, 1, ip.client(1, 80)), None);
    }
}

/// A socket's datagrams to one Service stay with an endpoint, as a flow does, until that is gone.
#[test]
fn rule_11_and_26_datagrams_stay_while_their_endpoint_does() {
    for ip in Ip::ALL {
        for cookie in 1..=30 {
            let (node, mut cluster) = (Node::new(), Cluster::default());
            let target = ip.vip(1, 53);
            let mut serve = |pods: &[u16]| {
                let pods = endpoints(ip, 5353, pods.iter().copied());
                cluster.put(&node.tables, service(1, UDP, target, &pods));
            };
            serve(&[1]);
            assert_eq!(connect(&node, cookie, UDP, target), Ok(ip.pod(1, 5353)));
            serve(&[1, 2, 3, 4, 5, 6]);
            assert_eq!(connect(&node, cookie, UDP, target), Ok(ip.pod(1, 5353)));
            serve(&[2]);
            assert_eq!(connect(&node, cookie, UDP, target), Ok(ip.pod(2, 5353)));
            assert_eq!(peer(&node, cookie, ip.pod(2, 5353)), Some(target));
            serve(&[1, 2]);
            assert_eq!(connect(&node, cookie, UDP, target), Ok(ip.pod(2, 5353)));
            serve(&[]);
            assert_eq!(connect(&node, cookie, UDP, target), Err(Reason::NoEndpoint));
        }
    }
}

/// Two Services of one endpoint: the answer comes from the one that was asked last.
#[test]
fn rule_19_answers_come_from_the_service_that_was_asked() {
    for ip in Ip::ALL {
        let (node, mut cluster) = (Node::new(), Cluster::default());
        let pods = endpoints(ip, 5353, [1]);
        let targets = [ip.vip(1, 53), ip.vip(2, 53)];
        for (number, target) in (1..).zip(targets) {
            cluster.put(&node.tables, service(number, UDP, target, &pods));
        }
        for target in [targets[0], targets[1], targets[0], targets[1]] {
            assert_eq!(connect(&node, 1, UDP, target), Ok(pods[0]));
            assert_eq!(peer(&node, 1, pods[0]), Some(target));
        }
        node.tables.v4.sockets.clear();
        node.tables.v6.sockets.clear();
        assert_eq!(connect(&node, 1, UDP, targets[0]), Ok(pods[0]));
        assert_eq!(peer(&node, 1, pods[0]), Some(targets[0]), "evicted, and there again");
    }
}

#[test]
fn rule_20_affinity_is_that_of_a_client_with_the_nodes_address() {
    for ip in Ip::ALL {
        let (node, mut cluster) = (Node::new(), Cluster::default());
        for (port, target) in [(80, 8080), (443, 8443)] {
            let pods = endpoints(ip, target, 1..=5);
            cluster.put(&node.tables, service(1, TCP, ip.vip(1, port), &pods).affinity(100));
        }
        let first = connect(&node, 1, TCP, ip.vip(1, 80)).unwrap().ip();
        for cookie in 2..=40 {
            let port = if cookie % 2 == 0 { 443 } else { 80 };
            assert_eq!(connect(&node, cookie, TCP, ip.vip(1, port)).unwrap().ip(), first);
        }
        let client = SocketAddr::new(ip.node(), 1234);
        let outcome = node.run(&crate::model::tcp(client, ip.vip(1, 80), "S"));
        assert_eq!(outcome.dst().ip(), first, "as for its packets");
    }
}
