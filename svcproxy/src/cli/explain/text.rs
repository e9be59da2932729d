//! The answer step by step, for people: who asks, whom, by which rules, and what comes of it.

use std::fmt::{self, Display, Write as _};

use svcproxy_common::{
    Reason,
    abi::{Network, ServiceEntry, Way},
};

use super::{endpoints, names, paint::Paint, scene::Explanation};
use crate::{
    conformance::Verdict,
    model::{Family, TrafficPolicy},
    state::ServiceRecord,
};

/// Width of the column that names the steps.
const LABEL: usize = 11;

/// The page to print.
pub(super) fn render(explained: &Explanation<'_>, paint: Paint) -> String {
    let mut page = Page {
        text: String::new(),
        paint,
        label: "",
    };
    let _ = writeln!(page.text, "{}\n", paint.bold(explained.question));
    page.step("client", client(explained));
    page.step("Service", service(explained));
    if let Some(entry) = explained.reach.entry.filter(|entry| entry.way != Way::OTHER_PORT) {
        if entry.way == Way::LOAD_BALANCER && entry.filtered {
            page.step("ranges", source_ranges(explained));
        }
        if explained.reach.reason != Reason::SourceRange {
            if let Some(policy) = policy(explained, &entry) {
                page.step("policy", policy);
            }
            endpoints::list(explained, paint, |line| page.step("endpoints", line));
            if explained.answer.verdict == Verdict::Forward.name() {
                page.step("choice", choice(explained, &entry));
                page.step("source", source(explained, &entry));
            }
        }
    }
    if let Some(flow) = explained.flow() {
        let ago = flow.idle;
        page.step(
            "connection",
            format!("it exists (its last packet passed {ago} s ago), and that alone decides"),
        );
    }
    page.step("hook", hook(explained));
    let verdict = explained.answer.verdict;
    page.step("verdict", paint.verdict(verdict, conclusion(explained)));
    page.text
}

/// Lines with a column of labels, each label once.
struct Page {
    text: String,
    paint: Paint,
    label: &'static str,
}

impl Page {
    fn step(&mut self, label: &'static str, line: impl Display) {
        let shown = if label == self.label { "" } else { label };
        self.label = label;
        // Padded before it is painted: escapes have no width.
        let _ = writeln!(self.text, "{} {line}", self.paint.dim(format!("{shown:LABEL$}")));
    }
}

fn client(explained: &Explanation<'_>) -> String {
    let address = explained.question.src.address;
    match explained.reach.client {
        Some((network, Network::PODS)) => format!("{address} is a pod: it is in {network} (--cluster-cidr)"),
        Some((_, Network::NODE)) => format!("{address} is this node"),
        Some((network, Network::SERVICES)) => {
            format!("{address} is outside the cluster, to all Services: it is in the service range {network}")
        }
        Some((network, Network::OUTSIDE)) => format!("{address} is outside the cluster: it is in {network}"),
        None => match &explained.pod_networks[..] {
            [] => format!(
                "{address} is outside the cluster as far as can be told: no {} --cluster-cidr tells pods from others",
                Family::of(address)
            ),
            pods => format!(
                "{address} is outside the cluster: neither this node nor in {} (--cluster-cidr)",
                Joined(pods)
            ),
        },
    }
}

fn service(explained: &Explanation<'_>) -> String {
    let (address, port) = (explained.question.dst.socket.ip(), explained.question.dst.socket.port());
    let protocol = explained.question.dst.protocol;
    let name = explained.answer.service.as_deref().unwrap_or_default();
    let way = match explained.reach.entry.map(|entry| entry.way) {
        Some(Way::CLUSTER_IP) => format!("its cluster IP {address}"),
        Some(Way::NODE_PORT) => format!("its nodePort {port} at this node's address {address}"),
        Some(Way::EXTERNAL_IP) => format!("its external IP {address}"),
        Some(Way::LOAD_BALANCER) => format!("its load balancer's IP {address}"),
        Some(Way::OTHER_PORT) => {
            let ports = explained.service.map(|service| ports(service.record));
            let ports = ports.map_or(String::new(), |ports| format!(": only {ports}"));
            return format!("{name} has the cluster IP {address}, but no port {port}/{protocol}{ports}");
        }
        None if explained.reach.reason == Reason::Unallocated => {
            let range = explained.reach.destination.map(|(network, _)| format!(" {network}"));
            let range = range.unwrap_or_default();
            return format!("none has {address}, and it is in the service range{range}");
        }
        None => {
            let mut text = format!("none has {address} with port {port}/{protocol}");
            for other in names::at(explained.known.state, address) {
                let _ = write!(text, "; {} has it with {}", other.name, ports(other.record));
            }
            if let Some(other) = names::with_node_port(explained.known.state, port, protocol) {
                let _ = write!(
                    text,
                    "; {port} is a nodePort of {}, but does not answer at this address",
                    other.qualified()
                );
            }
            return text;
        }
    };
    let number = explained
        .service
        .and_then(|service| service.port)
        .map(|port| format!(", port {}", port.port));
    format!("{name}, by {way}{}", number.unwrap_or_default())
}

fn ports(record: &ServiceRecord) -> String {
    let ports = record
        .ports
        .iter()
        .map(|port| format!("{}/{}", port.port, port.protocol));
    Joined(&ports.collect::<Vec<_>>()).to_string()
}

fn source_ranges(explained: &Explanation<'_>) -> String {
    let ranges = explained
        .model_service()
        .map(|service| &service.load_balancer_source_ranges[..]);
    let ranges = ranges.map_or(String::new(), |ranges| format!(" {}", Joined(ranges)));
    match explained.reach.reason {
        Reason::SourceRange => format!("loadBalancerSourceRanges{ranges} do not admit the client"),
        _ => format!("loadBalancerSourceRanges{ranges} admit the client"),
    }
}

/// `None` where the maps do not say: what a cluster IP's policy is, while there are endpoints.
fn policy(explained: &Explanation<'_>, entry: &ServiceEntry) -> Option<String> {
    let (everywhere, here) = ("endpoints on every node", "endpoints on this node alone");
    if entry.way != Way::CLUSTER_IP {
        // Pods keep their address under Local alone.
        return Some(match (entry.masquerade_pods, explained.is_inside()) {
            (true, _) => format!("externalTrafficPolicy: Cluster, {everywhere}"),
            (false, false) => format!("externalTrafficPolicy: Local, {here} for clients outside"),
            (false, true) => {
                format!("externalTrafficPolicy: Local, but for pods and this node as for a cluster IP: {everywhere}")
            }
        });
    }
    let policy = match explained.model_service() {
        Some(service) => service.internal_traffic_policy,
        None if explained.reach.reason == Reason::NoLocalEndpoint => TrafficPolicy::Local,
        None => return None,
    };
    Some(match policy {
        TrafficPolicy::Cluster => format!("internalTrafficPolicy: Cluster, {everywhere}"),
        TrafficPolicy::Local => format!("internalTrafficPolicy: Local, {here}"),
    })
}

fn choice(explained: &Explanation<'_>, entry: &ServiceEntry) -> String {
    let seconds = entry.affinity_seconds;
    if explained.flow().is_some() {
        return "made when the connection began".to_owned();
    }
    match (seconds, explained.memory.affinity_age()) {
        (0, _) => match explained.question.src.port {
            _ if explained.reach.backends.len() == 1 => "there is but one".to_owned(),
            Some(_) => "by a hash of addresses, ports and protocol".to_owned(),
            None => format!(
                "by a hash of addresses, ports and protocol: another source port than {} may lead to another",
                explained.question.connection().src.port()
            ),
        },
        (_, Some(age)) if age <= seconds => format!(
            "sessionAffinity: ClientIP ({seconds} s): the client was given an endpoint {age} s ago and keeps it while that may be chosen"
        ),
        (_, _) => format!(
            "sessionAffinity: ClientIP ({seconds} s): a hash of the client's address, then the same for all ports of the Service"
        ),
    }
}

fn source(explained: &Explanation<'_>, entry: &ServiceEntry) -> String {
    let address = explained.question.src.address;
    let masqueraded = "masqueraded behind the address of the interface by which the endpoint is reached";
    if !explained.answer.masquerade {
        return match entry.way {
            Way::CLUSTER_IP => format!("kept: the endpoint sees {address}"),
            _ => format!("kept, as externalTrafficPolicy: Local promises: the endpoint sees {address}"),
        };
    }
    let why = if !explained.reach.masquerade {
        "the endpoint is the client itself (hairpin), and would answer past this node"
    } else {
        match (entry.way, entry.masquerade_pods) {
            (Way::CLUSTER_IP, true) => "--masquerade-all",
            (Way::CLUSTER_IP, false) => "the client is not in --cluster-cidr",
            (_, true) => "externalTrafficPolicy: Cluster, so that replies come back this way",
            (_, false) => "this node is the client",
        }
    };
    format!("{masqueraded}: {why}")
}

fn hook(explained: &Explanation<'_>) -> String {
    if matches!(explained.reach.client, Some((_, Network::NODE))) {
        return "none on an interface: this node's own connections are translated when its processes connect"
            .to_owned();
    }
    match explained.known.hooks {
        None => "XDP or tcx ingress of the interface that it comes in by".to_owned(),
        Some([]) => "none: svcproxy is attached to no interface".to_owned(),
        Some([hook]) => hook.clone(),
        Some(hooks) => format!("the one it comes in by: {}", Joined(hooks)),
    }
}

fn conclusion(explained: &Explanation<'_>) -> String {
    let answer = &explained.answer;
    match answer.chosen {
        Some(chosen) => {
            let pod = explained
                .pod(chosen.ip())
                .map_or(String::new(), |pod| format!(" ({pod})"));
            let masquerade = if answer.masquerade { ", masqueraded" } else { "" };
            format!("{} to {chosen}{pod}{masquerade}", answer.verdict)
        }
        None => {
            let reason = answer
                .reason
                .split_once(": ")
                .map_or(&answer.reason[..], |(_, reason)| reason);
            format!("{}: {reason}", answer.verdict)
        }
    }
}

/// A list with commas.
struct Joined<'a, T>(&'a [T]);

impl<T: Display> Display for Joined<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, item) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(", ")?;
            }
            item.fmt(f)?;
        }
        Ok(())
    }
}
