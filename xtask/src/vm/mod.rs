//! `cargo xtask vm`: svcproxy on the kernels that people run, booted in QEMU.
//!
//! In come kernels of Debian, out goes a table of kernels and checks. A check is a list of the project's own end-to-end
//! tests, run in the machine as they run here: there is one lab and not two. A kernel that cannot be had, and a check that
//! does not pass, is a failure.

mod debian;
mod guest;
mod initrd;
mod machine;

use std::{collections::BTreeMap, fs, path::PathBuf, time::Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use xtask::{process, setup, target_dir};

use self::{
    debian::Debian,
    guest::{Guest, Programs},
    machine::Machine,
};

/// Flags of `cargo xtask vm`.
#[derive(Args)]
pub(crate) struct Flags {
    /// 6.1, 6.12 or newest; several by commas
    #[arg(long, value_name = "KERNEL", value_delimiter = ',', default_values = ["6.1", "6.12"])]
    kernel: Vec<String>,
    /// x86_64 or aarch64
    #[arg(long, default_value = "x86_64")]
    arch: String,
    /// Every kernel, x86_64 and aarch64
    #[arg(long)]
    all: bool,
    /// Only whether the kernel takes all programs
    #[arg(long)]
    load: bool,
    /// Run this in the machine in place of the checks
    #[arg(last = true)]
    command: Vec<String>,
}

/// The suites of Debian, by the kernel that is theirs.
const SUITES: [(&str, &str); 3] = [("6.1", "bookworm"), ("6.12", "trixie"), ("newest", "sid")];

/// What is checked: a name, and filters of end-to-end tests.
const CHECKS: [(&str, &[&str]); 8] = [
    // Cluster IPs over both families, tc and XDP.
    ("cluster IP, UDP", &["udp::"]),
    // nodePorts, external and load balancer IPs, masquerading, and hairpin.
    ("every way in", &["rules_8_9_12_13_16_17_every_way_in"]),
    ("masquerade", &["rule_17_whom_endpoints_see"]),
    ("refusals", &["section_3_addresses_and_ports"]),
    ("fragments", &["rule_23_pieces_in_any_order"]),
    (
        "sockets of the node",
        &["rule_13_the_node_reaches", "section_3_refusals_are_errors"],
    ),
    (
        "restart",
        &[
            "connections_outlive_the_daemon",
            "connections_outlive_a_change_of_hooks",
        ],
    ),
    ("cleanup", &["cleanup_removes_every_trace"]),
];

/// Runs the checks, or one command, on the kernels that are asked for.
pub(crate) fn run(flags: &Flags) -> Result<()> {
    setup::run_all()?;
    let mut wanted = Vec::new();
    if flags.all {
        wanted.extend(SUITES.map(|(kernel, _)| (kernel.to_owned(), "x86_64".to_owned())));
        wanted.push(("6.12".to_owned(), "aarch64".to_owned()));
    } else {
        wanted.extend(flags.kernel.iter().map(|kernel| (kernel.clone(), flags.arch.clone())));
    }
    let mut programs = BTreeMap::new();
    for (_, arch) in &wanted {
        if !programs.contains_key(arch) {
            programs.insert(arch.clone(), Programs::build(arch)?);
        }
    }
    let mut failed = false;
    let mut rows = Vec::new();
    for (kernel, arch) in wanted {
        let start = Instant::now();
        let cells = on_kernel(flags, &kernel, &arch, &programs[&arch]);
        let cells = cells.unwrap_or_else(|error| vec![("boot".to_owned(), Err(format!("{error:#}")))]);
        failed |= cells.iter().any(|(_, outcome)| outcome.is_err());
        rows.push((format!("{kernel} {arch}"), cells, start.elapsed().as_secs()));
    }
    for (kernel, cells, seconds) in &rows {
        println!("{kernel} ({seconds} s)");
        for (check, outcome) in cells {
            match outcome {
                Ok(said) => println!("  ok      {check}: {said}"),
                Err(error) => println!("  FAILED  {check}: {error}"),
            }
        }
    }
    ensure!(!failed, "not all checks passed");
    Ok(())
}

type Cells = Vec<(String, Result<String, String>)>;

fn on_kernel(flags: &Flags, kernel: &str, arch: &str, programs: &Programs) -> Result<Cells> {
    let suite = SUITES.iter().find(|(name, _)| *name == kernel);
    let Some((_, suite)) = suite else {
        bail!(
            "no kernel {kernel}: write one of {}",
            SUITES.map(|(name, _)| name).join(", ")
        );
    };
    machine::install(arch)?;
    let debian = Debian::new(suite, arch)?;
    let kernel = debian.kernel()?;
    eprintln!("vm: Linux {} {arch}", kernel.release);
    let guest = Guest::make(programs, &debian)?;
    let initrd = initrd::make(&kernel, &debian)?;
    let machine = Machine {
        arch,
        kernel: &kernel,
        initrd: &initrd,
        root: &guest.root,
    };
    if !flags.command.is_empty() {
        let outcome = machine.run(&flags.command.join(" "))?;
        print!("{}", outcome.output);
        ensure!(outcome.code == 0, "the command ended with {}", outcome.code);
        return Ok(Vec::new());
    }
    let mut script = format!(
        "echo '@ load'; {} check --kernel; echo \"@ rc $?\"\n",
        guest.program("svcproxy").display()
    );
    for (name, filters) in CHECKS.iter().filter(|_| !flags.load) {
        script += &format!(
            "echo '@ {name}'; {} {} --test-threads 2; echo \"@ rc $?\"\n",
            guest.program("e2e").display(),
            filters.join(" ")
        );
    }
    let outcome = machine.run(&script)?;
    let log = log_file(&kernel.release, arch)?;
    fs::write(&log, &outcome.output).with_context(|| format!("cannot write {}", log.display()))?;
    let cells = cells(&outcome.output, &log);
    let expected = if flags.load { 1 } else { 1 + CHECKS.len() };
    ensure!(
        cells.len() == expected,
        "the machine stopped after {} of {expected} checks: see {}",
        cells.len(),
        log.display()
    );
    Ok(cells)
}

/// Where what a machine has said is kept.
fn log_file(release: &str, arch: &str) -> Result<PathBuf> {
    let directory = target_dir().join("vm/logs");
    fs::create_dir_all(&directory)?;
    Ok(directory.join(format!("{release}-{arch}.log")))
}

/// The checks of a machine's output, which begin with `@ name` and end with `@ rc code`.
fn cells(output: &str, log: &std::path::Path) -> Cells {
    let mut cells = Vec::new();
    let (mut name, mut said) = (None, String::new());
    for line in output.lines() {
        match line.strip_prefix("@ ") {
            Some(rest) => match (rest.strip_prefix("rc "), name.take()) {
                (Some(code), Some(check)) => cells.push((check, judge(code, &said, log))),
                (_, _) => (name, said) = (Some(rest.to_owned()), String::new()),
            },
            None => {
                // The last line that counts something: `test result: …`, or what `check --kernel` says.
                if line.starts_with("test result:") || line.starts_with("Linux ") {
                    line.clone_into(&mut said);
                }
            }
        }
    }
    cells
}

fn judge(code: &str, said: &str, log: &std::path::Path) -> Result<String, String> {
    // A filter that matches nothing runs nothing, and must not pass.
    if code != "0" || said.is_empty() || said.contains(" 0 passed") {
        return Err(format!("{said} (exit code {code}; see {})", log.display()));
    }
    let said = said.trim_start_matches("test result: ok. ");
    Ok(said.split("; 0 failed").next().unwrap_or(said).to_owned())
}

/// The static library and linker of another architecture, for [`guest`] and `cargo xtask build --target`.
pub(crate) fn cross(arch: &str) -> Result<()> {
    if arch == std::env::consts::ARCH {
        return Ok(());
    }
    // The compiler only recommends the library.
    setup::install_tools(&[
        ("aarch64-linux-gnu-gcc", "gcc-aarch64-linux-gnu"),
        ("../aarch64-linux-gnu/lib/libc.a", "libc6-dev-arm64-cross"),
    ])?;
    process::run(std::process::Command::new("rustup").args(["target", "add", "aarch64-unknown-linux-gnu"]))
}
