//! A document's value to typed objects: which kind it is, Lists taken apart, no object twice.
//!
//! In comes JSON, out go valid objects in a [`Manifest`] and a diagnostic for everything else.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher, BuildHasherDefault, DefaultHasher},
    mem,
    sync::Arc,
};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Diagnostic, Kind, Manifest, Origin, Source, Sourced,
    diagnostic::quoted,
    document::{self, Document},
    path,
    report::Report,
    shape,
    text::Text,
    validate::{self, Validate},
};

/// What one source says by itself.
#[derive(Debug)]
pub(crate) struct Parsed {
    /// Its valid objects.
    pub(crate) manifest: Arc<Manifest>,
    /// What there is to say of it.
    pub(crate) diagnostics: Vec<Diagnostic>,
    /// Hashes of the kinds, namespaces and names of its objects, those in error too.
    pub(crate) names: Vec<u64>,
    /// What places are found in.
    pub(crate) text: Arc<Text>,
}

/// Gathers the objects of sources, one after the other, and refuses names that were there before.
#[derive(Default)]
pub(crate) struct Collector {
    manifest: Manifest,
    diagnostics: Vec<Diagnostic>,
    names: Vec<u64>,
    /// Where each object was first seen.
    seen: HashMap<Name, Origin, BuildHasherDefault<DefaultHasher>>,
}

/// Kind, namespace and name.
type Name = (Kind, String, String);

impl Collector {
    /// Takes in one source.
    pub(crate) fn source(&mut self, source: &Source) -> Parsed {
        self.manifest.name.clone_from(&source.name);
        let text = Arc::new(Text::of(source));
        for (document, value) in document::documents(source, &text) {
            match value {
                Ok(value) => self.value(&document, value, String::new()),
                Err(diagnostic) => self.diagnostics.push(diagnostic),
            }
        }
        Parsed {
            manifest: Arc::new(mem::take(&mut self.manifest).finished()),
            diagnostics: mem::take(&mut self.diagnostics),
            names: mem::take(&mut self.names),
            text,
        }
    }

    fn value(&mut self, document: &Arc<Document>, mut value: Value, prefix: String) {
        if value.is_null() {
            return;
        }
        let origin = Origin::new(Arc::clone(document), prefix.clone(), label(&value));
        let mut report = Report::new(&origin);
        if let Some(items) = list_items(&mut value, &mut report) {
            self.diagnostics.append(&mut report.diagnostics);
            for (index, item) in items.into_iter().enumerate() {
                self.value(document, item, path::index(&path::join(&prefix, "items"), index));
            }
            return;
        }
        let kind = kind_of(&value, &mut report);
        self.diagnostics.append(&mut report.diagnostics);
        match kind {
            None => {}
            Some(Kind::Service) => self.object(Kind::Service, value, origin, |manifest| &mut manifest.services),
            Some(Kind::Pod) => self.object(Kind::Pod, value, origin, |manifest| &mut manifest.pods),
            Some(Kind::EndpointSlice) => {
                self.object(Kind::EndpointSlice, value, origin, |manifest| &mut manifest.slices);
            }
            Some(Kind::Endpoints) => {
                self.object(Kind::Endpoints, value, origin, |manifest| &mut manifest.endpoints);
            }
            Some(Kind::Node) => self.object(Kind::Node, value, origin, |manifest| &mut manifest.nodes),
        }
    }

    /// Checks and keeps an object of a known kind.
    fn object<T: DeserializeOwned + Validate>(
        &mut self,
        kind: Kind,
        mut value: Value,
        origin: Origin,
        place: impl FnOnce(&mut Manifest) -> &mut Vec<Sourced<T>>,
    ) {
        let mut report = Report::new(&origin);
        api_version(kind, &mut value, &mut report);
        shape::fit(kind, &mut value, &mut report);
        let valid = match serde_json::from_value::<T>(value) {
            Err(error) => {
                report.error("", format!("is not a {kind}: {error}"), "");
                None
            }
            Ok(object) => {
                validate::metadata(kind, object.metadata(), &mut report);
                object.validate(&mut report);
                self.once(kind, object.metadata(), &mut report);
                report.is_clean().then_some(object)
            }
        };
        self.diagnostics.append(&mut report.diagnostics);
        if let Some(object) = valid {
            place(&mut self.manifest).push(Sourced { object, origin });
        }
    }

    /// Refuses an object whose name another one had before it, be that in error or not.
    fn once(&mut self, kind: Kind, metadata: &ObjectMeta, report: &mut Report<'_>) {
        let Some(name) = metadata.name.clone().filter(|name| !name.is_empty()) else {
            return;
        };
        let namespace = match kind {
            Kind::Node => String::new(),
            _ => validate::namespace(metadata).to_owned(),
        };
        let name = (kind, namespace, name);
        self.names.push(self.seen.hasher().hash_one(&name));
        match self.seen.entry(name) {
            Entry::Vacant(vacant) => {
                vacant.insert(report.origin.clone());
            }
            Entry::Occupied(first) => {
                let problem = format!("is defined twice, first at {}", first.get().place());
                report.error("", problem, "give one of them another name or remove it");
            }
        }
    }
}

/// The items of a List, which lend their kind from `PodList` and the like; `None` for any other value.
fn list_items(value: &mut Value, report: &mut Report<'_>) -> Option<Vec<Value>> {
    let kind = value["kind"].as_str()?.strip_suffix("List")?.to_owned();
    let known = Kind::ALL.into_iter().find(|known| known.name() == kind);
    if known.is_none() && !kind.is_empty() {
        return None;
    }
    match value["items"].take() {
        Value::Array(mut items) => {
            for item in items.iter_mut().filter_map(Value::as_object_mut) {
                if let Some(known) = known {
                    item.entry("kind").or_insert_with(|| json!(known.name()));
                    item.entry("apiVersion").or_insert_with(|| json!(known.api_version()));
                }
            }
            Some(items)
        }
        Value::Null => Some(Vec::new()),
        _ => {
            report.error("items", "must be a list", "start each entry with '-'");
            Some(Vec::new())
        }
    }
}

/// The kind of a value that is no List; `None` when it is none that svcproxy reads, which is then reported.
fn kind_of(value: &Value, report: &mut Report<'_>) -> Option<Kind> {
    const WRITE: &str = "start the document with `apiVersion: v1` and `kind: Service`";
    if !value.is_object() {
        report.error("", "is not a manifest", WRITE);
        return None;
    }
    let kind = match &value["kind"] {
        Value::String(kind) if !kind.is_empty() => kind.as_str(),
        Value::Null | Value::String(_) => {
            report.error(
                "kind",
                "is missing",
                "write `kind: Service`, or whichever kind of object this is",
            );
            return None;
        }
        _ => {
            report.error("kind", "must be text", WRITE);
            return None;
        }
    };
    if let Some(known) = Kind::ALL.into_iter().find(|known| known.name() == kind) {
        return is_ours(known, value, report).then_some(known);
    }
    let names: Vec<String> = Kind::ALL.iter().map(|kind| kind.name().to_owned()).collect();
    let plain = names.iter().find(|name| {
        let lower = kind.to_lowercase();
        lower == name.to_lowercase() || lower == format!("{}s", name.to_lowercase())
    });
    let group_is_core = matches!(value["apiVersion"].as_str(), None | Some("v1" | "discovery.k8s.io/v1"));
    let slip = super::report::comment_advice("kind", kind);
    let near = plain
        .map(String::as_str)
        .or_else(|| shape::nearest(kind, &names).filter(|_| group_is_core));
    match (slip, near) {
        (Some(advice), _) => report.error("kind", format!("{} is no kind of object", quoted(kind)), advice),
        (None, Some(near)) if group_is_core => {
            report.error(
                "kind",
                format!("{} is no kind of object", quoted(kind)),
                format!("write `kind: {near}`"),
            );
        }
        _ => report.notice("", "skipped: svcproxy does not read this kind", ""),
    }
    None
}

/// Whether a kind's `apiVersion` is Kubernetes' own; another group's Service is skipped with a notice.
fn is_ours(kind: Kind, value: &Value, report: &mut Report<'_>) -> bool {
    let foreign = value["apiVersion"].as_str().filter(|version| {
        version
            .split_once('/')
            .is_some_and(|(group, _)| group.contains('.') && !group.ends_with("k8s.io"))
    });
    if let Some(version) = foreign {
        report.notice("", format!("skipped: svcproxy does not read {kind} of {version}"), "");
    }
    foreign.is_none()
}

/// Reports a missing or wrong `apiVersion` and goes on as if it were right.
fn api_version(kind: Kind, value: &mut Value, report: &mut Report<'_>) {
    let right = kind.api_version();
    match &value["apiVersion"] {
        Value::String(version) if version == right => return,
        Value::Null => report.error(
            "apiVersion",
            "is missing",
            format!("add the line `apiVersion: {right}` above `kind: {kind}`"),
        ),
        Value::String(version) => {
            let version = version.clone();
            report.invalid(
                "apiVersion",
                &version,
                &format!("has no kind {kind}"),
                format!("write `apiVersion: {right}`"),
            );
        }
        _ => report.error("apiVersion", "must be text", format!("write `apiVersion: {right}`")),
    }
    value["apiVersion"] = json!(right);
}

/// How messages name a value: `Service default/kubia`, as far as it says so itself.
fn label(value: &Value) -> String {
    let Some(kind) = value["kind"].as_str() else {
        return String::new();
    };
    let kind: String = kind.chars().take(40).collect();
    let text = |field: &str| value["metadata"][field].as_str().filter(|text| !text.is_empty());
    match (text("namespace"), text("name")) {
        (_, None) => format!("{kind} without a name"),
        (_, Some(name)) if kind == Kind::Node.name() => format!("{kind} {name}"),
        (namespace, Some(name)) => format!("{kind} {}/{name}", namespace.unwrap_or("default")),
    }
}
