//! The model to the exact contents wanted in the maps, and the safe way there. Pure: no I/O, no kernel, no clock.
//!
//! In come a [`Model`] and what the maps hold now; out goes what they shall hold ([`plan`]), and from the two the
//! writes to make, in order ([`Diff`]). The maps themselves are the only memory: a Service, a set of endpoints, an
//! endpoint keep their numbers because the current contents carry them. What did not change is wanted exactly as it
//! stands, so planning an unchanged model is a comparison, and its diff is empty.

#![forbid(unsafe_code)]

mod contents;
mod diff;
mod error;
mod family;
mod numbers;
mod regions;
mod text;

use svcproxy_common::abi::{V4Addr, V6Addr};

pub use self::{
    contents::{FamilyMaps, MapAddress, MapContents},
    diff::{Diff, FamilyStep, SlotRun, Step},
    error::PlanError,
};
use self::{family::Planner, numbers::service_numbers};
use crate::model::Model;

/// How much the maps hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of `backend_slots`.
    pub backend_slots: u32,
}

/// What the maps shall hold for `model`, given that they hold `current`.
///
/// * A Service keeps its number while one of its addresses stays, a set of endpoints while its address, port and
///   protocol stay, an endpoint while its address stays in the Service. Fresh numbers are larger than all in use.
/// * A set that keeps its endpoints keeps its slots. Another gets a region that overlaps none in `current`, because
///   programs may be reading any of those.
/// * Chosen from are the ready endpoints of the address's family, or, when there are none, those that still serve
///   while they terminate. A port without either has an entry without slots.
///
/// `current` may be what an interrupted [`Diff`] left behind: planning again repairs it.
///
/// # Errors
///
/// When the slots do not fit into `limits`, when a set is too large for any table, and when two ports of the model
/// claim one address.
pub fn plan(model: &Model, current: &MapContents, limits: &Limits) -> Result<MapContents, PlanError> {
    let services = service_numbers(model, current);
    let mut planner = Planner::new(current, limits);
    let v4 = planner.family::<V4Addr>(model, &services)?;
    let v6 = planner.family::<V6Addr>(model, &services)?;
    let slots = planner.slots()?;
    Ok(MapContents { v4, v6, slots })
}
