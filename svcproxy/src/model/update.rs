//! The model after a change of endpoints alone, without building all of it anew.
//!
//! In come the objects that the last model was built from ([`Basis`]) and those there are now; out goes what
//! [`build`](super::build) would make of them, or nothing where more than endpoints has changed. Pure: no I/O, no clock.

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use super::{
    Built, Model, Options, ServiceName,
    build::{Said, candidate, joined, record},
    endpoints::Index,
    node_ports::NodePorts,
};
use crate::{
    manifest::{Diagnostic, Manifest, Objects, Sourced, name_of, service_of},
    state::{ServiceRecord, State},
};

/// What a model was built from.
#[derive(Debug, Clone)]
pub struct Basis {
    objects: Objects,
    options: Options,
    model: Model,
    said: Said,
}

/// What has become of a model.
#[derive(Debug, Clone)]
pub struct Update {
    /// The model.
    pub model: Model,
    /// What is to be remembered of Services in the place of what was: no address and no port among it is new.
    pub records: Vec<(String, ServiceRecord)>,
    /// Everything there is to say, in reading order.
    pub diagnostics: Vec<Diagnostic>,
}

impl Basis {
    /// That of a model; `None` when there is no model.
    pub fn of(objects: Objects, options: Options, built: &Built) -> Option<Self> {
        Some(Self {
            objects,
            options,
            model: built.model.clone()?,
            said: built.said.clone(),
        })
    }

    /// The model of these objects, and the basis for the next. `state` is what is remembered of the present model. `None`
    /// when it may differ from the present one in more than its Services' endpoints.
    pub fn update(&mut self, objects: &Objects, options: &Options, state: &State) -> Option<Update> {
        self.options.now = options.now;
        if self.options != *options {
            return None;
        }
        let before = without(&self.objects, objects);
        let after = without(objects, &self.objects);
        let touched = touched(&before, &after)?;
        let files: HashSet<&str> = before.iter().chain(&after).map(|manifest| &*manifest.name).collect();
        let few = Objects {
            // A Service that has lost its slices has the Pods.
            manifests: (objects.manifests.iter())
                .filter(|manifest| manifest.is_about(&touched) || !manifest.pods.is_empty())
                .cloned()
                .collect(),
        };
        let index = Index::of(&few, |name| touched.contains(&name));
        let (mut found, mut findings, mut records) = (0, Vec::new(), Vec::new());
        let mut services = Vec::new();
        for source in few.services() {
            if !touched.contains(&name_of(&source.object.metadata)) {
                continue;
            }
            found += 1;
            let Some(Ok(candidate)) = candidate(source) else {
                continue; // nobody asks for its endpoints
            };
            let at = self.position(&candidate.name)?;
            let present = &self.model.services[at];
            let node_ports = NodePorts {
                ports: present.ports.iter().map(|port| port.node_port).collect(),
                health_check: present.health_check_node_port,
            };
            let cluster_ips = present.cluster_ips.clone();
            let (service, said) = joined(&candidate, cluster_ips, &node_ports, &index, &self.model.node);
            let key = candidate.name.to_string();
            let known = state.services.get(&key);
            let record = record(&candidate, &service, known, options.now);
            if known != Some(&record) {
                records.push((key, record));
            }
            if service != **present {
                services.push((at, Arc::new(service)));
            }
            findings.push((candidate.name, said));
        }
        // A slice that names no Service is to be warned of, and what is said of a file names its lines.
        let stays = |name: &ServiceName| !touched.contains(&(&*name.namespace, &*name.name));
        let others = self.said.endpoints.iter().filter(|(name, _)| stays(name));
        let mut said = others.flat_map(|(_, said)| said).chain(&self.said.rest);
        if found < touched.len() || said.any(|diagnostic| is_about(diagnostic, &files)) {
            return None;
        }

        for (at, service) in services {
            self.model.services[at] = service;
        }
        for (name, said) in findings {
            match said.is_empty() {
                true => drop(self.said.endpoints.remove(&name)),
                false => drop(self.said.endpoints.insert(name, said)),
            }
        }
        self.objects = objects.clone();
        Some(Update {
            model: self.model.clone(),
            records,
            diagnostics: self.said.all(Vec::new()),
        })
    }

    fn position(&self, name: &ServiceName) -> Option<usize> {
        let services = &self.model.services;
        services.binary_search_by(|service| service.name.cmp(name)).ok()
    }
}

/// The inputs of some objects that are not among those of others.
fn without<'a>(objects: &'a Objects, others: &Objects) -> Vec<&'a Manifest> {
    let others: HashSet<_> = others.manifests.iter().map(Arc::as_ptr).collect();
    let manifests = objects.manifests.iter();
    let rest = manifests.filter(|manifest| !others.contains(&Arc::as_ptr(manifest)));
    rest.map(|manifest| &**manifest).collect()
}

/// The Services, by namespace and name, whose endpoints are in these inputs, as they were and as they are; `None` when
/// the inputs differ in other objects.
fn touched<'a>(before: &[&'a Manifest], after: &[&'a Manifest]) -> Option<BTreeSet<(&'a str, &'a str)>> {
    let services = same(before, after, |manifest| &manifest.services);
    let pods = same(before, after, |manifest| &manifest.pods);
    let nodes = same(before, after, |manifest| &manifest.nodes);
    if !(services && pods && nodes) {
        return None;
    }
    let all = || before.iter().chain(after);
    let slices = all().flat_map(|manifest| &manifest.slices);
    let endpoints = all().flat_map(|manifest| &manifest.endpoints);
    let of_slices = slices.filter_map(|slice| service_of(&slice.object));
    let of_endpoints = endpoints.map(|endpoints| name_of(&endpoints.object.metadata));
    Some(of_slices.chain(of_endpoints).collect())
}

/// Whether inputs have the same objects of one kind.
fn same<'a, T: PartialEq + 'a>(
    before: &[&'a Manifest],
    after: &[&'a Manifest],
    kind: impl Fn(&'a Manifest) -> &'a Vec<Sourced<T>>,
) -> bool {
    let objects = |manifests: &[&'a Manifest]| -> Vec<&'a T> {
        let sourced = manifests.iter().flat_map(|manifest| kind(manifest));
        sourced.map(|sourced| &sourced.object).collect()
    };
    objects(before) == objects(after)
}

fn is_about(diagnostic: &Diagnostic, files: &HashSet<&str>) -> bool {
    diagnostic
        .place
        .as_ref()
        .is_some_and(|place| files.contains(&*place.file))
}
