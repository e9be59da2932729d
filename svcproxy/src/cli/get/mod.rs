//! `svcproxy get`: what the datapath holds, in kubectl's clothes.
//!
//! In come the contents of the pinned maps and the state file, as one [`Snapshot`]; out goes the text to print. All
//! I/O is in `read`, so every listing has its tests.
//!
//! `-o json` and `-o yaml` print one object whose `items` have these fields, which stay as they are:
//!
//! | resource | `kind` | items |
//! |---|---|---|
//! | services | `List` (`apiVersion: v1`) | `v1/Service` objects |
//! | endpoints | `List` (`apiVersion: v1`) | `v1/Endpoints` objects, one for each Service |
//! | flows | `FlowList` | [`Flow`] |
//! | affinity | `AffinityList` | [`Affinity`] |
//! | reasons | `ReasonList` | [`ReasonCount`] |

#![forbid(unsafe_code)]

mod affinity;
mod directory;
mod endpoints;
mod entries;
mod flows;
mod read;
mod reasons;
mod services;
mod table;
#[cfg(test)]
mod tests;
mod time;

use anyhow::Context;
use serde_json::{Value, json};
use svcproxy_common::abi::{AffinityEntry, AffinityKey, FlowEntry, FlowKey, V4Addr, V6Addr};

pub use self::{affinity::Affinity, flows::Flow, read::get, reasons::ReasonCount};
use self::{directory::Directory, table::Table};
use super::{GetArgs, Output, Resource};
use crate::{plan::MapContents, state::State};

/// Everything `get` knows: the pinned maps and the state file at one moment.
///
/// A listing needs only a part; what it does not need may stay empty ([`Snapshot::default`]).
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// `services_`, `backends_` and, for `endpoints`, the regions of `backend_slots` that services refer to.
    pub maps: MapContents,
    /// The tables of connections and clients over IPv4.
    pub v4: FamilySnapshot<V4Addr>,
    /// The tables of connections and clients over IPv6.
    pub v6: FamilySnapshot<V6Addr>,
    /// Every reason with its packets summed over the CPUs, in the order of the enum.
    pub reasons: Vec<ReasonCount>,
    /// The state file; the default when it is missing or unreadable. Services are then shown as `<unknown>`.
    pub state: State,
    /// Now, in seconds of CLOCK_MONOTONIC: the clock of `last_seen` in the maps.
    pub now_monotonic: u32,
    /// Now, in seconds since the Unix epoch: the clock of `created` in the state file.
    pub now: u64,
}

/// The tables of one family, in any order.
#[derive(Debug, Clone)]
pub struct FamilySnapshot<A> {
    /// `flows_`, both directions.
    pub flows: Vec<(FlowKey<A>, FlowEntry<A>)>,
    /// `pending_`, both directions.
    pub pending: Vec<(FlowKey<A>, FlowEntry<A>)>,
    /// `affinity_`.
    pub affinity: Vec<(AffinityKey<A>, AffinityEntry)>,
}

impl<A> Default for FamilySnapshot<A> {
    fn default() -> Self {
        Self {
            flows: Vec::new(),
            pending: Vec::new(),
            affinity: Vec::new(),
        }
    }
}

/// The text that `svcproxy get` prints, with its final newline.
///
/// # Errors
///
/// When the YAML or JSON cannot be written, which no content causes.
pub fn render(snapshot: &Snapshot, args: &GetArgs) -> anyhow::Result<String> {
    let directory = Directory::of(snapshot);
    let namespace = args.namespace.as_deref();
    let wide = args.output == Output::Wide;
    let listing = match args.resource {
        Resource::Services => services::list(&directory, snapshot, namespace, wide),
        Resource::Endpoints => endpoints::list(&directory, snapshot, namespace, wide),
        Resource::Flows => flows::list(&directory, snapshot, namespace, wide),
        Resource::Affinity => affinity::list(&directory, snapshot, namespace),
        Resource::Reasons => reasons::list(snapshot),
    };
    match args.output {
        Output::Table | Output::Wide if listing.table.is_empty() => Ok(match namespace {
            Some(namespace) => format!("No resources found in {namespace} namespace.\n"),
            None => "No resources found\n".to_owned(),
        }),
        Output::Table | Output::Wide => Ok(listing.table.to_string()),
        Output::Json => Ok(serde_json::to_string_pretty(&listing.object()).context("writing JSON")? + "\n"),
        Output::Yaml => serde_yaml::to_string(&listing.object()).context("writing YAML"),
    }
}

/// A listing in both shapes.
struct Listing {
    kind: &'static str,
    items: Vec<Value>,
    table: Table,
}

impl Listing {
    fn object(self) -> Value {
        match self.kind {
            "List" => json!({"apiVersion": "v1", "kind": "List", "items": self.items}),
            kind => json!({"kind": kind, "items": self.items}),
        }
    }
}
