//! Arrays of numbers as memory of this process. A plan of some thousand Services fills a million slots: a system call
//! for each would take the better part of a second.
//!
//! Only what is read or written at the moment is mapped: the kernel counts all of a mapping as memory of the process.

use std::{io, marker::PhantomData, ops::Range, os::fd::AsFd as _, path::Path, ptr::NonNull};

use aya::maps::{Map, MapData};
use rustix::{
    mm::{MapFlags, ProtFlags, mmap, munmap},
    param::page_size,
};

use super::DatapathError;

/// A number that one instruction writes, of which a program therefore sees all or nothing.
pub(super) trait Number: Copy {}

impl Number for u32 {}

impl Number for u64 {}

/// An array shared with the programs (`BPF_F_MMAPABLE`, Linux 5.5).
pub(super) struct SharedArray<T> {
    name: &'static str,
    map: MapData,
    /// Numbers in it.
    count: u32,
    number: PhantomData<T>,
}

/// What an entry's length is a multiple of, so that numbers are all that there is in such an array: the kernel would fill up
/// what is shorter (`array_map_alloc`, kernel/bpf/arraymap.c).
const UNIT: usize = size_of::<u64>();

impl<T: Number> SharedArray<T> {
    /// An array whose entries are of numbers of this type.
    pub(super) fn new(name: &'static str, map: Map) -> Result<Self, DatapathError> {
        let failed = |error| DatapathError::io(Path::new(name))(error);
        let Map::Array(map) = map else {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        };
        let info = map.info().map_err(|error| failed(io::Error::other(error)))?;
        let entry = info.value_size() as usize;
        if !entry.is_multiple_of(UNIT) {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        Ok(Self {
            name,
            count: info.max_entries().saturating_mul((entry / size_of::<T>()) as u32),
            map,
            number: PhantomData,
        })
    }

    /// Maps some of the numbers.
    ///
    /// # Errors
    ///
    /// When there are no such numbers.
    pub(super) fn window(&self, numbers: Range<u32>) -> Result<Window<T>, DatapathError> {
        let failed = |error| DatapathError::io(Path::new(self.name))(error);
        if numbers.is_empty() || numbers.end > self.count {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        // A mapping begins at a page; the kernel rounds its length up to whole ones.
        let begin = numbers.start as usize * size_of::<T>() / page_size() * page_size();
        let length = numbers.end as usize * size_of::<T>() - begin;
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        let fd = self.map.fd().as_fd();
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let memory = unsafe { mmap(std::ptr::null_mut(), length, access, flags, fd, begin as u64) };
        let memory = memory.map_err(|error| failed(error.into()))?;
        let memory = NonNull::new(memory.cast()).ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))?;
        Ok(Window {
            memory,
            length,
            first: (begin / size_of::<T>()) as u32,
            numbers,
        })
    }
}

/// Numbers of a [`SharedArray`], mapped until this is dropped. The mapping keeps the array.
pub(super) struct Window<T> {
    memory: NonNull<T>,
    length: usize,
    /// The index of the number at the beginning of the memory.
    first: u32,
    numbers: Range<u32>,
}

impl<T: Number> Window<T> {
    /// A number of those that are mapped.
    pub(super) fn get(&self, index: u32) -> T {
        // SAFETY: within the mapping, aligned; the programs only read.
        unsafe { self.place(index).read_volatile() }
    }

    /// Writes a number of those that are mapped.
    pub(super) fn set(&self, index: u32, value: T) {
        // SAFETY: within the mapping, aligned: one store.
        unsafe { self.place(index).write_volatile(value) };
    }

    /// Where the first of those that are mapped is; the others follow.
    pub(super) fn first(&self) -> *mut T {
        self.place(self.numbers.start)
    }

    /// Where a number is.
    fn place(&self, index: u32) -> *mut T {
        assert!(self.numbers.contains(&index), "number {index} is not mapped");
        // SAFETY: all of `numbers` is mapped, and the mapping begins with `first`.
        unsafe { self.memory.as_ptr().add((index - self.first) as usize) }
    }
}

impl<T> Drop for Window<T> {
    fn drop(&mut self) {
        // SAFETY: ours, and of that length. An error could only mean that it is not.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), self.length) };
    }
}
