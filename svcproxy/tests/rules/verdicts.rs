//! Section 3: forward, drop, reject or pass.

use crate::given::{Cluster, cluster, service, slice};

const OUTSIDE: &str = "198.51.100.7";

const CLUSTER_IP: &str = "10.96.0.10:80";
const WAYS: [&str; 3] = ["203.0.113.1:80", "198.51.100.1:80", "192.0.2.1:30080"];

/// A Service with every way in.
fn exposed(policies: &str, endpoints: &[&str]) -> Cluster {
    let spec = format!(
        "clusterIP: 10.96.0.10, type: LoadBalancer, loadBalancerIP: 203.0.113.1, externalIPs: [198.51.100.1], {policies} \
         ports: [{{port: 80, nodePort: 30080}}]"
    );
    let mut documents = vec![service("kubia", &spec)];
    if !endpoints.is_empty() {
        documents.push(slice("kubia", endpoints));
    }
    cluster(documents)
}

#[test]
fn section_3_endpoints_in_the_set_elsewhere_or_nowhere() {
    const LOCAL: &str = "internalTrafficPolicy: Local, externalTrafficPolicy: Local,";
    const HERE: &str = "10.1.0.1, nodeName: here";
    const THERE: &str = "10.1.0.2, nodeName: there";
    for (policies, endpoints, cluster_ip, others) in [
        ("", vec![THERE], "10.1.0.2:8080", "10.1.0.2:8080 masquerade"),
        ("", vec![], "reject", "reject"),
        (LOCAL, vec![HERE, THERE], "10.1.0.1:8080", "10.1.0.1:8080"),
        (LOCAL, vec![THERE], "drop", "drop"),
        (LOCAL, vec![], "reject", "reject"),
        (LOCAL, vec!["10.1.0.2, conditions: {ready: false}"], "reject", "reject"),
    ] {
        let cluster = exposed(policies, &endpoints);
        cluster.judges([(OUTSIDE, CLUSTER_IP, cluster_ip)]);
        cluster.judges(WAYS.map(|way| (OUTSIDE, way, others)));
    }
}

#[test]
fn section_3_other_ports_and_addresses() {
    let cluster = exposed("", &["10.1.0.1"]);
    cluster.judges([
        // Other ports of a live cluster IP.
        (OUTSIDE, "10.96.0.10:81", "reject"),
        (OUTSIDE, "10.96.0.10:80/udp", "reject"),
        (OUTSIDE, "10.96.0.10:30080", "reject"),
        // Unallocated addresses of the service range.
        (OUTSIDE, "10.96.0.11:80", "drop"),
        (OUTSIDE, "10.111.255.255:80/sctp", "drop"),
        ("2001:db8::7", "[fd00:10:96::b]:80", "drop"),
        // Other ports of external and load balancer IPs.
        (OUTSIDE, "203.0.113.1:81", "pass"),
        (OUTSIDE, "198.51.100.1:80/udp", "pass"),
        (OUTSIDE, "192.0.2.1:22", "pass"),
        // Nothing of ours.
        (OUTSIDE, "10.112.0.1:80", "pass"),
        (OUTSIDE, "10.1.0.1:8080", "pass"),
    ]);
}

#[test]
fn section_3_a_cluster_ip_outside_the_range_refuses_its_other_ports() {
    let documents = [
        service("kubia", "clusterIP: 10.200.0.10"),
        slice("kubia", &["10.1.0.1"]),
    ];
    cluster(documents).cluster_cidr("10.200.0.0/16").judges([
        ("10.200.0.1", "10.200.0.10:80", "10.1.0.1:8080"),
        ("10.200.0.1", "10.200.0.10:81", "reject"),
        ("10.200.0.1", "10.200.0.11:80", "pass"),
    ]);
}

#[test]
fn section_3_a_real_network_within_the_range_is_not_ours() {
    let cluster = cluster([service("kubia", "clusterIP: 10.97.0.10"), slice("kubia", &["10.1.0.1"])]);
    let mut model = cluster.model();
    model.node.foreign_networks = vec!["10.97.0.0/24".parse().unwrap()];
    let judge = |dst: &str| {
        let (src, dst) = (OUTSIDE.parse().unwrap(), dst.parse().unwrap());
        svcproxy::conformance::decide(&model, &cluster.policy, src, dst, svcproxy::model::Protocol::TCP)
            .verdict
            .name()
    };
    assert_eq!(judge("10.97.0.11:80"), "pass");
    assert_eq!(judge("10.97.1.11:80"), "drop");
    assert_eq!(judge("10.97.0.10:80"), "forward");
    assert_eq!(judge("10.97.0.10:81"), "reject");
}

#[test]
fn section_3_a_real_network_may_be_the_whole_range() {
    let cluster = cluster([service("kubia", "clusterIP: 10.97.0.10"), slice("kubia", &["10.1.0.1"])]);
    let mut model = cluster.model();
    model.node.foreign_networks = vec!["10.96.0.0/12".parse().unwrap()];
    for (dst, verdict) in [
        ("10.97.0.11:80", "pass"),
        ("10.97.0.10:80", "forward"),
        ("10.97.0.10:81", "reject"),
    ] {
        let (src, dst) = (OUTSIDE.parse().unwrap(), dst.parse().unwrap());
        let judged = svcproxy::conformance::decide(&model, &cluster.policy, src, dst, svcproxy::model::Protocol::TCP);
        assert_eq!(judged.verdict.name(), verdict, "{dst}");
    }
}
