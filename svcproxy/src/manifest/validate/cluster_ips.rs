//! `clusterIP`, `clusterIPs`, `ipFamilies` and `ipFamilyPolicy`: each by itself, and that they agree.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ServiceSpec;

use super::{addresses, one_of, path};
use crate::manifest::report::Report;

const TWO_FAMILIES: &str = "write `ipFamilyPolicy: PreferDualStack` or `RequireDualStack`, or leave only one";

/// Whether the Service wants no address.
pub(crate) fn is_headless(spec: &ServiceSpec) -> bool {
    let first = spec.cluster_ips.iter().flatten().next();
    spec.cluster_ip.as_deref() == Some("None") || first.is_some_and(|ip| ip == "None")
}

pub(super) fn validate(spec: &ServiceSpec, report: &mut Report<'_>) {
    let policies = ["SingleStack", "PreferDualStack", "RequireDualStack"];
    one_of(
        "spec.ipFamilyPolicy",
        spec.ip_family_policy.as_deref(),
        &policies,
        report,
    );
    let families: Vec<&str> = spec.ip_families.iter().flatten().map(String::as_str).collect();
    for (index, family) in families.iter().enumerate() {
        one_of(
            &path::index("spec.ipFamilies", index),
            Some(family),
            &["IPv4", "IPv6"],
            report,
        );
    }
    at_most_one_of_each("spec.ipFamilies", &families, report);

    let addresses = addresses_in(spec, report);
    let single = matches!(spec.ip_family_policy.as_deref(), None | Some("SingleStack"));
    for (count, field) in [
        (families.len(), "spec.ipFamilies"),
        (addresses.len(), "spec.clusterIPs"),
    ] {
        if count > 1 && single && !is_headless(spec) {
            report.error(
                field,
                "holds two families although `ipFamilyPolicy` is SingleStack",
                TWO_FAMILIES,
            );
        }
    }
    for (index, (address, family)) in addresses.iter().zip(&families).enumerate() {
        let Some((field, address)) = address else { continue };
        if ["IPv4", "IPv6"].contains(family) && addresses::family(*address) != *family {
            let problem = format!("{address} is not {family}, which spec.ipFamilies[{index}] asks for");
            report.error(field, problem, "change one of the two");
        }
    }
    let given: Vec<&str> = addresses
        .iter()
        .flatten()
        .map(|(_, address)| addresses::family(*address))
        .collect();
    at_most_one_of_each("spec.clusterIPs", &given, report);
}

/// The addresses written in the spec, each with its field; `None` in place of one that is not valid.
fn addresses_in(spec: &ServiceSpec, report: &mut Report<'_>) -> Vec<Option<(String, IpAddr)>> {
    let single = spec.cluster_ip.as_deref().filter(|ip| !ip.is_empty());
    let list: Vec<&str> = spec.cluster_ips.iter().flatten().map(String::as_str).collect();
    if let (Some(single), Some(first)) = (single, list.first())
        && single != *first
    {
        let problem = format!("{first:?} is not what spec.clusterIP says, {single:?}");
        report.error(
            "spec.clusterIPs[0]",
            problem,
            "write the same address in both, or remove one of the two fields",
        );
    }
    if is_headless(spec) {
        return Vec::new();
    }
    let fields = match (single, list.as_slice()) {
        (Some(single), [] | [_]) => vec![("spec.clusterIP".to_owned(), single)],
        _ => (list.iter().enumerate())
            .map(|(index, ip)| (path::index("spec.clusterIPs", index), *ip))
            .collect(),
    };
    let parse = |(field, text): (String, &str)| {
        if text.is_empty() {
            return None;
        }
        let address = addresses::ip(&field, text, report)?;
        if let Some(what) = addresses::unusable(address) {
            let advice = "write an address of your own, or leave the field out to have one assigned";
            report.error(&field, format!("{address} is {what}; it cannot be a Service's"), advice);
            return None;
        }
        Some((field, address))
    };
    fields.into_iter().map(parse).collect()
}

fn at_most_one_of_each(field: &str, families: &[&str], report: &mut Report<'_>) {
    for family in ["IPv4", "IPv6"] {
        if families.iter().filter(|f| **f == family).count() > 1 {
            report.error(field, format!("names {family} twice"), "at most one of each family");
        }
    }
}
