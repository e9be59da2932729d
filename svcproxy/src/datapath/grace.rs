//! Waiting until no program runs that has read the tables as they were.

use std::{thread, time::Duration};

use rustix::thread::{MembarrierCommand, membarrier};

/// Longer than any program takes, for kernels that offer no better way.
const LONG_ENOUGH: Duration = Duration::from_millis(20);

/// Returns when every program that was running has ended.
///
/// Programs are RCU readers, and this membarrier is `synchronize_rcu` (kernel/sched/membarrier.c); with `nohz_full`
/// it is refused.
pub(super) fn wait() {
    if membarrier(MembarrierCommand::Global).is_err() {
        thread::sleep(LONG_ENOUGH);
    }
}
