//! What must be there before the kernel is touched: capabilities, BTF, a bpffs. Each absence has a way out.

use std::{
    fs,
    path::{Path, PathBuf},
};

use caps::{CapSet, Capability};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};
use thiserror::Error;

/// Something a run needs is missing.
#[derive(Debug, Error)]
pub enum PreflightError {
    /// The process may not do what svcproxy does.
    #[error("missing {}: run svcproxy with sudo, or grant it CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON", .0.join(", "))]
    Capabilities(Vec<String>),
    /// The kernel has no type information of its own.
    #[error(
        "/sys/kernel/btf/vmlinux is missing: svcproxy needs a kernel built with CONFIG_DEBUG_INFO_BTF=y (6.7 or later)"
    )]
    NoBtf,
    /// The pin directory is not on a bpffs.
    #[error("{} is not on a bpffs and could not be made one ({reason}): `mount -t bpf bpf {}`", .mount.display(), .mount.display())]
    NoBpffs {
        /// Where one should be mounted.
        mount: PathBuf,
        /// Why we could not.
        reason: String,
    },
    /// A directory could not be made.
    #[error("{}: {reason}", .dir.display())]
    Directory {
        /// Which.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Checks that this process may load and attach programs.
///
/// # Errors
///
/// Names the capabilities that are missing.
pub fn capabilities() -> Result<(), PreflightError> {
    let has = |capability| caps::has_cap(None, CapSet::Effective, capability).unwrap_or(false);
    let mut missing = Vec::new();
    if !has(Capability::CAP_NET_ADMIN) {
        missing.push(Capability::CAP_NET_ADMIN.to_string());
    }
    // CAP_SYS_ADMIN includes the other two (capabilities(7)).
    if !has(Capability::CAP_SYS_ADMIN) {
        let needed = [Capability::CAP_BPF, Capability::CAP_PERFMON];
        missing.extend(
            needed
                .into_iter()
                .filter(|&needed| !has(needed))
                .map(|needed| needed.to_string()),
        );
    }
    if missing.is_empty() {
        Ok(())
    } else {
        Err(PreflightError::Capabilities(missing))
    }
}

/// Checks that the kernel has BTF.
///
/// # Errors
///
/// When it has not.
pub fn btf() -> Result<(), PreflightError> {
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        Ok(())
    } else {
        Err(PreflightError::NoBtf)
    }
}

/// Makes the directory for pins, on a bpffs; mounts one at `/sys/fs/bpf` when the directory is to be there and none
/// is. Returns whether it did.
///
/// # Errors
///
/// When there is no bpffs and none can be mounted.
pub fn pin_dir(dir: &Path) -> Result<bool, PreflightError> {
    let standard = Path::new("/sys/fs/bpf");
    let existing = dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let mut mounted = false;
    if statfs(existing).is_ok_and(|fs| fs.filesystem_type() != BPF_FS_MAGIC) {
        if !dir.starts_with(standard) {
            let mount = dir.parent().unwrap_or(dir).to_owned();
            let reason = "only /sys/fs/bpf is mounted without being asked".to_owned();
            return Err(PreflightError::NoBpffs { mount, reason });
        }
        mount(Some("bpf"), standard, Some("bpf"), MsFlags::empty(), None::<&str>).map_err(|error| {
            PreflightError::NoBpffs {
                mount: standard.to_owned(),
                reason: error.to_string(),
            }
        })?;
        mounted = true;
    }
    directory(&dir.join("links"))?;
    Ok(mounted)
}

/// Makes a directory and those above it.
///
/// # Errors
///
/// When that is not possible.
pub fn directory(dir: &Path) -> Result<(), PreflightError> {
    fs::create_dir_all(dir).map_err(|error| PreflightError::Directory {
        dir: dir.to_owned(),
        reason: error.to_string(),
    })
}
