//! The contributor's one door, as a library: what `cargo xtask` and svcproxy's build script share.
//!
//! [`toolchain`] finds a compiler and a linker for the kernel programs, [`setup`] installs what is missing, [`ebpf`]
//! builds the object with them and [`object`] refuses one that the kernel would refuse.

#![forbid(unsafe_code)]

pub mod ebpf;
pub mod object;
pub mod process;
pub mod setup;
mod stack;
pub mod toolchain;

use std::{
    env,
    path::{Path, PathBuf},
};

/// The directory of the workspace.
pub fn workspace() -> &'static Path {
    let xtask = Path::new(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().unwrap_or(xtask)
}

/// Where builds go: `CARGO_TARGET_DIR`, or `target` in the workspace.
pub fn target_dir() -> PathBuf {
    workspace().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}
