//! The snapshot from the pinned maps and the state file. Changes neither, and needs no daemon.

use std::{process::ExitCode, time::SystemTime};

use svcproxy_common::abi::{AffinityEntry, AffinityKey, FlowEntry, FlowKey};

use super::{FamilySnapshot, ReasonCount, Snapshot, render};
use crate::{
    cli::{GetArgs, PlaceArgs},
    datapath::{DatapathError, Family, MapKeys, Maps, entries, sweep},
    state::State,
};

/// Prints what the datapath holds.
///
/// # Errors
///
/// When no datapath is pinned where `args` says, or we may not read it.
pub fn get(args: &GetArgs) -> anyhow::Result<ExitCode> {
    print!("{}", render(&read(&args.places)?, args)?);
    Ok(ExitCode::SUCCESS)
}

fn read(places: &PlaceArgs) -> anyhow::Result<Snapshot> {
    let maps = Maps::pinned(&places.pin_dir)?;
    let count = |(reason, packets): (svcproxy_common::Reason, u64)| ReasonCount {
        reason: reason.name().to_owned(),
        packets,
        description: reason.description().to_owned(),
    };
    Ok(Snapshot {
        maps: maps.contents()?,
        v4: family(&maps.v4)?,
        v6: family(&maps.v6)?,
        reasons: maps.reasons()?.into_iter().map(count).collect(),
        state: State::peek(&places.state_dir).unwrap_or_default(),
        now_monotonic: sweep::now(),
        now: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs(),
    })
}

fn family<A: MapKeys>(maps: &Family<A>) -> Result<FamilySnapshot<A>, DatapathError>
where
    FlowKey<A>: aya::Pod,
    FlowEntry<A>: aya::Pod,
    AffinityKey<A>: aya::Pod,
    AffinityEntry: aya::Pod,
{
    Ok(FamilySnapshot {
        flows: entries(&maps.flows, "flows")?,
        pending: entries(&maps.pending, "pending")?,
        affinity: entries(&maps.affinity, "affinity")?,
    })
}
