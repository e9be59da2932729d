//! From what the maps hold to what they shall hold, in an order that is safe after every single write.
//!
//! In come two [`MapContents`], out go steps: first what tells clients apart, then endpoints, then the tables that name
//! them, then the entries that point at the tables; what nothing points at any more goes last. A program that runs in between, or a daemon that
//! dies there, finds every entry with a complete table and every slot with its endpoint.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use svcproxy_common::abi::{
    Address, Backend, BackendKey, Config, Network, NetworkAddress, ServiceEntry, ServiceKey, SourceRange, V4Addr,
    V6Addr,
};

use super::contents::{FamilyMaps, MapContents, Prefix};

/// The writes that lead from one content of the maps to another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Diff {
    /// To be made in this order. Within a step the order is free, and no step is empty.
    pub steps: Vec<Step>,
}

/// Writes to one map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// To a map of IPv4.
    V4(FamilyStep<V4Addr>),
    /// To a map of IPv6.
    V6(FamilyStep<V6Addr>),
    /// To `backend_slots`.
    WriteSlots(Vec<SlotRun>),
}

impl Step {
    /// Whether it writes to or deletes from `services_`: from then on programs use other endpoints and slots.
    pub fn changes_entries(&self) -> bool {
        match self {
            Self::V4(step) => step.changes_entries(),
            Self::V6(step) => step.changes_entries(),
            Self::WriteSlots(_) => false,
        }
    }

    /// Whether it deletes what a program may have been led to by an entry as it was before.
    pub fn deletes_what_entries_name(&self) -> bool {
        match self {
            Self::V4(step) => step.deletes_what_entries_name(),
            Self::V6(step) => step.deletes_what_entries_name(),
            Self::WriteSlots(_) => false,
        }
    }
}

impl<A: Address> FamilyStep<A> {
    fn changes_entries(&self) -> bool {
        matches!(self, Self::PutServices(_) | Self::DeleteServices(_))
    }

    fn deletes_what_entries_name(&self) -> bool {
        matches!(self, Self::DeleteBackends(_) | Self::DeleteSourceRanges(_))
    }
}

/// Writes to one map of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FamilyStep<A: Address> {
    /// Write `config_`.
    SetConfig(Config<A>),
    /// Add or change these in `networks_`.
    PutNetworks(Vec<(Prefix<NetworkAddress<A>>, Network)>),
    /// Add these to `source_ranges_`: before an entry is filtered, its clients must be there.
    PutSourceRanges(Vec<(Prefix<SourceRange<A>>, u32)>),
    /// Add or change these in `backends_`.
    PutBackends(Vec<(BackendKey, Backend<A>)>),
    /// Add or change these in `services_`.
    PutServices(Vec<(ServiceKey<A>, ServiceEntry)>),
    /// Delete these from `services_`.
    DeleteServices(Vec<ServiceKey<A>>),
    /// Delete these from `backends_`.
    DeleteBackends(Vec<BackendKey>),
    /// Delete these from `source_ranges_`.
    DeleteSourceRanges(Vec<Prefix<SourceRange<A>>>),
    /// Delete these from `networks_`.
    DeleteNetworks(Vec<Prefix<NetworkAddress<A>>>),
}

/// Neighbouring slots to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotRun {
    /// Index of the first.
    pub offset: u32,
    /// Their values.
    pub values: Vec<u32>,
}

impl Diff {
    /// The steps from `current` to `wanted`, where `wanted` was planned upon `current`.
    pub fn between(current: &MapContents, wanted: &MapContents) -> Self {
        let [v4_context, v4_backends, v4_entries] = family_steps(&current.v4, &wanted.v4);
        let [v6_context, v6_backends, v6_entries] = family_steps(&current.v6, &wanted.v6);
        let slots = changed_slots(&current.slots, &wanted.slots);
        let slots = (!slots.is_empty()).then_some(Step::WriteSlots(slots));
        let steps = (v4_context.into_iter().map(Step::V4))
            .chain(v6_context.into_iter().map(Step::V6))
            .chain(v4_backends.into_iter().map(Step::V4))
            .chain(v6_backends.into_iter().map(Step::V6))
            .chain(slots)
            .chain(v4_entries.into_iter().map(Step::V4))
            .chain(v6_entries.into_iter().map(Step::V6));
        Self { steps: steps.collect() }
    }

    /// Whether the maps already hold what is wanted.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

/// The steps of one family, without the empty ones: those that may precede all else, the endpoints, and those that
/// need the slots to be written.
fn family_steps<A: Address>(current: &FamilyMaps<A>, wanted: &FamilyMaps<A>) -> [Vec<FamilyStep<A>>; 3] {
    let (put_networks, delete_networks) = compare(&current.networks, &wanted.networks);
    let (put_ranges, delete_ranges) = compare(&current.source_ranges, &wanted.source_ranges);
    let (put_backends, delete_backends) = compare(&current.backends, &wanted.backends);
    let (put_services, delete_services) = compare(&current.services, &wanted.services);
    let config = wanted.config.filter(|config| current.config != Some(*config));
    let step = |is_empty: bool, step: FamilyStep<A>| (!is_empty).then_some(step);
    let context = [
        config.map(FamilyStep::SetConfig),
        step(put_networks.is_empty(), FamilyStep::PutNetworks(put_networks)),
        step(put_ranges.is_empty(), FamilyStep::PutSourceRanges(put_ranges)),
    ];
    let backends = [step(put_backends.is_empty(), FamilyStep::PutBackends(put_backends))];
    let entries = [
        step(put_services.is_empty(), FamilyStep::PutServices(put_services)),
        step(delete_services.is_empty(), FamilyStep::DeleteServices(delete_services)),
        step(delete_backends.is_empty(), FamilyStep::DeleteBackends(delete_backends)),
        step(delete_ranges.is_empty(), FamilyStep::DeleteSourceRanges(delete_ranges)),
        step(delete_networks.is_empty(), FamilyStep::DeleteNetworks(delete_networks)),
    ];
    [
        context.into_iter().flatten().collect(),
        backends.into_iter().flatten().collect(),
        entries.into_iter().flatten().collect(),
    ]
}

/// What to put and what to delete, in the order of the keys: one walk along both maps.
fn compare<K: Copy + Ord, V: Copy + Eq>(current: &BTreeMap<K, V>, wanted: &BTreeMap<K, V>) -> (Vec<(K, V)>, Vec<K>) {
    let (mut put, mut delete) = (Vec::new(), Vec::new());
    let (mut current, mut wanted) = (current.iter().peekable(), wanted.iter().peekable());
    loop {
        let order = match (current.peek(), wanted.peek()) {
            (None, None) => return (put, delete),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((old, _)), Some((new, _))) => old.cmp(new),
        };
        let old = if order.is_le() { current.next() } else { None };
        let new = if order.is_ge() { wanted.next() } else { None };
        match (old, new) {
            (Some((key, _)), None) => delete.push(*key),
            (old, Some((key, value))) if old.is_none_or(|(_, old)| old != value) => put.push((*key, *value)),
            _ => {}
        }
    }
}

/// The regions that are new or differ, neighbours joined.
fn changed_slots(current: &BTreeMap<u32, Arc<[u32]>>, wanted: &BTreeMap<u32, Arc<[u32]>>) -> Vec<SlotRun> {
    let mut runs: Vec<SlotRun> = Vec::new();
    let mut current = current.iter().peekable();
    for (offset, region) in wanted {
        while current.next_if(|(old, _)| *old < offset).is_some() {}
        if let Some((_, old)) = current.next_if(|(old, _)| *old == offset)
            && (Arc::ptr_eq(old, region) || old == region)
        {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.offset + run.values.len() as u32 == *offset => run.values.extend_from_slice(region),
            _ => runs.push(SlotRun {
                offset: *offset,
                values: region.to_vec(),
            }),
        }
    }
    runs
}
