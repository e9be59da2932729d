//! One packet's answers side by side: the program's and the host's byte for byte, both against checksums from scratch,
//! and a connection's first packet against the rules themselves.

use std::{fmt::Debug, net::SocketAddr};

use svcproxy::{
    conformance::{self, decide},
    datapath::{links::Hook, trial::Action},
    model::Protocol,
};
use svcproxy_common::{
    Fate, Reason, Verdict,
    abi::{
        Delivery,
        Protocol::{SCTP, TCP, UDP},
    },
};

use super::scene::Scene;
use crate::{
    answer::Answer,
    model::{
        Outcome,
        judge::{self, Layers},
    },
    network::NODE_ADDRESSES,
    world::left_to_tc,
};

/// What a program did.
pub(super) type Theirs = svcproxy::datapath::trial::Outcome;

fn equal<T: PartialEq + Debug>(what: &str, ours: T, theirs: T) -> Result<(), String> {
    match ours == theirs {
        true => Ok(()),
        false => Err(format!("{what}\n  host   {ours:02x?}\n  kernel {theirs:02x?}")),
    }
}

/// Compares the program with the host.
pub(super) fn agree(hook: Hook, frame: &[u8], ours: &Outcome, theirs: &Theirs, veth0: u32) -> Result<(), String> {
    let marked = |ifindex, delivery, frame: &[u8]| [&left_to_tc(ifindex, delivery)[..], frame].concat();
    let answered = |what: Answer| match what.to(frame) {
        // A processor that has sent its share of ICMP this second drops silently.
        Some(answer) if matches!(what, Answer::Reset) || theirs.action == Action::Redirect => {
            (Action::Redirect, answer)
        }
        _ => (Action::Drop, frame.to_vec()),
    };
    let (action, bytes) = match ours.verdict {
        Ok(Verdict::ROUTE) => (Action::Pass, ours.bytes.clone()),
        Ok(Verdict { delivery, ifindex }) if hook == Hook::Xdp => match delivery {
            Delivery::XDP if ifindex == veth0 => (Action::Transmit, ours.bytes.clone()),
            Delivery::XDP => (Action::Redirect, ours.bytes.clone()),
            _ => (Action::Pass, marked(ifindex, delivery, &ours.bytes)),
        },
        Ok(_) => (Action::Redirect, ours.bytes.clone()),
        Err(Reason::EndpointUnreachable) => answered(Answer::Reset),
        Err(Reason::TooBig) if hook != Hook::Xdp => answered(Answer::TooBig(ours.mtu)),
        Err(reason) => match reason.fate() {
            Fate::Pass => (Action::Pass, frame.to_vec()),
            Fate::Drop => (Action::Drop, frame.to_vec()),
            Fate::Defer | Fate::Reject if hook == Hook::Xdp => (Action::Pass, marked(0, Delivery::ROUTING, frame)),
            Fate::Defer => return Err(format!("{hook} deferred a packet twice")),
            Fate::Reject => answered(Answer::Unreachable),
        },
    };
    equal("action", action, theirs.action)?;
    equal("bytes", &bytes, &theirs.frame)
}

/// Checks that every checksum of a translated packet is as right as it was.
pub(super) fn checksums(before: &[u8], after: &[u8]) -> Result<(), String> {
    match judge::errors(before) == judge::errors(after) {
        true => Ok(()),
        false => Err(format!(
            "checksums, from scratch\n  before {:02x?}\n  after  {:02x?}\n  {after:02x?}",
            judge::checksums(before),
            judge::checksums(after)
        )),
    }
}

/// What opens a connection: a whole packet, or a first fragment, with all of its transport header.
pub(super) struct First {
    pub(super) protocol: Protocol,
    pub(super) src: SocketAddr,
    pub(super) dst: SocketAddr,
    pub(super) layers: Layers,
}

/// More than this nobody sends, and the programs do not follow.
const EXTENSIONS: usize = 6;

/// Reads a packet with ports.
pub(super) fn first(frame: &[u8]) -> Option<First> {
    let layers = judge::layers(frame).filter(|layers| layers.fragment.0 == 0 && layers.extensions <= EXTENSIONS)?;
    let (protocol, least) = match layers.protocol {
        6 => (TCP, 20),
        17 => (UDP, 8),
        132 => (SCTP, 13),
        _ => return None,
    };
    let header = frame.get(layers.transport..layers.transport + least)?;
    let port = |offset: usize| u16::from_be_bytes([header[offset], header[offset + 1]]);
    (layers.length >= least).then_some(First {
        protocol,
        src: SocketAddr::new(layers.src, port(0)),
        dst: SocketAddr::new(layers.dst, port(2)),
        layers,
    })
}

/// Compares what became of a connection's first packet with the rules.
pub(super) fn conforms(scene: &Scene, first: &First, ours: &Outcome) -> Result<(), String> {
    let expected = decide(&scene.model, &scene.policy, first.src.ip(), first.dst, first.protocol);
    let reason = ours.verdict.err().unwrap_or(Reason::Translated);
    let fail = |what: &str| {
        Err(format!(
            "{what}\n  host   {reason:?} {:02x?}\n  rules  {expected:?}",
            ours.bytes
        ))
    };
    // The rules know no tables: what is lost in them, or has no way on.
    let no_way = match reason {
        Reason::NoSourcePort | Reason::NoSourceAddress | Reason::TtlExpired | Reason::TooBig => true,
        Reason::EndpointMissing => scene.half_written,
        _ => false,
    };
    if no_way {
        return match expected.verdict {
            conformance::Verdict::Forward => Ok(()),
            _ => fail("verdict"),
        };
    }
    if reason != expected.reason {
        return fail("reason");
    }
    if reason != Reason::Translated {
        return Ok(());
    }
    let Some(left) = self::first(&ours.bytes) else {
        return fail("headers");
    };
    if !expected.backends.contains(&left.dst) {
        return fail("endpoint");
    }
    let own = NODE_ADDRESSES.map(|ip| ip.parse());
    match expected.masquerades(left.dst) {
        true if own.contains(&Ok(left.src.ip())) => Ok(()),
        false if left.src.ip() == first.src.ip() => Ok(()),
        _ => fail("masquerade"),
    }
}
