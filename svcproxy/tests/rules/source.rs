//! Rule 17: who is masqueraded.

use svcproxy::{conformance::decide, model::Protocol};

use crate::given::{Cluster, cluster, service, slice};

const OUTSIDE: &str = "198.51.100.7";
const POD: &str = "10.1.0.9";
const NODE: &str = "192.0.2.1";

const TO: &str = "10.1.0.1:8080";
const MASQUERADED: &str = "10.1.0.1:8080 masquerade";

fn kubia(policy: &str) -> Cluster {
    let spec = format!(
        "clusterIP: 10.96.0.10, type: LoadBalancer, loadBalancerIP: 203.0.113.1, externalIPs: [198.51.100.1], {policy} \
         ports: [{{port: 80, nodePort: 30080}}]"
    );
    cluster([service("kubia", &spec), slice("kubia", &["10.1.0.1, nodeName: here"])])
}

#[test]
fn rule_17_cluster_ips_masquerade_clients_that_are_known_to_be_no_pods() {
    let vip = "10.96.0.10:80";
    kubia("").judges([(OUTSIDE, vip, TO), (POD, vip, TO), (NODE, vip, TO)]);
    let known = kubia("").cluster_cidr("10.1.0.0/16");
    known.judges([(OUTSIDE, vip, MASQUERADED), (POD, vip, TO), (NODE, vip, MASQUERADED)]);
    let all = kubia("").cluster_cidr("10.1.0.0/16").masquerade_all();
    all.judges([
        (OUTSIDE, vip, MASQUERADED),
        (POD, vip, MASQUERADED),
        (NODE, vip, MASQUERADED),
    ]);
    // The flag of the other family says nothing about this one.
    kubia("")
        .cluster_cidr("fd00:1::/64")
        .judges([(OUTSIDE, vip, TO), (POD, vip, TO), (NODE, vip, TO)]);
}

#[test]
fn rule_17_every_other_way_masquerades_unless_its_policy_is_local() {
    for way in ["203.0.113.1:80", "198.51.100.1:80", "192.0.2.1:30080"] {
        for cidr in ["10.1.0.0/16", "fd00:1::/64"] {
            let cluster = kubia("").cluster_cidr(cidr);
            cluster.judges([
                (OUTSIDE, way, MASQUERADED),
                (POD, way, MASQUERADED),
                (NODE, way, MASQUERADED),
            ]);
            // --masquerade-all is about cluster IPs.
            let local = kubia("externalTrafficPolicy: Local,")
                .cluster_cidr(cidr)
                .masquerade_all();
            local.judges([(OUTSIDE, way, TO), (POD, way, TO), (NODE, way, MASQUERADED)]);
        }
    }
}

#[test]
fn rule_17_an_endpoint_that_reaches_itself_is_masqueraded() {
    let spec = "clusterIPs: [10.96.0.10, 'fd00:10:96::a'], ipFamilyPolicy: PreferDualStack";
    let endpoints = [
        slice("kubia", &["10.1.0.1", "10.1.0.2"]),
        slice("kubia", &["fd00:1::1", "fd00:1::2"]),
    ];
    let cluster =
        cluster([service("kubia", spec)].into_iter().chain(endpoints)).cluster_cidr("10.1.0.0/16,fd00:1::/64");
    let model = cluster.model();
    for (src, vip) in [("10.1.0.1", "10.96.0.10:80"), ("fd00:1::1", "[fd00:10:96::a]:80")] {
        let expected = decide(
            &model,
            &cluster.policy,
            src.parse().unwrap(),
            vip.parse().unwrap(),
            Protocol::TCP,
        );
        assert!(!expected.masquerade);
        let masqueraded: Vec<_> = expected
            .backends
            .iter()
            .map(|backend| expected.masquerades(*backend))
            .collect();
        assert_eq!(masqueraded, [true, false], "{src}");
    }
}
