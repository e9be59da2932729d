//! Section 1: which objects count.

use crate::given::{cluster, service, slice, slice_of};

const OUTSIDE: &str = "198.51.100.7";
const VIP: &str = "10.96.0.10:80";

#[test]
fn rule_1_services_pods_slices_endpoints_nodes_and_lists_in_yaml_and_json() {
    let list = "{apiVersion: v1, kind: List, items: [\
        {apiVersion: v1, kind: Service, metadata: {name: listed}, spec: {clusterIP: 10.96.0.11, ports: [{port: 80}]}}, \
        {apiVersion: v1, kind: Endpoints, metadata: {name: listed}, subsets: [{addresses: [{ip: 10.1.0.2}], ports: [{port: 8080}]}]}]}";
    let json = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"app": "kubia"}},
        "status": {"podIP": "10.1.0.3"}}"#;
    let node = "{apiVersion: v1, kind: Node, metadata: {name: here}, status: {addresses: \
        [{type: Hostname, address: here}, {type: ExternalIP, address: 203.0.113.7}, {type: InternalIP, address: 10.99.0.7}]}}";
    let deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: kubia}, spec: {}}";
    let documents = [
        service("kubia", "clusterIP: 10.96.0.10"),
        slice("kubia", &["10.1.0.1"]),
        list.to_owned(),
        json.to_owned(),
        service(
            "selected",
            "clusterIP: 10.96.0.12, selector: {app: kubia}, type: NodePort, ports: [{port: 80, nodePort: 30080}]",
        ),
        node.to_owned(),
        deployment.to_owned(),
    ];
    let cluster = cluster(documents).node_ips("");
    cluster.judges([
        (OUTSIDE, "10.96.0.10:80", "10.1.0.1:8080"),
        (OUTSIDE, "10.96.0.11:80", "10.1.0.2:8080"),
        (OUTSIDE, "10.96.0.12:80", "10.1.0.3:80"),
        (OUTSIDE, "10.99.0.7:30080", "10.1.0.3:80 masquerade"),
        (OUTSIDE, "203.0.113.7:30080", "10.1.0.3:80 masquerade"),
    ]);
    assert_eq!(
        cluster.model().node.addresses[0].to_string(),
        "10.99.0.7",
        "the internal address is the primary one"
    );
    assert!(
        cluster.said().contains("Deployment default/kubia: skipped"),
        "{}",
        cluster.said()
    );
}

#[test]
fn rule_2_services_of_other_proxies_headless_ones_and_names_are_skipped() {
    let labelled = service("other", "clusterIP: 10.96.0.10").replace(
        "{name: other}",
        "{name: other, labels: {service.kubernetes.io/service-proxy-name: ''}}",
    );
    let headless_slice =
        slice("kubia", &["10.1.0.9"]).replace("labels: {", "labels: {service.kubernetes.io/headless: '', ");
    let documents = [
        labelled,
        slice("other", &["10.1.0.1"]),
        service("headless", "clusterIP: None"),
        service(
            "name",
            "type: ExternalName, externalName: example.org, externalIPs: [203.0.113.1]",
        ),
        service("kubia", "clusterIP: 10.96.0.11"),
        slice("kubia", &["10.1.0.2"]),
        headless_slice,
    ];
    let cluster = cluster(documents);
    assert_eq!(cluster.model().services.len(), 1);
    cluster.judges([
        (OUTSIDE, VIP, "drop"),
        (OUTSIDE, "203.0.113.1:80", "pass"),
        (OUTSIDE, "10.96.0.11:80", "10.1.0.2:8080"),
    ]);
}

#[test]
fn rule_3_tcp_udp_and_sctp_on_one_number_are_three_service_ports() {
    let ports = "ports: [{name: t, port: 80}, {name: u, port: 80, protocol: UDP}, {name: s, port: 80, protocol: SCTP}]";
    let documents = [
        service("kubia", &format!("clusterIP: 10.96.0.10, {ports}")),
        slice_of("kubia", "{name: t, port: 1}", &["10.1.0.1"]),
        slice_of("kubia", "{name: u, port: 2, protocol: UDP}", &["10.1.0.2"]),
        slice_of("kubia", "{name: s, port: 3, protocol: SCTP}", &["10.1.0.3"]),
    ];
    cluster(documents).judges([
        (OUTSIDE, VIP, "10.1.0.1:1"),
        (OUTSIDE, "10.96.0.10:80/udp", "10.1.0.2:2"),
        (OUTSIDE, "10.96.0.10:80/sctp", "10.1.0.3:3"),
    ]);
}

#[test]
fn rule_4_slices_are_united_by_port_name_and_protocol() {
    let dual = "clusterIPs: [10.96.0.10, 'fd00:10:96::a'], ipFamilyPolicy: PreferDualStack";
    let leaving = "10.1.0.1, conditions: {ready: false, serving: true, terminating: true}";
    let documents = [
        service("kubia", &format!("{dual}, ports: [{{name: http, port: 80}}]")),
        slice_of("kubia", "{name: http, port: 8080}", &["10.1.0.1", "10.1.0.2"]),
        slice_of("kubia", "{name: http, port: 8080}", &["10.1.0.2", leaving, "10.1.0.1"]),
        slice_of("kubia", "{name: http, port: 9090, protocol: TCP}", &["10.1.0.3"]),
        slice_of("kubia", "{name: http, port: 7070, protocol: UDP}", &["10.1.0.4"]),
        slice_of("kubia", "{name: https, port: 8443}", &["10.1.0.5"]),
        slice_of("kubia", "{name: http, port: 6060}", &["fd00:1::1"]),
    ];
    cluster(documents).judges([
        (OUTSIDE, VIP, "10.1.0.1:8080 10.1.0.2:8080 10.1.0.3:9090"),
        ("2001:db8::7", "[fd00:10:96::a]:80", "[fd00:1::1]:6060"),
    ]);
}

#[test]
fn rule_5_pods_are_endpoints_where_there_is_no_slice() {
    let pod = |name: &str, ip: &str, port: u16, metadata: &str, status: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: kubia}}{metadata}}}, spec: {{nodeName: here, \
             containers: [{{name: c, ports: [{{name: web, containerPort: {port}}}]}}]}}, status: {{podIPs: [{{ip: {ip}}}]{status}}}}}"
        )
    };
    let unready = ", conditions: [{type: Ready, status: 'False'}]";
    let deleted = ", deletionTimestamp: '2026-01-01T00:00:00Z'";
    let pods = || {
        [
            pod("a", "10.1.0.1", 8080, "", ""),
            pod(
                "b",
                "10.1.0.2",
                9090,
                "",
                ", conditions: [{type: Ready, status: 'True'}]",
            ),
            pod("c", "10.1.0.3", 8080, "", unready),
            pod("d", "10.1.0.4", 8080, deleted, ""),
            pod("e", "10.1.0.5", 8080, "", ", phase: Failed"),
            pod("f", "10.1.0.6", 8080, "", ", phase: Succeeded"),
        ]
    };
    let spec = "clusterIP: 10.96.0.10, selector: {app: kubia}, ports: [{port: 80, targetPort: web}]";
    let with = |spec: &str| cluster([service("kubia", spec)].into_iter().chain(pods()));
    with(spec).judges([(OUTSIDE, VIP, "10.1.0.1:8080 10.1.0.2:9090")]);
    let all = "10.1.0.1:8080 10.1.0.2:9090 10.1.0.3:8080 10.1.0.4:8080";
    with(&format!("publishNotReadyAddresses: true, {spec}")).judges([(OUTSIDE, VIP, all)]);
    let slices = [service("kubia", spec), slice("kubia", &["10.1.0.9"])];
    cluster(slices.into_iter().chain(pods())).judges([(OUTSIDE, VIP, "10.1.0.9:8080")]);
}

#[test]
fn rule_6_absent_conditions_mean_ready_and_local_is_the_nodes_name() {
    let documents = [
        service("kubia", "clusterIP: 10.96.0.10, internalTrafficPolicy: Local"),
        slice(
            "kubia",
            &[
                "10.1.0.1, nodeName: here",
                "10.1.0.2, nodeName: here, conditions: {}",
                "10.1.0.3, nodeName: there",
                "10.1.0.4",
                "10.1.0.5, nodeName: Here",
                "10.1.0.6, nodeName: here, conditions: {ready: false}",
            ],
        ),
    ];
    cluster(documents).judges([(OUTSIDE, VIP, "10.1.0.1:8080 10.1.0.2:8080")]);
}

#[test]
fn rule_7_what_is_absent_has_its_default() {
    let kubia = "{apiVersion: v1, kind: Service, metadata: {name: kubia}, spec: {clusterIP: 10.96.0.10, selector: {app: kubia}, ports: [{port: 80}]}}";
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p, namespace: default, labels: {app: kubia}}, status: {podIP: 10.1.0.1}}";
    let cluster = cluster([kubia, pod]);
    cluster.judges([(OUTSIDE, VIP, "10.1.0.1:80"), (OUTSIDE, "10.96.0.10:80/udp", "reject")]);
    let kubia = cluster.service("kubia");
    assert_eq!(kubia.affinity_seconds, None);
    let policies = (kubia.internal_traffic_policy, kubia.external_traffic_policy);
    assert_eq!(policies, Default::default());
    assert_eq!(kubia.service_type.to_string(), "ClusterIP");
}
