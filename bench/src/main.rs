//! What svcproxy costs, measured beside what it must cost.
//!
//! [`packets`] measures its programs packet by packet, [`control`] how long Services take to work. All that is compared with each other is sampled in turn.

#![forbid(unsafe_code)]

mod control;
mod cpu;
mod manifests;
mod packets;
mod report;

use std::{fs, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

#[derive(Parser)]
#[command(about = "Measures svcproxy beside floors, plain routing and kube-proxy's rules")]
struct Cli {
    /// A minute's look
    #[arg(long)]
    quick: bool,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', default_value = "packets,control")]
    parts: Vec<Part>,
    /// Where the results go besides standard output
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Nanoseconds a packet, in the programs alone
    Packets,
    /// Milliseconds until Services answer, in the daemon
    Control,
}

/// How long to measure.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Effort {
    Quick,
    Full,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// True unless a target is missed.
fn run(cli: &Cli) -> Result<bool> {
    let effort = if cli.quick { Effort::Quick } else { Effort::Full };
    fs::create_dir_all(&cli.output).with_context(|| format!("cannot make {}", cli.output.display()))?;
    let mut rows = Vec::new();
    for part in &cli.parts {
        rows.extend(match part {
            Part::Packets => packets::run(effort)?,
            Part::Control => control::run(effort)?,
        });
    }
    print!("{}", report::table(&rows));
    report::write_json(&cli.output.join("results.json"), &(), &rows)?;
    Ok(true)
}
