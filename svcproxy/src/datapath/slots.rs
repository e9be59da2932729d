//! `backend_slots` as memory of this process. A plan of some thousand Services fills a million slots: a system call for
//! each would take the better part of a second.
//!
//! The kernel puts every page of a mapping into it at once, so only what is read or written is mapped, and only for that
//! long.

use std::{io, ops::Range, os::fd::AsFd, ptr::NonNull};

use aya::maps::MapData;
use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    param::page_size,
};

/// Each element takes as much (`array_map_alloc`, kernel/bpf/arraymap.c).
const ELEMENT: usize = size_of::<u64>();

/// The slots (`BPF_F_MMAPABLE`, Linux 5.5).
pub struct Slots {
    map: MapData,
    count: u32,
}

impl Slots {
    /// The slots of an array of `u32`.
    pub(super) fn new(map: MapData) -> io::Result<Self> {
        let count = map.info().map_err(io::Error::other)?.max_entries();
        Ok(Self { map, count })
    }

    /// Some of the slots.
    ///
    /// # Errors
    ///
    /// When there are no such slots, or the kernel refuses.
    pub fn window(&self, slots: Range<u32>) -> io::Result<Window> {
        if slots.is_empty() || slots.end > self.count {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let page = page_size();
        let start = slots.start as usize * ELEMENT / page * page;
        let length = slots.end as usize * ELEMENT - start;
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping, at an address of the kernel's choice. It rounds the length up to whole pages.
        let memory = unsafe {
            let anywhere = std::ptr::null_mut();
            mmap(anywhere, length, access, flags, self.map.fd().as_fd(), start as u64)
        }?;
        Ok(Window {
            memory: NonNull::new(memory.cast()).ok_or(io::ErrorKind::OutOfMemory)?,
            length,
            first: start / ELEMENT,
        })
    }
}

/// Slots, shared with the programs.
pub struct Window {
    memory: NonNull<u64>,
    length: usize,
    /// The slot at the beginning.
    first: usize,
}

impl Window {
    /// The endpoint in a slot; `None` when the slot is out of sight.
    pub fn get(&self, index: u32) -> Option<u32> {
        // SAFETY: within the mapping; the programs only read.
        self.slot(index).map(|slot| unsafe { slot.read_volatile() })
    }

    /// Puts an endpoint into a slot. False when the slot is out of sight.
    pub(super) fn set(&self, index: u32, endpoint: u32) -> bool {
        // SAFETY: within the mapping, aligned: one store, of which a program sees all or nothing.
        self.slot(index)
            .map(|slot| unsafe { slot.write_volatile(endpoint) })
            .is_some()
    }

    /// The first half of an element: all there is of a `u32`.
    fn slot(&self, index: u32) -> Option<*mut u32> {
        let nth = (index as usize).checked_sub(self.first)?;
        // SAFETY: as many elements are mapped.
        (nth < self.length / ELEMENT).then(|| unsafe { self.memory.as_ptr().add(nth) }.cast())
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        // SAFETY: ours, and of that length. An error could only mean that it is not.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), self.length) };
    }
}
