//! Where the time goes: the daemon's steps one by one, in this process and in its order.

use std::{
    collections::BTreeMap,
    fs,
    time::{Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use svcproxy::{
    datapath::{Datapath, Sizes},
    input::{Inputs, Reading},
    manifest::{self, Changed},
    model::{NodePolicy, Options},
    plan::{Diff, Limits, plan, plan_endpoints},
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

const LIMITS: Limits = Limits {
    backend_slots: BACKEND_SLOTS,
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
        let filenames = [lab.directory().join("manifests")];
        let places = lab.directory().join("stages");
        fs::create_dir_all(&places)?;
        let mut datapath = times.take("start/load-programs", || Ok(Datapath::load(None, &SIZES)?))?;
        let state = State::load(&places, 0)?.state;
        times.take("start/parse", || Ok(manifest::load(&filenames)))?;
        let mut inputs = Inputs::default();
        let options = options()?;
        let Reading::All(input) = times.take("start/parse-and-build", || {
            Ok(inputs.read(&filenames, &Changed::Anything, &options, &state))
        })?
        else {
            bail!("the first reading is of everything");
        };
        let (model, state) = (input.model.context("the manifests have errors")?, input.state);
        times.take("start/save-state", || Ok(state.save(&places)?))?;
        let maps = &mut datapath.maps;
        let current = times.take("start/read-maps", || Ok(maps.contents()?))?;
        let policy = NodePolicy::default();
        let mut contents = times.take("start/plan", || Ok(plan(&model, &policy, &current, &LIMITS)?))?;
        let diff = times.take("start/diff", || Ok(Diff::between(&current, &contents)))?;
        times.take("start/apply", || Ok(maps.apply(&diff)?))?;

        let file = filenames[0].join(manifests::LAST);
        fs::write(&file, manifests::service(count - 1, &[second])).context("cannot change a manifest")?;
        let options = self::options()?;
        let changed = Changed::Files([file].into());
        let Reading::Endpoints(update) = times.take("change/parse-and-build", || {
            Ok(inputs.read(&filenames, &changed, &options, &state))
        })?
        else {
            bail!("more than endpoints has changed");
        };
        let part = times.take("change/plan", || {
            Ok(plan_endpoints(&model, &update.model, &policy, &contents, &LIMITS)?)
        })?;
        let part = part.context("more than endpoints has changed")?;
        times.take("change/apply", || Ok(maps.apply(&part.diff())?))?;
        times.take("change/note-contents", || {
            part.put_into(&mut contents);
            Ok(())
        })?;
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

fn options() -> Result<Options> {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs();
    Ok(Options {
        now,
        ..Options::default()
    })
}
