//! The rules that kube-proxy 1.36 would write for the same Services, in shape: one chain for each Service and each
//! endpoint, one entry for each Service in the list (iptables) or map (nftables) that every first packet is looked up in.
//!
//! The Service that traffic goes to is in the middle, as the one of the average client is.

use std::{fmt::Write as _, net::Ipv4Addr};

use super::{POD, SERVICE};
use crate::manifests::{cluster_ip, endpoints};

/// A port of a Service: `tcp` or `udp`, its number, and where its endpoints listen.
type Port = (&'static str, u16, u16);

const MEASURED: [Port; 3] = [
    ("tcp", SERVICE.echo, POD.echo),
    ("tcp", SERVICE.sink, POD.sink),
    ("udp", SERVICE.datagrams, POD.datagrams),
];

/// Every ServicePort: its name, address, port and endpoints.
fn service_ports(count: u32, pod: Ipv4Addr) -> Vec<(String, Ipv4Addr, Port, Vec<Ipv4Addr>)> {
    let others = |range: std::ops::Range<u32>| {
        range.map(|index| {
            (
                index.to_string(),
                cluster_ip(index),
                ("tcp", 80, 8080),
                endpoints(index).to_vec(),
            )
        })
    };
    let measured = MEASURED.map(|port| (format!("m{}", port.1), cluster_ip(count - 1), port, vec![pod]));
    let middle = (count - 1) / 2;
    others(0..middle)
        .chain(measured)
        .chain(others(middle..count - 1))
        .collect()
}

/// For `nft -f`.
pub(super) fn nftables(count: u32, pod: Ipv4Addr) -> String {
    let mut text = String::from(
        "table ip kube-proxy {
  chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
  chain masquerading {
    meta mark & 0x4000 == 0 return
    meta mark set meta mark xor 0x4000
    masquerade fully-random
  }
",
    );
    let mut elements = Vec::new();
    for (name, address, (protocol, port, target), endpoints) in service_ports(count, pod) {
        elements.push(format!("{address} . {protocol} . {port} : goto service-{name}"));
        let mut choices = Vec::new();
        for (nth, endpoint) in endpoints.iter().enumerate() {
            choices.push(format!("{nth} : goto endpoint-{name}-{nth}"));
            let _ = write!(
                text,
                "  chain endpoint-{name}-{nth} {{
    ip saddr {endpoint} jump mark-for-masquerade
    meta l4proto {protocol} dnat to {endpoint}:{target}
  }}
"
            );
        }
        let _ = writeln!(
            text,
            "  chain service-{name} {{ numgen random mod {} vmap {{ {} }}; }}",
            choices.len(),
            choices.join(", ")
        );
    }
    let _ = write!(
        text,
        "  map service-ips {{
    type ipv4_addr . inet_proto . inet_service : verdict
    elements = {{ {} }}
  }}
  chain services {{ ip daddr . meta l4proto . th dport vmap @service-ips; }}
  chain nat-prerouting {{ type nat hook prerouting priority dstnat; jump services; }}
  chain nat-output {{ type nat hook output priority -100; jump services; }}
  chain nat-postrouting {{ type nat hook postrouting priority srcnat; jump masquerading; }}
  chain filter-forward {{ type filter hook forward priority -110; ct state new ip daddr 10.96.0.0/12 reject; }}
}}
",
        elements.join(",\n      ")
    );
    text
}

/// For `iptables-restore`.
pub(super) fn iptables(count: u32, pod: Ipv4Addr) -> String {
    let (mut chains, mut services, mut rules) = (String::new(), String::new(), String::new());
    for (name, address, (protocol, port, target), endpoints) in service_ports(count, pod) {
        let _ = writeln!(chains, ":KUBE-SVC-{name} - [0:0]");
        let _ = writeln!(
            services,
            "-A KUBE-SERVICES -d {address}/32 -p {protocol} -m {protocol} --dport {port} -j KUBE-SVC-{name}"
        );
        for (nth, endpoint) in endpoints.iter().enumerate() {
            let left = endpoints.len() - nth;
            let _ = writeln!(chains, ":KUBE-SEP-{name}-{nth} - [0:0]");
            let chance = match left {
                1 => String::new(),
                left => format!("-m statistic --mode random --probability {:.10} ", 1.0 / left as f64),
            };
            let _ = write!(
                rules,
                "-A KUBE-SVC-{name} {chance}-j KUBE-SEP-{name}-{nth}
-A KUBE-SEP-{name}-{nth} -s {endpoint}/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-{name}-{nth} -p {protocol} -m {protocol} -j DNAT --to-destination {endpoint}:{target}
"
            );
        }
    }
    format!(
        "*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
{chains}-A PREROUTING -j KUBE-SERVICES
-A OUTPUT -j KUBE-SERVICES
-A POSTROUTING -j KUBE-POSTROUTING
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
{services}{rules}COMMIT
"
    )
}

/// The measured Service as a manifest.
pub(super) fn manifest(index: u32, pod: Ipv4Addr) -> String {
    let (mut ports, mut targets) = (String::new(), String::new());
    for (protocol, port, target) in MEASURED {
        let protocol = protocol.to_uppercase();
        let _ = writeln!(ports, "    - {{ name: p{port}, protocol: {protocol}, port: {port} }}");
        let _ = writeln!(targets, "  - {{ name: p{port}, protocol: {protocol}, port: {target} }}");
    }
    let ip = cluster_ip(index);
    format!(
        "apiVersion: v1
kind: Service
metadata:
  name: measured
spec:
  clusterIP: {ip}
  clusterIPs: [{ip}]
  ports:
{ports}---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: measured-1
  labels:
    kubernetes.io/service-name: measured
addressType: IPv4
ports:
{targets}endpoints:
  - addresses: [{pod}]
"
    )
}
