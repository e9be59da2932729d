//! What was measured on.

use std::{fmt, fs, thread};

use anyhow::{Context, Result};
use nix::sys::utsname::uname;
use serde::Serialize;

/// A machine, as far as it matters to results.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    processor: String,
    processors: usize,
    kernel: String,
    memory_gigabytes: u64,
    /// How busy it was with other things: runnable processes over the last minute.
    load: f64,
    /// Of indirect branches, which a packet takes several of.
    spectre_v2: String,
}

impl Machine {
    pub(crate) fn describe() -> Result<Self> {
        let read = |path: &str| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let processors = read("/proc/cpuinfo")?;
        let field = |text: &str, name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(|line| line.trim_start_matches([' ', '\t', ':']).to_owned())
        };
        let memory = field(&read("/proc/meminfo")?, "MemTotal:").unwrap_or_default();
        let kilobytes: u64 = memory.trim_end_matches(" kB").parse().unwrap_or_default();
        let load = read("/proc/loadavg")?;
        Ok(Self {
            processor: field(&processors, "model name").unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
            processors: thread::available_parallelism()?.get(),
            kernel: uname()?.release().to_string_lossy().into_owned(),
            memory_gigabytes: kilobytes >> 20,
            load: load
                .split(' ')
                .next()
                .and_then(|load| load.parse().ok())
                .unwrap_or_default(),
            spectre_v2: read("/sys/devices/system/cpu/vulnerabilities/spectre_v2")
                .unwrap_or_default()
                .trim()
                .to_owned(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            processor,
            processors,
            kernel,
            memory_gigabytes,
            load,
            spectre_v2,
        } = self;
        write!(
            f,
            "{processors} × {processor}, {memory_gigabytes} GB, Linux {kernel}, load {load}; Spectre v2: {spectre_v2}"
        )
    }
}
