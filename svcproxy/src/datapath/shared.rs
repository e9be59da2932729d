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
    count: u32,
    number: PhantomData<T>,
}

/// The kernel gives each element as many bytes (`array_map_alloc`, kernel/bpf/arraymap.c).
const ELEMENT: usize = size_of::<u64>();

impl<T: Number> SharedArray<T> {
    /// An array that holds numbers of this type.
    pub(super) fn new(name: &'static str, map: Map) -> Result<Self, DatapathError> {
        let failed = |error| DatapathError::io(Path::new(name))(error);
        let Map::Array(map) = map else {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        };
        let info = map.info().map_err(|error| failed(io::Error::other(error)))?;
        if info.value_size() as usize != size_of::<T>() {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        Ok(Self {
            name,
            count: info.max_entries(),
            map,
            number: PhantomData,
        })
    }

    /// Maps some of the elements.
    ///
    /// # Errors
    ///
    /// When there are no such elements.
    pub(super) fn window(&self, elements: Range<u32>) -> Result<Window<T>, DatapathError> {
        let failed = |error| DatapathError::io(Path::new(self.name))(error);
        if elements.is_empty() || elements.end > self.count {
            return Err(failed(io::ErrorKind::InvalidInput.into()));
        }
        // A mapping begins at a page; the kernel rounds its length up to whole ones.
        let begin = elements.start as usize * ELEMENT / page_size() * page_size();
        let length = elements.end as usize * ELEMENT - begin;
        let (access, flags) = (ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED);
        let fd = self.map.fd().as_fd();
        // SAFETY: a new mapping, at an address of the kernel's choice.
        let memory = unsafe { mmap(std::ptr::null_mut(), length, access, flags, fd, begin as u64) };
        let memory = memory.map_err(|error| failed(error.into()))?;
        let memory = NonNull::new(memory.cast()).ok_or_else(|| failed(io::ErrorKind::OutOfMemory.into()))?;
        Ok(Window {
            memory,
            length,
            first: (begin / ELEMENT) as u32,
            elements,
            number: PhantomData,
        })
    }
}

/// Elements of a [`SharedArray`], mapped until this is dropped. The mapping keeps the array.
pub(super) struct Window<T> {
    memory: NonNull<u64>,
    length: usize,
    /// The element at the beginning of the memory.
    first: u32,
    elements: Range<u32>,
    number: PhantomData<T>,
}

impl<T: Number> Window<T> {
    /// An element of those that are mapped.
    pub(super) fn get(&self, index: u32) -> T {
        // SAFETY: within the mapping, aligned; the programs only read.
        unsafe { self.element(index).read_volatile() }
    }

    /// Writes an element of those that are mapped.
    pub(super) fn set(&self, index: u32, value: T) {
        // SAFETY: within the mapping, aligned: one store.
        unsafe { self.element(index).write_volatile(value) };
    }

    /// Where an element begins. It fills the first bytes of its place.
    fn element(&self, index: u32) -> *mut T {
        assert!(self.elements.contains(&index), "element {index} is not mapped");
        // SAFETY: all of `elements` is mapped, and the mapping begins with `first`.
        unsafe { self.memory.as_ptr().add((index - self.first) as usize) }.cast()
    }
}

impl<T> Drop for Window<T> {
    fn drop(&mut self) {
        // SAFETY: ours, and of that length. An error could only mean that it is not.
        let _ = unsafe { munmap(self.memory.as_ptr().cast(), self.length) };
    }
}
