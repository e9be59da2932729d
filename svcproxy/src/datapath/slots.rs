//! `backend_slots` as memory of this process. A plan of some thousand Services fills a million slots: a system call for
//! each would take the better part of a second.

use std::{os::fd::AsFd, ptr::NonNull};

use aya::maps::MapData;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The slots, shared with the programs (`BPF_F_MMAPABLE`, Linux 5.5).
pub struct Slots {
    /// Programs are loaded by its file descriptor.
    _map: MapData,
    memory: NonNull<u64>,
    count: u32,
}

// SAFETY: the mapping belongs to this value alone, and no method hands out a reference into it.
unsafe impl Send for Slots {}

impl Slots {
    /// Maps the slots of an array of `u32`.
    pub(super) fn new(map: MapData) -> std::io::Result<Self> {
        let count = map.info().map_err(std::io::Error::other)?.max_entries();
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        // SAFETY: a new mapping, at an address of the kernel's choice. It rounds the length up to whole pages, and each
        // element to 8 bytes (`array_map_alloc`, kernel/bpf/arraymap.c).
        let memory = unsafe { mmap(std::ptr::null_mut(), length(count), access, flags, map.fd().as_fd(), 0) }?;
        let memory = NonNull::new(memory.cast()).ok_or(std::io::ErrorKind::OutOfMemory)?;
        Ok(Self {
            _map: map,
            memory,
            count,
        })
    }

    /// The endpoint in a slot.
    pub fn get(&self, index: u32) -> Option<u32> {
        // SAFETY: within the mapping; the programs only read.
        self.slot(index).map(|slot| unsafe { slot.read_volatile() })
    }

    /// Puts an endpoint into a slot. False when there is no such slot.
    pub(super) fn set(&self, index: u32, endpoint: u32) -> bool {
        // SAFETY: within the mapping, aligned: one store, of which a program sees all or nothing.
        self.slot(index)
            .map(|slot| unsafe { slot.write_volatile(endpoint) })
            .is_some()
    }

    /// The first half of an element: all there is of a `u32`.
    fn slot(&self, index: u32) -> Option<*mut u32> {
        // SAFETY: as many elements as the map has are mapped.
        (index < self.count).then(|| unsafe { self.memory.as_ptr().add(index as usize) }.cast())
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: ours, and of that length. An error could only mean that it is not.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), length(self.count)) };
    }
}

fn length(count: u32) -> usize {
    count as usize * size_of::<u64>()
}
