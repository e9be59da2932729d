//! Addresses and ports that two Services claim: the datapath can give each to one only.

use std::{collections::HashMap, hash::Hash, net::IpAddr, sync::Arc};

use super::{Family, Node, Protocol, Service, build::Candidate};
use crate::manifest::{Diagnostic, Severity};

/// Refuses what two Services claim: an address and port, a nodePort. Warns of addresses no packet would reach.
pub(super) fn conflicts(
    candidates: &[Candidate<'_>],
    services: &[Arc<Service>],
    node: &Node,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let mut addresses = Claims::default();
    let mut node_ports = Claims::default();
    for (candidate, service) in candidates.iter().zip(services) {
        let fields = [
            ("spec.clusterIP", &service.cluster_ips),
            ("spec.externalIPs", &service.external_ips),
            ("status.loadBalancer.ingress", &service.load_balancer_ips),
        ];
        for (field, ip) in fields
            .iter()
            .flat_map(|(field, ips)| ips.iter().map(move |ip| (*field, *ip)))
        {
            for port in &service.ports {
                let what = || format!("{} with {} port {}", ip, port.protocol, port.port);
                let advice = "give one of them another address or port";
                diagnostics.extend(addresses.claim((ip, port.port, port.protocol), candidate, field, what, advice));
            }
        }
        for (index, port) in service.ports.iter().enumerate() {
            if let Some(number) = port.node_port {
                let field = format!("spec.ports[{index}].nodePort");
                let what = || format!("{} nodePort {number}", port.protocol);
                let advice = "give one of them another nodePort, or leave the field out to have one assigned";
                diagnostics.extend(node_ports.claim((number, port.protocol), candidate, &field, what, advice));
            }
        }
        if let Some(number) = service.health_check_node_port {
            let what = || format!("TCP port {number} of the node");
            let advice = "give one of them another port, or leave the field out to have one assigned";
            let key = (number, Protocol::TCP);
            diagnostics.extend(node_ports.claim(key, candidate, "spec.healthCheckNodePort", what, advice));
        }
        node_addresses(candidate, service, node, diagnostics);
        other_families(candidate, service, diagnostics);
    }
}

/// Who claimed what first.
struct Claims<'c, 'o, K>(HashMap<K, &'c Candidate<'o>>);

impl<K> Default for Claims<'_, '_, K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<'c, 'o, K: Eq + Hash> Claims<'c, 'o, K> {
    /// An error if another Service has claimed `key` before.
    fn claim(
        &mut self,
        key: K,
        candidate: &'c Candidate<'o>,
        field: &str,
        what: impl Fn() -> String,
        advice: &str,
    ) -> Option<Diagnostic> {
        let first = *self.0.entry(key).or_insert(candidate);
        (first.name != candidate.name).then(|| {
            let problem = format!(
                "{} belongs to Service {} already, at {}",
                what(),
                first.name,
                first.source.origin.place()
            );
            candidate
                .source
                .origin
                .diagnostic(Severity::Error, field, problem, advice)
        })
    }
}

/// Refuses this node's own address as a cluster IP: every other port of it would be refused with it.
fn node_addresses(candidate: &Candidate<'_>, service: &Service, node: &Node, diagnostics: &mut Vec<Diagnostic>) {
    for ip in service.cluster_ips.iter().filter(|ip| node.addresses.contains(ip)) {
        let problem = format!("{ip} is an address of this node");
        let advice = "write it as an entry of `externalIPs`, or leave the field out to have an address assigned";
        let origin = &candidate.source.origin;
        diagnostics.push(origin.diagnostic(Severity::Error, "spec.clusterIP", problem, advice));
    }
}

/// Warns of external IPs of a family in which the Service has no cluster IP: kube-proxy carries none of them either.
fn other_families(candidate: &Candidate<'_>, service: &Service, diagnostics: &mut Vec<Diagnostic>) {
    let written = candidate.spec.external_ips.iter().flatten().enumerate();
    for (index, ip) in written.filter_map(|(index, ip)| Some((index, ip.parse::<IpAddr>().ok()?))) {
        let family = Family::of(ip);
        if !service
            .cluster_ips
            .iter()
            .any(|cluster_ip| Family::of(*cluster_ip) == family)
        {
            let problem = format!("{ip} is not carried: the Service has no {family} cluster IP");
            let advice = "write `ipFamilyPolicy: PreferDualStack`";
            let field = format!("spec.externalIPs[{index}]");
            let origin = &candidate.source.origin;
            diagnostics.push(origin.diagnostic(Severity::Warning, &field, problem, advice));
        }
    }
}
