//! How a Service is reached from outside: traffic policies, external and load balancer IPs, who may use them.
//!
//! Fields that Kubernetes refuses because they mean nothing for the Service's type are warnings here: what is written
//! beside them works.

use k8s_openapi::api::core::v1::{ServiceSpec, ServiceStatus};

use super::{one_of, path, port, reachable_address};
use crate::manifest::report::Report;

pub(super) fn validate(spec: &ServiceSpec, report: &mut Report<'_>) {
    for (field, value) in [
        ("spec.internalTrafficPolicy", &spec.internal_traffic_policy),
        ("spec.externalTrafficPolicy", &spec.external_traffic_policy),
    ] {
        let value = value.as_deref().filter(|value| !value.is_empty());
        one_of(field, value, &["Cluster", "Local"], report);
    }
    for (index, address) in spec.external_ips.iter().flatten().enumerate() {
        reachable_address(&path::index("spec.externalIPs", index), address, "a Service", report);
    }
    if let Some(address) = spec.load_balancer_ip.as_deref().filter(|ip| !ip.is_empty()) {
        reachable_address("spec.loadBalancerIP", address, "a Service", report);
    }
    for (index, range) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        if range.trim().parse::<ipnet::IpNet>().is_err() {
            let field = path::index("spec.loadBalancerSourceRanges", index);
            report.invalid(&field, range, "is not a network", "write it as 10.0.0.0/8");
        }
    }
    health_check(spec, report);
    without_effect(spec, report);
}

/// `healthCheckNodePort` is for load balancers that must know which nodes have endpoints.
fn health_check(spec: &ServiceSpec, report: &mut Report<'_>) {
    let Some(number) = spec.health_check_node_port.filter(|number| *number != 0) else {
        return;
    };
    let field = "spec.healthCheckNodePort";
    port(field, number, report);
    let is_local = spec.external_traffic_policy.as_deref() == Some("Local");
    if !is_load_balancer(spec) || !is_local {
        let problem = "may be set only with `type: LoadBalancer` and `externalTrafficPolicy: Local`";
        report.error(field, problem, "write both, or remove it");
    }
    let node_ports = spec.ports.iter().flatten().enumerate();
    for (index, _) in node_ports.filter(|(_, entry)| entry.node_port == Some(number)) {
        let problem = format!("{number} is also the nodePort of spec.ports[{index}]");
        report.error(field, problem, "give it a port of its own");
    }
}

fn without_effect(spec: &ServiceSpec, report: &mut Report<'_>) {
    let has_external_ips = spec.external_ips.iter().flatten().next().is_some();
    let is_exposed = has_external_ips || matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
    if spec.external_traffic_policy.as_deref() == Some("Local") && !is_exposed {
        let problem = "has no effect: the Service has neither nodePorts nor external IPs";
        let advice = "`internalTrafficPolicy` is the one of the cluster IP";
        report.warning("spec.externalTrafficPolicy", problem, advice);
    }
    let ranges = spec.load_balancer_source_ranges.iter().flatten().next();
    for (field, is_set) in [
        ("loadBalancerSourceRanges", ranges.is_some()),
        (
            "loadBalancerIP",
            spec.load_balancer_ip.as_deref().is_some_and(|ip| !ip.is_empty()),
        ),
        (
            "allocateLoadBalancerNodePorts",
            spec.allocate_load_balancer_node_ports.is_some(),
        ),
    ] {
        if is_set && !is_load_balancer(spec) {
            let problem = "has no effect unless `type` is LoadBalancer";
            report.warning(
                &path::key("spec", field),
                problem,
                "write `type: LoadBalancer`, or remove it",
            );
        }
    }
}

fn is_load_balancer(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("LoadBalancer")
}

/// `status.loadBalancer`, as a cloud's controller writes it.
pub(super) fn ingress(status: &ServiceStatus, report: &mut Report<'_>) {
    let ingress = status
        .load_balancer
        .iter()
        .flat_map(|status| status.ingress.iter().flatten());
    for (index, ingress) in ingress.enumerate() {
        let at = path::index("status.loadBalancer.ingress", index);
        if let Some(ip) = ingress.ip.as_deref().filter(|ip| !ip.is_empty()) {
            reachable_address(&path::key(&at, "ip"), ip, "a load balancer", report);
        }
        let mode = ingress.ip_mode.as_deref();
        one_of(&path::key(&at, "ipMode"), mode, &["VIP", "Proxy"], report);
    }
}
