//! Reading the manifests, and what the log says of them: their diagnostics, and the Services that have come, changed or
//! gone.
//!
//! What was said before and still holds is not said again.

use std::{collections::HashSet, sync::Arc};

use tracing::{error, info, warn};

use super::RunArgs;
use crate::{
    input::{Inputs, Reading},
    manifest::{Changed, Diagnostic, Severity},
    model::{Endpoint, Model, Service, Update},
    state::{Memory, State},
};

/// Reads the manifests time and again.
pub(super) struct Reader<'a> {
    args: &'a RunArgs,
    inputs: Inputs,
    /// What the last reading had to say.
    said: Vec<Diagnostic>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(args: &'a RunArgs) -> Self {
        Self {
            args,
            inputs: Inputs::default(),
            said: Vec::new(),
        }
    }

    /// Reads the manifests and prints what there is to say. `None` when they have errors. `state` is what is remembered of
    /// the model of the last reading.
    ///
    /// # Errors
    ///
    /// When it cannot be told what node this is.
    pub(super) fn read(&mut self, changed: &Changed, state: &State) -> anyhow::Result<Option<(Model, Memory)>> {
        let options = self.args.input.node.options()?;
        let reading = self.inputs.read(&self.args.input.filenames, changed, &options, state);
        let (read, diagnostics) = match reading {
            Reading::All(input) => {
                let state = input.state;
                (input.model.map(|model| (model, Memory::All(state))), input.diagnostics)
            }
            Reading::Endpoints(Update {
                model,
                records,
                diagnostics,
            }) => (Some((model, Memory::Some(records))), diagnostics),
        };
        for diagnostic in &diagnostics {
            match diagnostic.severity {
                Severity::Error => error!("{diagnostic}"),
                _ if self.said.contains(diagnostic) => {}
                Severity::Warning => warn!("{diagnostic}"),
                Severity::Notice => info!("{diagnostic}"),
            }
        }
        self.said = diagnostics;
        Ok(read)
    }

    /// What was read last did not come into force: the next reading tells all of it again.
    pub(super) fn forget(&mut self) {
        self.inputs.forget();
    }
}

/// A line for every Service that differs.
pub(super) fn changes(before: &Model, now: &Model) -> Vec<String> {
    let changed = not_shared(now, before).filter(|service| named(before, service) != Some(*service));
    let gone = not_shared(before, now).filter(|service| named(now, service).is_none());
    changed
        .map(|service| describe(service))
        .chain(gone.map(|service| format!("Service {}: gone", service.name)))
        .collect()
}

/// The Services of a model that it does not share with another. What is shared is the same.
fn not_shared<'a>(model: &'a Model, other: &Model) -> impl Iterator<Item = &'a Arc<Service>> {
    let shared: HashSet<_> = other.services.iter().map(Arc::as_ptr).collect();
    let services = model.services.iter();
    services.filter(move |service| !shared.contains(&Arc::as_ptr(service)))
}

/// The Service of a model with the name of another.
fn named<'a>(model: &'a Model, service: &Service) -> Option<&'a Arc<Service>> {
    let index = model.services.binary_search_by(|other| other.name.cmp(&service.name));
    index.ok().map(|index| &model.services[index])
}

/// `Service default/kubia: 10.96.175.78, 80/TCP to 3 endpoints`, counting those of the primary address's family.
fn describe(service: &Service) -> String {
    let addresses: Vec<_> = service.cluster_ips.iter().map(ToString::to_string).collect();
    let primary = service.cluster_ips.first();
    let ports = service.ports.iter().map(|port| {
        let of_family = |endpoint: &&Endpoint| primary.is_none_or(|ip| ip.is_ipv4() == endpoint.address.is_ipv4());
        let (ready, all) = port
            .endpoints
            .iter()
            .filter(of_family)
            .fold((0, 0), |(ready, all), endpoint| {
                (ready + usize::from(endpoint.ready), all + 1)
            });
        let endpoints = match (ready, all) {
            (1, 1) => "1 endpoint".to_owned(),
            (ready, all) if ready == all => format!("{all} endpoints"),
            (ready, all) => format!("{ready} ready of {all} endpoints"),
        };
        format!("{}/{} to {endpoints}", port.port, port.protocol)
    });
    let ports: Vec<_> = ports.collect();
    format!(
        "Service {}: {}, {}",
        service.name,
        addresses.join(","),
        ports.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        manifest::{Source, parse},
        model::{self, Options},
        state::State,
    };

    /// Services of one port each: name, address, addresses of endpoints.
    fn model(services: &[(&str, &str, &[&str])]) -> Model {
        let documents = services.iter().map(|(name, ip, endpoints)| {
            let endpoints: Vec<_> = endpoints.iter().map(|ip| format!("{{addresses: [{ip}]}}")).collect();
            format!(
                "---\n{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{clusterIP: {ip}, ports: [{{port: 80}}]}}}}\n\
                 ---\n{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {{name: {name}-1, labels: \
                 {{kubernetes.io/service-name: {name}}}}}, addressType: IPv4, ports: [{{port: 8080}}], endpoints: [{}]}}\n",
                endpoints.join(", ")
            )
        });
        let loaded = parse(&[Source {
            name: "services.yaml".to_owned(),
            text: documents.collect(),
        }]);
        let built = model::build(&loaded.objects, &Options::default(), &State::default());
        let said = (loaded.diagnostics, built.diagnostics);
        built.model.unwrap_or_else(|| panic!("{said:?}"))
    }

    #[test]
    fn only_what_differs_is_told() {
        let before = model(&[
            ("same", "10.96.0.1", &["10.244.0.1"]),
            ("moved", "10.96.0.2", &["10.244.0.1"]),
            ("replaced", "10.96.0.3", &["10.244.0.1"]),
            ("removed", "10.96.0.4", &[]),
        ]);
        let now = model(&[
            ("same", "10.96.0.1", &["10.244.0.1"]),
            ("moved", "10.96.0.20", &["10.244.0.1"]),
            ("replaced", "10.96.0.3", &["10.244.0.2"]),
            ("added", "10.96.0.5", &["10.244.0.1", "10.244.0.2"]),
        ]);
        assert_eq!(
            changes(&before, &now),
            [
                "Service default/added: 10.96.0.5, 80/TCP to 2 endpoints",
                "Service default/moved: 10.96.0.20, 80/TCP to 1 endpoint",
                "Service default/replaced: 10.96.0.3, 80/TCP to 1 endpoint",
                "Service default/removed: gone",
            ]
        );
        assert_eq!(changes(&now, &now), [""; 0]);
    }
}
