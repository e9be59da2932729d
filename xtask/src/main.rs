//! The contributor's one door. `cargo xtask --help` is the table of contents.

#![forbid(unsafe_code)]

mod vm;

use std::{
    env,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use xtask::{ebpf, process, setup, target_dir, workspace};

/// Everything there is to do with svcproxy's source.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what is missing: a compiler and a linker for the kernel programs, the commands that lab and tests run
    Setup,
    /// Build only the kernel programs, and check that the kernel can take them
    BuildEbpf,
    /// Build the daemon, with the kernel programs inside: target/release/svcproxy
    Build {
        /// As one static file for this target, such as aarch64-unknown-linux-gnu: target/TARGET/release/svcproxy
        #[arg(long)]
        target: Option<String>,
    },
    /// See it work: a client, a node and three pods in network namespaces, real traffic, checked results
    Demo,
    /// Run the end-to-end tests on kernels of Debian in QEMU: a table of kernels and checks
    Vm(vm::Flags),
    /// Keep a lab to play with
    #[command(subcommand)]
    Lab(Lab),
    /// Put random packets in random clusters before the kernel programs, the host's decision code and the rules
    Fuzz(Fuzz),
    /// Measure what svcproxy costs, beside floors, plain routing and kube-proxy's rules
    Bench {
        /// Flags of `bench`: --quick for a minute's look, --check against the targets, --parts for some only
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        flags: Vec<String>,
    },
    /// Run every test there is, as root
    Test {
        /// Only tests whose name contains one of these
        filters: Vec<String>,
    },
}

#[derive(Args)]
struct Fuzz {
    /// How many packets
    #[arg(long, default_value_t = 10_000_000)]
    packets: u64,
    /// Which; without one a run picks and prints its own
    #[arg(long)]
    seed: Option<u64>,
    /// Of these only the scene with this one, as a failure prints it
    #[arg(long, requires = "seed")]
    packet: Option<u64>,
}

#[derive(Subcommand)]
enum Lab {
    /// Create the lab and start svcproxy in its node
    Up {
        /// Flags of `lab up`; see `cargo xtask lab up -- --help`
        #[arg(last = true)]
        flags: Vec<String>,
    },
    /// Run a command in the namespace of `client`, `node` or a pod, as kubectl exec would
    Exec {
        /// Where: `client`, `node`, or the start of a pod's name
        place: String,
        /// The command and its arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Remove the lab and everything in it
    Down,
}

fn main() -> ExitCode {
    match run(Cli::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<()> {
    match task {
        Task::Setup => setup::run_all().map(drop),
        Task::BuildEbpf => build_ebpf(),
        Task::Build { target: None } => build(),
        Task::Build { target: Some(target) } => build_static(&target),
        Task::Vm(flags) => vm::run(&flags),
        Task::Demo => {
            build()?;
            lab(&["demo".to_owned()])
        }
        Task::Lab(Lab::Up { flags }) => {
            build()?;
            lab(&[vec!["up".to_owned()], flags].concat())
        }
        Task::Lab(Lab::Exec { place, command }) => {
            lab(&[vec!["exec".to_owned(), place, "--".to_owned()], command].concat())
        }
        Task::Lab(Lab::Down) => lab(&["down".to_owned()]),
        Task::Fuzz(flags) => fuzz(&flags),
        Task::Bench { flags } => bench(&flags),
        Task::Test { filters } => test(&filters),
    }
}

fn build_ebpf() -> Result<()> {
    let object = ebpf::build(ebpf::SVCPROXY, &setup::run_all()?, env::consts::ARCH)?;
    eprintln!("built {}", object.display());
    Ok(())
}

fn build() -> Result<()> {
    setup::run_all()?;
    process::run(cargo().args([
        "build",
        "--release",
        "--package=svcproxy",
        "--package=svcproxy-tests",
        "--bins",
    ]))
}

/// Builds the daemon for a target, without libraries that it would need there.
fn build_static(target: &str) -> Result<()> {
    setup::run_all()?;
    vm::cross(target.split('-').next().unwrap_or_default())?;
    process::run(Command::new("rustup").args(["target", "add", target]))?;
    let mut build = cargo();
    build.args(["build", "--release", "--package=svcproxy", "--bins"]);
    static_target(&mut build, target);
    process::run(&mut build)?;
    eprintln!("built {}", target_dir().join(target).join("release/svcproxy").display());
    Ok(())
}

/// Has cargo build for a target, linked statically.
fn static_target(cargo: &mut Command, target: &str) {
    cargo.args(["--target", target]);
    let name = target.to_uppercase().replace('-', "_");
    cargo.env(format!("CARGO_TARGET_{name}_RUSTFLAGS"), "-Ctarget-feature=+crt-static");
    if target.starts_with("aarch64") && env::consts::ARCH != "aarch64" {
        cargo.env(format!("CARGO_TARGET_{name}_LINKER"), "aarch64-linux-gnu-gcc");
        cargo.env("CC_aarch64_unknown_linux_gnu", "aarch64-linux-gnu-gcc");
    }
}

/// Becomes the lab's own command, so that a Ctrl-C reaches nobody else.
fn lab(arguments: &[String]) -> Result<()> {
    let lab = target_dir().join("release/lab");
    let error = process::as_root(&lab.to_string_lossy()).args(arguments).exec();
    Err(error).with_context(|| format!("cannot run {}; `cargo xtask lab up` builds it", lab.display()))
}

/// Builds the daemon and the bench, and becomes the bench.
fn bench(flags: &[String]) -> Result<()> {
    setup::run_bench()?;
    process::run(cargo().args([
        "build",
        "--release",
        "--package=svcproxy",
        "--package=svcproxy-tests",
        "--package=svcproxy-bench",
        "--bins",
    ]))?;
    let bench = target_dir().join("release/bench");
    let error = process::as_root(&bench.to_string_lossy())
        .arg("--output")
        .arg(target_dir().join("bench"))
        .args(flags)
        .exec();
    Err(error).with_context(|| format!("cannot run {}", bench.display()))
}

/// The differential test of `tests/tests/packets`, optimised and at length.
fn fuzz(flags: &Fuzz) -> Result<()> {
    /// `SCENE` there.
    const PACKETS_OF_A_SCENE: u64 = 4_000;

    setup::run_all()?;
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs());
    let mut cargo = as_root_runner(cargo());
    cargo.env("SVCPROXY_PACKETS", flags.packets.to_string());
    cargo.env("SVCPROXY_SEED", flags.seed.unwrap_or(now).to_string());
    if let Some(packet) = flags.packet {
        cargo.env(
            "SVCPROXY_SCENE",
            (packet.saturating_sub(1) / PACKETS_OF_A_SCENE).to_string(),
        );
    }
    process::run(cargo.args([
        "test",
        "--release",
        "--package=svcproxy-tests",
        "--test=packets",
        "differential",
        "--",
        "--nocapture",
    ]))
}

fn test(filters: &[String]) -> Result<()> {
    setup::run_all()?;
    // The daemon that the end-to-end tests start is no dependency of theirs that cargo knows of.
    process::run(cargo().args(["build", "--bins"]))?;
    let nextest = process::output(cargo().args(["nextest", "--version"])).is_some();
    let runner: &[&str] = if nextest {
        &["nextest", "run"]
    } else {
        &["test", "--lib", "--bins", "--tests"]
    };
    process::run(
        as_root_runner(cargo())
            .args(runner)
            .args(test_filters(nextest, filters)),
    )?;
    if filters.is_empty() {
        process::run(cargo().args(["test", "--doc"]))?;
    }
    Ok(())
}

/// nextest takes any number of filters; cargo test hands them to the harness behind `--`.
fn test_filters(nextest: bool, filters: &[String]) -> Vec<String> {
    let separator = (!nextest).then(|| "--".to_owned());
    separator.into_iter().chain(filters.iter().cloned()).collect()
}

fn cargo() -> Command {
    let mut cargo = Command::new("cargo");
    cargo.current_dir(workspace());
    cargo
}

/// Builds as the user, runs the built tests as root.
fn as_root_runner(mut cargo: Command) -> Command {
    if !process::is_root() {
        let arch = env::consts::ARCH.to_uppercase();
        cargo.env(
            format!("CARGO_TARGET_{arch}_UNKNOWN_LINUX_GNU_RUNNER"),
            "sudo --preserve-env",
        );
    }
    cargo
}
