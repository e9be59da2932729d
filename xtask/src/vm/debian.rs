//! Packages of a Debian suite, downloaded by an apt of their own: nothing of this machine's packages is touched.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use xtask::{process, target_dir};

/// A suite for an architecture.
pub(super) struct Debian {
    directory: PathBuf,
    /// Debian's name of the architecture.
    arch: &'static str,
}

/// A kernel and its modules.
pub(super) struct Kernel {
    /// `uname -r`
    pub(super) release: String,
    /// The package's files.
    pub(super) files: PathBuf,
}

impl Kernel {
    /// The image that boots.
    pub(super) fn image(&self) -> PathBuf {
        let image = self.files.join("boot").join(format!("vmlinuz-{}", self.release));
        match image.exists() {
            true => image,
            false => self.modules().join(&self.release).join("vmlinuz"),
        }
    }

    /// The directory that `/lib/modules` is.
    pub(super) fn modules(&self) -> PathBuf {
        self.files.join("lib/modules")
    }
}

impl Debian {
    /// Sets up an apt for it, and reads the lists of packages once a day.
    pub(super) fn new(suite: &str, arch: &str) -> Result<Self> {
        let arch = match arch {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => bail!("no architecture {other}: write x86_64 or aarch64"),
        };
        let debian = Self {
            directory: target_dir().join("vm").join(format!("{suite}-{arch}")),
            arch,
        };
        let root = debian.directory.join("apt");
        for directory in [
            "etc/apt/preferences.d",
            "etc/apt/apt.conf.d",
            "var/lib/apt/lists/partial",
            "var/lib/dpkg",
            "var/cache/apt/archives/partial",
        ] {
            fs::create_dir_all(root.join(directory))?;
        }
        fs::write(root.join("var/lib/dpkg/status"), "")?;
        // Suites newer than this machine's keyring cannot be verified here; nothing of them runs outside the machine.
        fs::write(
            root.join("etc/apt/sources.list"),
            format!("deb [trusted=yes] http://deb.debian.org/debian {suite} main\n"),
        )?;
        let updated = root.join("updated");
        let fresh = fs::metadata(&updated).and_then(|file| file.modified());
        if !fresh.is_ok_and(|at| at.elapsed().is_ok_and(|age| age.as_secs() < 86_400)) {
            process::run(debian.apt("apt-get").args(["-qq", "update"]))?;
            fs::write(&updated, "")?;
        }
        Ok(debian)
    }

    /// The suite's newest kernel.
    pub(super) fn kernel(&self) -> Result<Kernel> {
        let meta = format!("linux-image-{}", self.arch);
        let mut images = self.dependencies(&meta).into_iter();
        let package = images.find(|name| name.starts_with("linux-image-"));
        let package = package.with_context(|| format!("{meta} depends on no kernel"))?;
        let release = package.trim_start_matches("linux-image-").to_owned();
        let files = self.directory.join(&package);
        if !files.join("complete").exists() {
            // From Linux 7 on the kernel, its modules and the list of what is built in are packages of their own.
            let mut packages = self.dependencies(&package);
            packages.retain(|name| {
                ["linux-base-", "linux-binary-", "linux-modules-"]
                    .iter()
                    .any(|part| name.starts_with(part))
            });
            packages.push(package);
            let packages: Vec<_> = packages.iter().map(String::as_str).collect();
            self.unpack(&packages, &files, false)?;
            // Suites from trixie on have the modules in /usr.
            if files.join("usr/lib/modules").is_dir() {
                fs::create_dir_all(files.join("lib"))?;
                fs::rename(files.join("usr/lib/modules"), files.join("lib/modules"))?;
            }
            process::run(Command::new("depmod").arg("-b").arg(&files).arg(&release))?;
            fs::write(files.join("complete"), "")?;
        }
        Ok(Kernel { release, files })
    }

    /// The packages that one depends on.
    fn dependencies(&self, package: &str) -> Vec<String> {
        let text = process::output(self.apt("apt-cache").args(["depends", package])).unwrap_or_default();
        let names = text.lines().filter_map(|line| line.trim().strip_prefix("Depends: "));
        names.map(str::to_owned).collect()
    }

    /// Downloads packages, with all they depend on or without, and unpacks them into a directory.
    pub(super) fn unpack(&self, packages: &[&str], into: &Path, dependencies: bool) -> Result<()> {
        let downloads = self.directory.join("downloads");
        fs::remove_dir_all(&downloads).ok();
        fs::create_dir_all(&downloads)?;
        fs::create_dir_all(into)?;
        if dependencies {
            let mut names: Vec<String> = packages.iter().map(|name| (*name).to_owned()).collect();
            let closure = self
                .apt("apt-cache")
                .args(["depends", "--recurse", "--no-recommends"])
                .args([
                    "--no-suggests",
                    "--no-conflicts",
                    "--no-breaks",
                    "--no-replaces",
                    "--no-enhances",
                ])
                .args(packages)
                .output()?;
            let closure = String::from_utf8_lossy(&closure.stdout).into_owned();
            let plain = |line: &&str| !line.starts_with([' ', '<']) && !line.contains(':');
            names.extend(closure.lines().filter(plain).map(str::to_owned));
            names.sort();
            names.dedup();
            process::run(
                self.apt("apt-get")
                    .args(["-qq", "download"])
                    .args(&names)
                    .current_dir(&downloads),
            )?;
        } else {
            process::run(
                self.apt("apt-get")
                    .args(["-qq", "download"])
                    .args(packages)
                    .current_dir(&downloads),
            )?;
        }
        for file in fs::read_dir(&downloads)? {
            let status = Command::new("dpkg-deb")
                .arg("-x")
                .arg(file?.path())
                .arg(into)
                .status()?;
            if !status.success() {
                bail!("dpkg-deb: {status}");
            }
        }
        fs::remove_dir_all(&downloads)?;
        Ok(())
    }

    fn apt(&self, command: &str) -> Command {
        let root = self.directory.join("apt");
        let mut apt = Command::new(command);
        apt.arg("-o").arg(format!("Dir={}", root.display()));
        apt.arg("-o")
            .arg(format!("Dir::State::status={}/var/lib/dpkg/status", root.display()));
        // The sandbox's user has no access to the workspace.
        apt.args([
            "-o",
            "APT::Sandbox::User=root",
            "-o",
            "Acquire::Check-Valid-Until=false",
        ]);
        apt.arg("-o").arg(format!("APT::Architecture={}", self.arch));
        apt.arg("-o").arg(format!("APT::Architectures={}", self.arch));
        apt
    }
}
