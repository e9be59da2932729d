//! Models in a few words: `model([service("kubia", "10.96.0.10").port("http", 80, ["10.1.0.1:8080"])])`.

use std::net::SocketAddr;

use svcproxy::{
    model::{Endpoint, Model, Protocol, Service, ServiceName, ServicePort, ServiceType},
    plan::{Limits, MapContents, plan},
};

/// Room enough for every table here.
pub(crate) const LIMITS: Limits = Limits { backend_slots: 65536 };

/// A model of these Services.
pub(crate) fn model(services: impl IntoIterator<Item = ServiceBuilder>) -> Model {
    let mut services: Vec<_> = services.into_iter().map(|builder| builder.0).collect();
    services.sort_by(|one, other| one.name.cmp(&other.name));
    Model { services }
}

/// The plan for a model on empty maps.
pub(crate) fn planned(model: &Model) -> MapContents {
    plan(model, &MapContents::default(), &LIMITS).unwrap()
}

/// A Service in the namespace `default`, with its cluster IPs separated by commas.
pub(crate) fn service(name: &str, cluster_ips: &str) -> ServiceBuilder {
    ServiceBuilder(Service {
        name: ServiceName {
            namespace: "default".into(),
            name: name.into(),
        },
        service_type: ServiceType::ClusterIp,
        cluster_ips: cluster_ips.split(',').map(|ip| ip.parse().unwrap()).collect(),
        affinity_seconds: None,
        selector: [("app".to_owned(), name.to_owned())].into(),
        ports: Vec::new(),
    })
}

/// A Service under construction.
#[derive(Debug, Clone)]
pub(crate) struct ServiceBuilder(Service);

impl ServiceBuilder {
    /// `sessionAffinity: ClientIP`
    pub(crate) fn affinity(mut self, seconds: u32) -> Self {
        self.0.affinity_seconds = Some(seconds);
        self
    }

    /// A TCP port and its endpoints: `10.1.0.1:8080`, or with conditions `10.1.0.1:8080 terminating`, `… unready`.
    pub(crate) fn port<'a>(self, name: &str, port: u16, endpoints: impl IntoIterator<Item = &'a str>) -> Self {
        self.port_of(Protocol::TCP, name, port, endpoints)
    }

    /// The same for any protocol.
    pub(crate) fn port_of<'a>(
        mut self,
        protocol: Protocol,
        name: &str,
        port: u16,
        endpoints: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let mut endpoints: Vec<_> = endpoints.into_iter().map(endpoint).collect();
        endpoints.sort_by_key(|endpoint| (endpoint.address, endpoint.port));
        self.0.ports.push(ServicePort {
            name: name.into(),
            protocol,
            port,
            endpoints,
        });
        self
    }
}

fn endpoint(text: &str) -> Endpoint {
    let (socket, condition) = text.split_once(' ').unwrap_or((text, "ready"));
    let socket: SocketAddr = socket.parse().unwrap();
    let (ready, serving, terminating) = match condition {
        "ready" => (true, true, false),
        "unready" => (false, false, false),
        "terminating" => (false, true, true),
        "terminated" => (false, false, true),
        other => panic!("no condition {other}"),
    };
    Endpoint {
        address: socket.ip(),
        port: socket.port(),
        ready,
        serving,
        terminating,
        node_name: None,
        pod: None,
    }
}
