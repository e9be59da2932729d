//! The maps as the kernel has them, written one element at a time, and judged after every write.

use std::collections::{BTreeMap, BTreeSet};

use svcproxy::plan::{Diff, FamilyMaps, FamilyStep, MapAddress, MapContents, Prefix, Step, sets_of};
use svcproxy_common::abi::{
    Address, Backend, BackendKey, Config, EndpointSet, Network, NetworkAddress, ServiceEntry, ServiceKey, SourceRange,
    V4Addr, V6Addr,
};

/// Slots never written hold this: no endpoint has the number.
const UNWRITTEN: u32 = 0;

/// What the kernel holds.
#[derive(Debug, Clone)]
pub(crate) struct Kernel {
    v4: FamilyMaps<V4Addr>,
    v6: FamilyMaps<V6Addr>,
    slots: Vec<u32>,
}

/// A single write to one map.
#[derive(Debug, Clone)]
pub(crate) enum Write {
    V4(FamilyWrite<V4Addr>),
    V6(FamilyWrite<V6Addr>),
    Slot(u32, u32),
}

/// A single write to one map of one family.
#[derive(Debug, Clone)]
pub(crate) enum FamilyWrite<A: Address> {
    SetConfig(Config<A>),
    PutNetwork(Prefix<NetworkAddress<A>>, Network),
    DeleteNetwork(Prefix<NetworkAddress<A>>),
    PutSourceRange(Prefix<SourceRange<A>>),
    DeleteSourceRange(Prefix<SourceRange<A>>),
    PutBackend(BackendKey, Backend<A>),
    PutService(ServiceKey<A>, ServiceEntry),
    DeleteService(ServiceKey<A>),
    DeleteBackend(BackendKey),
}

/// The writes of a diff, in its order.
pub(crate) fn writes(diff: &Diff) -> Vec<Write> {
    let mut writes = Vec::new();
    for step in &diff.steps {
        match step {
            Step::V4(step) => writes.extend(family_writes(step).into_iter().map(Write::V4)),
            Step::V6(step) => writes.extend(family_writes(step).into_iter().map(Write::V6)),
            Step::WriteSlots(runs) => {
                for run in runs {
                    writes.extend(
                        (run.offset..)
                            .zip(&run.values)
                            .map(|(index, value)| Write::Slot(index, *value)),
                    );
                }
            }
        }
    }
    writes
}

fn family_writes<A: Address>(step: &FamilyStep<A>) -> Vec<FamilyWrite<A>> {
    match step {
        FamilyStep::SetConfig(config) => vec![FamilyWrite::SetConfig(*config)],
        FamilyStep::PutNetworks(puts) => puts
            .iter()
            .map(|(key, value)| FamilyWrite::PutNetwork(*key, *value))
            .collect(),
        FamilyStep::DeleteNetworks(keys) => keys.iter().map(|key| FamilyWrite::DeleteNetwork(*key)).collect(),
        FamilyStep::PutSourceRanges(puts) => puts.iter().map(|(key, _)| FamilyWrite::PutSourceRange(*key)).collect(),
        FamilyStep::DeleteSourceRanges(keys) => keys.iter().map(|key| FamilyWrite::DeleteSourceRange(*key)).collect(),
        FamilyStep::PutBackends(puts) => puts
            .iter()
            .map(|(key, value)| FamilyWrite::PutBackend(*key, *value))
            .collect(),
        FamilyStep::PutServices(puts) => puts
            .iter()
            .map(|(key, value)| FamilyWrite::PutService(*key, *value))
            .collect(),
        FamilyStep::DeleteServices(keys) => keys.iter().map(|key| FamilyWrite::DeleteService(*key)).collect(),
        FamilyStep::DeleteBackends(keys) => keys.iter().map(|key| FamilyWrite::DeleteBackend(*key)).collect(),
    }
}

impl Kernel {
    /// Empty maps.
    pub(crate) fn empty(backend_slots: u32) -> Self {
        Self {
            v4: FamilyMaps::default(),
            v6: FamilyMaps::default(),
            slots: vec![UNWRITTEN; backend_slots as usize],
        }
    }

    /// Makes one write.
    pub(crate) fn write(&mut self, write: &Write) {
        match write {
            Write::V4(write) => apply(&mut self.v4, write),
            Write::V6(write) => apply(&mut self.v6, write),
            Write::Slot(index, value) => self.slots[*index as usize] = *value,
        }
    }

    /// What a new daemon reads: the regions are known from the services entries alone.
    pub(crate) fn contents(&self) -> MapContents {
        let mut contents = MapContents {
            v4: self.v4.clone(),
            v6: self.v6.clone(),
            slots: BTreeMap::new(),
        };
        let regions: Vec<_> = contents
            .entries()
            .flat_map(sets_of)
            .filter(|set| set.slot_count > 0)
            .map(region)
            .collect();
        contents.slots = regions
            .into_iter()
            .map(|region| (region.start as u32, self.slots[region].into()))
            .collect();
        contents
    }

    /// Panics unless every slot of every entry names an endpoint of its set. An unwritten slot names none.
    pub(crate) fn assert_consistent(&self) {
        self.assert_family_consistent(&self.v4);
        self.assert_family_consistent(&self.v6);
    }

    fn assert_family_consistent<A: MapAddress>(&self, maps: &FamilyMaps<A>) {
        for (key, entry) in &maps.services {
            for set in sets_of(entry) {
                let endpoints: BTreeSet<_> = maps.set(set.number).map(|(number, _)| number).collect();
                for slot in &self.slots[region(set)] {
                    assert!(
                        endpoints.contains(slot),
                        "a slot of {key:?} names {slot}, its set has {endpoints:?}"
                    );
                }
                for (_, backend) in maps.set(set.number) {
                    assert_eq!(backend.protocol, key.protocol);
                }
            }
            let filters = maps
                .source_ranges
                .keys()
                .any(|range| range.data.service == entry.service);
            assert!(filters || !entry.filtered, "{key:?} admits nobody");
        }
    }
}

fn apply<A: MapAddress>(maps: &mut FamilyMaps<A>, write: &FamilyWrite<A>) {
    match write {
        FamilyWrite::SetConfig(config) => maps.config = Some(*config),
        FamilyWrite::PutNetwork(key, value) => drop(maps.networks.insert(*key, *value)),
        FamilyWrite::DeleteNetwork(key) => assert!(maps.networks.remove(key).is_some(), "{key:?} is not there"),
        FamilyWrite::PutSourceRange(key) => drop(maps.source_ranges.insert(*key, 1)),
        FamilyWrite::DeleteSourceRange(key) => {
            assert!(maps.source_ranges.remove(key).is_some(), "{key:?} is not there");
        }
        FamilyWrite::PutBackend(key, value) => drop(maps.backends.insert(*key, *value)),
        FamilyWrite::PutService(key, value) => drop(maps.services.insert(*key, *value)),
        FamilyWrite::DeleteService(key) => assert!(maps.services.remove(key).is_some(), "{key:?} is not there"),
        FamilyWrite::DeleteBackend(key) => assert!(maps.backends.remove(key).is_some(), "{key:?} is not there"),
    }
}

fn region(set: EndpointSet) -> std::ops::Range<usize> {
    set.slot_offset as usize..(set.slot_offset + set.slot_count) as usize
}
