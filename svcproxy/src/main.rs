//! The `svcproxy` command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use svcproxy::cli::{self, Cli, Command};

fn main() -> anyhow::Result<ExitCode> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Check(args)) => cli::check(&args),
        Some(Command::Get(_)) => anyhow::bail!("`get` is not built yet"),
        None => cli::run(&cli.run),
    }
}
