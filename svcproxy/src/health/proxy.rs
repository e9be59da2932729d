//! `/healthz` and `/livez` on `--healthz-bind-address`.
//!
//! `/livez` asks whether to restart this proxy: 503 when a change waits too long to be applied. `/healthz` asks whether
//! to send traffic to this node: 503 then too, before the first change is applied, and when the node is on its way out.

use std::{io, net::SocketAddr, sync::Arc, time::SystemTime};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    Health,
    http::{Answer, Server, json, not_found},
};

/// The running server.
#[derive(Debug)]
pub struct ProxyServer(Server);

impl ProxyServer {
    /// Listens and answers. Must be called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// When the address and port cannot be listened to.
    pub fn start(address: SocketAddr, health: Arc<Health>) -> io::Result<Self> {
        Server::start(address, move |path| answer(path, &health, SystemTime::now())).map(Self)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }
}

/// The body; times as RFC 3339.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    /// Now while all is well, else when the maps were last programmed; the zero time of Go when they never were.
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
}

fn answer(path: &str, health: &Health, now: SystemTime) -> Answer {
    let status = health.status(now);
    let (well, node_eligible) = match path {
        "/healthz" => (
            status.in_time && status.ready && status.node_eligible,
            Some(status.node_eligible),
        ),
        "/livez" => (status.in_time, None),
        _ => return not_found(),
    };
    let body = Body {
        last_updated: time(if well { Some(now) } else { status.updated }),
        current_time: time(Some(now)),
        node_eligible,
    };
    json(well, &body)
}

fn time(time: Option<SystemTime>) -> String {
    let timestamp = time.and_then(|time| Timestamp::try_from(time).ok());
    timestamp.map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), |time| time.to_string())
}
