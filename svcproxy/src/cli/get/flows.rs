//! `get flows`: one row for each connection, as the client opened it.
//!
//! Every connection has two entries; the state is kept in the one of the original direction, and only that is listed.

use std::net::SocketAddr;

use serde::Serialize;
use serde_json::json;
use svcproxy_common::abi::{Delivery, FlowEntry, FlowKey, FlowState};

use super::{
    FamilySnapshot, Listing, Snapshot,
    directory::{Directory, UNKNOWN},
    table::Table,
    time::human_duration,
};
use crate::plan::MapAddress;

/// A connection to a Service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// `TCP` or `UDP`.
    pub protocol: String,
    /// Address and port the client sends from.
    pub client: SocketAddr,
    /// `namespace/name` of the Service; `null` when the Service is gone or the state file does not know it.
    pub service: Option<String>,
    /// Address and port the client sends to.
    pub service_address: SocketAddr,
    /// Address and port the connection is carried to.
    pub endpoint: SocketAddr,
    /// Address and port the endpoint sees as the client's; another one where the source is masqueraded.
    pub source: SocketAddr,
    /// State of the connection.
    pub state: String,
    /// Seconds since a packet of this direction was seen.
    pub idle_seconds: u32,
    /// `flows`, or `pending` until traffic was seen both ways.
    pub table: &'static str,
    /// How packets reach the next hop: `ROUTING`, `XDP`, `PEER`, `LINK` or `NEIGHBOUR`; `RESET` where the endpoint is
    /// out of reach.
    pub delivery: String,
    /// Interface they leave by; `null` when routing decides or nothing is sent.
    pub ifindex: Option<u32>,
    /// MAC address they are sent to; `null` when routing decides or nothing is sent.
    pub next_hop: Option<String>,
}

/// The connections, sorted by client.
pub(super) fn list(directory: &Directory<'_>, snapshot: &Snapshot, namespace: Option<&str>, wide: bool) -> Listing {
    let mut flows = Vec::new();
    family(&snapshot.v4, directory, snapshot.now_monotonic, namespace, &mut flows);
    family(&snapshot.v6, directory, snapshot.now_monotonic, namespace, &mut flows);
    flows.sort_by_key(|flow| (flow.client, flow.service_address));
    let mut table = Table::new(match wide {
        true => "PROTO CLIENT SERVICE SERVICE-ADDRESS ENDPOINT STATE IDLE SEEN-AS NEXT-HOP TABLE",
        false => "PROTO CLIENT SERVICE SERVICE-ADDRESS ENDPOINT STATE IDLE",
    });
    for flow in &flows {
        let mut row = vec![
            flow.protocol.clone(),
            flow.client.to_string(),
            flow.service.clone().unwrap_or_else(|| UNKNOWN.to_owned()),
            flow.service_address.to_string(),
            flow.endpoint.to_string(),
            flow.state.clone(),
            human_duration(flow.idle_seconds.into()),
        ];
        if wide {
            row.extend([flow.source.to_string(), flow.way_out(), flow.table.to_owned()]);
        }
        table.row(row);
    }
    Listing {
        kind: "FlowList",
        items: flows.iter().map(|flow| json!(flow)).collect(),
        table,
    }
}

impl Flow {
    fn way_out(&self) -> String {
        match (self.ifindex, &self.next_hop) {
            (Some(ifindex), Some(mac)) => format!("{}:if{ifindex}:{mac}", self.delivery),
            _ => self.delivery.clone(),
        }
    }
}

fn family<A: MapAddress>(
    tables: &FamilySnapshot<A>,
    directory: &Directory<'_>,
    now: u32,
    namespace: Option<&str>,
    flows: &mut Vec<Flow>,
) {
    for (table, entries) in [("flows", &tables.flows), ("pending", &tables.pending)] {
        for (key, entry) in entries {
            if matches!(entry.state, FlowState::REPLY | FlowState::AWAIT_REPLY) {
                continue;
            }
            let service_address = key.dst.socket(key.dst_port.into());
            let service = directory.at(service_address, key.protocol);
            if namespace.is_some() && service.is_none_or(|service| !service.is_in(namespace)) {
                continue;
            }
            let name = service
                .and_then(|service| service.name.as_ref())
                .map(ToString::to_string);
            flows.push(flow(key, entry, name, table, now));
        }
    }
}

fn flow<A: MapAddress>(
    key: &FlowKey<A>,
    entry: &FlowEntry<A>,
    service: Option<String>,
    table: &'static str,
    now: u32,
) -> Flow {
    let sent = !matches!(entry.delivery, Delivery::ROUTING | Delivery::RESET);
    let mac = entry.dst_mac.map(|byte| format!("{byte:02x}")).join(":");
    Flow {
        protocol: format!("{:?}", key.protocol),
        client: key.src.socket(key.src_port.into()),
        service,
        service_address: key.dst.socket(key.dst_port.into()),
        endpoint: entry.dst.socket(entry.dst_port.into()),
        source: entry.src.socket(entry.src_port.into()),
        state: format!("{:?}", entry.state),
        idle_seconds: now.saturating_sub(entry.last_seen),
        table,
        delivery: format!("{:?}", entry.delivery),
        ifindex: sent.then_some(entry.ifindex),
        next_hop: sent.then_some(mac),
    }
}
