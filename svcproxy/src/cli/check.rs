//! `svcproxy check`: is this input what svcproxy would run with?
//!
//! Diagnostics go to standard error, one a line; the summary goes to standard output. Needs no root, keeps no state.

use std::process::ExitCode;

use super::CheckArgs;
use crate::{
    datapath::{Datapath, Sizes, preflight},
    input::{self, Input},
    manifest::{Kind, Severity},
    state::State,
};

/// Runs the command. Exits 0 when there is no error, else 1.
pub fn check(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    if args.kernel {
        return check_kernel();
    }
    args.input.node.policy()?;
    let options = args.input.node.options()?;
    let input = input::read(&args.input.filenames, &options, &State::default());
    for diagnostic in &input.diagnostics {
        eprintln!("{diagnostic}");
    }
    println!("{}", summary(&input));
    Ok(match input.model {
        Some(_) => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    })
}

/// Loads every program, and says what the kernel lacks.
fn check_kernel() -> anyhow::Result<ExitCode> {
    preflight::capabilities()?;
    preflight::btf()?;
    let kernel = nix::sys::utsname::uname()?;
    let datapath = Datapath::load(None, &Sizes::LEAST)?;
    println!(
        "Linux {} {}: takes all {} programs; tc by {}",
        kernel.release().display(),
        kernel.machine().display(),
        Datapath::PROGRAMS,
        datapath.tc_attach
    );
    if let Some(without) = datapath.features.without() {
        println!("{without}");
    }
    Ok(ExitCode::SUCCESS)
}

/// `3 Services, 7 Pods, 1 EndpointSlice: ok` or `2 errors, 1 warning`.
fn summary(input: &Input) -> String {
    let of = |severity| input.diagnostics.iter().filter(|d| d.severity == severity).count();
    let findings = list(&[
        (of(Severity::Error), "error", "errors"),
        (of(Severity::Warning), "warning", "warnings"),
    ]);
    if input.model.is_none() {
        return findings;
    }
    let objects = &input.objects;
    let counts = [
        (objects.services().count(), Kind::Service.name(), "Services"),
        (objects.pods().count(), Kind::Pod.name(), "Pods"),
        (objects.slices().count(), Kind::EndpointSlice.name(), "EndpointSlices"),
        (objects.endpoints().count(), "Endpoints", "Endpoints"),
        (objects.nodes().count(), Kind::Node.name(), "Nodes"),
    ];
    let found = match list(&counts) {
        none if none.is_empty() => "no objects".to_owned(),
        found => found,
    };
    match findings.as_str() {
        "" => format!("{found}: ok"),
        _ => format!("{found}: ok, {findings}"),
    }
}

/// The counts that are not 0, in words.
fn list(counts: &[(usize, &str, &str)]) -> String {
    let words = counts
        .iter()
        .filter(|(count, ..)| *count > 0)
        .map(|(count, one, many)| match count {
            1 => format!("1 {one}"),
            _ => format!("{count} {many}"),
        });
    words.collect::<Vec<_>>().join(", ")
}
