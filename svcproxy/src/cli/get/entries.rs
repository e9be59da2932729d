//! The entries of `services_` with the endpoints behind them, family forgotten.

use std::{collections::HashMap, net::SocketAddr};

use svcproxy_common::abi::{EndpointSet, Way};

use crate::{
    model::Protocol,
    plan::{FamilyMaps, MapAddress, MapContents},
};

/// An endpoint in a set.
#[derive(Clone)]
pub(super) struct Endpoint {
    /// Its number in the maps.
    pub(super) number: u32,
    /// Where it listens.
    pub(super) address: SocketAddr,
    /// Its part of the set's slots, of 1. `None` when the slots were not read.
    pub(super) share: Option<f64>,
}

/// An entry of `services_`, family forgotten.
pub(super) struct Entry {
    pub(super) address: SocketAddr,
    pub(super) protocol: Protocol,
    pub(super) way: Way,
    pub(super) service: u32,
    pub(super) affinity_seconds: u32,
    /// The numbers of its sets.
    pub(super) sets: [u32; 2],
    /// Those in either set.
    pub(super) endpoints: Vec<Endpoint>,
}

/// The entries of one family, with the endpoints of their sets.
pub(super) fn entries_of<A: MapAddress>(maps: &FamilyMaps<A>, contents: &MapContents) -> impl Iterator<Item = Entry> {
    maps.services.iter().map(|(key, entry)| {
        let mut endpoints: Vec<Endpoint> = endpoints_of(&entry.inside, maps, contents).collect();
        if entry.outside.number != entry.inside.number {
            let known = endpoints.len();
            for endpoint in endpoints_of(&entry.outside, maps, contents) {
                if !endpoints[..known].iter().any(|other| other.address == endpoint.address) {
                    endpoints.push(endpoint);
                }
            }
        }
        endpoints.sort_by_key(|endpoint| endpoint.address);
        Entry {
            address: key.address.socket(key.port),
            protocol: key.protocol,
            way: entry.way,
            service: entry.service,
            affinity_seconds: entry.affinity_seconds,
            sets: [entry.inside.number, entry.outside.number],
            endpoints,
        }
    })
}

/// The endpoints of a set, with their shares of its slots.
fn endpoints_of<A: MapAddress>(
    set: &EndpointSet,
    maps: &FamilyMaps<A>,
    contents: &MapContents,
) -> impl Iterator<Item = Endpoint> {
    let region = contents
        .slots
        .get(&set.slot_offset)
        .filter(|region| region.len() == set.slot_count as usize);
    let mut slots = HashMap::<u32, u32>::new();
    for slot in region.iter().flat_map(|region| region.iter()) {
        *slots.entry(*slot).or_default() += 1;
    }
    let total = f64::from(set.slot_count);
    let is_read = region.is_some();
    maps.set(set.number).map(move |(number, backend)| Endpoint {
        number,
        address: backend.address.socket(backend.port),
        share: is_read.then(|| f64::from(slots.get(&number).copied().unwrap_or(0)) / total),
    })
}
