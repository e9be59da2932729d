//! From what the maps hold to what they shall hold, in an order that is safe after every single write.
//!
//! In come two [`MapContents`], out go steps: endpoints first, then the tables that name them, then the entries that
//! point at the tables; what nothing points at any more goes last. A program that runs in between, or a daemon that
//! dies there, finds every entry with a complete table and every slot with its endpoint.

use std::{cmp::Ordering, collections::BTreeMap, sync::Arc};

use svcproxy_common::abi::{Backend, BackendKey, ServiceEntry, ServiceKey, V4Addr, V6Addr};

use super::contents::{FamilyMaps, MapContents};

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

/// Writes to one map of one family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FamilyStep<A> {
    /// Add or change these in `backends_`.
    PutBackends(Vec<(BackendKey, Backend<A>)>),
    /// Add or change these in `services_`.
    PutServices(Vec<(ServiceKey<A>, ServiceEntry)>),
    /// Delete these from `services_`.
    DeleteServices(Vec<ServiceKey<A>>),
    /// Delete these from `backends_`.
    DeleteBackends(Vec<BackendKey>),
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
        let v4 = FamilyDiff::between(&current.v4, &wanted.v4);
        let v6 = FamilyDiff::between(&current.v6, &wanted.v6);
        let slots = changed_slots(&current.slots, &wanted.slots);
        let step = |is_empty: bool, step: Step| (!is_empty).then_some(step);
        let steps = [
            step(
                v4.put_backends.is_empty(),
                Step::V4(FamilyStep::PutBackends(v4.put_backends)),
            ),
            step(
                v6.put_backends.is_empty(),
                Step::V6(FamilyStep::PutBackends(v6.put_backends)),
            ),
            step(slots.is_empty(), Step::WriteSlots(slots)),
            step(
                v4.put_services.is_empty(),
                Step::V4(FamilyStep::PutServices(v4.put_services)),
            ),
            step(
                v6.put_services.is_empty(),
                Step::V6(FamilyStep::PutServices(v6.put_services)),
            ),
            step(
                v4.delete_services.is_empty(),
                Step::V4(FamilyStep::DeleteServices(v4.delete_services)),
            ),
            step(
                v6.delete_services.is_empty(),
                Step::V6(FamilyStep::DeleteServices(v6.delete_services)),
            ),
            step(
                v4.delete_backends.is_empty(),
                Step::V4(FamilyStep::DeleteBackends(v4.delete_backends)),
            ),
            step(
                v6.delete_backends.is_empty(),
                Step::V6(FamilyStep::DeleteBackends(v6.delete_backends)),
            ),
        ];
        Self {
            steps: steps.into_iter().flatten().collect(),
        }
    }

    /// Whether the maps already hold what is wanted.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

struct FamilyDiff<A> {
    put_backends: Vec<(BackendKey, Backend<A>)>,
    put_services: Vec<(ServiceKey<A>, ServiceEntry)>,
    delete_services: Vec<ServiceKey<A>>,
    delete_backends: Vec<BackendKey>,
}

impl<A: Copy + Ord> FamilyDiff<A> {
    fn between(current: &FamilyMaps<A>, wanted: &FamilyMaps<A>) -> Self {
        let (put_backends, delete_backends) = compare(&current.backends, &wanted.backends);
        let (put_services, delete_services) = compare(&current.services, &wanted.services);
        Self {
            put_backends,
            put_services,
            delete_services,
            delete_backends,
        }
    }
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
