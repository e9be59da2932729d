//! What the outside is told of svcproxy's health, over HTTP.
//!
//! | server | where | says |
//! |---|---|---|
//! | [`ProxyServer`] | `--healthz-bind-address` | `/healthz`, `/livez`: does this proxy do its work? |
//! | [`ServiceServers`] | each `healthCheckNodePort` | does this node have endpoints of that Service? |
//!
//! In come the [`Health`] that the daemon keeps and what the model says of Services; the answers are kube-proxy's.

mod http;
mod proxy;
mod service;
mod status;

pub use self::{
    proxy::ProxyServer,
    service::{HealthCheck, ServiceServers, health_checks},
    status::{Health, OVERDUE},
};
