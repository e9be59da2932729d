//! The answer to a question, and the proof that it is one: the program, the maps and the rules must agree.

use std::net::SocketAddr;

use serde::Serialize;
use svcproxy_common::{Fate, Reason};
use thiserror::Error;

use super::question::Question;
use crate::{
    conformance::{Expected, Verdict},
    datapath::{
        rehearsal::{ExistingFlow, Finding},
        trial::Action,
    },
    plan::Reach,
};

/// `-o json`. Its fields and their order stay as they are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// `forward`, `drop`, `reject` or `pass`.
    pub verdict: &'static str,
    /// `namespace/name:port`, the port by its name if it has one; `namespace/name` for a port of its cluster IP that
    /// the Service does not have; `null` for what is no Service's.
    pub service: Option<String>,
    /// Every endpoint that a new connection from this client may reach, by address and port.
    pub backends: Vec<SocketAddr>,
    /// The one that this connection reaches.
    pub chosen: Option<SocketAddr>,
    /// Whether that one sees an address of the node instead of the client's.
    pub masquerade: bool,
    /// The [`Reason`] in words.
    pub reason: String,
}

/// The program and the rules do not agree.
#[derive(Debug, Error)]
#[error("svcproxy disagrees with itself about {question}; please report this\n  program: {program}\n  {who}: {other}")]
pub struct Disagreement {
    question: Question,
    program: String,
    who: &'static str,
    other: String,
}

/// What the program does to a packet, by the reason it counted.
pub(super) fn verdict(reason: Reason) -> Verdict {
    match reason.fate() {
        _ if reason == Reason::Translated => Verdict::Forward,
        Fate::Pass | Fate::Defer => Verdict::Pass,
        Fate::Drop => Verdict::Drop,
        Fate::Reject => Verdict::Reject,
    }
}

/// The answer of the program, with the set that it chose from.
pub(super) fn answer(finding: &Finding, reach: &Reach, service: Option<String>) -> Answer {
    Answer {
        verdict: verdict(finding.reason).name(),
        service,
        backends: reach.backends.clone(),
        chosen: finding.rewriting.map(|rewriting| rewriting.dst),
        masquerade: finding.rewriting.is_some_and(|rewriting| rewriting.masquerade),
        reason: finding.reason.description().to_owned(),
    }
}

/// The answer where the connection exists already.
pub(super) fn answer_of_flow(flow: &ExistingFlow, new: Answer) -> Answer {
    if flow.reset {
        return Answer {
            verdict: Verdict::Reject.name(),
            chosen: None,
            reason: Reason::EndpointUnreachable.description().to_owned(),
            ..new
        };
    }
    let whose = match flow.reply {
        false => "it is an existing connection, which stays with its endpoint",
        true => "these are the replies of an existing connection, on their way back to its client",
    };
    Answer {
        verdict: Verdict::Forward.name(),
        chosen: (!flow.reply).then_some(flow.rewriting.dst),
        masquerade: flow.rewriting.masquerade,
        reason: format!("{}: {whose}", Reason::Translated.description()),
        ..new
    }
}

/// Holds what the program did against what the maps say of the connection.
pub(super) fn agrees_with_maps(question: &Question, finding: &Finding, reach: &Reach) -> Result<(), Box<Disagreement>> {
    let chosen = finding.rewriting.map(|rewriting| rewriting.dst);
    let agrees = finding.reason == reach.reason
        && acted_upon(finding)
        && chosen.is_some() == (reach.reason == Reason::Translated)
        && chosen.is_none_or(|chosen| reach.backends.contains(&chosen))
        && finding.rewriting.is_none_or(|rewriting| {
            let wanted = reach.masquerade || rewriting.dst.ip() == question.src.address;
            let kept = rewriting.src.ip() == question.src.address;
            rewriting.masquerade == wanted && kept != wanted
        });
    let other = || summary(reach.reason, &reach.backends, reach.masquerade);
    agrees
        .then_some(())
        .ok_or_else(|| disagreement(question, finding, "maps", other()))
}

/// Holds what the program did against the rules.
pub(super) fn agrees_with_rules(
    question: &Question,
    finding: &Finding,
    reach: &Reach,
    expected: &Expected,
) -> Result<(), Box<Disagreement>> {
    let agrees = finding.reason == expected.reason
        && verdict(finding.reason) == expected.verdict
        && reach.backends == expected.backends
        && finding
            .rewriting
            .is_none_or(|rewriting| rewriting.masquerade == expected.masquerades(rewriting.dst));
    let other = || summary(expected.reason, &expected.backends, expected.masquerade);
    agrees
        .then_some(())
        .ok_or_else(|| disagreement(question, finding, "rules", other()))
}

/// Whether the program told the kernel what its reason says. A refusal is sent back as an answer, or, when this second's
/// answers are used up or none is due to such a client, dropped.
fn acted_upon(finding: &Finding) -> bool {
    match verdict(finding.reason) {
        Verdict::Pass => finding.action == Action::Pass,
        Verdict::Drop => finding.action == Action::Drop,
        Verdict::Reject => matches!(finding.action, Action::Redirect | Action::Drop),
        Verdict::Forward => matches!(finding.action, Action::Pass | Action::Redirect | Action::Transmit),
    }
}

fn disagreement(question: &Question, finding: &Finding, who: &'static str, other: String) -> Box<Disagreement> {
    let rewriting = match finding.rewriting {
        None => "nothing rewritten".to_owned(),
        Some(rewriting) => format!("rewritten to {} → {}", rewriting.src, rewriting.dst),
    };
    Box::new(Disagreement {
        question: *question,
        program: format!("{}, {rewriting}, {:?}", finding.reason.name(), finding.action),
        who,
        other,
    })
}

fn summary(reason: Reason, backends: &[SocketAddr], masquerade: bool) -> String {
    let masquerade = if masquerade { "masqueraded" } else { "not masqueraded" };
    format!("{}, endpoints {backends:?}, {masquerade}", reason.name())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::rehearsal::Rewriting;

    fn reach() -> Reach {
        Reach {
            reason: Reason::Translated,
            client: None,
            destination: None,
            entry: None,
            backends: vec!["10.244.0.1:8080".parse().unwrap(), "10.244.0.2:8080".parse().unwrap()],
            masquerade: false,
        }
    }

    fn finding(src: &str, dst: &str) -> Finding {
        Finding {
            reason: Reason::Translated,
            action: Action::Pass,
            rewriting: Some(Rewriting {
                src: src.parse().unwrap(),
                dst: dst.parse().unwrap(),
                masquerade: src.starts_with("192.0.0.8"),
            }),
        }
    }

    #[test]
    fn a_disagreement_says_both_answers() {
        let question: Question = "10.244.0.1 10.96.0.10:80".parse().unwrap();
        for (src, dst, agrees) in [
            ("10.244.0.1:40000", "10.244.0.2:8080", true),
            ("192.0.0.8:40000", "10.244.0.1:8080", true),
            ("10.244.0.1:40000", "10.244.0.1:8080", false),
            ("192.0.0.8:40000", "10.244.0.2:8080", false),
            ("10.244.0.1:40000", "10.244.0.3:8080", false),
            ("10.244.0.9:40000", "10.244.0.2:8080", false),
        ] {
            let found = agrees_with_maps(&question, &finding(src, dst), &reach());
            assert_eq!(found.is_ok(), agrees, "{src} {dst}");
        }
        let dropped = Finding {
            reason: Reason::NoEndpoint,
            action: Action::Drop,
            rewriting: None,
        };
        let error = agrees_with_maps(&question, &dropped, &reach()).unwrap_err().to_string();
        assert!(error.contains("program: no_endpoint, nothing rewritten"), "{error}");
        assert!(
            error.contains("maps: translated, endpoints [10.244.0.1:8080, 10.244.0.2:8080]"),
            "{error}"
        );
    }

    #[test]
    fn the_fields_and_their_order_are_those_promised() {
        let answer = answer(
            &finding("10.244.0.1:40000", "10.244.0.2:8080"),
            &reach(),
            Some("default/kubia:http".into()),
        );
        assert_eq!(
            serde_json::to_string(&answer).unwrap(),
            r#"{"verdict":"forward","service":"default/kubia:http","backends":["10.244.0.1:8080","10.244.0.2:8080"],"chosen":"10.244.0.2:8080","masquerade":false,"reason":"rewritten and forwarded"}"#
        );
    }
}
