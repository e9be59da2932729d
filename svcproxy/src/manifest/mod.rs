//! YAML and JSON text to Kubernetes objects, with the place of everything that is wrong.
//!
//! In come files, directories or standard input; out go valid [`Objects`] and every [`Diagnostic`] of the run. An
//! object with an error is left out, all others are kept: it is the caller who decides what a partial input is worth.
//! [`load`] reads, everything below it is pure.

use std::{
    fmt,
    hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher},
    path::PathBuf,
    sync::Arc,
};

use k8s_openapi::api::{
    core::v1::{Endpoints, Node, Pod, Service},
    discovery::v1::EndpointSlice,
};

mod diagnostic;
mod document;
mod input;
mod library;
mod object;
mod path;
mod position;
mod report;
mod shape;
mod text;
mod validate;
mod yaml;

pub use diagnostic::{Diagnostic, Place, Severity};
pub(crate) use input::is_manifest_name;
pub use library::{Changed, Library};
pub use report::Origin;
pub(crate) use validate::{SERVICE_NAME_LABEL, is_headless, name_of, namespace, parse_ip, service_of};

/// The text of one input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// How messages name it.
    pub name: String,
    /// Its YAML or JSON.
    pub text: String,
}

impl Source {
    /// Tells the text from others.
    fn hash(&self) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(&self.text)
    }
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

/// The valid objects of one input, in its order.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// How messages name the input.
    pub name: String,
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
    /// Hashes of the Services that there are objects of, sorted.
    subjects: Vec<u64>,
}

impl Manifest {
    /// What is to be known of it before it is shared.
    fn finished(mut self) -> Self {
        let services = self.services.iter().map(|service| name_of(&service.object.metadata));
        let endpoints = self
            .endpoints
            .iter()
            .map(|endpoints| name_of(&endpoints.object.metadata));
        let slices = self.slices.iter().filter_map(|slice| service_of(&slice.object));
        self.subjects = services.chain(endpoints).chain(slices).map(subject).collect();
        self.subjects.sort_unstable();
        self.subjects.dedup();
        self.subjects.shrink_to_fit();
        self.services.shrink_to_fit();
        self.slices.shrink_to_fit();
        self
    }

    /// Whether it may have objects of one of these Services, by namespace and name: the Service or its endpoints.
    pub(crate) fn is_about<'n>(&self, services: impl IntoIterator<Item = &'n (&'n str, &'n str)>) -> bool {
        let mut services = services.into_iter();
        services.any(|name| self.subjects.binary_search(&subject(*name)).is_ok())
    }
}

fn subject(name: (&str, &str)) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(name)
}

/// Every valid object, in the order of the inputs, no kind, namespace and name twice.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// The inputs, shared with whoever has read them.
    pub manifests: Vec<Arc<Manifest>>,
}

impl Objects {
    /// The Services.
    pub fn services(&self) -> impl Iterator<Item = &Sourced<Service>> {
        self.manifests.iter().flat_map(|manifest| &manifest.services)
    }

    /// The Pods.
    pub fn pods(&self) -> impl Iterator<Item = &Sourced<Pod>> {
        self.manifests.iter().flat_map(|manifest| &manifest.pods)
    }

    /// The EndpointSlices.
    pub fn slices(&self) -> impl Iterator<Item = &Sourced<EndpointSlice>> {
        self.manifests.iter().flat_map(|manifest| &manifest.slices)
    }

    /// The Endpoints.
    pub fn endpoints(&self) -> impl Iterator<Item = &Sourced<Endpoints>> {
        self.manifests.iter().flat_map(|manifest| &manifest.endpoints)
    }

    /// The Nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Sourced<Node>> {
        self.manifests.iter().flat_map(|manifest| &manifest.nodes)
    }
}

/// What [`load`] found.
#[derive(Debug, Clone, Default)]
pub struct Loaded {
    /// The valid objects.
    pub objects: Objects,
    /// Everything there is to say, in reading order.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    /// What sources say together, none of which has a name of another.
    fn of<'a>(parsed: impl Iterator<Item = &'a object::Parsed>, unreadable: Vec<Diagnostic>) -> Self {
        let mut loaded = Self {
            objects: Objects::default(),
            diagnostics: unreadable,
        };
        for parsed in parsed {
            loaded.objects.manifests.push(Arc::clone(&parsed.manifest));
            loaded.diagnostics.extend_from_slice(&parsed.diagnostics);
        }
        loaded.diagnostics.sort_by(Diagnostic::reading_order);
        loaded
    }
}

/// Reads every input: files, the `*.yaml`, `*.yml` and `*.json` of directories, `-` for standard input.
pub fn load(filenames: &[PathBuf]) -> Loaded {
    Library::default().load(filenames, &Changed::Anything)
}

/// The objects of texts already read.
pub fn parse(sources: &[Source]) -> Loaded {
    together(sources, Vec::new())
}

/// The objects of sources that may have names in common.
fn together(sources: &[Source], unreadable: Vec<Diagnostic>) -> Loaded {
    let mut collector = object::Collector::default();
    let parsed: Vec<_> = sources.iter().map(|source| collector.source(source)).collect();
    Loaded::of(parsed.iter(), unreadable)
}
