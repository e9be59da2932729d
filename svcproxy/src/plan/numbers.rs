//! Numbers that stay: which Service and which endpoint had which, and which numbers are free.
//!
//! In come the current maps, out go the numbers they already carry for what is still wanted. A number in use is
//! never given to something else in the same step, so a map between two states never means the wrong thing.

use std::collections::{BTreeMap, HashSet};

use super::contents::{FamilyMaps, MapAddress, MapContents};
use crate::model::{Model, Service};
use svcproxy_common::abi::{ServiceKey, V4Addr, V6Addr};

/// Fresh numbers, from 1 up and above all that are in use.
pub(super) struct Fresh<'a> {
    used: Box<dyn Fn() -> Numbers<'a> + 'a>,
    /// The last one given out; `None` as long as none was asked for, which often is all along.
    last: Option<u32>,
    /// Those in use, from when the gaps between them are filled.
    taken: Option<HashSet<u32>>,
}

type Numbers<'a> = Box<dyn Iterator<Item = u32> + 'a>;

impl<'a> Fresh<'a> {
    /// Numbers besides those in use.
    pub(super) fn besides<I: Iterator<Item = u32> + 'a>(used: impl Fn() -> I + 'a) -> Self {
        Self {
            used: Box::new(move || Box::new(used())),
            last: None,
            taken: None,
        }
    }

    /// The next one. After 2³² of them the gaps are filled.
    pub(super) fn take(&mut self) -> u32 {
        let mut last = self.last.unwrap_or_else(|| (self.used)().max().unwrap_or(0));
        loop {
            last = last.checked_add(1).unwrap_or_else(|| {
                self.taken.get_or_insert_with(|| (self.used)().collect());
                1
            });
            if self.taken.as_ref().is_none_or(|taken| !taken.contains(&last)) {
                self.last = Some(last);
                return last;
            }
        }
    }
}

/// The number of each Service of the model, in its order.
///
/// A Service that has an entry (address, port, protocol) in the maps is that entry's; one that only has an address
/// in common, because its ports changed, comes after those.
pub(super) fn service_numbers(model: &Model, current: &MapContents) -> Vec<u32> {
    let mut taken = HashSet::with_capacity(model.services.len());
    let mut numbers = vec![None; model.services.len()];
    for candidates in [same_entry, same_address] {
        for (number, service) in numbers
            .iter_mut()
            .zip(&model.services)
            .filter(|(number, _)| number.is_none())
        {
            *number = candidates(service, current)
                .into_iter()
                .find(|candidate| taken.insert(*candidate));
        }
    }
    let mut fresh = Fresh::besides(|| current.entries().map(|entry| entry.service));
    numbers
        .into_iter()
        .map(|number| number.unwrap_or_else(|| fresh.take()))
        .collect()
}

fn same_entry(service: &Service, current: &MapContents) -> Vec<u32> {
    fn in_family<A: MapAddress>(service: &Service, maps: &FamilyMaps<A>, found: &mut Vec<u32>) {
        for address in service.cluster_ips.iter().filter_map(|ip| A::from_ip(*ip)) {
            for port in &service.ports {
                let key = ServiceKey {
                    address,
                    port: port.port.into(),
                    protocol: port.protocol,
                };
                found.extend(maps.services.get(&key).map(|entry| entry.service));
            }
        }
    }
    let mut found = Vec::new();
    in_family::<V4Addr>(service, &current.v4, &mut found);
    in_family::<V6Addr>(service, &current.v6, &mut found);
    found
}

fn same_address(service: &Service, current: &MapContents) -> Vec<u32> {
    fn in_family<A: MapAddress>(service: &Service, maps: &FamilyMaps<A>, found: &mut Vec<u32>) {
        for address in service.cluster_ips.iter().filter_map(|ip| A::from_ip(*ip)) {
            found.extend(maps.at(address).map(|(_, entry)| entry.service));
        }
    }
    let mut found = Vec::new();
    in_family::<V4Addr>(service, &current.v4, &mut found);
    in_family::<V6Addr>(service, &current.v6, &mut found);
    found
}

/// The numbers of the endpoints of one Service in one family.
///
/// An endpoint is its address, whatever the port, so that affinity holds across the ports of the Service. Where one
/// set has an address twice, the ordinal tells the two apart.
pub(super) struct EndpointNumbers<A> {
    by_address: BTreeMap<(A, u32), u32>,
}

impl<A: MapAddress> EndpointNumbers<A> {
    /// Those that the sets of the Service carry in the maps.
    pub(super) fn in_sets(maps: &FamilyMaps<A>, sets: impl Iterator<Item = u32>) -> Self {
        let mut by_address = BTreeMap::new();
        for (endpoint, backend) in sets.flat_map(|set| maps.set(set)) {
            let mut ordinal = 0;
            while *by_address.entry((backend.address, ordinal)).or_insert(endpoint) != endpoint {
                ordinal += 1;
            }
        }
        Self { by_address }
    }

    /// The number of this endpoint, a fresh one if it is new to the Service.
    pub(super) fn of(&mut self, address: A, ordinal: u32, fresh: &mut Fresh<'_>) -> u32 {
        *self
            .by_address
            .entry((address, ordinal))
            .or_insert_with(|| fresh.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_numbers_are_above_all_in_use_and_fill_the_gaps_in_the_end() {
        let take = |used: &[u32]| {
            let mut fresh = Fresh::besides(|| used.iter().copied());
            [(); 3].map(|()| fresh.take())
        };
        assert_eq!(take(&[]), [1, 2, 3]);
        assert_eq!(take(&[7, 2, 7]), [8, 9, 10]);
        assert_eq!(take(&[2, u32::MAX - 1]), [u32::MAX, 1, 3]);
    }
}
