//! Rules 12 to 16: the ways in, and which policy is whose.

use crate::given::{cluster, service, slice};

const OUTSIDE: &str = "198.51.100.7";
const POD: &str = "10.1.0.9";
const NODE: &str = "192.0.2.1";
const HERE: &str = "10.1.0.1:8080";

fn endpoints(name: &str) -> String {
    slice(name, &["10.1.0.1, nodeName: here", "10.1.0.2, nodeName: there"])
}

#[test]
fn rule_12_the_internal_policy_is_of_cluster_ips_the_external_one_of_all_else() {
    let exposed = "type: LoadBalancer, loadBalancerIP: 203.0.113.LAST, externalIPs: [198.51.100.LAST], clusterIP: 10.96.0.LAST, \
                   ports: [{port: 80, nodePort: 3000LAST}]";
    let kubia = |last: &str, policy: &str| {
        service(
            &format!("s{last}"),
            &format!("{}, {policy}", exposed.replace("LAST", last)),
        )
    };
    let all = "10.1.0.1:8080 10.1.0.2:8080";
    let masqueraded = "10.1.0.1:8080 10.1.0.2:8080 masquerade";
    cluster([
        kubia("1", "internalTrafficPolicy: Local"),
        endpoints("s1"),
        kubia("2", "externalTrafficPolicy: Local"),
        endpoints("s2"),
    ])
    .judges([
        (OUTSIDE, "10.96.0.1:80", HERE),
        (OUTSIDE, "203.0.113.1:80", masqueraded),
        (OUTSIDE, "198.51.100.1:80", masqueraded),
        (OUTSIDE, "192.0.2.1:30001", masqueraded),
        (OUTSIDE, "10.96.0.2:80", all),
        (OUTSIDE, "203.0.113.2:80", HERE),
        (OUTSIDE, "198.51.100.2:80", HERE),
        (OUTSIDE, "192.0.2.1:30002", HERE),
    ]);
}

#[test]
fn rule_12_the_internal_policy_binds_pods_and_the_node_too() {
    let cluster = cluster([
        service("kubia", "clusterIP: 10.96.0.10, internalTrafficPolicy: Local"),
        endpoints("kubia"),
    ]);
    cluster.cluster_cidr("10.1.0.0/16").judges([
        (POD, "10.96.0.10:80", HERE),
        (NODE, "10.96.0.10:80", "10.1.0.1:8080 masquerade"),
        (OUTSIDE, "10.96.0.10:80", "10.1.0.1:8080 masquerade"),
    ]);
}

#[test]
fn rule_13_pods_and_the_node_short_circuit_a_local_policy() {
    let spec = "clusterIP: 10.96.0.10, type: LoadBalancer, loadBalancerIP: 203.0.113.1, externalTrafficPolicy: Local, \
                externalIPs: [198.51.100.1], ports: [{port: 80, nodePort: 30080}]";
    let all = "10.1.0.1:8080 10.1.0.2:8080";
    let masqueraded = "10.1.0.1:8080 10.1.0.2:8080 masquerade";
    let kubia = || cluster([service("kubia", spec), endpoints("kubia")]);
    for way in ["203.0.113.1:80", "198.51.100.1:80", "192.0.2.1:30080"] {
        kubia()
            .cluster_cidr("10.1.0.0/16")
            .judges([(OUTSIDE, way, HERE), (POD, way, all), (NODE, way, masqueraded)]);
        // Without --cluster-cidr a pod looks like any other client.
        kubia().judges([(OUTSIDE, way, HERE), (POD, way, HERE), (NODE, way, masqueraded)]);
        // An address of the node among the pods' is a pod's.
        kubia()
            .cluster_cidr("10.1.0.0/16")
            .node_ips("192.0.2.1,10.1.0.254")
            .judges([("10.1.0.254", way, all)]);
    }
    let elsewhere = cluster([service("kubia", spec), slice("kubia", &["10.1.0.2, nodeName: there"])]);
    elsewhere.cluster_cidr("10.1.0.0/16").judges([
        (OUTSIDE, "203.0.113.1:80", "drop"),
        (POD, "203.0.113.1:80", "10.1.0.2:8080"),
        (NODE, "203.0.113.1:80", "10.1.0.2:8080 masquerade"),
    ]);
}

#[test]
fn rule_14_load_balancer_ips_that_packets_arrive_with() {
    let kubia = service("kubia", "clusterIP: 10.96.0.10, type: LoadBalancer, loadBalancerIP: 203.0.113.9").replace(
        "spec:",
        "status: {loadBalancer: {ingress: [{ip: 203.0.113.1}, {ip: 203.0.113.2, ipMode: VIP}, {ip: 203.0.113.3, ipMode: Proxy}, \
         {hostname: lb.example.org}, {ip: 203.0.113.1}, {ip: '2001:db8::1'}]}}, spec:",
    );
    let plain = service("plain", "clusterIP: 10.96.0.11, loadBalancerIP: 203.0.113.4");
    let proxied = service(
        "proxied",
        "clusterIP: 10.96.0.12, type: LoadBalancer, loadBalancerIP: 203.0.113.5",
    )
    .replace(
        "spec:",
        "status: {loadBalancer: {ingress: [{ip: 203.0.113.5, ipMode: Proxy}]}}, spec:",
    );
    let cluster = cluster([
        kubia,
        endpoints("kubia"),
        plain,
        endpoints("plain"),
        proxied,
        endpoints("proxied"),
    ]);
    let all = "10.1.0.1:8080 10.1.0.2:8080 masquerade";
    cluster.judges([
        (OUTSIDE, "203.0.113.1:80", all),
        (OUTSIDE, "203.0.113.2:80", all),
        (OUTSIDE, "203.0.113.3:80", "pass"),
        (OUTSIDE, "203.0.113.9:80", all),
        (OUTSIDE, "203.0.113.4:80", "pass"),
        (OUTSIDE, "203.0.113.5:80", "pass"),
        ("2001:db8::7", "[2001:db8::1]:80", "pass"),
    ]);
    assert_eq!(cluster.service("kubia").load_balancer_ips.len(), 3);
}

#[test]
fn rule_15_source_ranges_filter_load_balancer_ips_only() {
    let exposed = |name: &str, last: u8, ranges: &str| {
        let spec = format!(
            "clusterIPs: [10.96.0.{last}, 'fd00:10:96::{last}'], ipFamilyPolicy: PreferDualStack, type: LoadBalancer, \
             externalIPs: [198.51.100.{last}], loadBalancerSourceRanges: [{ranges}], ports: [{{port: 80, nodePort: 3008{last}}}]"
        );
        let status = format!(
            "status: {{loadBalancer: {{ingress: [{{ip: 203.0.113.{last}}}, {{ip: '2001:db8::{last}'}}]}}}}, spec:"
        );
        service(name, &spec).replace("spec:", &status)
    };
    let slices = |name: &str| [slice(name, &["10.1.0.1"]), slice(name, &["fd00:1::1"])];
    let cluster = cluster(
        [
            exposed("narrow", 1, "' 198.51.100.0/24 ', \"10.0.0.0/8\\t\""),
            exposed("all", 2, "192.0.2.128/25, 0.0.0.0/0"),
            exposed("six", 3, "'2001:db8:7::/48'"),
            exposed("node", 4, "192.0.2.0/24"),
        ]
        .into_iter()
        .chain(["narrow", "all", "six", "node"].into_iter().flat_map(slices)),
    );
    let (four, six) = ("10.1.0.1:8080 masquerade", "[fd00:1::1]:8080 masquerade");
    cluster.judges([
        ("198.51.100.7", "203.0.113.1:80", four),
        ("10.1.0.9", "203.0.113.1:80", four),
        ("192.0.2.77", "203.0.113.1:80", "drop"),
        (NODE, "203.0.113.1:80", "drop"),
        ("203.0.113.1", "203.0.113.1:80", "drop"),
        ("192.0.2.77", "198.51.100.1:80", four),
        ("192.0.2.77", "192.0.2.1:30081", four),
        ("192.0.2.77", "10.96.0.1:80", "10.1.0.1:8080"),
        ("2001:db8:9::1", "[2001:db8::1]:80", six),
        (OUTSIDE, "203.0.113.2:80", four),
        (OUTSIDE, "203.0.113.3:80", four),
        ("2001:db8:7::1", "[2001:db8::3]:80", six),
        ("2001:db8:9::1", "[2001:db8::3]:80", "drop"),
        (NODE, "203.0.113.4:80", four),
        ("203.0.113.4", "203.0.113.4:80", four),
        ("203.0.113.1", "203.0.113.4:80", "drop"),
    ]);
}

#[test]
fn rule_15_a_client_outside_the_ranges_is_dropped_even_where_nobody_serves() {
    let spec = "clusterIP: 10.96.0.10, type: LoadBalancer, loadBalancerIP: 203.0.113.1, loadBalancerSourceRanges: [10.0.0.0/8]";
    cluster([service("kubia", spec)]).judges([
        (OUTSIDE, "203.0.113.1:80", "drop"),
        ("10.1.0.9", "203.0.113.1:80", "reject"),
    ]);
}

#[test]
fn rule_16_node_ports_answer_on_the_nodes_addresses() {
    let spec = "clusterIP: 10.96.0.10, type: NodePort, ports: [{port: 80, nodePort: 30080}]";
    let kubia = || cluster([service("kubia", spec), slice("kubia", &["10.1.0.1"])]);
    let to = "10.1.0.1:8080 masquerade";
    kubia().node_ips("192.0.2.1,10.99.0.1,127.0.0.1").judges([
        (OUTSIDE, "192.0.2.1:30080", to),
        (OUTSIDE, "10.99.0.1:30080", to),
        (NODE, "127.0.0.1:30080", "pass"),
        (OUTSIDE, "192.0.2.2:30080", "pass"),
        (OUTSIDE, "192.0.2.1:30081", "pass"),
        (OUTSIDE, "192.0.2.1:30080/udp", "pass"),
        (OUTSIDE, "192.0.2.1:80", "pass"),
    ]);
    kubia()
        .node_ips("192.0.2.1,10.99.0.1")
        .nodeport_addresses("10.0.0.0/8")
        .judges([(OUTSIDE, "192.0.2.1:30080", "pass"), (OUTSIDE, "10.99.0.1:30080", to)]);
}

#[test]
fn rule_16_load_balancers_have_node_ports_unless_they_say_no() {
    let node_ports = |spec: &str| {
        cluster([service("kubia", spec)])
            .service("kubia")
            .ports
            .iter()
            .map(|port| port.node_port)
            .collect::<Vec<_>>()
    };
    let is_assigned = |port: Option<u16>| port.is_some_and(|port| (30_000..=32_767).contains(&port));
    assert!(is_assigned(node_ports("type: NodePort")[0]));
    assert!(is_assigned(node_ports("type: LoadBalancer")[0]));
    assert_eq!(
        node_ports("type: LoadBalancer, allocateLoadBalancerNodePorts: false"),
        [None]
    );
    let given = "type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80, nodePort: 30080}]";
    assert_eq!(node_ports(given), [Some(30_080)]);
    assert_eq!(node_ports("type: ClusterIP"), [None]);
    let dns = node_ports(
        "type: NodePort, ports: [{name: a, port: 53}, {name: b, port: 53, protocol: UDP}, {name: c, port: 54}]",
    );
    assert!(
        dns[0] == dns[1] && dns[0] != dns[2],
        "ports of one number share a nodePort: {dns:?}"
    );
}

#[test]
fn rule_16_node_ports_stay() {
    let documents = [service("kubia", "type: NodePort"), service("other", "type: NodePort")];
    let before = cluster(documents.clone()).read();
    let port = |input: &svcproxy::input::Input, name: &str| {
        let services = &input.model.as_ref().unwrap().services;
        services.iter().find(|service| service.name.name == name).unwrap().ports[0]
            .node_port
            .unwrap()
    };
    let kubia = port(&before, "kubia");
    assert_eq!(kubia, 30_601, "the same in every release");
    // Another one claims it: what is written comes before what is remembered.
    let claim = format!("type: NodePort, ports: [{{port: 80, nodePort: {kubia}}}]");
    let after = cluster([documents[0].clone(), service("claim", &claim)]).read_after(&before.state);
    assert_eq!(port(&after, "claim"), kubia);
    assert_ne!(port(&after, "kubia"), kubia);
    assert_ne!(
        port(&after, "kubia"),
        port(&before, "other"),
        "a port rests for one reload"
    );
    let record = &after.state.services["default/kubia"].ports[0];
    assert_eq!(record.node_port, Some(port(&after, "kubia")));
}
