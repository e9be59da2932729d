//! Pods, as far as they can be endpoints: addresses, named ports, conditions.

use k8s_openapi::{
    api::core::v1::{Container, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Validate, names, path, port, protocol, reachable_address};
use crate::manifest::report::Report;

impl Validate for Pod {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn validate(&self, report: &mut Report<'_>) {
        if let Some(spec) = &self.spec {
            containers("spec.containers", &spec.containers, report);
            containers(
                "spec.initContainers",
                spec.init_containers.as_deref().unwrap_or_default(),
                report,
            );
        }
        let Some(status) = &self.status else {
            report.warning(
                "status",
                "is missing, so no Service can reach this pod",
                "in a cluster the kubelet fills it in; here, add `status:` with `podIPs:` and `- ip: 10.244.0.11` below it",
            );
            return;
        };
        if let Some(ip) = status.pod_ip.as_deref().filter(|ip| !ip.is_empty()) {
            reachable_address("status.podIP", ip, "a pod", report);
        }
        for (index, pod_ip) in status.pod_ips.iter().flatten().enumerate() {
            let field = path::key(&path::index("status.podIPs", index), "ip");
            if pod_ip.ip.is_empty() {
                report.error(&field, "is missing", "write `- ip:` and the pod's address");
            } else {
                reachable_address(&field, &pod_ip.ip, "a pod", report);
            }
        }
    }
}

fn containers(at: &str, containers: &[Container], report: &mut Report<'_>) {
    for (index, container) in containers.iter().enumerate() {
        let at = path::key(&path::index(at, index), "ports");
        let mut seen = Vec::new();
        for (index, entry) in container.ports.iter().flatten().enumerate() {
            let field = |name: &str| path::key(&path::index(&at, index), name);
            match entry.container_port {
                0 => {
                    let advice = "write `containerPort:` and the number the container listens on";
                    report.error(&field("containerPort"), "is missing or 0", advice);
                }
                number => port(&field("containerPort"), number, report),
            }
            protocol(&field("protocol"), entry.protocol.as_deref(), report);
            let Some(name) = entry.name.as_deref() else {
                continue;
            };
            if let Some(rule) = names::port_name_error(name) {
                report.invalid(&field("name"), name, "is not a port name", rule);
            }
            if seen.contains(&name) {
                let problem = format!("{name:?} is already the name of another port of this container");
                report.error(&field("name"), problem, "give each port a name of its own");
            }
            seen.push(name);
        }
    }
}
