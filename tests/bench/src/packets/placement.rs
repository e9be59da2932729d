//! A program in several places of the kernel's memory: how it is loaded again and again over the same maps, and which of
//! its places has its turn.

use anyhow::{Context, Result};
use aya::programs::{ProgramError, ProgramFd, SchedClassifier, Xdp};

use super::programs::Hook;

/// A program that packets can be run through, by its place in the array of its hook. It is there several times: where the
/// kernel puts its code is chance, and costs or saves up to a tenth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) hook: Hook,
    pub(super) first: u32,
    /// How many there are of it.
    pub(super) placements: u32,
}

/// One of them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Placed {
    pub(super) hook: Hook,
    pub(super) index: u32,
}

impl Target {
    /// The one whose turn it is in a round.
    pub(crate) const fn placed(self, round: u32) -> Placed {
        Placed {
            hook: self.hook,
            index: self.first + round % self.placements,
        }
    }
}

/// How often a program that is measured is loaded; rounds are a multiple of it.
pub(super) const PLACEMENTS: u32 = 3;

/// A program that can be loaded again, elsewhere.
pub(crate) trait Load {
    /// Lets go of it; it stays where it is as long as somebody else holds it.
    fn forget(&mut self) -> Result<(), ProgramError>;
    /// Loads it unless it is loaded.
    fn loaded(&mut self) -> Result<ProgramFd, ProgramError>;
}

impl Load for Xdp {
    fn forget(&mut self) -> Result<(), ProgramError> {
        self.unload()
    }

    fn loaded(&mut self) -> Result<ProgramFd, ProgramError> {
        if self.fd().is_err() {
            self.load()?;
        }
        Ok(self.fd()?.try_clone()?)
    }
}

impl Load for SchedClassifier {
    fn forget(&mut self) -> Result<(), ProgramError> {
        self.unload()
    }

    fn loaded(&mut self) -> Result<ProgramFd, ProgramError> {
        if self.fd().is_err() {
            self.load()?;
        }
        Ok(self.fd()?.try_clone()?)
    }
}

/// A program as often as it is measured, over the same maps.
pub(crate) fn placements_of(program: &mut impl Load) -> Result<Vec<ProgramFd>> {
    let mut placements = vec![program.loaded().context("cannot load a program")?];
    for _ in 1..PLACEMENTS {
        program.forget()?;
        placements.push(program.loaded().context("cannot load a program again")?);
    }
    Ok(placements)
}
