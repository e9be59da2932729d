//! Services as the manifests would give them to the plan, in a few words.

use std::{collections::BTreeMap, net::SocketAddr};

use svcproxy::model::{Endpoint, Protocol, Service, ServiceName, ServicePort, ServiceType, TrafficPolicy};

/// A Service with one address and ports with their endpoints.
pub(crate) fn service(name: &str, affinity: Option<u32>, ports: &[(Protocol, SocketAddr, &[SocketAddr])]) -> Service {
    Service {
        name: ServiceName {
            namespace: "default".into(),
            name: name.into(),
        },
        service_type: ServiceType::ClusterIp,
        cluster_ips: vec![ports[0].1.ip()],
        external_ips: Vec::new(),
        load_balancer_ips: Vec::new(),
        load_balancer_source_ranges: Vec::new(),
        internal_traffic_policy: TrafficPolicy::Cluster,
        external_traffic_policy: TrafficPolicy::Cluster,
        health_check_node_port: None,
        affinity_seconds: affinity,
        selector: BTreeMap::new(),
        ports: ports
            .iter()
            .map(|(protocol, vip, endpoints)| ServicePort {
                name: format!("{protocol}-{}", vip.port()).to_lowercase(),
                protocol: *protocol,
                port: vip.port(),
                node_port: None,
                endpoints: endpoints
                    .iter()
                    .map(|socket| Endpoint::ready(socket.ip(), socket.port()))
                    .collect(),
            })
            .collect(),
    }
}
