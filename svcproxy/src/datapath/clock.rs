//! How this kernel counts jiffies: the two constants with which the programs turn them into seconds.

use std::time::{Duration, Instant};

use aya::{
    EbpfLoader,
    programs::{ProgramError, TestRun as _, TestRunOptions, Xdp},
};
use nix::time::{ClockId, clock_getres};

use super::{
    DatapathError,
    object::{OBJECT, Sizes},
};

/// What the programs need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    /// 2³² divided by the number of jiffies in a second.
    pub seconds_per_jiffy_32: u64,
    /// The value of `jiffies_64` at zero of CLOCK_MONOTONIC.
    pub jiffies_at_zero: u64,
    /// Whether `bpf_fib_lookup` knows `BPF_FIB_LOOKUP_SRC`.
    pub fib_source: bool,
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    jiffies: u64,
    nanoseconds: u64,
    fib_source: bool,
}

impl Clock {
    /// Reads both clocks at the next tick, with a copy of the programs that has maps of hardly any size.
    pub(super) fn measure(loader: &mut EbpfLoader<'_>) -> Result<Self, DatapathError> {
        // A tick is how far the coarse clocks resolve (`posix_get_coarse_res`, kernel/time/posix-timers.c).
        let resolution = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_err(std::io::Error::from);
        let resolution = resolution.map_err(|error| DatapathError::Clock(error.to_string()))?;
        let tick = Duration::from(resolution);
        Sizes::LEAST.set(loader);
        let mut object = loader.load(OBJECT)?;
        let failed = |source| DatapathError::Program {
            program: "svcproxy_clock",
            source,
        };
        let program: Result<&mut Xdp, ProgramError> = object
            .program_mut("svcproxy_clock")
            .expect("the object has this program")
            .try_into();
        let program = program.map_err(failed)?;
        program.load().map_err(failed)?;
        let sample = || -> Result<Sample, DatapathError> {
            let mut out = [0; 64];
            let options = TestRunOptions {
                data_in: Some(&[0; 64]),
                data_out: Some(&mut out),
                ..Default::default()
            };
            program.test_run(options).map_err(failed)?;
            let number = |at: usize| u64::from_ne_bytes(out[at..at + 8].try_into().expect("eight bytes"));
            Ok(Sample {
                jiffies: number(0),
                nanoseconds: number(8),
                fib_source: number(16) as i64 != -i64::from(nix::libc::EINVAL),
            })
        };
        let (start, before) = (Instant::now(), sample()?);
        loop {
            let now = sample()?;
            if now.jiffies != before.jiffies {
                return Self::of(tick, now);
            }
            if start.elapsed() > Duration::from_secs(2) {
                return Err(DatapathError::Clock(format!("jiffies stand still at {}", now.jiffies)));
            }
        }
    }

    /// From the length of a tick, and the clocks just after one.
    fn of(tick: Duration, at: Sample) -> Result<Self, DatapathError> {
        /// More than any CONFIG_HZ (kernel/Kconfig.hz, and 1200 on Alpha).
        const MOST: u128 = 2000;

        let second = Duration::from_secs(1).as_nanos();
        // The kernel has rounded a tick to nanoseconds: 3 333 333 are 300 a second.
        let hz = (second + tick.as_nanos() / 2).checked_div(tick.as_nanos());
        let hz = hz.filter(|hz| (1..=MOST).contains(hz));
        let hz = hz.ok_or_else(|| DatapathError::Clock(format!("{tick:?} is no tick")))?;
        Ok(Self {
            seconds_per_jiffy_32: (1 << 32) / hz as u64,
            jiffies_at_zero: at.jiffies - (u128::from(at.nanoseconds) * hz / second) as u64,
            fib_source: at.fib_source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 50 seconds after zero of CLOCK_MONOTONIC, which was not that of the jiffies.
    fn clock(tick: u64, hz: u64) -> Result<Clock, DatapathError> {
        let at = Sample {
            jiffies: 4_294_900_000 + 50 * hz,
            nanoseconds: 50_000_000_000,
            fib_source: true,
        };
        Clock::of(Duration::from_nanos(tick), at)
    }

    #[test]
    fn every_tick_of_a_kernel_is_known() {
        for (tick, hz) in [(10_000_000, 100), (4_000_000, 250), (3_333_333, 300), (1_000_000, 1000)] {
            let expected = Clock {
                seconds_per_jiffy_32: (1 << 32) / hz,
                jiffies_at_zero: 4_294_900_000,
                fib_source: true,
            };
            assert_eq!(clock(tick, hz).unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_tick_is_refused() {
        for tick in [0, 1, 3_000_000_000] {
            assert!(matches!(clock(tick, 250), Err(DatapathError::Clock(_))));
        }
    }
}
