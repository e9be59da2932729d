//! Manifests for the lab's pods, as a person would write them.

use std::{fmt::Write, net::IpAddr};

/// A Service as YAML.
#[derive(Debug, Clone)]
pub struct Service {
    name: String,
    selector: String,
    spec: String,
    ports: String,
}

impl Service {
    /// A Service `name` of the pods labelled `app: kubia`, of both families where the node has both.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            selector: "kubia".to_owned(),
            spec: "  ipFamilyPolicy: PreferDualStack\n".to_owned(),
            ports: String::new(),
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
        } = self;
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata:\n  name: {name}\nspec:\n{spec}  selector:\n    app: {selector}\n  ports:\n{ports}"
        )
    }
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
