//! A server on every `healthCheckNodePort`: load balancers ask there whether this node has endpoints of the Service.
//!
//! In come the health checks of a model ([`health_checks`]); servers that are new begin, others end, and those that
//! stay only learn their new count.

use std::{
    collections::{BTreeMap, BTreeSet},
    io, mem,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use hyper::header::HeaderValue;
use serde::Serialize;
use tracing::{info, warn};

use super::{
    Health,
    http::{Answer, Server, json},
};
use crate::model::{Family, Model, NodePolicy, NodePortAddresses, Service, ServiceName};

/// One `healthCheckNodePort`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The Service.
    pub service: ServiceName,
    /// Where to listen.
    pub addresses: BTreeSet<SocketAddr>,
    /// Local ready endpoint addresses. A pod with one of each family is one.
    pub local_endpoints: usize,
}

/// The health checks of a model. Where nodePorts are answered on all addresses, each is on all of them.
pub fn health_checks(model: &Model, policy: &NodePolicy) -> Vec<HealthCheck> {
    let addresses: Vec<IpAddr> = match &policy.nodeport_addresses {
        NodePortAddresses::All => vec![Ipv6Addr::UNSPECIFIED.into()],
        some => [Family::V4, Family::V6]
            .into_iter()
            .flat_map(|family| some.of(&model.node, family))
            .collect(),
    };
    let check = |service: &Arc<Service>| {
        let port = service.health_check_node_port?;
        let count = |family| service.local_ready_endpoints(&model.node, family);
        Some(HealthCheck {
            service: service.name.clone(),
            addresses: addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect(),
            local_endpoints: count(Family::V4).max(count(Family::V6)),
        })
    };
    model.services.iter().filter_map(check).collect()
}

/// The running servers.
#[derive(Debug)]
pub struct ServiceServers {
    health: Arc<Health>,
    running: BTreeMap<SocketAddr, Running>,
    /// Those that could not be started, each of which has been reported.
    failed: BTreeSet<SocketAddr>,
}

#[derive(Debug)]
struct Running {
    subject: Arc<Mutex<Subject>>,
    server: Server,
}

impl Running {
    fn service(&self) -> ServiceName {
        subject(&self.subject).service.clone()
    }
}

/// What a server answers for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Subject {
    service: ServiceName,
    local_endpoints: usize,
}

/// A subject is replaced as a whole, so a panic elsewhere spoils nothing.
fn subject(shared: &Mutex<Subject>) -> MutexGuard<'_, Subject> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ServiceServers {
    /// None yet. They answer 503 while the proxy is not healthy.
    pub fn new(health: Arc<Health>) -> Self {
        Self {
            health,
            running: BTreeMap::new(),
            failed: BTreeSet::new(),
        }
    }

    /// Brings the servers to what the model says. One that cannot listen is reported once and tried again the next
    /// time. Must be called within a tokio runtime.
    pub fn sync(&mut self, checks: &[HealthCheck]) {
        let of_check = |check: &HealthCheck| Subject {
            service: check.service.clone(),
            local_endpoints: check.local_endpoints,
        };
        let wanted: BTreeMap<SocketAddr, Subject> = checks
            .iter()
            .flat_map(|check| check.addresses.iter().map(move |address| (*address, of_check(check))))
            .collect();
        self.failed.retain(|address| wanted.contains_key(address));
        self.running.retain(|address, running| {
            let stays = wanted.contains_key(address);
            if !stays {
                info!("Service {}: its health check on {address} ends", running.service());
            }
            stays
        });
        for (address, wanted) in wanted {
            // A port that changes hands keeps its server: a socket is not free at once when its server ends.
            let service = wanted.service.clone();
            let before = self.running.get(&address).map(|running| {
                let before = mem::replace(&mut *subject(&running.subject), wanted.clone());
                before.service
            });
            match before {
                Some(before) if before == service => continue,
                Some(_) => {}
                None => match self.start(address, wanted) {
                    Ok(running) => {
                        self.running.insert(address, running);
                        self.failed.remove(&address);
                    }
                    Err(error) => {
                        if self.failed.insert(address) {
                            warn!(
                                "Service {service}: no health check on {address}: {error}; tried again at the next change"
                            );
                        }
                        continue;
                    }
                },
            }
            info!("Service {service}: health check on {address}");
        }
    }

    /// Where they listen, and for which Service.
    pub fn addresses(&self) -> impl Iterator<Item = (SocketAddr, ServiceName)> {
        let running = self.running.values();
        running.map(|running| (running.server.address(), running.service()))
    }

    fn start(&self, address: SocketAddr, wanted: Subject) -> io::Result<Running> {
        let shared = Arc::new(Mutex::new(wanted));
        let start = |address| {
            let (shared, health) = (shared.clone(), self.health.clone());
            Server::start(address, move |_| subject(&shared).answer(&health, SystemTime::now()))
        };
        let server = match start(address) {
            // The kernel has no IPv6.
            Err(error) if error.kind() != io::ErrorKind::AddrInUse && address.ip() == Ipv6Addr::UNSPECIFIED => {
                start(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
            }
            result => result,
        };
        Ok(Running {
            server: server?,
            subject: shared,
        })
    }
}

/// The body, in kube-proxy's names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    service: Named<'a>,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

#[derive(Serialize)]
struct Named<'a> {
    namespace: &'a str,
    name: &'a str,
}

impl Subject {
    fn answer(&self, health: &Health, now: SystemTime) -> Answer {
        let status = health.status(now);
        let body = Body {
            service: Named {
                namespace: &self.service.namespace,
                name: &self.service.name,
            },
            local_endpoints: self.local_endpoints,
            service_proxy_healthy: status.in_time && status.ready,
        };
        let mut answer = json(body.local_endpoints > 0 && body.service_proxy_healthy, &body);
        answer.headers_mut().insert(
            "x-load-balancing-endpoint-weight",
            HeaderValue::from(body.local_endpoints),
        );
        answer
    }
}
