//! Services, as rows and objects.

use super::{
    super::Snapshot,
    cluster::{cluster, get, service, snapshot},
};
use crate::{
    model::{ServiceType, TrafficPolicy},
    plan::MapContents,
};

#[test]
fn services() {
    insta::assert_snapshot!(get(&cluster(), "services"), @r"
    NAME    TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)          AGE
    api     ClusterIP   10.96.0.11   <none>        8080/TCP         5m
    empty   ClusterIP   10.96.0.12   <none>        53/TCP           2d18h
    kubia   ClusterIP   10.96.0.10   <none>        80/TCP,443/TCP   5d13h
    ");
}

#[test]
fn services_wide() {
    insta::assert_snapshot!(get(&cluster(), "svc -o wide"), @r"
    NAME    TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)          AGE     SELECTOR             ENDPOINTS                                                  AFFINITY
    api     ClusterIP   10.96.0.11   <none>        8080/TCP         5m      app=api,tier=web     10.1.0.1:80,10.1.0.2:80,10.1.0.3:80 + 2 more...            None
    empty   ClusterIP   10.96.0.12   <none>        53/TCP           2d18h   app=empty,tier=web   <none>                                                     None
    kubia   ClusterIP   10.96.0.10   <none>        80/TCP,443/TCP   5d13h   app=kubia,tier=web   10.1.0.1:8080,10.1.0.2:9090,[fd00:1::1]:8080 + 3 more...   ClientIP(10800s)
    ");
}

#[test]
fn services_of_several_namespaces() {
    let prod = service("prod/web", &["10.96.0.20"], None).port("", 80, &["10.1.0.1:80"]);
    let mut snapshot = snapshot([prod, service("default/kubia", &["10.96.0.10"], None).port("", 80, &[])]);
    insta::assert_snapshot!(get(&snapshot, "services"), @r"
    NAMESPACE   NAME    TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)   AGE
    default     kubia   ClusterIP   10.96.0.10   <none>        80/TCP    5m
    prod        web     ClusterIP   10.96.0.20   <none>        80/TCP    2d18h
    ");
    insta::assert_snapshot!(get(&snapshot, "services -n prod"), @r"
    NAME   TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)   AGE
    web    ClusterIP   10.96.0.20   <none>        80/TCP    2d18h
    ");
    insta::assert_snapshot!(get(&snapshot, "services -n nowhere"), @"No resources found in nowhere namespace.");
    snapshot.state.services.get_mut("prod/web").unwrap().service_type = "LoadBalancer".into();
    insta::assert_snapshot!(get(&snapshot, "services -n prod"), @r"
    NAME   TYPE           CLUSTER-IP   EXTERNAL-IP   PORT(S)   AGE
    web    LoadBalancer   10.96.0.20   <pending>     80/TCP    2d18h
    ");
}

/// A Service of type LoadBalancer with every way in, on a node with one address, in front of a pod on it and another.
fn exposed() -> Snapshot {
    let mut web = service("default/web", &["10.96.0.20"], None).port("", 80, &["10.1.0.1:8080", "10.1.0.2:8080"]);
    web.service_type = ServiceType::LoadBalancer;
    web.load_balancer_ips = vec!["203.0.113.1".parse().unwrap()];
    web.external_ips = vec!["198.51.100.1".parse().unwrap()];
    web.external_traffic_policy = TrafficPolicy::Local;
    web.health_check_node_port = Some(32080);
    web.ports[0].node_port = Some(30080);
    web.ports[0].endpoints[0].node_name = Some("node".into());
    snapshot([web])
}

#[test]
fn services_with_every_way_in() {
    insta::assert_snapshot!(get(&exposed(), "services"), @r"
    NAME   TYPE           CLUSTER-IP   EXTERNAL-IP                PORT(S)        AGE
    web    LoadBalancer   10.96.0.20   203.0.113.1,198.51.100.1   80:30080/TCP   5m
    ");
    insta::assert_snapshot!(get(&exposed(), "services -o yaml"), @r"
    apiVersion: v1
    items:
    - apiVersion: v1
      kind: Service
      metadata:
        creationTimestamp: 2023-11-14T22:08:20Z
        name: web
        namespace: default
      spec:
        clusterIP: 10.96.0.20
        clusterIPs:
        - 10.96.0.20
        externalIPs:
        - 198.51.100.1
        healthCheckNodePort: 32080
        ipFamilies:
        - IPv4
        ports:
        - nodePort: 30080
          port: 80
          protocol: TCP
        selector:
          app: web
          tier: web
        sessionAffinity: None
        type: LoadBalancer
      status:
        loadBalancer:
          ingress:
          - ip: 203.0.113.1
    kind: List
    ");
}

#[test]
fn endpoints_of_both_sets_are_listed_once() {
    insta::assert_snapshot!(get(&exposed(), "endpoints -o wide"), @r"
    SERVICE       PORT     ENDPOINT        POD            SLOTS%
    default/web   80/TCP   10.1.0.1:8080   web-10.1.0.1   50.5
    default/web   80/TCP   10.1.0.2:8080   web-10.1.0.2   49.5
    ");
}

#[test]
fn services_with_every_way_in_that_the_state_file_has_lost() {
    let mut snapshot = exposed();
    snapshot.state.services.clear();
    insta::assert_snapshot!(get(&snapshot, "services"), @r"
    NAME        TYPE        CLUSTER-IP   EXTERNAL-IP                PORT(S)        AGE
    <unknown>   <unknown>   10.96.0.20   203.0.113.1,198.51.100.1   80:30080/TCP   <unknown>
    ");
}

#[test]
fn nothing_at_all() {
    insta::assert_snapshot!(get(&Snapshot::default(), "services"), @"No resources found");
    insta::assert_snapshot!(get(&Snapshot::default(), "flows -o json"), @r#"
    {
      "items": [],
      "kind": "FlowList"
    }
    "#);
}

#[test]
fn services_that_the_state_file_has_lost() {
    let mut snapshot = cluster();
    snapshot.state.services.remove("default/kubia");
    insta::assert_snapshot!(get(&snapshot, "services -o wide"), @r"
    NAME        TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)          AGE         SELECTOR             ENDPOINTS                                                  AFFINITY
    api         ClusterIP   10.96.0.11   <none>        8080/TCP         5m          app=api,tier=web     10.1.0.1:80,10.1.0.2:80,10.1.0.3:80 + 2 more...            None
    empty       ClusterIP   10.96.0.12   <none>        53/TCP           2d18h       app=empty,tier=web   <none>                                                     None
    <unknown>   <unknown>   10.96.0.10   <none>        80/TCP,443/TCP   <unknown>   <none>               10.1.0.1:8080,10.1.0.2:9090,[fd00:1::1]:8080 + 3 more...   ClientIP(10800s)
    ");
    snapshot.state.services.clear();
    insta::assert_snapshot!(get(&snapshot, "services"), @r"
    NAME        TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)          AGE
    <unknown>   <unknown>   10.96.0.11   <none>        8080/TCP         <unknown>
    <unknown>   <unknown>   10.96.0.12   <none>        53/TCP           <unknown>
    <unknown>   <unknown>   10.96.0.10   <none>        80/TCP,443/TCP   <unknown>
    ");
    insta::assert_snapshot!(get(&snapshot, "services -n default"), @"No resources found in default namespace.");
}

#[test]
fn services_that_the_maps_do_not_have() {
    let snapshot = Snapshot {
        maps: MapContents::default(),
        ..cluster()
    };
    insta::assert_snapshot!(get(&snapshot, "services -o wide"), @r"
    NAME    TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)          AGE     SELECTOR             ENDPOINTS   AFFINITY
    api     ClusterIP   10.96.0.11   <none>        8080/TCP         5m      app=api,tier=web     <none>      None
    empty   ClusterIP   10.96.0.12   <none>        53/TCP           2d18h   app=empty,tier=web   <none>      None
    kubia   ClusterIP   10.96.0.10   <none>        80/TCP,443/TCP   5d13h   app=kubia,tier=web   <none>      None
    ");
}

#[test]
fn services_as_objects() {
    insta::assert_snapshot!(get(&cluster(), "services -o yaml"), @r"
    apiVersion: v1
    items:
    - apiVersion: v1
      kind: Service
      metadata:
        creationTimestamp: 2023-11-14T22:08:20Z
        name: api
        namespace: default
      spec:
        clusterIP: 10.96.0.11
        clusterIPs:
        - 10.96.0.11
        ipFamilies:
        - IPv4
        ports:
        - port: 8080
          protocol: TCP
        selector:
          app: api
          tier: web
        sessionAffinity: None
        type: ClusterIP
    - apiVersion: v1
      kind: Service
      metadata:
        creationTimestamp: 2023-11-12T03:28:20Z
        name: empty
        namespace: default
      spec:
        clusterIP: 10.96.0.12
        clusterIPs:
        - 10.96.0.12
        ipFamilies:
        - IPv4
        ports:
        - name: dns
          port: 53
          protocol: TCP
        selector:
          app: empty
          tier: web
        sessionAffinity: None
        type: ClusterIP
    - apiVersion: v1
      kind: Service
      metadata:
        creationTimestamp: 2023-11-09T08:48:20Z
        name: kubia
        namespace: default
      spec:
        clusterIP: 10.96.0.10
        clusterIPs:
        - 10.96.0.10
        - fd00:10:96::a
        ipFamilies:
        - IPv4
        - IPv6
        ports:
        - name: http
          port: 80
          protocol: TCP
        - name: https
          port: 443
          protocol: TCP
        selector:
          app: kubia
          tier: web
        sessionAffinity: ClientIP
        sessionAffinityConfig:
          clientIP:
            timeoutSeconds: 10800
        type: ClusterIP
    kind: List
    ");
}

#[test]
fn services_sort_by_namespace_then_name() {
    let names = ["b/a", "a-b/z", "a/z", "a/y"];
    let snapshot = snapshot(names.map(|name| service(name, &[], None)));
    insta::assert_snapshot!(get(&snapshot, "services"), @r"
    NAMESPACE   NAME   TYPE        CLUSTER-IP   EXTERNAL-IP   PORT(S)   AGE
    a           y      ClusterIP   <none>       <none>        <none>    5m
    a           z      ClusterIP   <none>       <none>        <none>    2d18h
    a-b         z      ClusterIP   <none>       <none>        <none>    5d13h
    b           a      ClusterIP   <none>       <none>        <none>    8d
    ");
}
