//! What svcproxy costs, measured beside what it must cost.
//!
//! [`packets`] measures its programs packet by packet, [`chain`] traffic through a
//! node, [`control`] how long Services take to work. All that is compared with each other is sampled in turn.

#![forbid(unsafe_code)]

mod chain;
mod chart;
mod control;
mod cpu;
mod machine;
mod manifests;
mod packets;
mod report;
mod targets;

use std::{fs, path::PathBuf, process::ExitCode, time::Instant};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand, ValueEnum};

use self::machine::Machine;

#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
#[command(about = "Measures svcproxy beside floors, plain routing and kube-proxy's rules")]
struct Cli {
    #[command(subcommand)]
    command: Option<Task>,
    /// A minute's look
    #[arg(long)]
    quick: bool,
    /// Compare with the targets; a miss ends with status 1
    #[arg(long)]
    check: bool,
    /// Only these parts
    #[arg(long, value_enum, value_delimiter = ',', default_value = "packets,control,chain")]
    parts: Vec<Part>,
    /// Where the results go besides standard output
    #[arg(long, default_value = "target/bench")]
    output: PathBuf,
}

#[derive(Subcommand)]
enum Task {
    /// Serve as a pod (what the bench runs in its pods)
    #[command(hide = true)]
    Serve,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Nanoseconds a packet, in the programs alone
    Packets,
    /// Milliseconds until Services answer, in the daemon
    Control,
    /// Traffic through a node, beside plain routing and kube-proxy's rules
    Chain,
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

/// True unless a part has failed or a target is missed.
fn run(cli: &Cli) -> Result<bool> {
    if let Some(Task::Serve) = cli.command {
        return chain::serve().map(|never| match never {});
    }
    let effort = if cli.quick { Effort::Quick } else { Effort::Full };
    fs::create_dir_all(&cli.output).with_context(|| format!("cannot make {}", cli.output.display()))?;
    let (mut rows, mut complete) = (Vec::new(), true);
    for part in &cli.parts {
        let begun = Instant::now();
        let measured = match part {
            Part::Packets => packets::run(effort),
            Part::Control => control::run(effort),
            Part::Chain => chain::run(effort),
        };
        let name = part.to_possible_value().map(|value| value.get_name().to_owned());
        let name = name.unwrap_or_default();
        // What the other parts have measured is not lost with it.
        match measured {
            Ok(measured) => rows.extend(measured),
            Err(error) => {
                eprintln!("error: {name}: {error:#}");
                complete = false;
            }
        }
        eprintln!("{name} took {} s", begun.elapsed().as_secs());
    }
    let machine = Machine::describe()?;
    println!("{machine}\n");
    print!("{}", report::table(&rows));
    report::write_json(&cli.output.join("results.json"), &machine, &rows)?;
    chart::write(&cli.output.join("results.svg"), &rows)?;
    eprintln!("results.json and results.svg are in {}", cli.output.display());
    let reached = !cli.check || targets::check(&rows);
    Ok(complete && reached)
}
