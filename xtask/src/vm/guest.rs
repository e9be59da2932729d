//! What runs in a machine: this one's own root for its own architecture, a small Debian for another.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context, Result};
use xtask::{process, target_dir, workspace};

use super::debian::Debian;

/// A root and the programs in it.
pub(super) struct Guest {
    /// What the machine's `/` is.
    pub(super) root: PathBuf,
    /// Where the programs are, as the machine sees it.
    programs: PathBuf,
}

/// Commands of the tests, for a root of its own.
const PACKAGES: [&str; 11] = [
    "bash",
    "coreutils",
    "iproute2",
    "ethtool",
    "curl",
    "iputils-ping",
    "util-linux",
    "mount",
    "kmod",
    "procps",
    "bpftool",
];

/// The daemon, the lab and the end-to-end tests of an architecture.
pub(super) struct Programs {
    arch: String,
    /// They lie beside each other, as the tests expect.
    directory: PathBuf,
}

const NAMES: [&str; 3] = ["svcproxy", "lab", "e2e"];

impl Programs {
    /// Builds them.
    pub(super) fn build(arch: &str) -> Result<Self> {
        super::cross(arch)?;
        let target = format!("{arch}-unknown-linux-gnu");
        let (mut build, mut tests) = (Command::new("cargo"), Command::new("cargo"));
        build
            .current_dir(workspace())
            .args(["build", "--bins", "--package=svcproxy", "--package=svcproxy-tests"]);
        tests.current_dir(workspace()).args([
            "test",
            "--package=svcproxy-tests",
            "--test=e2e",
            "--no-run",
            "--message-format=json",
        ]);
        let native = arch == std::env::consts::ARCH;
        if !native {
            crate::static_target(&mut build, &target);
            crate::static_target(&mut tests, &target);
        }
        process::run(&mut build)?;
        let text = process::output(&mut tests).context("the end-to-end tests do not build")?;
        let executable = |line: &str| {
            let (_, rest) = line.split_once("\"executable\":\"")?;
            let path = rest.split('"').next()?;
            path.contains("/e2e-").then(|| PathBuf::from(path))
        };
        let test = text.lines().find_map(executable);
        let test = test.context("cargo names no executable of the end-to-end tests")?;
        let built = match native {
            true => target_dir().join("debug"),
            false => target_dir().join(&target).join("debug"),
        };
        let directory = target_dir().join("vm").join(format!("programs-{arch}"));
        fs::create_dir_all(&directory)?;
        for (file, name) in [built.join("svcproxy"), built.join("lab"), test].iter().zip(NAMES) {
            let to = directory.join(name);
            fs::remove_file(&to).ok();
            fs::copy(file, &to).with_context(|| format!("cannot copy {}", file.display()))?;
        }
        Ok(Self {
            arch: arch.to_owned(),
            directory,
        })
    }
}

impl Guest {
    /// Makes the root for programs of its architecture.
    pub(super) fn make(programs: &Programs, debian: &Debian) -> Result<Self> {
        let Programs { arch, directory } = programs;
        if arch == std::env::consts::ARCH {
            return Ok(Self {
                root: "/".into(),
                programs: directory.clone(),
            });
        }
        let root = target_dir().join("vm").join(format!("root-{arch}"));
        if !root.join("complete").exists() {
            debian.unpack(&PACKAGES, &root, true)?;
            fs::write(root.join("complete"), "")?;
        }
        fs::create_dir_all(root.join("opt"))?;
        for name in NAMES {
            fs::copy(directory.join(name), root.join("opt").join(name))?;
        }
        Ok(Self {
            root,
            programs: "/opt".into(),
        })
    }

    /// A program, as the machine sees it.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
}
