//! The `svcproxy` command.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use svcproxy::cli::{self, Cli, Command};

fn main() -> anyhow::Result<ExitCode> {
    match Cli::parse().command {
        Some(Command::Check(args)) => cli::check(&args),
        Some(Command::Get(_)) => anyhow::bail!("`get` is not built yet"),
        None => anyhow::bail!("the proxy itself is not built yet; try `svcproxy check`"),
    }
}
