//! The model to the exact contents wanted in the maps, and the safe way there. Pure: no I/O, no kernel, no clock.
//!
//! In come a [`Model`] and what the maps hold now; out goes what they shall hold ([`plan`]), and from the two the
//! writes to make, in order ([`Diff`]). The maps themselves are the only memory: a Service, a set of endpoints, an
//! endpoint keep their numbers because the current contents carry them. What did not change is wanted exactly as it
//! stands, so planning an unchanged model is a comparison, and its diff is empty.

#![forbid(unsafe_code)]

mod contents;
mod diff;
mod entries;
mod error;
mod family;
mod networks;
mod numbers;
mod part;
mod reach;
mod regions;
mod serving;
mod sets;
mod text;
mod ways;

use svcproxy_common::abi::{V4Addr, V6Addr};

pub use self::{
    contents::{FamilyMaps, MapAddress, MapContents, Prefix, sets_of},
    diff::{Diff, FamilyStep, SlotRun, Step},
    error::PlanError,
    part::{Part, plan_endpoints},
    reach::{Inconsistent, Reach},
    serving::{Serving, UdpEndpoints},
};
use self::{family::Planner, numbers::service_numbers};
use crate::model::{Model, NodePolicy};

/// How much the maps hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Entries of `backend_slots`.
    pub backend_slots: u32,
}

/// What the maps shall hold for `model` on a node with this `policy`, given that they hold `current`.
///
/// * Every way into a ServicePort has an entry: cluster IPs, nodePorts on this node's addresses, external IPs, load
///   balancer IPs; and every cluster IP one more, for the ports it does not have.
/// * A ServicePort has two sets of endpoints in each family at most, one for `Cluster` and one for `Local` traffic, and
///   all its entries share them.
/// * A Service keeps its number while one of its cluster IPs stays, a set of endpoints while an entry of it stays, an
///   endpoint while its address stays in the Service. Fresh numbers are larger than all in use.
/// * A set that keeps its endpoints keeps its slots. Another gets a region that overlaps none in `current`, because
///   programs may be reading any of those.
///
/// `current` may be what an interrupted [`Diff`] left behind: planning again repairs it.
///
/// # Errors
///
/// When the slots do not fit into `limits`, when a set is too large for any table, and when two ports of the model
/// claim one address.
pub fn plan(
    model: &Model,
    policy: &NodePolicy,
    current: &MapContents,
    limits: &Limits,
) -> Result<MapContents, PlanError> {
    let services = service_numbers(model, current);
    let mut planner = Planner::new(current, limits);
    let v4 = planner.family::<V4Addr>(model, policy, &services)?;
    let v6 = planner.family::<V6Addr>(model, policy, &services)?;
    let slots = planner.slots()?;
    Ok(MapContents { v4, v6, slots })
}
