//! Filters of the clsact qdisc: how programs attach at tc where the kernel has no tcx (Linux 6.6).
//!
//! A filter is known by its place, the same for every interface: priority [`PRIORITY`] and the hook's handle. A program takes
//! the place of another in one step (`cls_bpf_change`, net/sched/cls_bpf.c), so no packet sees none. The qdisc stays
//! when the last filter goes: others may have come to rely on it, and without filters it costs a packet nothing.

use std::{io, mem};

use aya::programs::{
    ProgramError, SchedClassifier,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle, qdisc_add_clsact, qdisc_detach_program},
};

use super::{DatapathError, error::errno, links::Hook};
use crate::network::Link;

/// Before the priorities that the kernel gives to filters without one, from 49 152 downwards.
const PRIORITY: u16 = 4_000;

/// One for each hook: both of an ingress are there while one takes the place of the other.
const fn handle(hook: Hook) -> TcHandle {
    match hook {
        Hook::Xdp | Hook::AfterXdp => TcHandle::new(0, 2),
        Hook::TcIn | Hook::TcOut => TcHandle::new(0, 1),
    }
}

/// What an attempt has come to.
pub(super) enum Outcome {
    /// The filter is ours.
    Attached,
    /// Its place is taken.
    Taken,
}

/// Adds the filter of a hook.
pub(super) fn attach(program: &mut SchedClassifier, link: &Link, hook: Hook) -> Result<Outcome, ProgramError> {
    if let Err(error) = qdisc_add_clsact(&link.name) {
        let error = ProgramError::from(error);
        // There is one already.
        if errno(&error) != Some(nix::libc::EEXIST) {
            return Err(error);
        }
    }
    let options = TcAttachOptions::Netlink(NlOptions {
        priority: PRIORITY,
        handle: handle(hook),
        classid: None,
    });
    match program.attach_with_options(&link.name, hook.tc().1, options) {
        Ok(id) => {
            keep(program.take_link(id)?);
            Ok(Outcome::Attached)
        }
        Err(error) if errno(&error) == Some(nix::libc::EEXIST) => Ok(Outcome::Taken),
        Err(error) => Err(error),
    }
}

/// Puts the program into the filter that an earlier run has added.
pub(super) fn replace(program: &mut SchedClassifier, link: &Link, hook: Hook) -> Result<(), ProgramError> {
    let filter = SchedClassifierLink::attached(&link.name, hook.tc().1, PRIORITY, handle(hook), None);
    let filter = filter.map_err(TcError::IoError)?;
    let id = program.attach_to_link(filter)?;
    keep(program.take_link(id)?);
    Ok(())
}

/// Removes the filter from the interface of this ifindex. That it is gone is no error, nor that the interface is.
pub(super) fn detach(index: u32, hook: Hook) -> Result<(), DatapathError> {
    let Ok(name) = nix::net::if_::if_indextoname(index) else {
        return Ok(());
    };
    let name = name.to_string_lossy();
    let (program, direction) = hook.tc();
    let Err(error) = qdisc_detach_program(&name, direction, program) else {
        return Ok(());
    };
    if let TcError::IoError(error) = &error
        && (error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ENODEV))
    {
        return Ok(());
    }
    let source = ProgramError::from(error);
    match errno(&source) {
        // The interface has gone meanwhile, or somebody has removed the qdisc with all its filters.
        Some(nix::libc::ENODEV | nix::libc::ENOENT | nix::libc::EINVAL) => Ok(()),
        _ => Err(DatapathError::Attach {
            name: name.into_owned(),
            hook: hook.name(),
            source,
        }),
    }
}

/// Keeps the filter: aya removes it with the link.
fn keep(link: SchedClassifierLink) {
    mem::forget(link);
}
