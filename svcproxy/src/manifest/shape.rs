//! A manifest's shape against Kubernetes' own schema: fields of a wrong type, fields that do not exist.
//!
//! In comes an object as plain JSON, out it goes without what does not fit, so that the rest of it can still be judged
//! and every problem is reported at once. Types matter only where svcproxy reads; a Pod's other fields are not its
//! business.

use std::sync::LazyLock;

use k8s_openapi::{
    api::{
        core::v1::{Endpoints, Node, Pod, Service},
        discovery::v1::EndpointSlice,
    },
    schemars::{JsonSchema, SchemaGenerator},
};
use serde_json::Value;

use super::{Kind, diagnostic::quoted, path, report::Report};

/// Fields that svcproxy reads, list indices left out.
fn read_fields(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Service => &[
            "apiVersion",
            "kind",
            "metadata.name",
            "metadata.namespace",
            "metadata.labels",
            "metadata.creationTimestamp",
            "spec",
            "status.loadBalancer",
        ],
        Kind::Pod => &[
            "apiVersion",
            "kind",
            "metadata.name",
            "metadata.namespace",
            "metadata.labels",
            "metadata.deletionTimestamp",
            "spec.nodeName",
            "spec.containers[].ports",
            "spec.initContainers[].ports",
            "spec.initContainers[].restartPolicy",
            "status.conditions[].type",
            "status.conditions[].status",
            "status.phase",
            "status.podIP",
            "status.podIPs",
        ],
        Kind::EndpointSlice => &[
            "apiVersion",
            "kind",
            "metadata.name",
            "metadata.namespace",
            "metadata.labels",
            "addressType",
            "endpoints",
            "ports",
        ],
        Kind::Endpoints => &[
            "apiVersion",
            "kind",
            "metadata.name",
            "metadata.namespace",
            "metadata.labels",
            "subsets",
        ],
        Kind::Node => &[
            "apiVersion",
            "kind",
            "metadata.name",
            "metadata.labels",
            "status.addresses",
        ],
    }
}

/// Takes out of `object` what does not fit its kind, nulls included, and reports it.
pub(crate) fn fit(kind: Kind, object: &mut Value, report: &mut Report<'_>) {
    let root = schema(kind);
    Walk { kind, root, report }.fits(root, object, "");
}

fn schema(kind: Kind) -> &'static Value {
    fn of<T: JsonSchema>() -> Value {
        SchemaGenerator::default().into_root_schema_for::<T>().to_value()
    }
    static SERVICE: LazyLock<Value> = LazyLock::new(of::<Service>);
    static POD: LazyLock<Value> = LazyLock::new(of::<Pod>);
    static ENDPOINT_SLICE: LazyLock<Value> = LazyLock::new(of::<EndpointSlice>);
    static ENDPOINTS: LazyLock<Value> = LazyLock::new(of::<Endpoints>);
    static NODE: LazyLock<Value> = LazyLock::new(of::<Node>);
    match kind {
        Kind::Service => &SERVICE,
        Kind::Pod => &POD,
        Kind::EndpointSlice => &ENDPOINT_SLICE,
        Kind::Endpoints => &ENDPOINTS,
        Kind::Node => &NODE,
    }
}

struct Walk<'a, 'r> {
    kind: Kind,
    root: &'static Value,
    report: &'a mut Report<'r>,
}

impl Walk<'_, '_> {
    /// Whether `value` has the type that `schema` wants; what lies below it is cut to fit.
    fn fits(&mut self, schema: &'static Value, value: &mut Value, at: &str) -> bool {
        let schema = self.resolve(schema);
        let expected = match (schema["type"].as_str(), &mut *value) {
            (Some("object"), Value::Object(fields)) => {
                let mut kept = serde_json::Map::new();
                for (key, mut value) in std::mem::take(fields) {
                    if !value.is_null() && self.field_fits(schema, &key, &mut value, at) {
                        kept.insert(key, value);
                    }
                }
                *fields = kept;
                return true;
            }
            (Some("array"), Value::Array(entries)) => {
                let mut kept = Vec::new();
                for (index, mut entry) in std::mem::take(entries).into_iter().enumerate() {
                    // An entry stays, emptied, so that the indices of those behind it remain true.
                    if !self.fits(&schema["items"], &mut entry, &path::index(at, index)) {
                        entry = self.empty(&schema["items"]);
                    }
                    kept.push(entry);
                }
                *entries = kept;
                return true;
            }
            (Some("integer"), Value::Number(number)) => match number.as_i64() {
                Some(n) if schema["format"] != "int32" || i32::try_from(n).is_ok() => return true,
                _ => "a whole number of 32 bits",
            },
            (Some("string"), Value::String(text)) => match schema["format"].as_str() {
                Some("date-time") if text.parse::<k8s_openapi::jiff::Timestamp>().is_err() => {
                    "a time such as \"2026-01-31T12:00:00Z\""
                }
                _ => return true,
            },
            (Some("number"), Value::Number(_)) | (Some("boolean"), Value::Bool(_)) => return true,
            (None, Value::Number(_) | Value::String(_)) if is_int_or_string(schema) => match value.as_i64() {
                Some(n) if i32::try_from(n).is_err() => "a whole number of 32 bits or a name",
                None if value.is_number() => "a whole number or a name",
                _ => return true,
            },
            (None, _) if !is_int_or_string(schema) => return true,
            (Some("object"), _) => "a mapping (`key: value` lines)",
            (Some("array"), _) => "a list (each entry starts with '-')",
            (Some("integer"), _) => "a whole number",
            (Some("boolean"), _) => "true or false",
            (Some("number"), _) => "a number",
            (Some("string"), _) => "text",
            _ => "a whole number or a name",
        };
        self.wrong_type(value, expected, at);
        false
    }

    /// The same for one field of an object; a field that the schema does not know stays, nobody reads it.
    fn field_fits(&mut self, schema: &'static Value, key: &str, value: &mut Value, at: &str) -> bool {
        let field = path::key(at, key);
        if let Some(known) = schema["properties"].get(key) {
            return self.fits(known, value, &field);
        }
        if schema["additionalProperties"].is_object() {
            return self.fits(&schema["additionalProperties"], value, &field);
        }
        if let Some(properties) = schema["properties"].as_object()
            && self.holds_read_fields(at)
        {
            let problem = format!("there is no field {} here", quoted(key));
            let advice = nearest(key, properties.keys()).map(|near| format!("write `{near}`"));
            self.report.key_warning(&field, problem, advice.unwrap_or_default());
        }
        true
    }

    fn wrong_type(&mut self, value: &Value, expected: &str, at: &str) {
        if !self.holds_read_fields(at) && !self.is_read(at) {
            return;
        }
        let (found, scalar) = match value {
            Value::Null => ("nothing".to_owned(), None),
            Value::Bool(b) => (format!("{b}"), Some(b.to_string())),
            Value::Number(n) => (format!("the number {n}"), Some(n.to_string())),
            Value::String(text) => (format!("the text {}", quoted(text)), Some(text.clone())),
            Value::Array(_) => ("a list".to_owned(), None),
            Value::Object(_) => ("a mapping".to_owned(), None),
        };
        let key = path::yaml_start(at);
        let unquoted =
            |text: &String| serde_json::from_str::<Value>(text).is_ok_and(|v| v.is_number() || v.is_boolean());
        let advice = match scalar {
            Some(text) if expected == "text" => format!("write `{key}\"{text}\"`"),
            Some(text) => super::report::comment_advice(at, &text)
                .or_else(|| {
                    (value.is_string() && unquoted(&text)).then(|| format!("write `{key}{text}` without quotes"))
                })
                .unwrap_or_default(),
            None if value.is_null() => "fill it in, or remove the line".to_owned(),
            None => String::new(),
        };
        self.report
            .error(at, format!("must be {expected}, not {found}"), advice);
    }

    /// Whether the field at `at` is one svcproxy reads.
    fn is_read(&self, at: &str) -> bool {
        let at = path::without_indices(at);
        read_fields(self.kind).iter().any(|field| path::within(&at, field))
    }

    /// Whether a field that svcproxy reads lies at `at` or could lie below it.
    fn holds_read_fields(&self, at: &str) -> bool {
        let pattern = path::without_indices(at);
        self.is_read(at) || read_fields(self.kind).iter().any(|field| path::within(field, &pattern))
    }

    fn resolve(&self, schema: &'static Value) -> &'static Value {
        let name = schema["$ref"].as_str().and_then(|r| r.strip_prefix("#/$defs/"));
        match name.map(|name| &self.root["$defs"][name]) {
            // Quantities may be written as numbers, whatever the schema says.
            Some(_) if name.is_some_and(|name| name.ends_with(".Quantity")) => &Value::Null,
            Some(definition) => definition,
            None => schema,
        }
    }

    fn empty(&self, schema: &'static Value) -> Value {
        match self.resolve(schema)["type"].as_str() {
            Some("object") => Value::Object(serde_json::Map::new()),
            Some("string") => Value::String(String::new()),
            _ => Value::Null,
        }
    }
}

fn is_int_or_string(schema: &Value) -> bool {
    schema["x-kubernetes-int-or-string"] == true
}

/// The known word that `word` most likely was meant to be.
pub(crate) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k String>) -> Option<&'k str> {
    let lower = word.to_lowercase();
    known
        .into_iter()
        .map(|candidate| {
            (
                strsim::osa_distance(&lower, &candidate.to_lowercase()),
                candidate.as_str(),
            )
        })
        .filter(|&(distance, candidate)| distance <= (candidate.len() / 4).clamp(1, 3))
        .min()
        .map(|(_, candidate)| candidate)
}
