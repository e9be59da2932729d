//! EndpointSlices, and the Endpoints objects that came before them.

use k8s_openapi::{
    api::{
        core::v1::Endpoints,
        discovery::v1::{Endpoint, EndpointSlice},
    },
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{Validate, addresses, names, namespace, one_of, path, port, protocol, reachable_address};
use crate::manifest::report::Report;

/// The label that says whose endpoints a slice holds.
pub(crate) const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// The label of slices that belong to a headless Service and to DNS only.
const HEADLESS_LABEL: &str = "service.kubernetes.io/headless";

/// Namespace and name of the Service whose endpoints a slice holds; `None` for slices that no proxy uses.
pub(crate) fn service_of(slice: &EndpointSlice) -> Option<(&str, &str)> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.contains_key(HEADLESS_LABEL) || slice.address_type == "FQDN" {
        return None;
    }
    let name = labels.get(SERVICE_NAME_LABEL)?;
    Some((namespace(&slice.metadata), name))
}

impl Validate for EndpointSlice {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn validate(&self, report: &mut Report<'_>) {
        if self.address_type.is_empty() {
            report.error(
                "addressType",
                "is missing",
                "write `addressType: IPv4` or `addressType: IPv6`",
            );
        } else {
            one_of(
                "addressType",
                Some(&self.address_type),
                &["IPv4", "IPv6", "FQDN"],
                report,
            );
        }
        if self.address_type == "FQDN" {
            report.notice("addressType", "skipped: packets cannot be sent to a name", "");
            return;
        }
        let owner = self
            .metadata
            .labels
            .as_ref()
            .and_then(|labels| labels.get(SERVICE_NAME_LABEL));
        if owner.is_none() {
            let advice = format!("add `labels:` with `{SERVICE_NAME_LABEL}: <name of the Service>` below `metadata:`");
            report.warning("metadata.labels", "names no Service, so nobody uses this slice", advice);
        }
        for (index, endpoint) in self.endpoints.iter().flatten().enumerate() {
            slice_endpoint(&self.address_type, endpoint, &path::index("endpoints", index), report);
        }
        let ports = self.ports.iter().flatten();
        ports_of(
            ports.map(|p| (p.name.as_deref(), p.protocol.as_deref(), p.port)),
            "ports",
            report,
        );
    }
}

fn slice_endpoint(address_type: &str, endpoint: &Endpoint, at: &str, report: &mut Report<'_>) {
    let field = path::key(at, "addresses");
    if endpoint.addresses.is_empty() {
        report.error(
            &field,
            "is missing",
            "write `addresses:` with one address, for example `- 10.244.0.11`",
        );
    }
    for (index, text) in endpoint.addresses.iter().enumerate() {
        let field = path::index(&field, index);
        let Some(address) = reachable_address(&field, text, "an endpoint", report) else {
            continue;
        };
        if ["IPv4", "IPv6"].contains(&address_type) && addresses::family(address) != address_type {
            let problem = format!("{address} is not {address_type}, the slice's addressType");
            report.error(
                &field,
                problem,
                "put the addresses of each family into a slice of their own",
            );
        }
    }
    if endpoint.addresses.len() > 1 {
        report.warning(
            &field,
            "only the first address is used",
            "write an endpoint for each address",
        );
    }
}

impl Validate for Endpoints {
    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn validate(&self, report: &mut Report<'_>) {
        for (index, subset) in self.subsets.iter().flatten().enumerate() {
            let at = path::index("subsets", index);
            for (list, addresses) in [
                ("addresses", &subset.addresses),
                ("notReadyAddresses", &subset.not_ready_addresses),
            ] {
                for (index, address) in addresses.iter().flatten().enumerate() {
                    let field = path::key(&path::index(&path::key(&at, list), index), "ip");
                    if address.ip.is_empty() {
                        report.error(&field, "is missing", "write `ip:` and the endpoint's address");
                    } else {
                        reachable_address(&field, &address.ip, "an endpoint", report);
                    }
                }
            }
            let ports = subset.ports.iter().flatten();
            let ports = ports.map(|p| (p.name.as_deref(), p.protocol.as_deref(), Some(p.port)));
            ports_of(ports, &path::key(&at, "ports"), report);
        }
    }
}

/// Ports as (name, protocol, number) triples.
fn ports_of<'a>(
    ports: impl Iterator<Item = (Option<&'a str>, Option<&'a str>, Option<i32>)>,
    at: &str,
    report: &mut Report<'_>,
) {
    let mut seen = Vec::new();
    for (index, (name, transport, number)) in ports.enumerate() {
        let field = |name: &str| path::key(&path::index(at, index), name);
        let name = name.unwrap_or_default();
        if !name.is_empty() {
            names::dns_1123_label(&field("name"), name, report);
        }
        if seen.contains(&name) {
            let problem = if name.is_empty() {
                "is missing".to_owned()
            } else {
                format!("{name:?} is there twice")
            };
            report.error(
                &field("name"),
                problem,
                "give each port a name of its own, the one its Service's port has",
            );
        }
        seen.push(name);
        protocol(&field("protocol"), transport, report);
        match number {
            None => report.warning(
                &field("port"),
                "is missing: this entry is skipped",
                "write the port's number",
            ),
            Some(number) => port(&field("port"), number, report),
        }
    }
}
