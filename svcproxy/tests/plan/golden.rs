//! Given this model, these are the maps.

use svcproxy::{
    model::{Model, NodePolicy, Protocol},
    plan::{Diff, Limits, MapContents, PlanError, plan},
};

use crate::builder::{LIMITS, model, planned, service};

/// Without what every plan has: networks, and what holds for the whole node.
fn shown(maps: &MapContents) -> MapContents {
    let mut maps = maps.clone();
    maps.v4.networks.clear();
    maps.v6.networks.clear();
    (maps.v4.config, maps.v6.config) = (None, None);
    maps
}

const PODS: [&str; 3] = ["10.1.0.1:8080", "10.1.0.2:8080", "10.1.0.3:8080"];

#[test]
fn one_service() {
    let maps = planned(&model([service("kubia", "10.96.0.10").port("", 80, PODS)]));
    insta::assert_snapshot!(format!("{:#}", shown(&maps)), @r"
    services_v4
      10.96.0.10 other ports  service 1 REJECT
      10.96.0.10:80/TCP  service 1 cluster IP set 1 slots 0..97
    backends_v4
      set 1 endpoint 1  10.1.0.1:8080/TCP
      set 1 endpoint 2  10.1.0.2:8080/TCP
      set 1 endpoint 3  10.1.0.3:8080/TCP
    backend_slots
      0..97:  endpoint 1 × 33  endpoint 2 × 32  endpoint 3 × 32
        3 1 3 3 1 1 1 3 1 3 1 3 1 1 3 3 3 1 2 2 2 2 2 2 2 2 2 2 2 1 2 2
        2 3 2 2 2 1 2 2 3 1 3 2 3 1 2 2 1 2 2 3 1 3 2 3 1 2 3 2 1 2 3 1
        1 2 3 1 1 3 2 1 1 3 1 3 1 3 1 1 3 2 3 1 3 3 3 1 3 3 1 1 2 3 1 1
        3
    ");
}

#[test]
fn affinity() {
    let maps = planned(&model([service("kubia", "10.96.0.10")
        .affinity(10800)
        .port("", 80, PODS)]));
    insta::assert_snapshot!(shown(&maps), @r"
    services_v4
      10.96.0.10 other ports  service 1 REJECT
      10.96.0.10:80/TCP  service 1 cluster IP set 1 slots 0..97 affinity 10800s
    backends_v4
      set 1 endpoint 1  10.1.0.1:8080/TCP
      set 1 endpoint 2  10.1.0.2:8080/TCP
      set 1 endpoint 3  10.1.0.3:8080/TCP
    backend_slots
      0..97:  endpoint 1 × 33  endpoint 2 × 32  endpoint 3 × 32
    ");
}

#[test]
fn two_ports_with_the_same_endpoints_have_the_same_table() {
    let tls = ["10.1.0.1:8443", "10.1.0.2:8443", "10.1.0.3:8443"];
    let maps = planned(&model([service("kubia", "10.96.0.10")
        .port("http", 80, PODS)
        .port("https", 443, tls)]));
    insta::assert_snapshot!(shown(&maps), @r"
    services_v4
      10.96.0.10 other ports  service 1 REJECT
      10.96.0.10:80/TCP  service 1 cluster IP set 1 slots 0..97
      10.96.0.10:443/TCP  service 1 cluster IP set 2 slots 97..194
    backends_v4
      set 1 endpoint 1  10.1.0.1:8080/TCP
      set 1 endpoint 2  10.1.0.2:8080/TCP
      set 1 endpoint 3  10.1.0.3:8080/TCP
      set 2 endpoint 1  10.1.0.1:8443/TCP
      set 2 endpoint 2  10.1.0.2:8443/TCP
      set 2 endpoint 3  10.1.0.3:8443/TCP
    backend_slots
      0..97:  endpoint 1 × 33  endpoint 2 × 32  endpoint 3 × 32
      97..194:  endpoint 1 × 33  endpoint 2 × 32  endpoint 3 × 32
    ");
    assert_eq!(maps.slots[&0], maps.slots[&97]);
}

#[test]
fn a_named_port_with_another_number_on_each_pod() {
    let http = ["10.1.0.1:8080", "10.1.0.2:9090"];
    let https = ["10.1.0.1:8443", "10.1.0.2:9443"];
    let maps = planned(&model([service("kubia", "10.96.0.10")
        .port("http", 80, http)
        .port("https", 443, https)]));
    insta::assert_snapshot!(shown(&maps), @r"
    services_v4
      10.96.0.10 other ports  service 1 REJECT
      10.96.0.10:80/TCP  service 1 cluster IP set 1 slots 0..97
      10.96.0.10:443/TCP  service 1 cluster IP set 2 slots 97..194
    backends_v4
      set 1 endpoint 1  10.1.0.1:8080/TCP
      set 1 endpoint 2  10.1.0.2:9090/TCP
      set 2 endpoint 1  10.1.0.1:8443/TCP
      set 2 endpoint 2  10.1.0.2:9443/TCP
    backend_slots
      0..97:  endpoint 1 × 49  endpoint 2 × 48
      97..194:  endpoint 1 × 49  endpoint 2 × 48
    ");
}

#[test]
fn one_number_for_tcp_and_udp() {
    let dns = ["10.1.0.1:53", "10.1.0.2:53"];
    let service = service("dns", "10.96.0.53")
        .port("dns-tcp", 53, dns)
        .port_of(Protocol::UDP, "dns", 53, dns);
    insta::assert_snapshot!(shown(&planned(&model([service]))), @r"
    services_v4
      10.96.0.53 other ports  service 1 REJECT
      10.96.0.53:53/TCP  service 1 cluster IP set 1 slots 0..97
      10.96.0.53:53/UDP  service 1 cluster IP set 2 slots 97..194
    backends_v4
      set 1 endpoint 1  10.1.0.1:53/TCP
      set 1 endpoint 2  10.1.0.2:53/TCP
      set 2 endpoint 1  10.1.0.1:53/UDP
      set 2 endpoint 2  10.1.0.2:53/UDP
    backend_slots
      0..97:  endpoint 1 × 49  endpoint 2 × 48
      97..194:  endpoint 1 × 49  endpoint 2 × 48
    ");
}

#[test]
fn dual_stack() {
    let pods = ["10.1.0.1:8080", "10.1.0.2:8080", "[fd00:1::1]:8080", "[fd00:1::2]:8080"];
    let maps = planned(&model(
        [service("kubia", "10.96.0.10,fd00:10:96::a").port("", 80, pods)],
    ));
    insta::assert_snapshot!(shown(&maps), @r"
    services_v4
      10.96.0.10 other ports  service 1 REJECT
      10.96.0.10:80/TCP  service 1 cluster IP set 1 slots 0..97
    backends_v4
      set 1 endpoint 1  10.1.0.1:8080/TCP
      set 1 endpoint 2  10.1.0.2:8080/TCP
    services_v6
      fd00:10:96::a other ports  service 1 REJECT
      [fd00:10:96::a]:80/TCP  service 1 cluster IP set 2 slots 97..194
    backends_v6
      set 2 endpoint 3  [fd00:1::1]:8080/TCP
      set 2 endpoint 4  [fd00:1::2]:8080/TCP
    backend_slots
      0..97:  endpoint 1 × 49  endpoint 2 × 48
      97..194:  endpoint 3 × 49  endpoint 4 × 48
    ");
}

#[test]
fn no_endpoint_that_is_ready_or_serves() {
    let pods = ["10.1.0.1:8080 unready", "10.1.0.2:8080 terminated", "[fd00:1::1]:8080"];
    insta::assert_snapshot!(shown(&planned(&model([service("kubia", "10.96.0.10").port("", 80, pods)]))), @r"
    services_v4
      10.96.0.10 other ports  service 1 REJECT
      10.96.0.10:80/TCP  service 1 cluster IP set 1 REJECT
    ");
}

#[test]
fn terminating_endpoints_serve_while_none_is_ready() {
    let terminating = ["10.1.0.1:8080 terminating", "10.1.0.2:8080 unready", "[fd00:1::1]:8080"];
    insta::assert_snapshot!(shown(&planned(&model([service("kubia", "10.96.0.10").port("", 80, terminating)]))), @r"
    services_v4
      10.96.0.10 other ports  service 1 REJECT
      10.96.0.10:80/TCP  service 1 cluster IP set 1 slots 0..1
    backends_v4
      set 1 endpoint 1  10.1.0.1:8080/TCP
    backend_slots
      0..1:  endpoint 1 × 1
    ");
    let one_ready = ["10.1.0.1:8080 terminating", "10.1.0.2:8080"];
    insta::assert_snapshot!(shown(&planned(&model([service("kubia", "10.96.0.10").port("", 80, one_ready)]))), @r"
    services_v4
      10.96.0.10 other ports  service 1 REJECT
      10.96.0.10:80/TCP  service 1 cluster IP set 1 slots 0..1
    backends_v4
      set 1 endpoint 1  10.1.0.2:8080/TCP
    backend_slots
      0..1:  endpoint 1 × 1
    ");
}

#[test]
fn one_address_with_two_ports_in_one_set() {
    let maps = planned(&model([service("kubia", "10.96.0.10")
        .port("http", 80, ["10.1.0.1:8080", "10.1.0.1:8081"])
        .port("https", 443, ["10.1.0.1:8443"])]));
    insta::assert_snapshot!(shown(&maps), @r"
    services_v4
      10.96.0.10 other ports  service 1 REJECT
      10.96.0.10:80/TCP  service 1 cluster IP set 1 slots 0..97
      10.96.0.10:443/TCP  service 1 cluster IP set 2 slots 97..98
    backends_v4
      set 1 endpoint 1  10.1.0.1:8080/TCP
      set 1 endpoint 2  10.1.0.1:8081/TCP
      set 2 endpoint 1  10.1.0.1:8443/TCP
    backend_slots
      0..97:  endpoint 1 × 49  endpoint 2 × 48
      97..98:  endpoint 1 × 1
    ");
}

#[test]
fn an_endpoint_replaced_keeps_the_numbers_and_moves_the_table() {
    let other = service("other", "10.96.0.11").port("", 80, ["10.1.0.9:80"]);
    let before = planned(&model([
        service("kubia", "10.96.0.10").port("", 80, PODS),
        other.clone(),
    ]));
    let pods = ["10.1.0.1:8080", "10.1.0.3:8080", "10.1.0.4:8080"];
    let after = reload(
        &before,
        &model([service("kubia", "10.96.0.10").port("", 80, pods), other]),
    );
    insta::assert_snapshot!(shown(&after), @r"
    services_v4
      10.96.0.10 other ports  service 1 REJECT
      10.96.0.10:80/TCP  service 1 cluster IP set 1 slots 98..195
      10.96.0.11 other ports  service 2 REJECT
      10.96.0.11:80/TCP  service 2 cluster IP set 2 slots 97..98
    backends_v4
      set 1 endpoint 1  10.1.0.1:8080/TCP
      set 1 endpoint 3  10.1.0.3:8080/TCP
      set 1 endpoint 5  10.1.0.4:8080/TCP
      set 2 endpoint 4  10.1.0.9:80/TCP
    backend_slots
      97..98:  endpoint 4 × 1
      98..195:  endpoint 1 × 33  endpoint 3 × 32  endpoint 5 × 32
    ");
    insta::assert_snapshot!(Diff::between(&before, &after), @r"
    put backend set 1 endpoint 5  10.1.0.4:8080/TCP
    write slots 98..195
    put 10.96.0.10:80/TCP  service 1 cluster IP set 1 slots 98..195
    delete backend set 1 endpoint 2
    ");
}

#[test]
fn a_service_removed() {
    let kubia = service("kubia", "10.96.0.10,fd00:10:96::a").port("", 80, ["10.1.0.1:8080", "[fd00:1::1]:8080"]);
    let other = service("other", "10.96.0.11").port("", 80, ["10.1.0.9:80"]);
    let before = planned(&model([kubia, other.clone()]));
    let after = reload(&before, &model([other]));
    insta::assert_snapshot!(shown(&after), @r"
    services_v4
      10.96.0.11 other ports  service 2 REJECT
      10.96.0.11:80/TCP  service 2 cluster IP set 2 slots 1..2
    backends_v4
      set 2 endpoint 2  10.1.0.9:80/TCP
    backend_slots
      1..2:  endpoint 2 × 1
    ");
    insta::assert_snapshot!(Diff::between(&before, &after), @r"
    delete 10.96.0.10 other ports
    delete 10.96.0.10:80/TCP
    delete backend set 1 endpoint 1
    delete fd00:10:96::a other ports
    delete [fd00:10:96::a]:80/TCP
    delete backend set 3 endpoint 3
    ");
}

#[test]
fn a_service_whose_port_changes_keeps_its_number_and_its_endpoints() {
    let before = planned(&model([service("kubia", "10.96.0.10").affinity(60).port(
        "",
        80,
        ["10.1.0.1:8080"],
    )]));
    let pods = ["10.1.0.0:8080", "10.1.0.1:8080"];
    let after = reload(
        &before,
        &model([service("kubia", "10.96.0.10").affinity(60).port("", 81, pods)]),
    );
    insta::assert_snapshot!(shown(&after), @r"
    services_v4
      10.96.0.10 other ports  service 1 REJECT
      10.96.0.10:81/TCP  service 1 cluster IP set 2 slots 1..98 affinity 60s
    backends_v4
      set 2 endpoint 1  10.1.0.1:8080/TCP
      set 2 endpoint 2  10.1.0.0:8080/TCP
    backend_slots
      1..98:  endpoint 1 × 48  endpoint 2 × 49
    ");
}

#[test]
fn the_last_endpoint_gone() {
    let before = planned(&model([service("kubia", "10.96.0.10").port("", 80, ["10.1.0.1:8080"])]));
    let after = reload(&before, &model([service("kubia", "10.96.0.10").port("", 80, [])]));
    insta::assert_snapshot!(Diff::between(&before, &after), @r"
    put 10.96.0.10:80/TCP  service 1 cluster IP set 1 REJECT
    delete backend set 1 endpoint 1
    ");
}

#[test]
fn slots_run_out() {
    let model = model([service("kubia", "10.96.0.10").port("", 80, PODS).port("", 81, PODS)]);
    let error = plan(
        &model,
        &NodePolicy::default(),
        &MapContents::default(),
        &Limits { backend_slots: 128 },
    )
    .unwrap_err();
    insta::assert_snapshot!(error, @"the endpoint tables need 97 more slots than the 128 of --backend-slots have free beside the tables in use: set --backend-slots 256");
    let PlanError::OutOfSlots { suggestion, .. } = error else {
        panic!("{error:?}")
    };
    let limits = Limits {
        backend_slots: suggestion.try_into().unwrap(),
    };
    assert!(plan(&model, &NodePolicy::default(), &MapContents::default(), &limits).is_ok());
}

#[test]
fn two_services_with_one_address_and_port() {
    let model = model([
        service("kubia", "10.96.0.10").port("http", 80, PODS),
        service("other", "10.96.0.10")
            .port("https", 443, PODS)
            .port("http", 80, PODS),
    ]);
    let error = plan(&model, &NodePolicy::default(), &MapContents::default(), &LIMITS).unwrap_err();
    insta::assert_snapshot!(error, @"10.96.0.10:80/TCP is claimed by Service default/kubia and by Service default/other: give one of them another address or port");
}

fn reload(current: &MapContents, model: &Model) -> MapContents {
    plan(model, &NodePolicy::default(), current, &LIMITS).unwrap()
}
