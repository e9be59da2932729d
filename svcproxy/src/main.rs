//! The `svcproxy` command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use svcproxy::cli::{self, Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Some(Command::Check(args)) => cli::check(&args),
        Some(Command::Get(args)) => cli::get(&args),
        Some(Command::Explain(args)) => cli::explain(&args),
        None => cli::run(&cli.run),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}
