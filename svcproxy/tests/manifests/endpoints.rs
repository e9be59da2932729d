//! Given slices, Endpoints or pods: who serves the Service.

use svcproxy::model::{Endpoint, Protocol};

use crate::given::{lines, model, read, service};

/// Endpoints as `address:port conditions pod@node`, conditions being `R`eady, `S`erving, `T`erminating.
fn shown(endpoints: &[Endpoint]) -> Vec<String> {
    let one = |e: &Endpoint| {
        let flag = |set: bool, letter: &'static str| if set { letter } else { "-" };
        format!(
            "{}:{} {}{}{} {}@{}",
            e.address,
            e.port,
            flag(e.ready, "R"),
            flag(e.serving, "S"),
            flag(e.terminating, "T"),
            e.pod.as_deref().unwrap_or(""),
            e.node_name.as_deref().unwrap_or("")
        )
    };
    endpoints.iter().map(one).collect()
}

/// The endpoints of each port of the Service `kubia` in a stream of documents.
fn ports(documents: &[&str]) -> Vec<Vec<String>> {
    let input = read(&documents.join("\n---\n"));
    let service = service(model(&input), "kubia").clone();
    service.ports.iter().map(|port| shown(&port.endpoints)).collect()
}

fn kubia(spec: &str) -> String {
    format!("{{apiVersion: v1, kind: Service, metadata: {{name: kubia}}, spec: {{{spec}}}}}")
}

fn slice(name: &str, labels: &str, family: &str, ports: &str, endpoints: &str) -> String {
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, labels: \
         {{kubernetes.io/service-name: kubia, {labels}}}}}, addressType: {family}, ports: [{ports}], \
         endpoints: [{endpoints}]}}"
    )
}

fn pod(name: &str, ip: &str, rest: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: kubia}}}}, status: {{podIPs: [{{ip: '{ip}'}}]}}, {rest}}}"
    )
}

const PORT: &str = "ports: [{port: 80, targetPort: 8080}]";
const SELECTED: &str = "selector: {app: kubia}, ports: [{port: 80, targetPort: 8080}]";

#[test]
fn conditions_of_slices() {
    for (conditions, expected) in [
        ("{}", "RS-"),
        ("{ready: true}", "RS-"),
        ("{ready: false}", "-S-"),
        ("{ready: false, serving: true, terminating: true}", "-ST"),
        ("{ready: false, serving: false, terminating: true}", "--T"),
    ] {
        let endpoint = format!("{{addresses: [10.0.0.1], conditions: {conditions}}}");
        let found = ports(&[&kubia(PORT), &slice("a", "", "IPv4", "{port: 8080}", &endpoint)]);
        assert_eq!(found, [[format!("10.0.0.1:8080 {expected} @")]], "{conditions}");
    }
}

#[test]
fn slices_are_united_and_joined_by_port_name_and_protocol() {
    let found = ports(&[
        &kubia("ports: [{name: dns, port: 53}, {name: dns-udp, port: 53, protocol: UDP}]"),
        &slice(
            "a",
            "",
            "IPv4",
            "{name: dns, port: 5353}, {name: dns-udp, port: 5353, protocol: UDP}",
            "{addresses: [10.0.0.2, 10.0.0.9]}",
        ),
        &slice(
            "b",
            "",
            "IPv4",
            "{name: dns, port: 5354}, {name: dns-udp, port: 5354}, {name: other, port: 1}",
            "{addresses: [10.0.0.1]}",
        ),
    ]);
    assert_eq!(
        found,
        [
            vec!["10.0.0.1:5354 RS- @", "10.0.0.2:5353 RS- @"],
            vec!["10.0.0.2:5353 RS- @"]
        ],
        "the port of the wrong protocol, the other name and the second address do not count"
    );
}

#[test]
fn of_one_address_and_port_the_better_one_counts() {
    let one = "{addresses: [10.0.0.1], targetRef: {kind: Pod, name: old}, conditions: {ready: false, serving: true, terminating: true}}";
    let two = "{addresses: [10.0.0.1], targetRef: {kind: Pod, name: new}, nodeName: n1}";
    for (first, second) in [(one, two), (two, one)] {
        let found = ports(&[
            &kubia(PORT),
            &slice("a", "", "IPv4", "{port: 8080}", first),
            &slice("b", "", "IPv4", "{port: 8080}", second),
        ]);
        assert_eq!(found, [["10.0.0.1:8080 RS- new@n1"]]);
    }
}

#[test]
fn slices_of_others_do_not_count() {
    let elsewhere = slice("b", "", "IPv4", "{port: 8080}", "{addresses: [10.0.0.3]}")
        .replace("{name: b", "{namespace: other, name: b");
    let found = ports(&[
        &kubia(PORT),
        &slice(
            "a",
            "service.kubernetes.io/headless: ''",
            "IPv4",
            "{port: 8080}",
            "{addresses: [10.0.0.2]}",
        ),
        &elsewhere,
        &slice("c", "", "IPv6", "{port: 8080}", "{addresses: ['fd00::1']}"),
        &slice("d", "", "FQDN", "{port: 8080}", "{addresses: [example.org]}"),
        &slice("e", "", "IPv4", "{port: 8080}", "{addresses: [10.0.0.1]}"),
    ]);
    assert_eq!(
        found,
        [["10.0.0.1:8080 RS- @"]],
        "not headless, not another namespace's, family or a name"
    );
}

#[test]
fn dual_stack_takes_both_families() {
    let found = ports(&[
        &kubia("ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]"),
        &slice("a", "", "IPv6", "{port: 8080}", "{addresses: ['fd00::1']}"),
        &slice("b", "", "IPv4", "{port: 8080}", "{addresses: [10.0.0.1]}"),
    ]);
    assert_eq!(found, [["10.0.0.1:8080 RS- @", "fd00::1:8080 RS- @"]]);
}

#[test]
fn endpoints_objects_count_where_there_is_no_slice() {
    let legacy = "{apiVersion: v1, kind: Endpoints, metadata: {name: kubia}, subsets: [{addresses: [{ip: 10.0.0.1, \
                  nodeName: n1, targetRef: {kind: Pod, name: p}}], notReadyAddresses: [{ip: 10.0.0.2}], ports: [{port: 8080}]}]}";
    let found = ports(&[&kubia(SELECTED), legacy, &pod("q", "10.0.0.9", "")]);
    assert_eq!(found, [["10.0.0.1:8080 RS- p@n1", "10.0.0.2:8080 --- @"]]);
    let found = ports(&[
        &kubia(PORT),
        legacy,
        &slice("a", "", "IPv4", "{port: 80}", "{addresses: [10.0.0.3]}"),
    ]);
    assert_eq!(found, [["10.0.0.3:80 RS- @"]]);
}

#[test]
fn pods_count_where_there_is_neither() {
    let ready = |status: &str| format!("{{type: Ready, status: '{status}'}}");
    let with = |name: &str, ip: &str, metadata: &str, status: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: kubia, x: y}}, {metadata}}}, \
             spec: {{nodeName: n1, containers: []}}, status: {{podIPs: [{{ip: {ip}}}], {status}}}}}"
        )
    };
    let deleted = "deletionTimestamp: '2026-01-01T00:00:00Z'";
    let documents = [
        with("plain", "10.0.0.1", "", ""),
        with("ready", "10.0.0.2", "", &format!("conditions: [{}]", ready("True"))),
        with("unready", "10.0.0.3", "", &format!("conditions: [{}]", ready("False"))),
        with("leaving", "10.0.0.4", deleted, ""),
        with(
            "leaving-unready",
            "10.0.0.5",
            deleted,
            &format!("conditions: [{}]", ready("False")),
        ),
        with("failed", "10.0.0.6", "", "phase: Failed"),
        with("done", "10.0.0.7", "", "phase: Succeeded"),
        with("elsewhere", "10.0.0.8", "namespace: other", ""),
        with("different", "10.0.0.9", "", "").replace("app: kubia", "app: other"),
    ];
    let found = |spec: &str| {
        let kubia = kubia(spec);
        let documents: Vec<&str> = std::iter::once(kubia.as_str())
            .chain(documents.iter().map(String::as_str))
            .collect();
        ports(&documents).remove(0)
    };
    assert_eq!(
        found(SELECTED),
        [
            "10.0.0.1:8080 RS- plain@n1",
            "10.0.0.2:8080 RS- ready@n1",
            "10.0.0.3:8080 --- unready@n1",
            "10.0.0.4:8080 -ST leaving@n1",
            "10.0.0.5:8080 --T leaving-unready@n1",
        ]
    );
    let published = found(&format!("publishNotReadyAddresses: true, {SELECTED}"));
    assert!(
        published.iter().all(|endpoint| endpoint.contains(" R")),
        "{published:?}"
    );
}

#[test]
fn target_ports_by_number_by_name_or_not_at_all() {
    let named = |a: u16, b: u16| {
        format!(
            "spec: {{containers: [{{name: c, ports: [{{name: web, containerPort: {a}}}, {{name: web-udp, containerPort: {b}, protocol: UDP}}]}}]}}"
        )
    };
    let sidecar = |policy: &str| {
        format!(
            "spec: {{containers: [], initContainers: [{{name: c, {policy} ports: [{{name: web, containerPort: 7}}]}}]}}"
        )
    };
    let found = ports(&[
        &kubia(
            "selector: {app: kubia}, ports: [{name: none, port: 80}, {name: number, port: 81, targetPort: 8080}, \
             {name: text, port: 82, targetPort: web}, {name: udp, port: 83, targetPort: web, protocol: UDP}]",
        ),
        &pod("a", "10.0.0.1", &named(8080, 53)),
        &pod("b", "10.0.0.2", &named(9090, 54)),
        &pod("c", "10.0.0.3", &sidecar("restartPolicy: Always,")),
        &pod("d", "10.0.0.4", &sidecar("")),
    ]);
    let numbers = |port: &Vec<String>| {
        port.iter()
            .map(|e| e.split(' ').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        numbers(&found[0]),
        ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80"]
    );
    assert_eq!(
        numbers(&found[1]),
        ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080", "10.0.0.4:8080"]
    );
    assert_eq!(numbers(&found[2]), ["10.0.0.1:8080", "10.0.0.2:9090", "10.0.0.3:7"]);
    assert_eq!(numbers(&found[3]), [""; 0], "a name is of one protocol");
}

#[test]
fn the_rest_of_a_service() {
    let input = read(&format!(
        "{}\n---\n{{apiVersion: v1, kind: Service, metadata: {{name: a, namespace: z}}, spec: {{type: NodePort, \
         sessionAffinity: ClientIP, sessionAffinityConfig: {{clientIP: {{timeoutSeconds: 60}}}}, \
         ports: [{{name: u, port: 53, protocol: UDP}}, {{name: s, port: 1, protocol: SCTP}}]}}}}",
        kubia(&format!("sessionAffinity: ClientIP, {SELECTED}"))
    ));
    let model = model(&input);
    let names: Vec<String> = model.services.iter().map(|service| service.name.to_string()).collect();
    assert_eq!(names, ["default/kubia", "z/a"], "{}", lines(&input));
    let [kubia, a] = &model.services[..] else {
        unreachable!()
    };
    assert_eq!((kubia.affinity_seconds, a.affinity_seconds), (Some(10800), Some(60)));
    assert_eq!(
        (kubia.service_type.to_string(), a.service_type.to_string()),
        ("ClusterIP".into(), "NodePort".into())
    );
    assert_eq!(kubia.selector["app"], "kubia");
    assert_eq!(a.ports[1].protocol, Protocol::SCTP);
    assert_eq!(
        (a.ports[0].protocol, a.ports[0].port, a.ports[0].name.as_str()),
        (Protocol::UDP, 53, "u")
    );
    let record = &input.state.services["z/a"];
    assert_eq!(
        (record.ports[0].protocol.as_str(), record.service_type.as_str()),
        ("UDP", "NodePort")
    );
}
