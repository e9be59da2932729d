//! Installs what is missing to build, test and show svcproxy; quick and silent about the rest.
//!
//! The first way that works is taken: rustup's own component, then Debian's packages. Where neither does, the error
//! lists what to install by hand.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Result, anyhow, bail};

use crate::{
    process::{as_root, run, run_within, which},
    toolchain::{Compiler, LINKER_FEATURES, LINKER_VERSION, Linker, PINNED_TOOLCHAIN, Toolchain, WANTED},
};

/// Commands that the lab, the demo and the tests run, with the Debian package of each.
const TOOLS: [(&str, &str); 6] = [
    ("ip", "iproute2"),
    ("setpriv", "util-linux"),
    ("ethtool", "ethtool"),
    ("bpftool", "bpftool"),
    ("curl", "curl"),
    ("ping", "iputils-ping"),
];

/// What `cargo xtask bench` runs beyond these.
const BENCH_TOOLS: [(&str, &str); 3] = [
    ("nft", "nftables"),
    ("iptables-restore", "iptables"),
    ("chrt", "util-linux"),
];

/// Downloads that take longer than this are given up for the next way.
const PATIENCE: Duration = Duration::from_secs(120);

/// Makes sure that everything is there, and says what it found or did.
pub fn run_all() -> Result<Toolchain> {
    let compiler = match Compiler::find() {
        Some(compiler) => compiler,
        None => install_compiler()?,
    };
    eprintln!("setup: eBPF compiler: {compiler}");
    let linker = match Linker::find() {
        Some(linker) => linker,
        None => install_linker()?,
    };
    eprintln!("setup: eBPF linker: {linker}");
    install_tools(&TOOLS)?;
    eprintln!("setup: commands: {}", TOOLS.map(|(command, _)| command).join(", "));
    Ok(Toolchain { compiler, linker })
}

/// A way to get something, with its name for people.
type Way = (&'static str, fn() -> Result<()>);

fn install_compiler() -> Result<Compiler> {
    eprintln!("setup: no compiler with the source of its library yet");
    let ways: [Way; 2] = [
        ("rustup's rust-src", add_rust_src),
        ("Debian's rustc-web and rust-web-src", install_rustc_web),
    ];
    let mut tried = Vec::new();
    for (name, install) in ways {
        match install().map(|()| Compiler::find()) {
            Ok(Some(compiler)) => return Ok(compiler),
            Ok(None) => tried.push(format!("{name}: installed, but not {WANTED}")),
            Err(error) => tried.push(format!("{name}: {error:#}")),
        }
        eprintln!("setup: {}", tried[tried.len() - 1]);
    }
    Err(anyhow!(
        "cannot get a compiler for the kernel programs. Install one of these and run `cargo xtask setup` again:\n  \
         - with rustup:         rustup component add rust-src\n  \
         - on Debian or Ubuntu: apt-get install rustc-web rust-web-src\n  \
         - elsewhere:           as /usr/bin/rustc, {WANTED}, and the source of its library (rust-src)\n\
         What was tried:\n  - {}",
        tried.join("\n  - ")
    ))
}

fn add_rust_src() -> Result<()> {
    if which("rustup").is_none() {
        bail!("no rustup here");
    }
    let mut rustup = Command::new("rustup");
    match Compiler::without_source() {
        Some("") => rustup.args(["component", "add", "rust-src"]),
        Some(toolchain) => rustup.args(["component", "add", "rust-src", "--toolchain", toolchain]),
        None => rustup.args([
            "toolchain",
            "install",
            PINNED_TOOLCHAIN,
            "--profile",
            "minimal",
            "--component",
            "rust-src",
        ]),
    };
    run_within(PATIENCE, &mut rustup)
}

fn install_rustc_web() -> Result<()> {
    apt_install(&["rustc-web", "rust-web-src"])
}

fn install_linker() -> Result<Linker> {
    eprintln!("setup: building bpf-linker {LINKER_VERSION} (about a minute)");
    run(Command::new("cargo")
        .args([
            "install",
            "--locked",
            "--quiet",
            "bpf-linker",
            "--version",
            LINKER_VERSION,
        ])
        .args(LINKER_FEATURES)
        .arg("--root")
        .arg(Linker::install_root()))?;
    Linker::find().ok_or_else(|| anyhow!("bpf-linker was installed but does not run"))
}

/// [`run_all`], and the commands of the bench.
pub fn run_bench() -> Result<Toolchain> {
    let toolchain = run_all()?;
    install_tools(&BENCH_TOOLS)?;
    Ok(toolchain)
}

/// Installs the commands that are missing, each with its Debian package.
pub fn install_tools(tools: &[(&'static str, &'static str)]) -> Result<()> {
    let missing = tools.iter().filter(|(command, _)| which(command).is_none());
    let (commands, packages): (Vec<&str>, Vec<&str>) = missing.copied().unzip();
    if commands.is_empty() {
        return Ok(());
    }
    eprintln!("setup: missing commands: {}", commands.join(", "));
    apt_install(&packages).map_err(|error| {
        anyhow!(
            "install these commands and run `cargo xtask setup` again: {}\n{error:#}",
            commands.join(", ")
        )
    })
}

fn apt_install(packages: &[&str]) -> Result<()> {
    if !Path::new("/usr/bin/apt-get").exists() {
        bail!("no apt-get here");
    }
    run_within(PATIENCE, as_root("apt-get").args(["-qq", "update"]))?;
    run(as_root("env")
        .args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "install", "-y"])
        // dpkg has no quiet of its own; what it has to say of errors comes on stderr.
        .stdout(Stdio::null())
        .args(["--no-install-recommends"])
        .args(packages))
}
