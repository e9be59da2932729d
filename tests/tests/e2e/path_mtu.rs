//! Path MTU discovery works through a Service, wherever the narrow link is: all that is sent may not be fragmented, and
//! whoever sends too much must hear of it.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use svcproxy_tests::{
    beyond::Behind,
    client,
    daemon::Daemon,
    lab::Lab,
    manifest::{self, Endpoint},
    namespace::Namespace,
    topology::{CLIENT, NODE},
};

use crate::{
    exposed::{HERE, Place, counted, lab, run},
    over_xdp_and_tc,
    scenario::assert_transferred,
};

over_xdp_and_tc!(
    rule_22_a_narrow_link_beyond_the_client,
    rule_22_a_narrow_link_beyond_the_endpoint,
    rule_22_the_nodes_own_links_are_narrow,
);

/// Each way.
const LENGTH: u64 = 20_000_000;
/// Far less than a sender takes that hears nothing: it repeats one segment after 0.2 s, 0.4 s, 0.8 s …
const LIMIT: Duration = Duration::from_secs(10);

/// Paths that exist: a network of its own for each.
const MTUS: [(u8, u32); 2] = [(5, 1280), (6, 576)];

/// svcproxy with a Service for each endpoint.
fn serve(mode: &str, lab: &Lab, endpoints: &[[IpAddr; 2]]) -> Daemon {
    let service = |(place, addresses): (Place, &[IpAddr; 2])| {
        let (name, ports) = (
            format!("kubia{}", place.0),
            [("tcp", "TCP", 8080), ("udp", "UDP", 8080)],
        );
        let endpoint = Endpoint {
            addresses: *addresses,
            node: HERE,
            conditions: "",
        };
        place.service(&name).yaml() + &manifest::slices(&name, &ports, &[endpoint])
    };
    let services: String = (1..).map(Place).zip(endpoints).map(service).collect();
    run(mode, lab, &services, &[])
}

/// A Service's cluster IP, and its nodePort, where clients are masqueraded; IPv6 where it can be.
fn targets(place: &Place, mtu: u32) -> impl Iterator<Item = SocketAddr> {
    let cluster_ips = place.cluster_ips().map(|ip| SocketAddr::new(ip, 80));
    let node_ports = NODE.map(|ip| SocketAddr::new(ip, place.node_port()));
    let targets = cluster_ips.into_iter().chain(node_ports);
    targets.filter(move |target| target.is_ipv4() || mtu >= 1280)
}

/// Sends much both ways.
#[track_caller]
fn transfer(from: &Namespace, target: SocketAddr) {
    let start = Instant::now();
    assert_transferred(from, target, LENGTH);
    let took = start.elapsed();
    assert!(took < LIMIT, "{target}: {took:?}");
}

/// Asserts that the kernel of a namespace has been told of the path to an address.
#[track_caller]
fn assert_learnt(namespace: &Namespace, to: IpAddr, mtu: u32) {
    let route = namespace.run("ip", &["route", "get", &to.to_string()]).unwrap();
    assert!(route.contains(&format!(" mtu {mtu} ")), "{route}");
}

/// How many senders svcproxy itself has told.
fn told(lab: &Lab) -> u64 {
    counted(lab, "too_big")
}

fn rule_22_a_narrow_link_beyond_the_client(mode: &str) {
    let mut lab = lab(mode);
    let far = MTUS.map(|(number, mtu)| {
        let name = format!("far{number}");
        let [address, _] = lab.add_beyond(&name, number, Behind::Client, mtu).unwrap();
        (name, address, mtu)
    });
    let _daemon = serve(mode, &lab, &[lab.pods[0].addresses]);
    for (name, address, mtu) in far {
        for target in targets(&Place(1), mtu) {
            transfer(&lab.pod(&name).unwrap().namespace, target);
        }
        // The endpoint, who saw this client by way of the cluster IP.
        assert_learnt(&lab.pods[0].namespace, address, mtu);
    }
}

fn rule_22_a_narrow_link_beyond_the_endpoint(mode: &str) {
    let mut lab = lab(mode);
    let endpoints = MTUS.map(|(number, mtu)| {
        let name = format!("far{number}");
        lab.add_beyond(&name, number, Behind::Remote, mtu).unwrap()
    });
    let _daemon = serve(mode, &lab, &endpoints);
    for (place, (_, mtu)) in (1..).map(Place).zip(MTUS) {
        // Both have nodePorts at one address, whose path is the narrower of two.
        lab.client.run("ip", &["route", "flush", "cache"]).unwrap();
        for target in targets(&place, mtu) {
            // The first datagram is lost, and the sender told why; the next is sent in pieces.
            lab.client.enter(|| client::udp(target, &[b'x'; 1400])).unwrap();
            assert_learnt(&lab.client, target.ip(), mtu);
            transfer(&lab.client, target);
        }
    }
}

/// Who has a narrow link itself asks for small segments; here it asks for large ones, as a host further on would.
fn rule_22_the_nodes_own_links_are_narrow(mode: &str) {
    let lab = lab(mode);
    let pod = &lab.pods[0];
    let _daemon = serve(mode, &lab, &[pod.addresses]);
    let narrow = |namespace: &Namespace, mtu: u32| namespace.ip(&format!("link set eth0 mtu {mtu}")).unwrap();
    lab.node.ip(&format!("link set {} mtu 1280", pod.interface)).unwrap();
    narrow(&pod.namespace, 1280);
    pod.namespace
        .ip("route replace default via 10.244.0.1 advmss 1460
             route replace default via fd00:10:244::1 advmss 1440")
        .unwrap();
    targets(&Place(1), 1280).for_each(|target| transfer(&lab.client, target));
    assert_learnt(&lab.client, Place(1).cluster_ips()[1], 1280);
    let told_before = told(&lab);
    assert!(told_before > 0);

    lab.node.ip(&format!("link set {} mtu 1500", pod.interface)).unwrap();
    narrow(&pod.namespace, 1500);
    narrow(&lab.node, 1280);
    narrow(&lab.client, 1280);
    lab.client
        .ip("route replace 10.96.0.0/12 via 10.0.0.1 advmss 1460
             route replace fd00:10:96::/112 via fd00:a::1 advmss 1440
             route replace 10.0.0.1/32 dev eth0 advmss 1460
             route replace fd00:a::1/128 dev eth0 advmss 1440")
        .unwrap();
    // What the routing has answered holds for the second in which it did, and a transfer takes less.
    thread::sleep(Duration::from_millis(1100));
    targets(&Place(1), 1280).for_each(|target| transfer(&lab.client, target));
    assert_learnt(&pod.namespace, CLIENT[1], 1280);
    assert!(told(&lab) > told_before);
}
