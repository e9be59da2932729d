//! `svcproxy --cleanup`: removes every trace.

use std::{fs, io, path::Path};

use anyhow::Context as _;
use tracing::info;

use super::{
    PlaceArgs,
    lock::{self, Lock},
};
use crate::{datapath::pins, state};

/// Detaches the programs, frees the maps and deletes the state.
pub(super) fn cleanup(places: &PlaceArgs) -> anyhow::Result<()> {
    let lock = Lock::acquire(&places.state_dir)?;
    remove_datapath(&places.pin_dir)?;
    info!(
        "detached every program and freed every map under {}",
        places.pin_dir.display()
    );
    drop(lock);
    for name in [state::FILE_NAME, lock::FILE_NAME] {
        let path = places.state_dir.join(name);
        gone(fs::remove_file(&path)).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    // The directory stays when something else is in it, a corrupt state that was set aside for example.
    let _ = fs::remove_dir(&places.state_dir);
    info!("deleted the state in {}", places.state_dir.display());
    Ok(())
}

/// Detaches the programs and frees the maps pinned under a directory. Links before maps: no program shall run over
/// tables that are half gone.
pub(super) fn remove_datapath(pin_dir: &Path) -> anyhow::Result<()> {
    let dir = pin_dir.join("links");
    if dir.exists() {
        pins::detach_all(&dir)?;
    }
    for dir in [&dir, pin_dir] {
        remove_pins(dir).with_context(|| format!("cannot clear {}", dir.display()))?;
    }
    Ok(())
}

/// Removes the files of a directory and the directory.
fn remove_pins(dir: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    gone(fs::remove_dir(dir))
}

/// What is gone already is no error.
fn gone(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
