//! Samples of several programs in turn, A B C A B C …, so that whatever disturbs the machine disturbs all of them.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use aya::Pod;
use nix::time::{ClockId, clock_gettime};
use svcproxy_common::{Reason, abi::FlowKey};

use super::{
    ip::{Ip, frame},
    placement::{PLACEMENTS, Placed, Target},
    programs::{Bench, Hook, Tuples},
    proxy::{ACK, Proxy},
};
use crate::{
    cpu,
    report::{Series, Summary},
};

/// Packets of one sample: what is compared is sampled within milliseconds.
const PACKETS: u32 = 10_000;
/// And of a sample whose packets are run one at a time.
const SINGLE: u32 = 40;
/// Of so many connections a busy node sees each several times a second.
const BUSY: u32 = 131_072;

/// A program and what is run through it.
#[derive(Clone)]
pub(super) struct Case<'a> {
    /// What of the row's name is its own.
    pub(super) name: String,
    pub(super) target: Target,
    pub(super) tuples: Tuples,
    /// TCP flags.
    pub(super) flags: u8,
    /// Whether the program leaves a packet that no generator can use again.
    pub(super) single: bool,
    /// The verdict that says that the program has done what is measured.
    pub(super) verdict: i32,
    /// For svcproxy's programs: what they must count each packet as.
    pub(super) counted: Option<(&'a Proxy, Reason)>,
    /// The case that this one is compared with.
    pub(super) versus: Option<String>,
}

impl Case<'_> {
    /// Whether its connections are such that a busy node sees each several times a second. The first packet of each in a second
    /// takes longer than those after it, and is not what is measured.
    fn is_busy(&self) -> bool {
        self.flags == ACK && self.tuples.count <= BUSY
    }
}

/// Samples all cases in turn for so long. `empty` is a program that does nothing.
///
/// What a row says is the time in a program without its generator: as if it were run alone, as `empty` is.
pub(super) fn measure<A: Ip>(
    bench: &mut Bench,
    empty: Target,
    cases: &[Case<'_>],
    time: Duration,
    prefix: &str,
) -> Result<Vec<Series>>
where
    FlowKey<A>: Pod,
{
    let hook = empty.hook;
    for case in cases {
        check::<A>(bench, case).with_context(|| format!("{prefix}/{}", case.name))?;
    }
    let _alone = cpu::claim()?;
    let (mut alone, mut generator) = (Vec::new(), Vec::new());
    let mut samples = vec![Vec::new(); cases.len()];
    let busy: Vec<_> = cases.iter().filter(|case| case.is_busy()).collect();
    let mut refreshed = None;
    let begun = Instant::now();
    let mut round = 0_u32;
    // As often in each place.
    while begun.elapsed() < time || round == 0 || !round.is_multiple_of(PLACEMENTS) {
        ensure!(begun.elapsed() < time * 20, "{prefix}: no round fits into a second");
        if !busy.is_empty() && (refreshed.is_none() || second() != refreshed) {
            refreshed = second();
            refresh::<A>(bench, &busy, round)?;
            continue;
        }
        let next = round.wrapping_mul(PACKETS);
        let name = format!("empty_{}", hook.name());
        let empty_alone = bench.run_alone(hook, &name, &frame::<A>(0), PACKETS)?.nanoseconds;
        let mut taken = Vec::new();
        for (index, case) in (0_u32..).zip(cases) {
            // Not the connections of the case before, whose other halves lie beside these.
            let next = next.wrapping_add(index % 2 * (case.tuples.count / 2));
            // The generator reads other tuples for other cases: each has a base of its own.
            let base = sample::<A>(bench, empty.placed(round), case, next)?;
            let total = sample::<A>(bench, case.target.placed(round), case, next)?;
            taken.push((base, total - base + empty_alone));
        }
        if !busy.is_empty() && second() != refreshed {
            continue; // some of it are first packets in a second
        }
        alone.push(empty_alone);
        for (samples, (base, sample)) in samples.iter_mut().zip(taken) {
            generator.push(base);
            samples.push(sample);
        }
        round += 1;
    }
    let by_name: BTreeMap<_, _> = cases.iter().map(|case| &case.name).zip(&samples).collect();
    let series = |name: &str, samples, versus| Series {
        name: format!("{prefix}/{name}"),
        unit: "ns",
        samples,
        versus,
    };
    let mut all = vec![series("empty", alone, None), series("generator+empty", generator, None)];
    for (case, samples) in cases.iter().zip(&samples) {
        let versus = case.versus.as_ref().and_then(|name| {
            let samples = by_name.get(name)?;
            Some((format!("{prefix}/{name}"), samples.to_vec()))
        });
        all.push(series(&case.name, samples.clone(), versus));
    }
    Ok(all)
}

/// The second of CLOCK_MONOTONIC, the programs' clock; `None` around its end, which they see a jiffy sooner or later.
fn second() -> Option<i64> {
    const AROUND: i64 = 15_000_000; // nanoseconds
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).ok()?;
    (AROUND..1_000_000_000 - AROUND)
        .contains(&now.tv_nsec())
        .then_some(now.tv_sec())
}

/// Runs a packet of each connection.
fn refresh<A: Ip>(bench: &mut Bench, cases: &[&Case<'_>], round: u32) -> Result<()> {
    for case in cases {
        let packets = case.tuples.count.max(2);
        let frame = frame::<A>(case.flags);
        bench.run::<A>(case.target.placed(round), case.tuples, 0, &frame, packets)?;
    }
    Ok(())
}

fn sample<A: Ip>(bench: &mut Bench, program: Placed, case: &Case<'_>, next: u32) -> Result<f64> {
    let frame = frame::<A>(case.flags);
    if !case.single {
        return Ok(bench.run::<A>(program, case.tuples, next, &frame, PACKETS)?.nanoseconds);
    }
    let mut times = Vec::new();
    for packet in 0..SINGLE {
        times.push(
            bench
                .run::<A>(program, case.tuples, next + packet, &frame, 1)?
                .nanoseconds,
        );
    }
    Ok(Summary::of(&times).median)
}

/// Runs each packet of a case, which also fills what an LRU table holds, and looks whether what happens is what the case
/// is about.
fn check<A: Ip>(bench: &mut Bench, case: &Case<'_>) -> Result<()> {
    let counted = || case.counted.map_or(Ok(Vec::new()), |(proxy, _)| proxy.reasons());
    let packets = if case.single { 1 } else { case.tuples.count.max(2) };
    let before = counted()?;
    let run = bench.run::<A>(case.target.placed(0), case.tuples, 0, &frame::<A>(case.flags), packets)?;
    let grown = before
        .iter()
        .zip(counted()?)
        .map(|((reason, before), (_, after))| (*reason, after - before));
    let grown: Vec<_> = grown.filter(|(_, packets)| *packets > 0).collect();
    ensure!(
        run.verdict == case.verdict
            && case
                .counted
                .is_none_or(|(_, reason)| grown.contains(&(reason, packets.into()))),
        "of {packets} packets the last got the verdict {}, not {}; they were counted as {grown:?}",
        run.verdict,
        case.verdict
    );
    Ok(())
}

/// XDP's and tc's number for "send it".
pub(super) const fn sent(hook: Hook) -> i32 {
    match hook {
        Hook::Xdp => 3,
        Hook::Tc => 7,
    }
}

/// And for "go on".
pub(super) const fn passed(hook: Hook) -> i32 {
    match hook {
        Hook::Xdp => 2,
        Hook::Tc => -1,
    }
}
