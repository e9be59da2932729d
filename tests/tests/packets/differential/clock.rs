//! The second that it is for the programs, and when that is in doubt.

use std::{thread, time::Duration};

use nix::time::{ClockId, clock_gettime};

/// How far the kernel's seconds, counted in jiffies, may be off.
const SLACK: Duration = Duration::from_millis(15);

/// The second it is, and whether it is that for the kernel too.
pub(super) fn second() -> (u32, bool) {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap());
    let within = Duration::from_nanos(now.subsec_nanos().into());
    (
        now.as_secs() as u32,
        within > SLACK && within < Duration::from_secs(1) - SLACK,
    )
}

/// Waits while the kernel may be in another second.
pub(super) fn quiet_second() -> u32 {
    loop {
        match second() {
            (now, true) => return now,
            _ => thread::sleep(Duration::from_millis(1)),
        }
    }
}
