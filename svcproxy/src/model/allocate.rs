//! Which Service gets which cluster IPs.
//!
//! In the order of claims: addresses written in manifests, addresses remembered from the last time, new ones. An
//! address whose Service has just gone is left alone once more, so that no client takes its successor for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;
use k8s_openapi::api::core::v1::ServiceSpec;

use super::{
    Family,
    addresses::{Pool, is_assignable},
    build::{Candidate, Options},
};
use crate::{
    manifest::{Diagnostic, Objects, Severity, parse_ip},
    state::State,
};

/// The cluster IPs of each candidate, primary first. Empty only for one in error.
pub(super) fn cluster_ips(
    objects: &Objects,
    candidates: &[Candidate<'_>],
    options: &Options,
    state: &State,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Vec<IpAddr>> {
    let ranges = Ranges::of(&options.ranges, diagnostics);
    let mut taken: BTreeSet<IpAddr> = objects
        .services()
        .filter_map(|s| s.object.spec.as_ref())
        .flat_map(given)
        .collect();

    let mut wanted: Vec<Vec<Want>> = Vec::new();
    for candidate in candidates {
        let mut wants = wants(candidate, &ranges, diagnostics);
        let remembered = state.services.get(&candidate.name.to_string());
        for want in wants.iter_mut().filter(|want| want.address.is_none()) {
            let mut known = remembered.iter().flat_map(|record| &record.cluster_ips);
            let Some(&known) = known.find(|ip| Family::of(**ip) == want.family) else {
                continue;
            };
            let in_range = ranges.get(want.family).is_some_and(|range| is_assignable(range, known));
            if in_range && taken.insert(known) {
                want.address = Some(known);
            } else {
                want.left = Some((known, in_range));
            }
        }
        wanted.push(wants);
    }
    taken.extend(state.services.values().flat_map(|record| &record.cluster_ips));

    let assign = |(candidate, wants): (&Candidate<'_>, Vec<Want>)| {
        let resolve = |want: Want| {
            let address = want
                .address
                .or_else(|| Pool::new(*ranges.get(want.family)?, &mut taken).assign(&candidate.name));
            diagnostics.extend(assigned(candidate, &want, address, &ranges));
            address
        };
        wants.into_iter().filter_map(resolve).collect()
    };
    candidates.iter().zip(wanted).map(assign).collect()
}

/// The service ranges, by family.
struct Ranges {
    by_family: BTreeMap<&'static str, IpNet>,
    default: Family,
}

impl Ranges {
    fn of(ranges: &[IpNet], diagnostics: &mut Vec<Diagnostic>) -> Self {
        let mut by_family = BTreeMap::new();
        for range in ranges {
            let family = Family::of(range.addr());
            if let Some(first) = by_family.insert(family.name(), range.trunc()) {
                let problem = format!(
                    "--service-cluster-ip-range: {first} and {range} are both {}",
                    family.name()
                );
                diagnostics.push(Diagnostic::placeless(
                    Severity::Error,
                    problem,
                    "give one range of each family at most",
                ));
            }
        }
        let default = ranges.first().map_or(Family::V4, |range| Family::of(range.addr()));
        Self { by_family, default }
    }

    fn get(&self, family: Family) -> Option<&IpNet> {
        self.by_family.get(family.name())
    }
}

/// One address a Service is to have.
struct Want {
    family: Family,
    address: Option<IpAddr>,
    /// The address it had and cannot keep; whether that is still within the range.
    left: Option<(IpAddr, bool)>,
}

/// The addresses written in a spec.
fn given(spec: &ServiceSpec) -> Vec<IpAddr> {
    let listed = spec.cluster_ips.iter().flatten().map(String::as_str);
    let mut addresses: Vec<IpAddr> = spec
        .cluster_ip
        .as_deref()
        .into_iter()
        .chain(listed)
        .filter_map(parse_ip)
        .collect();
    addresses.dedup();
    addresses
}

/// The families a Service asks for, each with its address where one is given.
fn wants(candidate: &Candidate<'_>, ranges: &Ranges, diagnostics: &mut Vec<Diagnostic>) -> Vec<Want> {
    let spec = candidate.spec;
    let given = given(spec);
    let listed = spec
        .ip_families
        .iter()
        .flatten()
        .filter_map(|family| match family.as_str() {
            "IPv4" => Some(Family::V4),
            "IPv6" => Some(Family::V6),
            _ => None,
        });
    let first = listed
        .chain(given.iter().map(|ip| Family::of(*ip)))
        .next()
        .unwrap_or(ranges.default);
    let second = first.other();
    let is_given = |family| given.iter().any(|ip| Family::of(*ip) == family);
    let mut families = vec![first];
    match spec.ip_family_policy.as_deref() {
        Some("RequireDualStack") => families.push(second),
        Some("PreferDualStack") if is_given(second) || ranges.get(second).is_some() => families.push(second),
        _ => {}
    }
    for family in &families {
        if !is_given(*family) && ranges.get(*family).is_none() {
            let problem = format!(
                "asks for an {} address, and there is no range to assign it from",
                family.name()
            );
            let advice = format!(
                "add an {} network to --service-cluster-ip-range, or write the address as clusterIP",
                family.name()
            );
            diagnostics.push(
                candidate
                    .source
                    .origin
                    .diagnostic(Severity::Error, "spec", problem, advice),
            );
        }
    }
    let want = |family| Want {
        family,
        address: given.iter().copied().find(|ip| Family::of(*ip) == family),
        left: None,
    };
    families.into_iter().map(want).collect()
}

/// What there is to say about the address a Service got, or did not get.
fn assigned(candidate: &Candidate<'_>, want: &Want, address: Option<IpAddr>, ranges: &Ranges) -> Option<Diagnostic> {
    let origin = &candidate.source.origin;
    match (address, want.left) {
        (Some(new), Some((old, in_range))) => {
            let reason = match in_range {
                true => "another Service claims it",
                false => "--service-cluster-ip-range does not hold it",
            };
            let problem = format!("its cluster IP changes from {old} to {new}: {reason}");
            Some(origin.diagnostic(Severity::Warning, "spec.clusterIP", problem, ""))
        }
        (Some(_), None) => None,
        (None, _) => ranges.get(want.family).map(|range| {
            let problem = format!("no address is free in {range}");
            let advice = "give --service-cluster-ip-range a larger network";
            origin.diagnostic(Severity::Error, "spec.clusterIP", problem, advice)
        }),
    }
}
