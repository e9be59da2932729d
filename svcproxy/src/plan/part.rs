//! Planning for the Services whose endpoints have changed, and for no others.
//!
//! In come the model that the maps were planned for and the one wanted; out goes what the Services in question have in
//! the maps and what they shall have there, exactly as [`plan`](super::plan) would have it, or nothing where more has
//! changed.

use std::{collections::BTreeSet, sync::Arc};

use svcproxy_common::abi::{V4Addr, V6Addr};

use super::{
    Diff, Limits, MapContents, PlanError,
    contents::{FamilyMaps, MapAddress, replace, sets_of},
    family::Planner,
    numbers::service_numbers,
};
use crate::model::{Model, NodePolicy, Service};

/// What some Services have in the maps, and what they shall have there.
#[derive(Debug, Clone)]
pub struct Part {
    current: MapContents,
    wanted: MapContents,
}

impl Part {
    /// The writes to make.
    pub fn diff(&self) -> Diff {
        Diff::between(&self.current, &self.wanted)
    }

    /// What they shall have.
    pub fn wanted(&self) -> &MapContents {
        &self.wanted
    }

    /// Brings the contents of the maps to what they are after the writes.
    pub fn put_into(self, contents: &mut MapContents) {
        contents.v4.replace(&self.current.v4, self.wanted.v4);
        contents.v6.replace(&self.current.v6, self.wanted.v6);
        replace(&mut contents.slots, &self.current.slots, self.wanted.slots);
    }
}

/// The part of the plan for `model` that differs from `current`, which is the plan for `before` with the same policy.
/// `None` when the models differ in more than their Services' endpoints.
///
/// # Errors
///
/// Those of [`plan`](super::plan).
pub fn plan_endpoints(
    before: &Model,
    model: &Model,
    policy: &NodePolicy,
    current: &MapContents,
    limits: &Limits,
) -> Result<Option<Part>, PlanError> {
    let Some(services) = changed_endpoints(before, model) else {
        return Ok(None);
    };
    let few = Model {
        services,
        node: model.node.clone(),
        ..Model::default()
    };
    let numbers = service_numbers(&few, current);
    let mut planner = Planner::new(current, limits);
    let v4 = planner.family::<V4Addr>(&few, policy, &numbers)?;
    let v6 = planner.family::<V6Addr>(&few, policy, &numbers)?;
    let slots = planner.slots()?;
    let numbers = numbers.into_iter().collect();
    Ok(Some(Part {
        wanted: MapContents {
            v4: own(v4, &current.v4, &numbers),
            v6: own(v6, &current.v6, &numbers),
            slots,
        },
        current: of_services(current, &numbers),
    }))
}

/// The Services whose endpoints differ; `None` when anything else does.
fn changed_endpoints(before: &Model, model: &Model) -> Option<Vec<Arc<Service>>> {
    if before.node != model.node || before.services.len() != model.services.len() {
        return None;
    }
    let mut changed = Vec::new();
    for (old, new) in before.services.iter().zip(&model.services) {
        if Arc::ptr_eq(old, new) || old == new {
            continue;
        }
        if without_endpoints(old) != without_endpoints(new) {
            return None;
        }
        changed.push(Arc::clone(new));
    }
    Some(changed)
}

fn without_endpoints(service: &Service) -> Service {
    let mut service = service.clone();
    for port in &mut service.ports {
        port.endpoints.clear();
    }
    service
}

/// What a plan for some Services alone has of the whole one: an address and port that another Service has had stays
/// that one's, and what is everyone's is left out.
fn own<A: MapAddress>(mut wanted: FamilyMaps<A>, current: &FamilyMaps<A>, numbers: &BTreeSet<u32>) -> FamilyMaps<A> {
    wanted.services.retain(|key, _| {
        let holder = current.services.get(key);
        holder.is_none_or(|entry| numbers.contains(&entry.service))
    });
    FamilyMaps {
        services: wanted.services,
        backends: wanted.backends,
        source_ranges: wanted.source_ranges,
        ..FamilyMaps::default()
    }
}

fn of_services(contents: &MapContents, numbers: &BTreeSet<u32>) -> MapContents {
    let (v4, v6) = (contents.v4.of_services(numbers), contents.v6.of_services(numbers));
    let mut part = MapContents {
        v4,
        v6,
        ..MapContents::default()
    };
    let sets = part.entries().flat_map(sets_of).filter(|set| set.slot_count > 0);
    let offsets: BTreeSet<u32> = sets.map(|set| set.slot_offset).collect();
    let region = |offset: u32| Some((offset, Arc::clone(contents.slots.get(&offset)?)));
    part.slots = offsets.into_iter().filter_map(region).collect();
    part
}
