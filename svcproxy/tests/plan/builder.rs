//! Models in a few words: `model([service("kubia", "10.96.0.10").port("http", 80, ["10.1.0.1:8080"])])`.

use std::net::{IpAddr, SocketAddr};

use svcproxy::{
    model::{Endpoint, Model, NodePolicy, Protocol, Service, ServiceName, ServicePort, ServiceType, TrafficPolicy},
    plan::{Limits, MapContents, plan},
};

/// Room enough for every table here.
pub(crate) const LIMITS: Limits = Limits { backend_slots: 65536 };

/// A model of these Services.
pub(crate) fn model(services: impl IntoIterator<Item = ServiceBuilder>) -> Model {
    let mut services: Vec<_> = services.into_iter().map(|builder| builder.0).collect();
    services.sort_by(|one, other| one.name.cmp(&other.name));
    Model {
        services: services.into_iter().map(Into::into).collect(),
        ..Model::default()
    }
}

/// The same on this node, with its addresses separated by commas.
pub(crate) fn on_node(mut model: Model, name: &str, addresses: &str) -> Model {
    model.node.name = name.into();
    model.node.addresses = ips(addresses);
    model
}

fn ips(text: &str) -> Vec<IpAddr> {
    text.split(',').map(|ip| ip.parse().unwrap()).collect()
}

/// The plan for a model on empty maps.
pub(crate) fn planned(model: &Model) -> MapContents {
    plan(model, &NodePolicy::default(), &MapContents::default(), &LIMITS).unwrap()
}

/// A Service in the namespace `default`, with its cluster IPs separated by commas.
pub(crate) fn service(name: &str, cluster_ips: &str) -> ServiceBuilder {
    ServiceBuilder(Service {
        name: ServiceName {
            namespace: "default".into(),
            name: name.into(),
        },
        service_type: ServiceType::ClusterIp,
        cluster_ips: ips(cluster_ips),
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        load_balancer_source_ranges: Vec::new(),
        internal_traffic_policy: TrafficPolicy::Cluster,
        external_traffic_policy: TrafficPolicy::Cluster,
        health_check_node_port: None,
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

    /// `externalIPs`, separated by commas.
    pub(crate) fn external(mut self, addresses: &str) -> Self {
        self.0.external_ips = ips(addresses);
        self
    }

    /// Type `LoadBalancer` with these addresses, for clients in these networks.
    pub(crate) fn load_balancer<'a>(mut self, addresses: &str, ranges: impl IntoIterator<Item = &'a str>) -> Self {
        self.0.service_type = ServiceType::LoadBalancer;
        self.0.load_balancer_ips = ips(addresses);
        self.0.load_balancer_source_ranges = ranges.into_iter().map(|range| range.parse().unwrap()).collect();
        self
    }

    /// `internalTrafficPolicy: Local`
    pub(crate) fn internal_local(mut self) -> Self {
        self.0.internal_traffic_policy = TrafficPolicy::Local;
        self
    }

    /// `externalTrafficPolicy: Local`
    pub(crate) fn external_local(mut self) -> Self {
        self.0.external_traffic_policy = TrafficPolicy::Local;
        self
    }

    /// The nodePort of the last port.
    pub(crate) fn node_port(mut self, number: u16) -> Self {
        self.0.ports.last_mut().unwrap().node_port = Some(number);
        self
    }

    /// A TCP port and its endpoints: `10.1.0.1:8080`, or with conditions and the name of a node
    /// `10.1.0.1:8080 terminating`, `10.1.0.1:8080 unready node-1`.
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
            node_port: None,
            endpoints,
        });
        self
    }
}

fn endpoint(text: &str) -> Endpoint {
    let mut words = text.split(' ');
    let socket: SocketAddr = words.next().unwrap().parse().unwrap();
    let mut endpoint = Endpoint::ready(socket.ip(), socket.port());
    for word in words {
        let (ready, serving, terminating) = match word {
            "ready" => (true, true, false),
            "unready" => (false, false, false),
            "terminating" => (false, true, true),
            "terminated" => (false, false, true),
            node => {
                endpoint.node_name = Some(node.into());
                continue;
            }
        };
        (endpoint.ready, endpoint.serving, endpoint.terminating) = (ready, serving, terminating);
    }
    endpoint
}
