//! Services as the manifests would give them to the plan, in a few words.

use std::{collections::BTreeMap, net::SocketAddr};

use svcproxy::model::{Endpoint, Protocol, Service, ServiceName, ServicePort, ServiceType};

/// A Service with one address and ports with their endpoints.
pub(crate) fn service(name: &str, affinity: Option<u32>, ports: &[(Protocol, SocketAddr, &[SocketAddr])]) -> Service {
    let endpoint = |socket: &SocketAddr| Endpoint {
        address: socket.ip(),
        port: socket.port(),
        ready: true,
        serving: true,
        terminating: false,
        node_name: None,
        pod: None,
    };
    Service {
        name: ServiceName {
            namespace: "default".into(),
            name: name.into(),
        },
        service_type: ServiceType::ClusterIp,
        cluster_ips: vec![ports[0].1.ip()],
        affinity_seconds: affinity,
        selector: BTreeMap::new(),
        ports: ports
            .iter()
            .map(|(protocol, vip, endpoints)| ServicePort {
                name: format!("{protocol}-{}", vip.port()).to_lowercase(),
                protocol: *protocol,
                port: vip.port(),
                endpoints: endpoints.iter().map(endpoint).collect(),
            })
            .collect(),
    }
}
