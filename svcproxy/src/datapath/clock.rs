//! How this kernel counts jiffies: the two constants with which the programs turn them into seconds.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use aya::{
    EbpfLoader,
    programs::{TestRun as _, TestRunOptions, Xdp},
};

use super::{DatapathError, Maps, object::OBJECT};

/// Values of CONFIG_HZ (kernel/Kconfig.hz).
const HZ: [u64; 4] = [100, 250, 300, 1000];

/// What the programs need to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Clock {
    /// 2³² divided by the number of jiffies in a second.
    pub seconds_per_jiffy_32: u64,
    /// The value of `jiffies_64` at zero of CLOCK_MONOTONIC.
    pub jiffies_at_zero: u64,
}

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy)]
struct Sample {
    jiffies: u64,
    nanoseconds: u64,
}

impl Clock {
    /// Measures for some tens of milliseconds, with a copy of the programs that has maps of hardly any size.
    pub(super) fn measure() -> Result<Self, DatapathError> {
        let mut loader = EbpfLoader::new();
        for name in Maps::NAMES {
            if name != "layout" && name != "reasons" {
                loader.map_max_entries(name, 16);
            }
        }
        let mut object = loader.load(OBJECT)?;
        let program: &mut Xdp = object
            .program_mut("svcproxy_clock")
            .expect("the object has this program")
            .try_into()
            .map_err(|source| DatapathError::Program {
                program: "svcproxy_clock",
                source,
            })?;
        let failed = |source| DatapathError::Program {
            program: "svcproxy_clock",
            source,
        };
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
            })
        };
        let start = Instant::now();
        // At a tick, both: a tick more or less among eight is the difference between 250 and 300 a second.
        let tick = || -> Result<Sample, DatapathError> {
            let before = sample()?;
            loop {
                let after = sample()?;
                if after.jiffies != before.jiffies {
                    return Ok(after);
                }
                if start.elapsed() > Duration::from_secs(2) {
                    return Err(DatapathError::Clock(format!(
                        "jiffies stand still at {}",
                        after.jiffies
                    )));
                }
            }
        };
        let first = tick()?;
        loop {
            sleep(Duration::from_millis(10));
            let last = tick()?;
            if last.jiffies - first.jiffies >= 16 {
                return Ok(Self::between(first, last));
            }
        }
    }

    fn between(first: Sample, last: Sample) -> Self {
        let (jiffies, nanoseconds) = (last.jiffies - first.jiffies, last.nanoseconds - first.nanoseconds);
        let measured = jiffies * 1_000_000_000 / nanoseconds;
        let hz = HZ
            .into_iter()
            .min_by_key(|hz| hz.abs_diff(measured))
            .expect("HZ is not empty");
        Self {
            seconds_per_jiffy_32: (1 << 32) / hz,
            jiffies_at_zero: last.jiffies - (u128::from(last.nanoseconds) * u128::from(hz) / 1_000_000_000) as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hz_is_rounded_to_a_possible_value() {
        // first, last: (jiffies, ms); expected HZ
        for (first, last, hz) in [
            ((4_294_900_000, 1_000), (4_294_900_012, 1_049), 250),
            ((4_294_900_000, 1_000), (4_294_900_009, 1_091), 100),
            ((4_294_900_000, 1_000), (4_294_900_020, 1_020), 1000),
        ] {
            let sample = |(jiffies, ms): (u64, u64)| Sample {
                jiffies,
                nanoseconds: ms * 1_000_000,
            };
            let clock = Clock::between(sample(first), sample(last));
            assert_eq!(clock.seconds_per_jiffy_32, (1 << 32) / hz);
            let seconds = ((last.0 - clock.jiffies_at_zero) * clock.seconds_per_jiffy_32) >> 32;
            assert!(seconds.abs_diff(1) <= 1, "{seconds}");
        }
    }
}
