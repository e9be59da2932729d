//! What runs in a machine: this one's own root for its own architecture, a small Debian for another.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

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

impl Guest {
    /// Builds the daemon, the lab and the end-to-end tests for the architecture, and its root.
    pub(super) fn build(arch: &str, debian: &Debian) -> Result<Self> {
        let native = arch == std::env::consts::ARCH;
        super::cross(arch)?;
        let target = format!("{arch}-unknown-linux-gnu");
        let mut build = Command::new("cargo");
        build.current_dir(workspace()).arg("build");
        let mut tests = Command::new("cargo");
        tests.current_dir(workspace()).args([
            "test",
            "--package=svcproxy-tests",
            "--test=e2e",
            "--no-run",
            "--message-format=json",
        ]);
        for command in [&mut build, &mut tests] {
            if !native {
                crate::static_target(command, &target);
            }
        }
        process::run(build.arg("--bins"))?;
        let text = process::output(&mut tests).context("the end-to-end tests do not build")?;
        let test = text
            .lines()
            .filter(|line| line.contains("\"executable\":\""))
            .find_map(|line| {
                let (_, rest) = line.split_once("\"executable\":\"")?;
                let path = rest.split('"').next()?;
                path.contains("/e2e-").then(|| PathBuf::from(path))
            });
        let test = test.context("cargo names no executable of the end-to-end tests")?;
        let built = match native {
            true => target_dir().join("debug"),
            false => target_dir().join(&target).join("debug"),
        };
        // Beside each other, as the tests expect their programs.
        let directory = target_dir().join("vm").join(format!("programs-{arch}"));
        fs::create_dir_all(&directory)?;
        for (file, name) in [
            (built.join("svcproxy"), "svcproxy"),
            (built.join("lab"), "lab"),
            (test, "e2e"),
        ] {
            let to = directory.join(name);
            fs::remove_file(&to).ok();
            fs::copy(&file, &to).with_context(|| format!("cannot copy {}", file.display()))?;
        }
        if native {
            return Ok(Self {
                root: "/".into(),
                programs: directory,
            });
        }
        let root = target_dir().join("vm").join(format!("root-{arch}"));
        if !root.join("complete").exists() {
            debian.unpack(&PACKAGES, &root, true)?;
            fs::write(root.join("complete"), "")?;
        }
        let programs = Path::new("/opt");
        for name in ["svcproxy", "lab", "e2e"] {
            fs::create_dir_all(root.join("opt"))?;
            fs::copy(directory.join(name), root.join("opt").join(name))?;
        }
        Ok(Self {
            root,
            programs: programs.to_owned(),
        })
    }

    /// A program, as the machine sees it.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }
}
