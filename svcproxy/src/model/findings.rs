//! What is wrong between objects: Services without endpoints, slices without a Service, hints that cannot be followed.

use std::{collections::BTreeSet, net::IpAddr};

use k8s_openapi::{api::core::v1, apimachinery::pkg::util::intstr::IntOrString};

use super::{
    Family, Hints, Node, Service,
    build::{Candidate, protocol},
    cluster_set,
    endpoints::Backing,
    pods,
};
use crate::manifest::{Diagnostic, Objects, SERVICE_NAME_LABEL, Severity, Sourced, name_of, service_of};

/// Warns when nobody serves a Service or one of its ports.
pub(super) fn without_endpoints(
    candidate: &Candidate<'_>,
    service: &Service,
    backing: &Backing<'_>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut warn = |field: &str, problem: String, advice: &str| {
        diagnostics.push(
            candidate
                .source
                .origin
                .diagnostic(Severity::Warning, field, problem, advice),
        );
    };
    let name = &candidate.name;
    match backing {
        Backing::Nothing => {
            let advice = format!(
                "add `selector:` with the labels of its pods, or an EndpointSlice with the label \
                 `{SERVICE_NAME_LABEL}: {}`",
                name.name
            );
            warn(
                "spec.selector",
                "is missing, and there is no EndpointSlice: the Service has no endpoints".into(),
                &advice,
            );
        }
        Backing::Pods(matching) if matching.is_empty() => {
            let labels: Vec<String> = service
                .selector
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let problem = format!(
                "no Pod in namespace {} has the labels {}: the Service has no endpoints",
                name.namespace,
                labels.join(",")
            );
            warn(
                "spec.selector",
                problem,
                "give the pods these labels, or correct the selector",
            );
        }
        Backing::Pods(matching) => {
            for pod in matching.iter().filter(|pod| lacks_address(&pod.object)) {
                let problem = "is missing, and a Service selects this pod: without an address it is no endpoint";
                let advice = "add `podIPs:` with `- ip: 10.244.0.11` below `status:`";
                diagnostics.push(
                    pod.origin
                        .diagnostic(Severity::Warning, "status.podIPs", problem, advice),
                );
            }
            unnamed_ports(candidate, matching, diagnostics);
            other_family(candidate, service, matching, diagnostics);
        }
        Backing::Slices(_) | Backing::Endpoints(_) => {
            let ports = candidate.spec.ports.iter().flatten().enumerate();
            for (index, port) in ports.filter(|(_, port)| protocol(port).is_some()) {
                let served = |p: &&super::ServicePort| {
                    i32::from(p.port) == port.port && Some(p.protocol) == protocol(port) && !p.endpoints.is_empty()
                };
                if !service.ports.iter().any(|port| served(&port)) {
                    let of_name = match port.name.as_deref().filter(|name| !name.is_empty()) {
                        Some(name) => format!("named {name:?}"),
                        None => "without a name".to_owned(),
                    };
                    let transport = port.protocol.as_deref().unwrap_or("TCP");
                    let problem =
                        format!("no EndpointSlice of the Service has a {transport} port {of_name} with endpoints");
                    let advice =
                        "names and protocols must be the same on both sides, and addresses of the Service's family";
                    warn(&format!("spec.ports[{index}]"), problem, advice);
                }
            }
        }
    }
}

/// Whether a Pod should have an address and has none. That it has no status at all was said before, and a Pod that
/// still waits for a node is no mistake.
fn lacks_address(pod: &v1::Pod) -> bool {
    let waits = |status: &v1::PodStatus| status.phase.as_deref() == Some("Pending");
    pod.status.as_ref().is_some_and(|status| !waits(status)) && pods::addresses(pod).is_empty()
}

/// Warns when pods have addresses and none is of a family the Service has.
fn other_family(
    candidate: &Candidate<'_>,
    service: &Service,
    matching: &[&Sourced<v1::Pod>],
    diagnostics: &mut Vec<Diagnostic>,
) {
    let addresses: Vec<IpAddr> = matching.iter().flat_map(|pod| pods::addresses(&pod.object)).collect();
    let reachable = |ip: &IpAddr| addresses.iter().any(|address| address.is_ipv4() == ip.is_ipv4());
    if !addresses.is_empty() && !service.cluster_ips.iter().any(reachable) {
        let families: Vec<&str> = service.cluster_ips.iter().map(|ip| Family::of(*ip).name()).collect();
        let problem = format!("no Pod it selects has an {} address", families.join(" or "));
        let advice = "write the family the pods have as `ipFamilies`, or give the pods such an address";
        let origin = &candidate.source.origin;
        diagnostics.push(origin.diagnostic(Severity::Warning, "spec.ipFamilies", problem, advice));
    }
}

/// Warns about named target ports that pods of the Service do not have.
fn unnamed_ports(candidate: &Candidate<'_>, matching: &[&Sourced<v1::Pod>], diagnostics: &mut Vec<Diagnostic>) {
    for (index, port) in candidate.spec.ports.iter().flatten().enumerate() {
        let Some(IntOrString::String(name)) = &port.target_port else {
            continue;
        };
        let without: Vec<&str> = matching
            .iter()
            .filter(|pod| pods::target_port(&pod.object, port).is_none())
            .filter_map(|pod| pod.object.metadata.name.as_deref())
            .collect();
        if let Some(first) = without.first() {
            let transport = port.protocol.as_deref().unwrap_or("TCP");
            let others = match without.len() {
                1 => String::new(),
                count => format!(" and {} more", count - 1),
            };
            let problem = format!("no container of Pod {first}{others} has a {transport} port named {name:?}");
            let advice = format!("add `name: {name}` to the container's port, or write the port's number here");
            let field = format!("spec.ports[{index}].targetPort");
            diagnostics.push(
                candidate
                    .source
                    .origin
                    .diagnostic(Severity::Warning, &field, problem, advice),
            );
        }
    }
}

/// Warns about slices whose Service is not in the input.
pub(super) fn slices_of_nothing(objects: &Objects, diagnostics: &mut Vec<Diagnostic>) {
    let services: BTreeSet<(&str, &str)> = objects.services().map(|s| name_of(&s.object.metadata)).collect();
    for slice in objects.slices() {
        let Some((namespace, name)) = service_of(&slice.object) else {
            continue;
        };
        if !services.contains(&(namespace, name)) {
            let problem = format!("there is no Service {namespace}/{name}, so nobody uses this slice");
            let field = format!("metadata.labels[{SERVICE_NAME_LABEL:?}]");
            diagnostics.push(slice.origin.diagnostic(
                Severity::Warning,
                &field,
                problem,
                "name a Service of the input",
            ));
        }
    }
}

/// Says why topology hints are ignored, where there are any.
pub(super) fn ignored_hints(
    candidate: &Candidate<'_>,
    service: &Service,
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let families = service.cluster_ips.iter().map(|ip| Family::of(*ip));
    for (port, family) in families.flat_map(|family| service.ports.iter().map(move |port| (port, family))) {
        if let Hints::Ignored(reason) = cluster_set(port, family, node).hints {
            let problem = format!(
                "the topology hints of its {family} endpoints on port {}/{} are ignored: {reason}",
                port.port, port.protocol
            );
            let origin = &candidate.source.origin;
            diagnostics.push(origin.diagnostic(Severity::Notice, "", problem, ""));
        }
    }
}
