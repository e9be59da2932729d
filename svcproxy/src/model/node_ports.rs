//! Which ServicePort gets which nodePort, and which Service which `healthCheckNodePort`.
//!
//! In the order of claims, as for cluster IPs: numbers written in manifests, numbers remembered, new ones. As in
//! kube-apiserver, the lower part of the range is left to people until the upper part is full, and ports of one
//! number share a nodePort across protocols.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1;

use super::{
    PortRange,
    addresses::fnv1a,
    build::{Candidate, Options, protocol},
};
use crate::{
    manifest::{Diagnostic, Severity},
    state::{ServiceRecord, State},
};

/// The nodePorts of one Service.
#[derive(Debug, Clone, Default)]
pub(super) struct NodePorts {
    /// One for each entry of `spec.ports`, where it has one.
    pub(super) ports: Vec<Option<u16>>,
    /// `healthCheckNodePort`, where it has one.
    pub(super) health_check: Option<u16>,
}

/// The nodePorts of each candidate.
pub(super) fn node_ports(
    candidates: &[Candidate<'_>],
    options: &Options,
    state: &State,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<NodePorts> {
    let mut taken: BTreeSet<u16> = BTreeSet::new();
    for spec in candidates.iter().map(|candidate| candidate.spec) {
        taken.extend(spec.ports.iter().flatten().filter_map(|port| number(port.node_port)));
        taken.extend(number(spec.health_check_node_port));
    }
    for candidate in candidates {
        outside(candidate, options.node_ports, diagnostics);
    }
    let claim = |candidate: &Candidate<'_>| {
        let record = state.services.get(&candidate.name.to_string());
        claims(candidate, record, options.node_ports, &mut taken)
    };
    let mut all: Vec<NodePorts> = candidates.iter().map(claim).collect();
    let remembered = state.services.values().flat_map(|record| {
        let ports = record.ports.iter().filter_map(|port| port.node_port);
        ports.chain(record.health_check_node_port)
    });
    taken.extend(remembered);
    for (candidate, claimed) in candidates.iter().zip(&mut all) {
        assign(candidate, claimed, options.node_ports, &mut taken, diagnostics);
    }
    all
}

/// Warns of nodePorts that an API server with this range would refuse.
fn outside(candidate: &Candidate<'_>, range: PortRange, diagnostics: &mut Vec<Diagnostic>) {
    let ports = candidate.spec.ports.iter().flatten().enumerate();
    let written = ports.filter_map(|(index, port)| Some((index, number(port.node_port)?)));
    for (index, port) in written.filter(|(_, port)| !range.contains(*port)) {
        let problem = format!("{port} is not in --service-node-port-range, {range}: a cluster would refuse it");
        let field = format!("spec.ports[{index}].nodePort");
        let origin = &candidate.source.origin;
        diagnostics.push(origin.diagnostic(Severity::Warning, &field, problem, "write a port of that range"));
    }
}

/// Whether the ports of a Service are to have nodePorts although none is written.
fn wants_node_ports(spec: &v1::ServiceSpec) -> bool {
    match spec.type_.as_deref() {
        Some("NodePort") => true,
        Some("LoadBalancer") => spec.allocate_load_balancer_node_ports != Some(false),
        _ => false,
    }
}

/// Whether a Service has a port that tells load balancers if this node has endpoints.
fn wants_health_check(spec: &v1::ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local")
}

/// What is written, and what is remembered and still free.
fn claims(
    candidate: &Candidate<'_>,
    record: Option<&ServiceRecord>,
    range: PortRange,
    taken: &mut BTreeSet<u16>,
) -> NodePorts {
    let spec = candidate.spec;
    let mut recall = |remembered: Option<u16>| remembered.filter(|port| range.contains(*port) && taken.insert(*port));
    let mut shared: Vec<(i32, u16)> = Vec::new();
    let port = |port: &v1::ServicePort| {
        let written = number(port.node_port).filter(|_| has_node_ports(spec));
        let claimed = written.or_else(|| {
            let known = record.filter(|_| wants_node_ports(spec))?.ports.iter().find(|known| {
                known.name == port.name.as_deref().unwrap_or_default()
                    && Some(known.protocol.as_str()) == protocol(port).map(|protocol| protocol.to_string()).as_deref()
            })?;
            let shared = shared.contains(&(port.port, known.node_port?));
            if shared {
                known.node_port
            } else {
                recall(known.node_port)
            }
        });
        shared.extend(claimed.map(|claimed| (port.port, claimed)));
        claimed
    };
    let ports = spec.ports.iter().flatten().map(port).collect();
    let health_check = match wants_health_check(spec) {
        true => number(spec.health_check_node_port).or_else(|| recall(record?.health_check_node_port)),
        false => None,
    };
    NodePorts { ports, health_check }
}

/// Whether a nodePort that is written counts.
fn has_node_ports(spec: &v1::ServiceSpec) -> bool {
    matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"))
}

/// Fills in what is not claimed.
fn assign(
    candidate: &Candidate<'_>,
    claimed: &mut NodePorts,
    range: PortRange,
    taken: &mut BTreeSet<u16>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let spec = candidate.spec;
    let mut fresh = |purpose: &str, field: &str| {
        let found = free(
            range,
            taken,
            &[candidate.name.to_string().as_bytes(), b" ", purpose.as_bytes()],
        );
        taken.extend(found);
        if found.is_none() {
            let problem = format!("no port is free in {range}");
            let advice = "give --service-node-port-range more ports";
            let origin = &candidate.source.origin;
            diagnostics.push(origin.diagnostic(Severity::Error, field, problem, advice));
        }
        found
    };
    let ports: Vec<&v1::ServicePort> = spec.ports.iter().flatten().collect();
    for index in (0..ports.len()).filter(|_| wants_node_ports(spec)) {
        if claimed.ports[index].is_some() {
            continue;
        }
        let same_number = |(other, _): &(&&v1::ServicePort, _)| other.port == ports[index].port;
        let others = ports.iter().zip(&claimed.ports).filter(same_number);
        let shared = others.filter_map(|(_, claimed)| *claimed).next();
        claimed.ports[index] = shared.or_else(|| {
            let field = format!("spec.ports[{index}].nodePort");
            fresh(&ports[index].port.to_string(), &field)
        });
    }
    if wants_health_check(spec) && claimed.health_check.is_none() {
        claimed.health_check = fresh("health check", "spec.healthCheckNodePort");
    }
}

/// A port that is free, from the place on where `seed` starts to look.
fn free(range: PortRange, taken: &BTreeSet<u16>, seed: &[&[u8]]) -> Option<u16> {
    // kube-apiserver's calculateRangeOffset for ports: a 32nd, at least 16, at most 128, nothing of a tiny range.
    let size = range.count();
    let reserved = if size <= 16 { 0 } else { (size / 32).clamp(16, 128) };
    let upper = size - reserved;
    let start = (fnv1a(seed) % u64::from(upper.max(1))) as u32;
    let in_upper = (0..upper).map(|step| reserved + (start + step) % upper);
    let candidates = in_upper.chain(0..reserved).map(|offset| range.first + offset as u16);
    candidates.into_iter().find(|port| !taken.contains(port))
}

/// A port that is set: 0 is the same as none.
fn number(port: Option<i32>) -> Option<u16> {
    port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0)
}
