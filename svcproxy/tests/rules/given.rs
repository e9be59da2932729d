//! A cluster out of one-line manifests, and connections judged in it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use svcproxy::{
    conformance::{Verdict, decide},
    input::{self, Input},
    manifest::{self, Source},
    model::{Model, NodePolicy, NodePortAddresses, Options, Protocol, Service},
    plan::{Limits, MapContents, plan},
    state::State,
};

use crate::interpret::outcome;

/// A cluster and the node that we are on.
pub(crate) struct Cluster {
    documents: Vec<String>,
    pub(crate) options: Options,
    pub(crate) policy: NodePolicy,
}

/// The cluster of these documents, on node `here` with the address 192.0.2.1.
pub(crate) fn cluster(documents: impl IntoIterator<Item = impl Into<String>>) -> Cluster {
    Cluster {
        documents: documents.into_iter().map(Into::into).collect(),
        options: Options {
            node_name: "here".into(),
            node_ips: vec!["192.0.2.1".parse().unwrap(), "2001:db8:2::1".parse().unwrap()],
            ..Options::default()
        },
        policy: NodePolicy::default(),
    }
}

/// A Service; its ports are `[{port: 80, targetPort: 8080}]` where the spec has none.
pub(crate) fn service(name: &str, spec: &str) -> String {
    let ports = match spec.contains("ports:") {
        true => "",
        false => ", ports: [{port: 80, targetPort: 8080}]",
    };
    let ports = if spec.is_empty() { &ports[2..] } else { ports };
    format!("{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{{spec}{ports}}}}}")
}

/// An EndpointSlice of a Service with the port 8080: one endpoint for each entry of the list, which starts with the
/// address and goes on with fields: `10.1.0.1, nodeName: here`.
pub(crate) fn slice(service: &str, endpoints: &[&str]) -> String {
    slice_of(service, "{port: 8080}", endpoints)
}

/// The same with other ports.
pub(crate) fn slice_of(service: &str, ports: &str, endpoints: &[&str]) -> String {
    let endpoint = |text: &&str| match text.split_once(", ") {
        None => format!("{{addresses: ['{text}']}}"),
        Some((address, fields)) => format!("{{addresses: ['{address}'], {fields}}}"),
    };
    let family = if endpoints.first().is_some_and(|text| text.contains("::")) {
        "IPv6"
    } else {
        "IPv4"
    };
    let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("{service}-{}-{number}", family.to_lowercase());
    format!(
        "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}, labels: \
         {{kubernetes.io/service-name: {service}}}}}, addressType: {family}, ports: [{ports}], endpoints: [{}]}}",
        endpoints.join(", ")
    )
}

impl Cluster {
    /// `--cluster-cidr`, comma-separated.
    pub(crate) fn cluster_cidr(mut self, cidrs: &str) -> Self {
        self.policy.cluster_cidrs = cidrs.split(',').map(|cidr| cidr.parse().unwrap()).collect();
        self
    }

    /// `--masquerade-all`
    pub(crate) fn masquerade_all(mut self) -> Self {
        self.policy.masquerade_all = true;
        self
    }

    /// `--nodeport-addresses`, networks only.
    pub(crate) fn nodeport_addresses(mut self, networks: &str) -> Self {
        let networks = networks.split(',').map(|network| network.parse().unwrap()).collect();
        self.policy.nodeport_addresses = NodePortAddresses::Within(networks);
        self
    }

    /// `--node-ip`, comma-separated; empty for those of the Node object.
    pub(crate) fn node_ips(mut self, addresses: &str) -> Self {
        self.options.node_ips = addresses
            .split(',')
            .filter(|ip| !ip.is_empty())
            .map(|ip| ip.parse().unwrap())
            .collect();
        self
    }

    /// What the manifests say.
    pub(crate) fn read(&self) -> Input {
        self.read_after(&State::default())
    }

    /// What they say after a run that left this state.
    pub(crate) fn read_after(&self, state: &State) -> Input {
        let source = Source {
            name: "f.yaml".into(),
            text: self.documents.join("\n---\n"),
        };
        input::join(manifest::parse(&[source]), &self.options, state)
    }

    /// The diagnostics, one a line.
    pub(crate) fn said(&self) -> String {
        let lines: Vec<_> = self.read().diagnostics.iter().map(ToString::to_string).collect();
        lines.join("\n")
    }

    /// The model.
    pub(crate) fn model(&self) -> Model {
        self.read()
            .model
            .unwrap_or_else(|| panic!("no model:\n{}", self.said()))
    }

    /// A Service of the namespace `default`.
    pub(crate) fn service(&self, name: &str) -> Arc<Service> {
        let services = self.model().services.into_iter();
        let mut found = services.filter(|service| service.name.to_string() == format!("default/{name}"));
        found.next().unwrap_or_else(|| panic!("no Service {name}"))
    }

    /// The maps.
    pub(crate) fn maps(&self) -> MapContents {
        let limits = Limits { backend_slots: 1 << 16 };
        plan(&self.model(), &self.policy, &MapContents::default(), &limits).unwrap()
    }

    /// Judges connections. Each row is a client, an address and port (`10.96.0.10:80`, or with `/udp` or `/sctp`), and
    /// what is expected: `drop`, `reject`, `pass` or endpoints, with `masquerade` behind them where the client is.
    #[track_caller]
    pub(crate) fn judges<'a>(&self, rows: impl IntoIterator<Item = (&'a str, &'a str, &'a str)>) {
        let (model, maps) = (self.model(), self.maps());
        for (client, destination, wanted) in rows {
            let (dst, protocol) = destination.split_once('/').unwrap_or((destination, "tcp"));
            let protocol = match protocol {
                "udp" => Protocol::UDP,
                "sctp" => Protocol::SCTP,
                _ => Protocol::TCP,
            };
            let (src, dst): (IpAddr, SocketAddr) = (client.parse().unwrap(), dst.parse().unwrap());
            let expected = decide(&model, &self.policy, src, dst, protocol);
            let found = match expected.verdict {
                Verdict::Forward => {
                    let masquerade = expected.masquerade.then(|| "masquerade".to_owned());
                    let backends = expected.backends.iter().map(ToString::to_string);
                    backends.chain(masquerade).collect::<Vec<_>>().join(" ")
                }
                other => other.name().to_owned(),
            };
            assert_eq!(
                found,
                wanted,
                "{client} → {destination}: {}",
                expected.reason.description()
            );
            let planned = outcome(&maps, src, dst, protocol);
            let of_rules = (expected.reason, expected.backends, expected.masquerade);
            assert_eq!(planned, of_rules, "the plan, {client} → {destination}");
        }
    }
}
