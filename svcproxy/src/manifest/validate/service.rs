//! A Service's spec: type, ports, affinity.

use std::collections::HashMap;

use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};

use super::{Validate, cluster_ips, exposure, names, one_of, path, port, protocol};
use crate::manifest::report::{Report, comment_advice};

impl Validate for Service {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn validate(&self, report: &mut Report<'_>) {
        let Some(spec) = &self.spec else {
            report.error(
                "spec",
                "is missing",
                "add `spec:` with `selector:` and `ports:` below it",
            );
            return;
        };
        one_of(
            "spec.type",
            spec.type_.as_deref(),
            &["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"],
            report,
        );
        if spec.type_.as_deref() == Some("ExternalName") {
            if spec.external_name.as_deref().unwrap_or_default().is_empty() {
                report.error(
                    "spec.externalName",
                    "is missing",
                    "a Service of type ExternalName needs a DNS name here",
                );
            }
            return;
        }
        for (key, value) in spec.selector.iter().flatten() {
            names::label_value(&path::key("spec.selector", key), value, report);
        }
        if spec.selector.iter().flatten().next().is_none() && self.metadata.name.is_none() {
            report.warning(
                "spec.selector",
                "is missing, so the Service has no endpoints",
                "add `selector:` with the labels of its pods, for example `app: kubia`",
            );
        }
        cluster_ips::validate(spec, report);
        ports(spec, report);
        affinity(spec, report);
        exposure::validate(spec, report);
        if let Some(status) = &self.status {
            exposure::ingress(status, report);
        }
    }
}

fn ports(spec: &ServiceSpec, report: &mut Report<'_>) {
    let ports = spec.ports.as_deref().unwrap_or_default();
    if ports.is_empty() && !cluster_ips::is_headless(spec) {
        report.error(
            "spec.ports",
            "is missing",
            "add `ports:` with at least `- port: 80` below it",
        );
    }
    let mut by_name: HashMap<&str, usize> = HashMap::new();
    let mut by_number: HashMap<(i32, &str), usize> = HashMap::new();
    let mut by_node_port: HashMap<(i32, &str), usize> = HashMap::new();
    for (index, entry) in ports.iter().enumerate() {
        let at = path::index("spec.ports", index);
        let field = |name: &str| path::key(&at, name);
        one_port(entry, spec, &at, report);
        match entry.name.as_deref().filter(|name| !name.is_empty()) {
            None if ports.len() > 1 => {
                let advice = "a Service with several ports needs a name for each: add `name: http` or the like";
                report.error(&field("name"), "is missing", advice);
            }
            None => {}
            Some(name) => {
                if let Some(first) = by_name.insert(name, index) {
                    let problem = format!("{name:?} is also the name of spec.ports[{first}]");
                    report.error(&field("name"), problem, "give each port a name of its own");
                }
            }
        }
        let transport = entry.protocol.as_deref().unwrap_or("TCP");
        if entry.port > 0
            && let Some(first) = by_number.insert((entry.port, transport), index)
        {
            let problem = format!("{transport} port {} is also spec.ports[{first}]", entry.port);
            report.error(
                &field("port"),
                problem,
                "give each port of one protocol a number of its own",
            );
        }
        if let Some(number) = entry.node_port.filter(|&number| number > 0)
            && let Some(first) = by_node_port.insert((number, transport), index)
        {
            let problem = format!("{transport} nodePort {number} is also that of spec.ports[{first}]");
            let advice = "give each port of one protocol a nodePort of its own";
            report.error(&field("nodePort"), problem, advice);
        }
    }
}

fn one_port(entry: &ServicePort, spec: &ServiceSpec, at: &str, report: &mut Report<'_>) {
    let field = |name: &str| path::key(at, name);
    if let Some(name) = entry.name.as_deref().filter(|name| !name.is_empty()) {
        names::dns_1123_label(&field("name"), name, report);
    }
    protocol(&field("protocol"), entry.protocol.as_deref(), report);
    // The decoder turns an absent number into 0, which is none either.
    match entry.port {
        0 => report.error(
            &field("port"),
            "is missing or 0",
            "write `port:` and the number that clients connect to",
        ),
        number => port(&field("port"), number, report),
    }
    match &entry.target_port {
        None => {}
        Some(IntOrString::Int(number)) => port(&field("targetPort"), *number, report),
        Some(IntOrString::String(name)) => target_port_name(&field("targetPort"), name, report),
    }
    if let Some(number) = entry.node_port.filter(|&number| number != 0) {
        port(&field("nodePort"), number, report);
        if matches!(spec.type_.as_deref(), None | Some("ClusterIP")) {
            let advice = "remove it, or write `type: NodePort` below `spec:`";
            report.error(&field("nodePort"), "may not be set when `type` is ClusterIP", advice);
        }
    }
}

/// A `targetPort` that is text: the name of a container's port, or a slip.
fn target_port_name(field: &str, name: &str, report: &mut Report<'_>) {
    let Some(rule) = names::port_name_error(name) else {
        return;
    };
    let advice = match (comment_advice(field, name), name.trim().parse::<u16>()) {
        (Some(comment), _) => comment,
        (None, Ok(number)) => format!("write `targetPort: {number}` without quotes"),
        (None, Err(_)) => format!("write a number, or the name of a port of the pods ({rule})"),
    };
    report.invalid(field, name, "is not a port number or a port name", advice);
}

fn affinity(spec: &ServiceSpec, report: &mut Report<'_>) {
    one_of(
        "spec.sessionAffinity",
        spec.session_affinity.as_deref(),
        &["ClientIP", "None"],
        report,
    );
    let Some(config) = &spec.session_affinity_config else {
        return;
    };
    if matches!(spec.session_affinity.as_deref(), None | Some("None")) {
        let advice = "write `sessionAffinity: ClientIP` beside it, or remove it";
        report.error(
            "spec.sessionAffinityConfig",
            "may not be set when `sessionAffinity` is None",
            advice,
        );
    }
    let timeout = config
        .client_ip
        .as_ref()
        .and_then(|client_ip| client_ip.timeout_seconds);
    if let Some(seconds) = timeout.filter(|seconds| !(1..=86400).contains(seconds)) {
        let problem = format!("{seconds} seconds is no time a client can be remembered");
        let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        report.error(field, problem, "write a number from 1 to 86400 (one day)");
    }
}
