//! Where the time goes: the daemon's steps one by one, in this process and in its order.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Instant, SystemTime},
};

use anyhow::{Context, Result};
use svcproxy::{
    datapath::{Datapath, Sizes},
    input, manifest,
    model::{Model, NodePolicy, Options},
    plan::{Diff, Limits, plan},
    state::State,
};
use svcproxy_tests::lab::Lab;

use super::{BACKEND_SLOTS, milliseconds, pods, write};
use crate::{
    manifests,
    report::{Row, Summary},
};

/// The daemon's defaults.
const SIZES: Sizes = Sizes {
    flows: 262_144,
    pending: 65_536,
    affinity: 65_536,
    sockets: 65_536,
    services: 131_072,
    backends: 262_144,
    slots: BACKEND_SLOTS,
};

/// What each step took, in milliseconds; in order.
#[derive(Default)]
struct Times {
    order: Vec<String>,
    samples: BTreeMap<String, Vec<f64>>,
}

impl Times {
    fn take<T>(&mut self, step: &str, action: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = Instant::now();
        let result = action();
        if !self.samples.contains_key(step) {
            self.order.push(step.to_owned());
        }
        self.samples
            .entry(step.to_owned())
            .or_default()
            .push(milliseconds(begun.elapsed()));
        result
    }
}

/// Measures the steps of a start and of a change.
pub(super) fn run(lab: &Lab, count: u32, rounds: usize) -> Result<Vec<Row>> {
    let [(_, first), (_, second)] = pods(lab)?;
    let mut times = Times::default();
    for _ in 0..rounds {
        write(lab, count, first)?;
        let directory = lab.directory().join("manifests");
        let places = lab.directory().join("stages");
        fs::create_dir_all(&places)?;
        let mut datapath = times.take("start/load-programs", || Ok(Datapath::load(None, &SIZES)?))?;
        let state = State::load(&places, 0)?.state;
        let (model, state) = read(&mut times, "start", &directory, &state)?;
        times.take("start/save-state", || Ok(state.save(&places)?))?;
        program(&mut times, "start", &mut datapath, &model)?;

        let file = directory.join(manifests::LAST);
        fs::write(&file, manifests::service(count - 1, &[second])).context("cannot change a manifest")?;
        let (model, state) = read(&mut times, "change", &directory, &state)?;
        times.take("change/save-state", || Ok(state.save(&places)?))?;
        program(&mut times, "change", &mut datapath, &model)?;
        fs::remove_dir_all(&places)?;
    }
    let row = |step: &String| {
        Row::new(
            format!("control/{count}-services/steps/{step}"),
            "ms",
            Summary::of(&times.samples[step]),
        )
    };
    Ok(times.order.iter().map(row).collect())
}

fn read(times: &mut Times, when: &str, directory: &Path, state: &State) -> Result<(Model, State)> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    let options = Options {
        now,
        ..Options::default()
    };
    let filenames = [directory.to_owned()];
    let input = times.take(&format!("{when}/read"), || Ok(input::read(&filenames, &options, state)))?;
    times.take(&format!("{when}/read-of-which-manifests"), || {
        Ok(manifest::load(&filenames))
    })?;
    let model = input.model.context("the manifests have errors")?;
    Ok((model, input.state))
}

fn program(times: &mut Times, when: &str, datapath: &mut Datapath, model: &Model) -> Result<()> {
    let (policy, limits) = (
        NodePolicy::default(),
        Limits {
            backend_slots: BACKEND_SLOTS,
        },
    );
    let maps = &mut datapath.maps;
    let current = times.take(&format!("{when}/read-maps"), || Ok(maps.contents()?))?;
    let wanted = times.take(&format!("{when}/plan"), || Ok(plan(model, &policy, &current, &limits)?))?;
    let diff = times.take(&format!("{when}/diff"), || Ok(Diff::between(&current, &wanted)))?;
    times.take(&format!("{when}/apply"), || Ok(maps.apply(&diff)?))
}
