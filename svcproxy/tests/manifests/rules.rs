//! One rule, one manifest, one answer. Each row is a Service's `spec` (ports are added where it has none) and what is
//! said of it, without place and object.

use crate::given::{lines, read};

fn answers(spec: &str) -> Vec<String> {
    let ports = if spec.contains("ports:") {
        ""
    } else {
        ", ports: [{port: 80}]"
    };
    let text = format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: kubia}}, spec: {{selector: {{app: kubia}}, {spec}{ports}}}}}\n\
         --- {{apiVersion: v1, kind: Pod, metadata: {{name: p, labels: {{app: kubia}}}}, \
         status: {{podIPs: [{{ip: 10.0.0.1}}, {{ip: 'fd00::1'}}]}}}}"
    );
    let said = lines(&read(&text));
    let without_place = |line: &str| {
        line.split_once("Service default/kubia: ")
            .map_or(line, |(_, said)| said)
            .to_owned()
    };
    said.lines().map(without_place).collect()
}

#[test]
fn each_rule_of_a_service() {
    for (spec, expected) in [
        // Ports.
        ("ports: [{port: 1}]", ""),
        ("ports: [{port: 65535}]", ""),
        (
            "ports: []",
            "spec.ports: is missing; add `ports:` with at least `- port: 80` below it",
        ),
        (
            "ports: [{port: 65536}]",
            "spec.ports[0].port: 65536 is not a port number; write a number from 1 to 65535",
        ),
        (
            "ports: [{port: -1}]",
            "spec.ports[0].port: -1 is not a port number; write a number from 1 to 65535",
        ),
        (
            "ports: [{port: 99999999999}]",
            "spec.ports[0].port: must be a whole number of 32 bits, not the number 99999999999",
        ),
        (
            "ports: [{port: 80.5}]",
            "spec.ports[0].port: must be a whole number of 32 bits, not the number 80.5",
        ),
        (
            "ports: [{port: '80'}]",
            "spec.ports[0].port: must be a whole number, not the text \"80\"; write `port: 80` without quotes",
        ),
        (
            "ports: {port: 80}",
            "spec.ports: must be a list (each entry starts with '-'), not a mapping",
        ),
        ("ports: [{port: 80, name: a}, {port: 80, name: b, protocol: UDP}]", ""),
        (
            "ports: [{port: 80, name: a}, {port: 80, name: b}]",
            "spec.ports[1].port: TCP port 80 is also spec.ports[0]; give each port of one protocol a number of its own",
        ),
        (
            "ports: [{port: 80, name: a}, {port: 81, name: a}]",
            "spec.ports[1].name: \"a\" is also the name of spec.ports[0]; give each port a name of its own",
        ),
        (
            "ports: [{port: 80, name: a}, {port: 81}]",
            "spec.ports[1].name: is missing; a Service with several ports needs a name for each: add `name: http` or the like",
        ),
        (
            "ports: [{port: 80, protocol: HTTP}]",
            "spec.ports[0].protocol: \"HTTP\" is not a supported value; write one of TCP, UDP, SCTP",
        ),
        ("ports: [{port: 80, protocol: SCTP}]", ""),
        // Target ports.
        ("ports: [{port: 80, targetPort: 8080}]", ""),
        (
            "ports: [{port: 80, targetPort: 0}]",
            "spec.ports[0].targetPort: 0 is not a port number; write a number from 1 to 65535",
        ),
        (
            "ports: [{port: 80, targetPort: '8080'}]",
            "spec.ports[0].targetPort: \"8080\" is not a port number or a port name; write `targetPort: 8080` without quotes",
        ),
        (
            "ports: [{port: 80, targetPort: a-very-long-port}]",
            "spec.ports[0].targetPort: \"a-very-long-port\" is not a port number or a port name; write a number, or the name of a port of the pods (use 1 to 15 characters)",
        ),
        (
            "ports: [{port: 80, targetPort: 8080 // web}]",
            "spec.ports[0].targetPort: \"8080 // web\" is not a port number or a port name; YAML comments start with '#', not '//': write `targetPort: 8080 # web`",
        ),
        (
            "ports: [{port: 80, targetPort: web}]",
            "spec.ports[0].targetPort: no container of Pod p has a TCP port named \"web\"; add `name: web` to the container's port, or write the port's number here",
        ),
        (
            "ports: [{port: 80, targetport: 8080}]",
            "spec.ports[0].targetport: there is no field \"targetport\" here; write `targetPort`",
        ),
        (
            "sesionAffinity: ClientIP",
            "spec.sesionAffinity: there is no field \"sesionAffinity\" here; write `sessionAffinity`",
        ),
        // Cluster IPs.
        ("clusterIP: 10.96.0.5", ""),
        ("clusterIP: 203.0.113.7", ""),
        ("clusterIP: ''", ""),
        (
            "clusterIP: None",
            "skipped: a headless Service (`clusterIP: None`) has no address",
        ),
        (
            "clusterIP: none",
            "spec.clusterIP: \"none\" is not an IP address; write an address such as 10.96.0.10 or fd00:10:96::10",
        ),
        (
            "clusterIP: 127.0.0.1",
            "spec.clusterIP: 127.0.0.1 is a loopback address; it cannot be a Service's; write an address of your own, or leave the field out to have one assigned",
        ),
        (
            "clusterIP: 'fe80::1'",
            "spec.clusterIP: fe80::1 is a link-local address; it cannot be a Service's; write an address of your own, or leave the field out to have one assigned",
        ),
        (
            "clusterIP: 10.96.0.5, clusterIPs: [10.96.0.6]",
            "spec.clusterIPs[0]: \"10.96.0.6\" is not what spec.clusterIP says, \"10.96.0.5\"; write the same address in both, or remove one of the two fields",
        ),
        (
            "clusterIP: 10.96.0.5, ipFamilies: [IPv6]",
            "spec.clusterIP: 10.96.0.5 is not IPv6, which spec.ipFamilies[0] asks for; change one of the two",
        ),
        (
            "clusterIPs: [10.96.0.5, 'fd00::5'], ipFamilyPolicy: PreferDualStack",
            "",
        ),
        (
            "clusterIPs: [10.96.0.5, 'fd00::5']",
            "spec.clusterIPs: holds two families although `ipFamilyPolicy` is SingleStack; write `ipFamilyPolicy: PreferDualStack` or `RequireDualStack`, or leave only one",
        ),
        (
            "clusterIPs: [10.96.0.5, 10.96.0.6], ipFamilyPolicy: PreferDualStack",
            "spec.clusterIPs: names IPv4 twice; at most one of each family",
        ),
        (
            "ipFamilies: [IPv4, IPv4], ipFamilyPolicy: PreferDualStack",
            "spec.ipFamilies: names IPv4 twice; at most one of each family",
        ),
        ("ipFamilies: [IPv4, IPv6], ipFamilyPolicy: RequireDualStack", ""),
        (
            "ipFamilyPolicy: DualStack",
            "spec.ipFamilyPolicy: \"DualStack\" is not a supported value; write one of SingleStack, PreferDualStack, RequireDualStack",
        ),
        // Affinity.
        ("sessionAffinity: ClientIP", ""),
        (
            "sessionAffinity: Cookie",
            "spec.sessionAffinity: \"Cookie\" is not a supported value; write one of ClientIP, None",
        ),
        (
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 86400}}",
            "",
        ),
        (
            "sessionAffinity: ClientIP, sessionAffinityConfig: {clientIP: {timeoutSeconds: 86401}}",
            "spec.sessionAffinityConfig.clientIP.timeoutSeconds: 86401 seconds is no time a client can be remembered; write a number from 1 to 86400 (one day)",
        ),
        (
            "sessionAffinityConfig: {clientIP: {timeoutSeconds: 5}}",
            "spec.sessionAffinityConfig: may not be set when `sessionAffinity` is None; write `sessionAffinity: ClientIP` beside it, or remove it",
        ),
        // Types and nodePorts.
        ("type: ClusterIP", ""),
        (
            "type: Headless",
            "spec.type: \"Headless\" is not a supported value; write one of ClusterIP, NodePort, LoadBalancer, ExternalName",
        ),
        (
            "type: ExternalName",
            "spec.externalName: is missing; a Service of type ExternalName needs a DNS name here",
        ),
        ("type: NodePort", ""),
        ("type: LoadBalancer, ports: [{port: 80, nodePort: 0}]", ""),
        (
            "type: NodePort, ports: [{port: 80, nodePort: 65536}]",
            "spec.ports[0].nodePort: 65536 is not a port number; write a number from 1 to 65535",
        ),
        (
            "type: NodePort, ports: [{port: 80, nodePort: 80}]",
            "spec.ports[0].nodePort: 80 is not in --service-node-port-range, 30000-32767: a cluster would refuse it; write a port of that range",
        ),
        (
            "type: NodePort, ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 81, nodePort: 30080}]",
            "spec.ports[1].nodePort: TCP nodePort 30080 is also that of spec.ports[0]; give each port of one protocol a nodePort of its own",
        ),
        (
            "type: NodePort, ports: [{name: a, port: 80, nodePort: 30080}, {name: b, port: 80, protocol: UDP, nodePort: 30080}]",
            "",
        ),
        (
            "ports: [{port: 80, nodePort: 30080}]",
            "spec.ports[0].nodePort: may not be set when `type` is ClusterIP; remove it, or write `type: NodePort` below `spec:`",
        ),
        // Policies and addresses.
        ("internalTrafficPolicy: Local", ""),
        ("externalTrafficPolicy: Local, externalIPs: [203.0.113.1]", ""),
        (
            "externalTrafficPolicy: Local",
            "spec.externalTrafficPolicy: has no effect: the Service has neither nodePorts nor external IPs; `internalTrafficPolicy` is the one of the cluster IP",
        ),
        (
            "internalTrafficPolicy: local",
            "spec.internalTrafficPolicy: \"local\" is not a supported value; write `internalTrafficPolicy: Local`",
        ),
        (
            "type: LoadBalancer, loadBalancerSourceRanges: [' 10.0.0.0/8 ', 10.0.0.1]",
            "spec.loadBalancerSourceRanges[1]: \"10.0.0.1\" is not a network; write it as 10.0.0.0/8",
        ),
        (
            "loadBalancerSourceRanges: [10.0.0.0/8]",
            "spec.loadBalancerSourceRanges: has no effect unless `type` is LoadBalancer; write `type: LoadBalancer`, or remove it",
        ),
        ("type: LoadBalancer, loadBalancerIP: 203.0.113.1", ""),
        (
            "type: LoadBalancer, loadBalancerIP: 127.0.0.1",
            "spec.loadBalancerIP: 127.0.0.1 is a loopback address; it cannot be a Service's; write the address other machines reach it at",
        ),
        (
            "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 32000",
            "",
        ),
        (
            "type: LoadBalancer, healthCheckNodePort: 32000",
            "spec.healthCheckNodePort: may be set only with `type: LoadBalancer` and `externalTrafficPolicy: Local`; write both, or remove it",
        ),
        (
            "type: LoadBalancer, externalTrafficPolicy: Local, healthCheckNodePort: 32000, ports: [{port: 80, nodePort: 32000}]",
            "spec.healthCheckNodePort: 32000 is also the nodePort of spec.ports[0]; give it a port of its own",
        ),
        (
            "externalIPs: [203.0.113.1, '2001:db8::1']",
            "spec.externalIPs[1]: 2001:db8::1 is not carried: the Service has no IPv6 cluster IP; write `ipFamilyPolicy: PreferDualStack`",
        ),
        (
            "externalIPs: [0.0.0.0]",
            "spec.externalIPs[0]: 0.0.0.0 is the unspecified address; it cannot be a Service's; write the address other machines reach it at",
        ),
    ] {
        let said = answers(spec);
        match expected {
            "" => assert_eq!(said, [""; 0], "{spec}"),
            _ => assert!(
                said.iter().any(|line| line == expected),
                "{spec}\n wanted: {expected}\n    got: {said:#?}"
            ),
        }
    }
}

#[test]
fn names_of_objects() {
    let long = "a".repeat(64);
    for (kind, name, valid) in [
        ("Service", "kubia", true),
        ("Service", "kubia-2", true),
        ("Service", "2kubia", false),
        ("Service", "kubia.web", false),
        ("Service", long.as_str(), false),
        ("Pod", "kubia.web", true),
        ("Pod", "2kubia", true),
        ("Pod", "Kubia", false),
        ("Pod", "kubia..web", false),
    ] {
        let spec = "spec: {selector: {a: b}, ports: [{port: 80}], containers: []}, status: {}";
        let input = read(&format!(
            "{{apiVersion: v1, kind: {kind}, metadata: {{name: {name}}}, {spec}}}"
        ));
        assert_eq!(input.errors().count() == 0, valid, "{kind} {name}: {}", lines(&input));
    }
}
