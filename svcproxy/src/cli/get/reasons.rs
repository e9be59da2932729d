//! `get reasons`: how often each thing happened to a packet.

use serde::Serialize;
use serde_json::json;

use super::{Listing, Snapshot, table::Table};

/// A reason and its counter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReasonCount {
    /// The reason's name.
    pub reason: String,
    /// Packets it was counted for, on all CPUs, since the maps were created.
    pub packets: u64,
    /// What it means, one sentence.
    pub description: String,
}

/// The counters, in the order of the snapshot.
pub(super) fn list(snapshot: &Snapshot) -> Listing {
    let mut table = Table::new("REASON PACKETS DESCRIPTION");
    for count in &snapshot.reasons {
        table.row([
            count.reason.clone(),
            count.packets.to_string(),
            count.description.clone(),
        ]);
    }
    Listing {
        kind: "ReasonList",
        items: snapshot.reasons.iter().map(|count| json!(count)).collect(),
        table,
    }
}
