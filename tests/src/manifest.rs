//! Manifests for the lab's pods, as a person would write them.

use std::{fmt::Write, net::IpAddr};

/// A Service as YAML.
#[derive(Debug, Clone)]
pub struct Service {
    name: String,
    selector: String,
    spec: String,
    ports: String,
    status: String,
}

impl Service {
    /// A Service `name` of the pods labelled `app: kubia`, of both families where the node has both.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            selector: "kubia".to_owned(),
            spec: "  ipFamilyPolicy: PreferDualStack\n".to_owned(),
            ports: String::new(),
            status: String::new(),
        }
    }

    /// Adds a port; `target` is a number or a name, `protocol` `TCP` or `UDP`.
    pub fn port(mut self, name: &str, protocol: &str, port: u16, target: &str) -> Self {
        let _ = writeln!(
            self.ports,
            "    - name: {name}\n      protocol: {protocol}\n      port: {port}\n      targetPort: {target}"
        );
        self
    }

    /// [`port`](Self::port), with a nodePort.
    pub fn node_port(mut self, name: &str, protocol: &str, port: u16, target: &str, node_port: u16) -> Self {
        self = self.port(name, protocol, port, target);
        let _ = writeln!(self.ports, "      nodePort: {node_port}");
        self
    }

    /// Adds a field of `spec`, or of what it holds, as one line of YAML.
    pub fn field(mut self, line: &str) -> Self {
        let _ = writeln!(self.spec, "  {line}");
        self
    }

    /// Makes it one of type LoadBalancer, with these addresses.
    pub fn load_balancer(mut self, ips: &[IpAddr]) -> Self {
        if self.status.is_empty() {
            self = self.field("type: LoadBalancer");
        }
        self.status = "status:\n  loadBalancer:\n    ingress:\n".to_owned();
        for ip in ips {
            let _ = writeln!(self.status, "      - ip: {ip}");
        }
        self
    }

    /// Selects nothing: its endpoints are in slices.
    pub fn sliced(mut self) -> Self {
        self.selector = String::new();
        self
    }

    /// Adds `sessionAffinity: ClientIP`.
    pub fn affinity(mut self) -> Self {
        self.spec.push_str("  sessionAffinity: ClientIP\n");
        self
    }

    /// Fixes its cluster IPs.
    pub fn cluster_ips(mut self, ips: &[IpAddr]) -> Self {
        if let Some(first) = ips.first() {
            let _ = writeln!(self.spec, "  clusterIP: {first}\n  clusterIPs: {ips:?}");
        }
        self
    }

    /// Selects the pods labelled `app: VALUE` instead.
    pub fn selector(mut self, app: &str) -> Self {
        self.selector = app.to_owned();
        self
    }

    /// The document.
    pub fn yaml(&self) -> String {
        let Self {
            name,
            selector,
            spec,
            ports,
            status,
        } = self;
        let selector = match selector.as_str() {
            "" => String::new(),
            app => format!("  selector:\n    app: {app}\n"),
        };
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n{spec}{selector}  ports:\n{ports}{status}"
        )
    }
}

/// An endpoint of a [`slices`].
#[derive(Debug, Clone, Copy)]
pub struct Endpoint<'a> {
    /// Its addresses, IPv4 first.
    pub addresses: [IpAddr; 2],
    /// The node it is on.
    pub node: &'a str,
    /// Its conditions, as a YAML mapping without braces.
    pub conditions: &'a str,
}

/// The EndpointSlices of a Service, one of each family: its ports, by name, protocol and number, and its endpoints.
pub fn slices(service: &str, ports: &[(&str, &str, u16)], endpoints: &[Endpoint<'_>]) -> String {
    let mut text = String::new();
    for (index, family) in ["IPv4", "IPv6"].into_iter().enumerate() {
        let _ = writeln!(
            text,
            "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: {family}\nmetadata:\n  name: {service}-{}\n  \
             labels: {{kubernetes.io/service-name: {service}}}\nports:",
            family.to_lowercase()
        );
        for (name, protocol, port) in ports {
            let _ = writeln!(text, "  - {{name: {name}, protocol: {protocol}, port: {port}}}");
        }
        text.push_str(if endpoints.is_empty() {
            "endpoints: []\n"
        } else {
            "endpoints:\n"
        });
        for endpoint in endpoints {
            let _ = writeln!(
                text,
                "  - {{addresses: [\"{}\"], nodeName: {}, conditions: {{{}}}}}",
                endpoint.addresses[index], endpoint.node, endpoint.conditions
            );
        }
    }
    text
}

/// A running Pod labelled `app: kubia` as YAML, its container's ports named as given.
pub fn pod(name: &str, ips: &[IpAddr], ports: &[(&str, u16)]) -> String {
    let mut text = format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\n  labels:\n    app: kubia\nspec:\n  containers:\n    - name: kubia\n      image: kubia\n"
    );
    if !ports.is_empty() {
        text.push_str("      ports:\n");
    }
    for (name, port) in ports {
        let _ = writeln!(text, "        - name: {name}\n          containerPort: {port}");
    }
    text.push_str("status:\n  phase: Running\n");
    if let Some(first) = ips.first() {
        let _ = writeln!(text, "  podIP: {first}\n  podIPs:");
    }
    for ip in ips {
        let _ = writeln!(text, "    - ip: {ip}");
    }
    text
}
