//! One processor for the measurement alone.

use std::process::Command;

use anyhow::{Context, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::{Pid, gettid},
};
use svcproxy_tests::namespace::run;

/// The calling thread's claim of a processor, until it is dropped.
pub(crate) struct Claim {
    thread: Pid,
    allowed: CpuSet,
}

/// Puts the calling thread, and what it starts, on one processor: 0 or, where there is another, 1.
pub(crate) fn pin(processor: usize) -> Result<()> {
    let thread = gettid();
    let allowed = sched_getaffinity(thread)?;
    let mut cpus = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    if let Some(cpu) = cpus.nth(processor) {
        one.set(cpu)?;
        sched_setaffinity(thread, &one)?;
    }
    Ok(())
}

/// Puts the calling thread on the last processor, before every other process there.
pub(crate) fn claim() -> Result<Claim> {
    let thread = gettid();
    let allowed = sched_getaffinity(thread)?;
    let last = (0..CpuSet::count())
        .rev()
        .find(|&cpu| allowed.is_set(cpu).unwrap_or(false));
    let mut one = CpuSet::new();
    one.set(last.context("no processor to run on")?)?;
    sched_setaffinity(thread, &one)?;
    let claim = Claim { thread, allowed };
    policy(&["--fifo", "--pid", "50"], thread)?;
    Ok(claim)
}

fn policy(arguments: &[&str], thread: Pid) -> Result<()> {
    run(Command::new("chrt").args(arguments).arg(thread.to_string())).map(drop)
}

impl Drop for Claim {
    fn drop(&mut self) {
        // What follows is slower at worst.
        policy(&["--other", "--pid", "0"], self.thread).ok();
        sched_setaffinity(self.thread, &self.allowed).ok();
    }
}
