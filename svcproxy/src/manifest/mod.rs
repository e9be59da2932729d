//! YAML and JSON text to Kubernetes objects, with the place of everything that is wrong.
//!
//! In come files, directories or standard input; out go valid [`Objects`] and every [`Diagnostic`] of the run. An
//! object with an error is left out, all others are kept: it is the caller who decides what a partial input is worth.
//! [`load`] reads, everything below it is pure.

use std::{fmt, path::PathBuf};

use k8s_openapi::api::{
    core::v1::{Endpoints, Node, Pod, Service},
    discovery::v1::EndpointSlice,
};

mod diagnostic;
mod document;
mod input;
mod object;
mod path;
mod position;
mod report;
mod shape;
mod validate;
mod yaml;

pub use diagnostic::{Diagnostic, Place, Severity};
pub(crate) use input::is_manifest_name;
pub use report::Origin;
pub(crate) use validate::{SERVICE_NAME_LABEL, is_headless, namespace, parse_ip};

/// The text of one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// How messages name it.
    pub name: String,
    /// Its YAML or JSON.
    pub text: String,
}

/// The kinds that svcproxy reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `v1/Service`
    Service,
    /// `v1/Pod`
    Pod,
    /// `discovery.k8s.io/v1/EndpointSlice`
    EndpointSlice,
    /// `v1/Endpoints`
    Endpoints,
    /// `v1/Node`
    Node,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Service,
        Self::Pod,
        Self::EndpointSlice,
        Self::Endpoints,
        Self::Node,
    ];

    /// `kind` in a manifest.
    pub fn name(self) -> &'static str {
        match self {
            Self::Service => "Service",
            Self::Pod => "Pod",
            Self::EndpointSlice => "EndpointSlice",
            Self::Endpoints => "Endpoints",
            Self::Node => "Node",
        }
    }

    /// `apiVersion` in a manifest.
    pub fn api_version(self) -> &'static str {
        match self {
            Self::EndpointSlice => "discovery.k8s.io/v1",
            _ => "v1",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An object and where it came from.
#[derive(Debug, Clone)]
pub struct Sourced<T> {
    /// The object, valid by itself.
    pub object: T,
    /// Its place in the input.
    pub origin: Origin,
}

/// Every valid object of the input, in the input's order, no kind, namespace and name twice.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// The Services.
    pub services: Vec<Sourced<Service>>,
    /// The Pods.
    pub pods: Vec<Sourced<Pod>>,
    /// The EndpointSlices.
    pub slices: Vec<Sourced<EndpointSlice>>,
    /// The Endpoints, forerunners of EndpointSlices.
    pub endpoints: Vec<Sourced<Endpoints>>,
    /// The Nodes.
    pub nodes: Vec<Sourced<Node>>,
}

/// What [`load`] found.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The valid objects.
    pub objects: Objects,
    /// Everything there is to say, in reading order.
    pub diagnostics: Vec<Diagnostic>,
}

/// Reads every input: files, the `*.yaml`, `*.yml` and `*.json` of directories, `-` for standard input.
pub fn load(filenames: &[PathBuf]) -> Loaded {
    let (sources, unreadable) = input::read(filenames);
    let mut loaded = parse(&sources);
    loaded.diagnostics.extend(unreadable);
    loaded.diagnostics.sort_by(Diagnostic::reading_order);
    loaded
}

/// The objects of texts already read.
pub fn parse(sources: &[Source]) -> Loaded {
    let mut collector = object::Collector::default();
    for source in sources {
        for (document, value) in document::documents(source) {
            match value {
                Ok(value) => collector.document(&document, value),
                Err(diagnostic) => collector.loaded.diagnostics.push(diagnostic),
            }
        }
    }
    collector.loaded.diagnostics.sort_by(Diagnostic::reading_order);
    collector.loaded
}
