//! Endpoints, as rows and objects, and what makes objects Kubernetes'.

use serde_json::Value;

use super::cluster::{cluster, get};

#[test]
fn endpoints() {
    insta::assert_snapshot!(get(&cluster(), "endpoints"), @r"
    NAME    ENDPOINTS                                                  AGE
    api     10.1.0.1:80,10.1.0.2:80,10.1.0.3:80 + 2 more...            5m
    empty   <none>                                                     2d18h
    kubia   10.1.0.1:8080,10.1.0.2:9090,[fd00:1::1]:8080 + 3 more...   5d13h
    ");
}

#[test]
fn endpoints_wide() {
    insta::assert_snapshot!(get(&cluster(), "ep -o wide"), @r"
    SERVICE         PORT            ENDPOINT           POD               SLOTS%
    default/api     8080/TCP        10.1.0.1:80        api-10.1.0.1      20.2
    default/api     8080/TCP        10.1.0.2:80        api-10.1.0.2      20.2
    default/api     8080/TCP        10.1.0.3:80        api-10.1.0.3      20.2
    default/api     8080/TCP        10.1.0.4:80        api-10.1.0.4      19.7
    default/api     8080/TCP        10.1.0.5:80        api-10.1.0.5      19.7
    default/empty   dns:53/TCP      <none>             <none>            <none>
    default/kubia   http:80/TCP     10.1.0.1:8080      kubia-10.1.0.1    50.5
    default/kubia   http:80/TCP     10.1.0.2:9090      kubia-10.1.0.2    49.5
    default/kubia   http:80/TCP     [fd00:1::1]:8080   kubia-fd00:1::1   100.0
    default/kubia   https:443/TCP   10.1.0.1:8443      kubia-10.1.0.1    50.5
    default/kubia   https:443/TCP   10.1.0.2:9443      kubia-10.1.0.2    49.5
    default/kubia   https:443/TCP   [fd00:1::1]:8443   kubia-fd00:1::1   100.0
    ");
}

#[test]
fn endpoints_as_objects() {
    let mut snapshot = cluster();
    snapshot.state.services.retain(|name, _| name == "default/kubia");
    insta::assert_snapshot!(get(&snapshot, "endpoints -n default -o yaml"), @r"
    apiVersion: v1
    items:
    - apiVersion: v1
      kind: Endpoints
      metadata:
        creationTimestamp: 2023-11-09T08:48:20Z
        name: kubia
        namespace: default
      subsets:
      - addresses:
        - ip: 10.1.0.1
          targetRef:
            kind: Pod
            name: kubia-10.1.0.1
            namespace: default
        - ip: fd00:1::1
          targetRef:
            kind: Pod
            name: kubia-fd00:1::1
            namespace: default
        ports:
        - name: http
          port: 8080
          protocol: TCP
        - name: https
          port: 8443
          protocol: TCP
      - addresses:
        - ip: 10.1.0.2
          targetRef:
            kind: Pod
            name: kubia-10.1.0.2
            namespace: default
        ports:
        - name: http
          port: 9090
          protocol: TCP
        - name: https
          port: 9443
          protocol: TCP
    kind: List
    ");
}

#[test]
fn services_and_endpoints_are_kubernetes_objects() {
    use k8s_openapi::api::core::v1::{Endpoints, Service};
    let mut services: Value = serde_json::from_str(&get(&cluster(), "services -o json")).unwrap();
    let services: Vec<Service> = serde_json::from_value(services["items"].take()).unwrap();
    assert_eq!(services.len(), 3);
    let mut endpoints: Value = serde_json::from_str(&get(&cluster(), "endpoints -o json")).unwrap();
    let endpoints: Vec<Endpoints> = serde_json::from_value(endpoints["items"].take()).unwrap();
    assert_eq!(endpoints.len(), 3);
}
