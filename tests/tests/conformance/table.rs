//! Tables of connections.
//!
//! A table has a row for each connection: client, destination, and what becomes of it. Its words are
//!
//! | word | means |
//! |---|---|
//! | `out`, `pod`, `node` (`out6`, …) | a client outside, a pod, this node |
//! | `drop`, `reject`, `pass` | that verdict |
//! | `a` … `h` (`a6`, …) | forwarded to one of these: port 8080 of 10.1.0.1 … 10.1.0.8 (fd00:1::1, …) |
//! | `masq` | with a source address of the node; without it, with the client's |
//! | `self-masq` | masqueraded if the endpoint chosen is the client itself |
//!
//! Anything else is an address as it stands.

use std::{collections::BTreeSet, net::SocketAddr};

use serde_json::Value;

/// A row of a table.
pub(crate) struct Row {
    pub(crate) text: String,
    pub(crate) src: String,
    pub(crate) dst: String,
    pub(crate) wanted: Outcome,
}

/// What becomes of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) verdict: String,
    pub(crate) backends: BTreeSet<SocketAddr>,
    pub(crate) masquerade: Masquerade,
}

/// Whether the endpoint sees an address of the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Masquerade {
    Never,
    Always,
    IfSelf,
}

impl Masquerade {
    pub(crate) fn of(masquerade: bool) -> Self {
        if masquerade { Self::Always } else { Self::Never }
    }
}

impl Row {
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let text = line.split('#').next()?.trim();
        let mut words = text.split_whitespace();
        let src = match words.next()? {
            "out" => "198.51.100.7",
            "pod" => "10.1.0.9",
            "node" => "192.0.2.1",
            "out6" => "2001:db8:99::7",
            "pod6" => "fd00:1::9",
            "node6" => "2001:db8:2::1",
            address => address,
        };
        let dst = words.next().expect("a destination");
        let mut wanted = Outcome {
            verdict: "forward".into(),
            backends: BTreeSet::new(),
            masquerade: Masquerade::Never,
        };
        for word in words {
            match word {
                "masq" => wanted.masquerade = Masquerade::Always,
                "self-masq" => wanted.masquerade = Masquerade::IfSelf,
                "drop" | "reject" | "pass" => wanted.verdict = word.into(),
                _ => drop(wanted.backends.insert(endpoint(word))),
            }
        }
        Some(Self {
            text: text.into(),
            src: src.into(),
            dst: dst.into(),
            wanted,
        })
    }

    /// What an answer says. It must not contradict itself.
    pub(crate) fn read(&self, answer: &Value) -> Result<Outcome, String> {
        let text = |key: &str| answer[key].as_str().map(ToOwned::to_owned);
        let socket = |value: &Value| value.as_str().and_then(|text| text.parse::<SocketAddr>().ok());
        let listed = answer["backends"].as_array().ok_or_else(|| answer.to_string())?;
        let sorted: Vec<_> = listed.iter().filter_map(socket).collect();
        if sorted.len() != listed.len() || !sorted.is_sorted() {
            return Err(format!("not sorted: {answer}"));
        }
        let backends: BTreeSet<_> = sorted.into_iter().collect();
        let chosen = socket(&answer["chosen"]);
        if chosen.is_some() == backends.is_empty() || chosen.is_some_and(|chosen| !backends.contains(&chosen)) {
            return Err(format!("chosen is not of the set: {answer}"));
        }
        let masquerade = answer["masquerade"].as_bool().ok_or_else(|| answer.to_string())?;
        let is_self = chosen.is_some_and(|chosen| Ok(chosen.ip()) == self.src.parse());
        let masquerade = match self.wanted.masquerade {
            Masquerade::IfSelf if masquerade == is_self => Masquerade::IfSelf,
            _ => Masquerade::of(masquerade),
        };
        Ok(Outcome {
            verdict: text("verdict").ok_or_else(|| answer.to_string())?,
            backends,
            masquerade,
        })
    }
}

/// `a` to `h`, `a6` to `h6`, or an address and port.
fn endpoint(word: &str) -> SocketAddr {
    let mut letters = word.chars();
    let socket = match (letters.next(), letters.as_str()) {
        (Some(letter @ 'a'..='h'), "") => format!("10.1.0.{}:8080", letter as u8 - b'a' + 1),
        (Some(letter @ 'a'..='h'), "6") => format!("[fd00:1::{}]:8080", letter as u8 - b'a' + 1),
        _ => word.to_owned(),
    };
    socket
        .parse()
        .unwrap_or_else(|_| panic!("{word:?} is no word of a table"))
}
