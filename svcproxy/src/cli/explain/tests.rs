//! The pages that people read.

use std::net::SocketAddr;

use svcproxy_common::Reason;

use super::{
    paint::Paint,
    question::Question,
    scene::{Explanation, Known},
    text::render,
};
use crate::{
    datapath::{
        rehearsal::{Finding, Memory, Rewriting},
        trial::Action,
    },
    input,
    manifest::{self, Source},
    model::{NodePolicy, Options},
    plan::{Limits, MapContents, Reach, plan},
    state::State,
};

const MANIFESTS: &str = "
{apiVersion: v1, kind: Service, metadata: {name: kubia}, spec: {type: LoadBalancer, clusterIP: 10.96.0.10, selector: {app: kubia},
 externalTrafficPolicy: Local, loadBalancerSourceRanges: [198.51.100.0/24], loadBalancerIP: 203.0.113.1,
 sessionAffinity: ClientIP, ports: [{name: http, port: 80, targetPort: 8080, nodePort: 30080}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: dns}, spec: {clusterIP: 10.96.0.11, ports: [{port: 53, protocol: UDP}]}}
---
{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: kubia-1, labels: {kubernetes.io/service-name: kubia}},
 addressType: IPv4, ports: [{name: http, port: 8080}], endpoints: [
 {addresses: [10.1.0.1], nodeName: here, targetRef: {kind: Pod, name: kubia-1}}, {addresses: [10.1.0.2], nodeName: there},
 {addresses: [10.1.0.3], nodeName: here, conditions: {ready: false}},
 {addresses: [10.1.0.4], nodeName: there, conditions: {ready: false, serving: true, terminating: true}}]}
";

/// The page for a question of which the program has said that it leads to `chosen`, with that source.
fn page(question: &str, from: Asked, chosen: Option<(&str, &str)>) -> String {
    painted(question, from, chosen, Paint::PLAIN)
}

fn painted(question: &str, from: Asked, chosen: Option<(&str, &str)>, paint: Paint) -> String {
    let options = Options {
        node_name: "here".into(),
        node_ips: vec!["192.0.2.1".parse().unwrap()],
        ..Options::default()
    };
    let policy = NodePolicy {
        cluster_cidrs: vec!["10.1.0.0/16".parse().unwrap()],
        ..NodePolicy::default()
    };
    let source = Source {
        name: "kubia.yaml".into(),
        text: MANIFESTS.into(),
    };
    let input = input::join(manifest::parse(&[source]), &options, &State::default());
    let model = input.model.unwrap_or_else(|| panic!("{:?}", input.diagnostics));
    let limits = Limits { backend_slots: 1 << 16 };
    let contents = plan(&model, &policy, &MapContents::default(), &limits).unwrap();
    let question: Question = question.parse().unwrap();
    let reach = Reach::read(
        &contents,
        question.src.address,
        question.dst.socket,
        question.dst.protocol,
    )
    .unwrap();
    let rewriting = chosen.map(|(src, dst)| Rewriting {
        src: src.parse().unwrap(),
        dst: dst.parse::<SocketAddr>().unwrap(),
        masquerade: src.starts_with("192.0.0.8"),
    });
    let finding = Finding {
        reason: reach.reason,
        action: Action::Pass,
        rewriting,
    };
    assert_eq!(chosen.is_some(), reach.reason == Reason::Translated);
    let (rules, hooks) = ((model, policy), ["xdp of eth0".to_owned(), "tc-in of cni0".to_owned()]);
    let known = Known {
        contents: &contents,
        state: &input.state,
        rules: (from == Asked::Manifests).then_some(&rules),
        hooks: (from == Asked::Running).then_some(&hooks[..]),
    };
    render(
        &Explanation::new(question, &finding, reach, Memory::default(), known),
        paint,
    )
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Manifests,
    Running,
}

#[test]
fn a_client_outside_meets_source_ranges_a_local_policy_and_affinity() {
    let to = Some(("198.51.100.7:40000", "10.1.0.1:8080"));
    insta::assert_snapshot!(pages([
        page("198.51.100.7 203.0.113.1:80", Asked::Manifests, to),
        page("198.51.101.7 203.0.113.1:80", Asked::Manifests, None),
    ]));
}

#[test]
fn pods_and_the_node_get_endpoints_everywhere() {
    let hairpin = Some(("192.0.0.8:40000", "10.1.0.1:8080"));
    let elsewhere = Some(("192.0.0.8:40000", "10.1.0.2:8080"));
    insta::assert_snapshot!(pages([
        page("10.1.0.1 10.96.0.10:80", Asked::Manifests, hairpin),
        page("192.0.2.1 192.0.2.1:30080", Asked::Manifests, elsewhere),
    ]));
}

#[test]
fn what_is_refused_says_what_there_is_instead() {
    insta::assert_snapshot!(pages([
        page("10.1.0.9 10.96.0.10:81", Asked::Manifests, None),
        page("10.1.0.9 10.96.0.11:53/udp", Asked::Manifests, None),
        page("10.1.0.9 10.96.0.99:80", Asked::Manifests, None),
        page("10.1.0.9 203.0.113.1:443", Asked::Manifests, None),
        page("10.1.0.9 192.0.2.2:30080", Asked::Manifests, None),
    ]));
}

#[test]
fn the_running_datapath_knows_less_and_says_so() {
    let to = Some(("10.1.0.9:40000", "10.1.0.2:8080"));
    insta::assert_snapshot!(pages([
        page("10.1.0.9 10.96.0.10:80", Asked::Running, to),
        page("198.51.101.7 203.0.113.1:80", Asked::Running, None),
    ]));
}

#[test]
fn colours_change_no_letter() {
    let to = Some(("10.1.0.9:40000", "10.1.0.2:8080"));
    let question = "10.1.0.9 10.96.0.10:80";
    let colourful = painted(question, Asked::Manifests, to, Paint::COLOURS);
    // An escape ends with the first m.
    let (start, rest) = colourful.split_once('\x1b').expect("there are colours");
    let letters: Vec<_> = rest.split('\x1b').map(|part| part.split_once('m').unwrap().1).collect();
    assert_eq!(
        format!("{start}{}", letters.concat()),
        page(question, Asked::Manifests, to)
    );
}

fn pages<const N: usize>(pages: [String; N]) -> String {
    pages.join("\n")
}
