//! `get affinity`: which client stays with which endpoint, and for how long.

use std::net::IpAddr;

use serde::Serialize;
use serde_json::json;

use super::{
    FamilySnapshot, Listing, Snapshot,
    directory::{Directory, UNKNOWN},
    table::Table,
    time::human_duration,
};
use crate::plan::MapAddress;

/// A client of a Service with `sessionAffinity: ClientIP`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Affinity {
    /// `namespace/name` of the Service; `null` when the Service is gone or the state file does not know it.
    pub service: Option<String>,
    /// The client's address.
    pub client: IpAddr,
    /// Address of the endpoint it is given; `null` when the endpoint is no longer in the Service: the next
    /// connection then chooses again.
    pub endpoint: Option<IpAddr>,
    /// Seconds until the choice is forgotten if no connection is opened; 0 when it no longer counts.
    pub expires_in_seconds: u32,
}

/// The clients, sorted by Service and client.
pub(super) fn list(directory: &Directory<'_>, snapshot: &Snapshot, namespace: Option<&str>) -> Listing {
    let mut items = Vec::new();
    family(&snapshot.v4, directory, snapshot.now_monotonic, namespace, &mut items);
    family(&snapshot.v6, directory, snapshot.now_monotonic, namespace, &mut items);
    items.sort();
    let mut table = Table::new("SERVICE CLIENT ENDPOINT EXPIRES-IN");
    for item in &items {
        table.row([
            item.service.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
            item.client.to_string(),
            item.endpoint.map(|address| address.to_string()).unwrap_or_default(),
            match item.expires_in_seconds {
                0 => "expired".to_owned(),
                seconds => human_duration(seconds.into()),
            },
        ]);
    }
    Listing {
        kind: "AffinityList",
        items: items.iter().map(|item| json!(item)).collect(),
        table,
    }
}

fn family<A: MapAddress>(
    tables: &FamilySnapshot<A>,
    directory: &Directory<'_>,
    now: u32,
    namespace: Option<&str>,
    items: &mut Vec<Affinity>,
) {
    for (key, entry) in &tables.affinity {
        let service = directory.numbered(key.service);
        if namespace.is_some() && service.is_none_or(|service| !service.is_in(namespace)) {
            continue;
        }
        let idle = now.saturating_sub(entry.last_seen);
        items.push(Affinity {
            service: service
                .and_then(|service| service.name.as_ref())
                .map(ToString::to_string),
            client: key.client.ip(),
            endpoint: service
                .and_then(|service| service.endpoint(entry.endpoint))
                .map(|endpoint| endpoint.address.ip()),
            expires_in_seconds: service.map_or(0, |service| service.affinity_seconds.saturating_sub(idle)),
        });
    }
}
