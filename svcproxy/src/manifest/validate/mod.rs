//! What Kubernetes' API server would refuse, in words that say what to write.
//!
//! In comes one typed object, out go findings about it alone; what concerns several objects is the model's business.

use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Kind, path, report::Report};

mod addresses;
mod cluster_ips;
mod endpoints;
mod exposure;
mod names;
mod node;
mod pod;
mod service;

pub(crate) use addresses::parse_ip;
pub(crate) use cluster_ips::is_headless;
pub(crate) use endpoints::{SERVICE_NAME_LABEL, service_of};

/// An object that can be judged by itself.
pub(crate) trait Validate {
    fn metadata(&self) -> &ObjectMeta;
    fn validate(&self, report: &mut Report<'_>);
}

/// `metadata.namespace`, `default` when absent.
pub(crate) fn namespace(metadata: &ObjectMeta) -> &str {
    match metadata.namespace.as_deref() {
        None | Some("") => "default",
        Some(namespace) => namespace,
    }
}

/// Namespace and name.
pub(crate) fn name_of(metadata: &ObjectMeta) -> (&str, &str) {
    (namespace(metadata), metadata.name.as_deref().unwrap_or_default())
}

/// Names and labels.
pub(crate) fn metadata(kind: Kind, metadata: &ObjectMeta, report: &mut Report<'_>) {
    let name = metadata.name.as_deref().unwrap_or_default();
    if name.is_empty() {
        let wanted = match kind {
            Kind::Service | Kind::Endpoints => "`name: kubia`".to_owned(),
            Kind::Pod => "`name: kubia-1` and the `labels:` that Services select it by".to_owned(),
            Kind::EndpointSlice => format!("`name: kubia-1` and `labels:` with `{SERVICE_NAME_LABEL}: kubia`"),
            Kind::Node => "`name: worker-1`".to_owned(),
        };
        let advice = match *metadata == ObjectMeta::default() {
            true => format!("add `metadata:` and below it, indented, {wanted}"),
            false => format!("add {wanted} below `metadata:`"),
        };
        report.error("metadata.name", "is missing", advice);
    } else if kind == Kind::Service {
        names::dns_1035_label("metadata.name", name, report);
    } else {
        names::dns_1123_subdomain("metadata.name", name, report);
    }
    if let Some(namespace) = metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty()) {
        names::dns_1123_label("metadata.namespace", namespace, report);
    }
    for (key, value) in metadata.labels.iter().flatten() {
        names::label_value(&path::key("metadata.labels", key), value, report);
    }
}

/// A port number.
pub(crate) fn port(field: &str, number: i32, report: &mut Report<'_>) {
    if !(1..=65535).contains(&number) {
        report.error(
            field,
            format!("{number} is not a port number"),
            "write a number from 1 to 65535",
        );
    }
}

/// `TCP`, `UDP` or `SCTP`; absent is TCP.
pub(crate) fn protocol(field: &str, protocol: Option<&str>, report: &mut Report<'_>) {
    one_of(field, protocol, &["TCP", "UDP", "SCTP"], report);
}

/// A word out of a fixed few.
pub(crate) fn one_of(field: &str, word: Option<&str>, allowed: &[&str], report: &mut Report<'_>) {
    if let Some(word) = word.filter(|word| !allowed.contains(word)) {
        let same = allowed.iter().find(|a| a.eq_ignore_ascii_case(word));
        let advice = match same {
            Some(right) => format!("write `{}{right}`", path::yaml_start(field)),
            None => format!("write one of {}", allowed.join(", ")),
        };
        report.invalid(field, word, "is not a supported value", advice);
    }
}

/// An address that packets can be sent to, in the role of `role`: `an endpoint`.
pub(crate) fn reachable_address(field: &str, text: &str, role: &str, report: &mut Report<'_>) -> Option<IpAddr> {
    let address = addresses::ip(field, text, report)?;
    if let Some(what) = addresses::unusable(address) {
        let problem = format!("{address} is {what}; it cannot be {role}'s");
        report.error(field, problem, "write the address other machines reach it at");
    }
    Some(address)
}
