//! Rule 28, what is programmed when; rule 30, what load balancers are told.

use svcproxy::model::Family;

use crate::given::{cluster, service, slice, slice_of};

#[test]
fn rule_28_a_bad_document_gives_no_model_and_keeps_the_state() {
    let good = cluster([service("kubia", ""), slice("kubia", &["10.1.0.1"])]).read();
    assert!(good.model.is_some());
    for bad in [
        "{apiVersion: v1, kind: Service, metadata: {name: bad}, spec: {ports: [{port: 0}]}}",
        "kind: [",
        "{apiVersion: v1, kind: Service, metadata: {name: kubia}, spec: {ports: [{port: 80}]}}",
    ] {
        let input = cluster([service("kubia", ""), slice("kubia", &["10.1.0.1"]), bad.to_owned()]).read();
        assert!(input.model.is_none(), "{bad}");
        assert_eq!(input.state, svcproxy::state::State::default(), "{bad}");
        assert!(input.errors().count() > 0, "{bad}");
    }
}

#[test]
fn rule_30_local_ready_addresses_are_counted_once() {
    const LEAVING: &str = "10.1.0.3, nodeName: here, conditions: {ready: false, serving: true, terminating: true}";
    let spec = "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 32000, clusterIPs: [10.96.0.10, 'fd00:10:96::a'], \
                ipFamilyPolicy: PreferDualStack, ports: [{name: a, port: 80}, {name: b, port: 81}]";
    let ports = "{name: a, port: 8080}, {name: b, port: 8081}";
    let endpoints = [
        "10.1.0.1, nodeName: here",
        "10.1.0.2, nodeName: there",
        LEAVING,
        "10.1.0.4, nodeName: here",
    ];
    let cluster = cluster([
        service("kubia", spec),
        slice_of("kubia", ports, &endpoints),
        slice_of("kubia", ports, &["fd00:1::1, nodeName: here"]),
    ]);
    let (kubia, node) = (cluster.service("kubia"), cluster.model().node);
    assert_eq!(
        kubia.local_ready_endpoints(&node, Family::V4),
        2,
        "two ports, and the terminating one does not count"
    );
    assert_eq!(kubia.local_ready_endpoints(&node, Family::V6), 1);
    assert_eq!(kubia.health_check_node_port, Some(32_000));
}

#[test]
fn rule_30_only_load_balancers_with_a_local_policy_have_a_health_check_port() {
    let port = |spec: &str| {
        cluster([service("kubia", spec)])
            .service("kubia")
            .health_check_node_port
    };
    assert_eq!(port("type: LoadBalancer"), None);
    assert_eq!(port("type: NodePort, externalTrafficPolicy: Local"), None);
    let assigned = port("type: LoadBalancer, externalTrafficPolicy: Local").unwrap();
    assert!((30_000..=32_767).contains(&assigned), "{assigned}");
    let said = cluster([service("kubia", "type: LoadBalancer, healthCheckNodePort: 32000")]).said();
    assert!(
        said.contains("spec.healthCheckNodePort: may be set only with"),
        "{said}"
    );
}
