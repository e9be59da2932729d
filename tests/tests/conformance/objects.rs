//! Rules 1 to 7: which objects count, and how they are joined.

use crate::given::{here_and_there, scene, service, slice, slice_of};

#[test]
fn rule_1_kinds_of_objects() {
    let list = format!(
        "{{apiVersion: v1, kind: List, items: [{}, {}]}}",
        service("listed", "clusterIP: 10.96.0.1"),
        slice("listed", &["10.1.0.1"])
    );
    let legacy = "{apiVersion: v1, kind: Endpoints, metadata: {name: legacy}, subsets: [{addresses: [{ip: 10.1.0.2}], \
                  notReadyAddresses: [{ip: 10.1.0.3}], ports: [{port: 8080}]}]}";
    let other = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}";
    scene([
        list,
        service("legacy", "clusterIP: 10.96.0.2"),
        legacy.into(),
        other.into(),
    ])
    .judges(
        "
        pod 10.96.0.1:80/tcp  a
        pod 10.96.0.2:80/tcp  b
        ",
    );
}

#[test]
fn rule_2_services_and_slices_that_are_not_ours() {
    let labelled = |document: String, label: &str| {
        document.replacen("metadata: {", &format!("metadata: {{labels: {{{label}}}, "), 1)
    };
    scene([
        labelled(service("other", "clusterIP: 10.96.0.1, externalIPs: [198.18.0.1]"), "service.kubernetes.io/service-proxy-name: ''"),
        here_and_there("other"),
        service("headless", "clusterIP: None, externalIPs: [198.18.0.2]"),
        here_and_there("headless"),
        "{apiVersion: v1, kind: Service, metadata: {name: outside}, spec: {type: ExternalName, externalName: example.org}}".into(),
        service("web", "clusterIP: 10.96.0.4"),
        slice("web", &["10.1.0.1"]),
        slice("web", &["10.1.0.2"]).replace("labels: {", "labels: {service.kubernetes.io/headless: '', "),
    ])
    .judges(
        "
        pod 10.96.0.1:80/tcp   drop       # to this proxy an address that nobody has
        out 198.18.0.1:80/tcp  pass
        out 198.18.0.2:80/tcp  pass
        pod 10.96.0.4:80/tcp   a
        ",
    );
}

#[test]
fn rule_3_one_number_two_protocols_three_with_sctp() {
    let ports = "ports: [{name: t, port: 53, targetPort: 5300}, {name: u, port: 53, protocol: UDP, targetPort: 5301}, \
                 {name: s, port: 53, protocol: SCTP, targetPort: 5302}, {name: none, port: 54, protocol: UDP}]";
    scene([
        service("dns", &format!("clusterIP: 10.96.0.1, {ports}")),
        slice_of("dns", "{name: t, port: 5300}", &["10.1.0.1"]),
        slice_of("dns", "{name: u, port: 5301, protocol: UDP}", &["10.1.0.2"]),
        slice_of("dns", "{name: s, port: 5302, protocol: SCTP}", &["10.1.0.3"]),
    ])
    .judges(
        "
        pod 10.96.0.1:53/tcp   10.1.0.1:5300
        pod 10.96.0.1:53/udp   10.1.0.2:5301
        pod 10.96.0.1:53/sctp  10.1.0.3:5302
        pod 10.96.0.1:54/udp   reject
        pod 10.96.0.1:54/tcp   reject
        out 10.96.0.1:53/udp   10.1.0.2:5301 masq
        out 10.96.0.1:53/sctp  10.1.0.3:5302 masq
        ",
    );
}

#[test]
fn rule_4_slices_are_united_and_joined_by_name_and_protocol() {
    let ports = "ports: [{name: http, port: 80}, {name: https, port: 443}]";
    scene([
        service("web", &format!("clusterIP: 10.96.0.1, {ports}")),
        slice_of(
            "web",
            "{name: http, port: 8080}, {name: https, port: 8443}",
            &["10.1.0.1", "10.1.0.2"],
        ),
        slice_of("web", "{name: http, port: 9090}", &["10.1.0.3"]),
        slice_of("web", "{name: https, port: 8443, protocol: UDP}", &["10.1.0.4"]),
        slice_of("web", "{name: other, port: 1}", &["10.1.0.5"]),
        // The same endpoint twice: what does not terminate wins.
        service("twice", "clusterIP: 10.96.0.2"),
        slice(
            "twice",
            &["10.1.0.1, conditions: {ready: false, serving: true, terminating: true}"],
        ),
        slice("twice", &["10.1.0.1", "10.1.0.2"]),
        // Only the first address counts, and only the family.
        service("many", "clusterIP: 10.96.0.3"),
        slice("many", &["10.1.0.1"]).replace("['10.1.0.1']", "['10.1.0.1', '10.1.0.2']"),
        slice("many", &["fd00:1::1"]),
        // Another namespace's slice is another Service's.
        service("alone", "clusterIP: 10.96.0.4"),
        slice("alone", &["10.1.0.1"]).replace("metadata: {", "metadata: {namespace: elsewhere, "),
    ])
    .judges(
        "
        pod 10.96.0.1:80/tcp   a b 10.1.0.3:9090
        pod 10.96.0.1:443/tcp  10.1.0.1:8443 10.1.0.2:8443
        pod 10.96.0.2:80/tcp   a b
        pod 10.96.0.3:80/tcp   a
        pod 10.96.0.4:80/tcp   reject
        ",
    );
}

#[test]
fn rule_5_pods_stand_in_for_slices() {
    let pod = |name: &str, ip: &str, port: u16, more: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: web}}{}}}, spec: {{containers: [{{name: c, image: i, \
             ports: [{{name: http, containerPort: {port}}}]}}]}}, status: {{podIPs: [{{ip: {ip}}}]{}}}}}",
            if more == "leaving" {
                ", deletionTimestamp: '2026-01-01T00:00:00Z'"
            } else {
                ""
            },
            match more {
                "unready" => ", conditions: [{type: Ready, status: 'False'}]",
                "failed" => ", phase: Failed",
                _ => "",
            }
        )
    };
    let pods = [
        pod("p1", "10.1.0.1", 8080, ""),
        pod("p2", "10.1.0.2", 9090, ""),
        pod("p3", "10.1.0.3", 8080, "unready"),
        pod("p4", "10.1.0.4", 8080, "leaving"),
        pod("p5", "10.1.0.5", 8080, "failed"),
    ];
    let named = "selector: {app: web}, ports: [{port: 80, targetPort: http}]";
    let services = [
        service("named", &format!("clusterIP: 10.96.0.1, {named}")),
        service(
            "numbered",
            "clusterIP: 10.96.0.2, selector: {app: web}, ports: [{port: 80, targetPort: 8080}]",
        ),
        service(
            "early",
            &format!("clusterIP: 10.96.0.3, publishNotReadyAddresses: true, {named}"),
        ),
        service("nobody", "clusterIP: 10.96.0.4, selector: {app: other}"),
    ];
    scene(pods.into_iter().chain(services)).judges(
        "
        pod 10.96.0.1:80/tcp  a 10.1.0.2:9090
        pod 10.96.0.2:80/tcp  a b
        pod 10.96.0.3:80/tcp  a 10.1.0.2:9090 c d
        pod 10.96.0.4:80/tcp  reject
        ",
    );
}

#[test]
fn rule_6_and_7_what_is_not_said() {
    scene([
        service("web", "clusterIP: 10.96.0.1, ports: [{port: 8080}]"),
        slice(
            "web",
            &["10.1.0.1", "10.1.0.2, conditions: {ready: null, terminating: null}"],
        ),
        service(
            "upper",
            "clusterIP: 10.96.0.2, type: NodePort, ports: [{port: 80, targetPort: 8080, nodePort: 30002}]",
        ),
        slice("upper", &["10.1.0.1, nodeName: HERE", "10.1.0.2, nodeName: here"]),
    ])
    .judges(
        "
        pod 10.96.0.1:8080/tcp    a b
        pod 10.96.0.1:8080/udp    reject
        out 192.0.2.1:30002/tcp   a b masq
        ",
    );
}
