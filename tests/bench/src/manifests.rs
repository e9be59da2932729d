//! Manifests of thousands of Services: in files of a hundred, and a last one in a file of its own.

use std::{fmt::Write as _, net::Ipv4Addr};

/// Services in one file.
const FILE: u32 = 100;
/// Endpoints of each Service but the last.
pub(crate) const ENDPOINTS: u32 = 3;
/// The network that endpoints without a pod are in.
pub(crate) const ELSEWHERE: &str = "10.128.0.0/9";
/// The name of the last Service's file.
pub(crate) const LAST: &str = "last.yaml";

/// Where Service number `index` listens, port 80.
pub(crate) fn cluster_ip(index: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(Ipv4Addr::new(10, 96, 0, 10).to_bits() + index)
}

/// The endpoints of a Service that no pod is behind, port 8080.
pub(crate) fn endpoints(index: u32) -> [Ipv4Addr; ENDPOINTS as usize] {
    let first = Ipv4Addr::new(10, 128, 0, 1).to_bits() + index * ENDPOINTS;
    std::array::from_fn(|nth| Ipv4Addr::from_bits(first + nth as u32))
}

/// File names and contents: `count` Services of which the last has these endpoints.
pub(crate) fn files(count: u32, last: &[Ipv4Addr]) -> Vec<(String, String)> {
    let mut files = Vec::new();
    for first in (0..count - 1).step_by(FILE as usize) {
        let services = first..(first + FILE).min(count - 1);
        let text = services.map(|index| service(index, &endpoints(index))).collect();
        files.push((format!("services-{first:05}.yaml"), text));
    }
    files.push((LAST.to_owned(), service(count - 1, last)));
    files
}

/// A Service and its EndpointSlice.
pub(crate) fn service(index: u32, endpoints: &[Ipv4Addr]) -> String {
    let ip = cluster_ip(index);
    let mut text = format!(
        "---
apiVersion: v1
kind: Service
metadata:
  name: service-{index:05}
spec:
  clusterIP: {ip}
  clusterIPs: [{ip}]
  ports:
    - name: http
      port: 80
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: service-{index:05}-1
  labels:
    kubernetes.io/service-name: service-{index:05}
addressType: IPv4
ports:
  - name: http
    port: 8080
endpoints:
"
    );
    for endpoint in endpoints {
        let _ = writeln!(text, "  - addresses: [{endpoint}]");
    }
    text
}
