//! Builds kernel programs: a crate of them in, a checked BPF object out.
//!
//! The nested cargo has a target directory of its own, so that it never waits for the lock of the cargo that runs the
//! build script, and none of that cargo's environment: clippy's wrapper or a coverage flag must not reach it.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use crate::{object, process, target_dir, toolchain::Toolchain, workspace};

const TARGET: &str = "bpfel-unknown-none";

/// A crate of kernel programs.
#[derive(Debug, Clone, Copy)]
pub struct Programs {
    /// The package, and its binary target.
    pub package: &'static str,
    /// Its directory in the workspace.
    pub directory: &'static str,
}

/// The programs of svcproxy.
pub const SVCPROXY: Programs = Programs {
    package: "svcproxy-ebpf",
    directory: "svcproxy-ebpf",
};

/// The programs that `cargo xtask bench` measures them against.
pub const BENCH: Programs = Programs {
    package: "svcproxy-bench-ebpf",
    directory: "tests/bench/ebpf",
};

impl Programs {
    /// Directories and files whose change changes the object: the bench's programs share svcproxy's accessors.
    fn sources(self) -> [PathBuf; 4] {
        [self.directory, SVCPROXY.directory, "svcproxy-common", "Cargo.lock"].map(|name| workspace().join(name))
    }
}

/// Builds the object for the kernel of an `arch` machine (Rust's name of it), checks it and returns its path.
pub fn build(programs: Programs, toolchain: &Toolchain, arch: &str) -> Result<PathBuf> {
    let Toolchain { compiler, linker } = toolchain;
    let flags = [
        format!("-Clinker={}", linker.path.display()),
        "-Clink-arg=--btf".to_owned(),
        // Without this every cleared or copied struct is a call of a byte-by-byte loop (and aya-ebpf's `memset` has no
        // BTF, so that the kernel refuses the program).
        "-Clink-arg=--disable-expand-memcpy-in-order".to_owned(),
        "-Ctarget-cpu=v3".to_owned(),
        format!("--cfg=bpf_target_arch=\"{arch}\""),
    ];
    let target_dir = target_dir().join("bpf");
    let mut cargo = Command::new(&compiler.cargo);
    scrub(&mut cargo);
    cargo
        .current_dir(workspace())
        .env("RUSTC", &compiler.rustc)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        // BTF is made from debug information, and the kernel wants that of every function, whatever crate it is from.
        .env("CARGO_PROFILE_RELEASE_DEBUG", "2")
        .args(["build", "--release", "--package", programs.package])
        .args(["-Z", "build-std=core", "--target", TARGET, "--target-dir"])
        .arg(&target_dir);
    if let Some(llvm) = &linker.llvm {
        cargo.env("LD_LIBRARY_PATH", llvm);
    }
    process::run(&mut cargo)?;

    let path = target_dir.join(TARGET).join("release").join(programs.package);
    let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    object::check(&bytes).with_context(|| format!("the kernel would refuse {}", path.display()))?;
    Ok(path)
}

/// For a build script: builds the object for cargo's target and copies it to `destination`.
pub fn embed(programs: Programs, destination: &Path) -> Result<()> {
    for source in programs.sources() {
        println!("cargo::rerun-if-changed={}", source.display());
    }
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_else(|_| env::consts::ARCH.to_owned());
    let toolchain = Toolchain::find().context("no compiler for the kernel programs: run `cargo xtask setup`")?;
    let object = build(programs, &toolchain, &arch)?;
    fs::copy(&object, destination).with_context(|| format!("cannot write {}", destination.display()))?;
    Ok(())
}

/// Removes what an outer cargo, rustc or clippy left in the environment, except how the user reaches registries.
fn scrub(command: &mut Command) {
    const KEEP: [&str; 5] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTR",
        "CARGO_TERM_",
    ];
    const DROP: [&str; 4] = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS"];
    const BUILD_SCRIPT: [&str; 10] = [
        "OUT_DIR",
        "TARGET",
        "HOST",
        "PROFILE",
        "OPT_LEVEL",
        "DEBUG",
        "NUM_JOBS",
        "MAKEFLAGS",
        "MFLAGS",
        "CLIPPY_ARGS",
    ];
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        let starts_with = |prefix: &&str| text.starts_with(prefix);
        let foreign = DROP.iter().any(starts_with) && !KEEP.iter().any(starts_with);
        if foreign || BUILD_SCRIPT.contains(&text.as_ref()) {
            command.env_remove(&name);
        }
    }
}
