//! One daemon at a time: a lock on a file in the state directory, gone with the process that holds it.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    path::Path,
};

use anyhow::{Context as _, bail};
use nix::fcntl::{Flock, FlockArg};

/// Name of the file within the state directory.
pub(super) const FILE_NAME: &str = "lock";

/// The lock, held while this lives.
pub(super) struct Lock {
    _file: Flock<File>,
}

impl Lock {
    /// Takes the lock, or says who has it.
    pub(super) fn acquire(state_dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(state_dir).with_context(|| format!("cannot make {}", state_dir.display()))?;
        let path = state_dir.join(FILE_NAME);
        let file = File::options()
            .create(true)
            .truncate(false)
            .read(true)
            .write(true)
            .open(&path);
        let mut file = file.with_context(|| format!("cannot open {}", path.display()))?;
        let mut holder = String::new();
        let _ = file.read_to_string(&mut holder);
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut file) => {
                file.set_len(0)?;
                std::io::Seek::rewind(&mut *file)?;
                write!(file, "{}", std::process::id())?;
                Ok(Self { _file: file })
            }
            Err(_) => bail!(
                "svcproxy already runs (pid {holder}) with {}; stop it first, or give this one a --state-dir and a \
                 --pin-dir of its own",
                state_dir.display()
            ),
        }
    }
}
