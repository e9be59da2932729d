//! All of a hash map, some thousand elements with each system call (`BPF_MAP_LOOKUP_BATCH`, Linux 5.6).
//!
//! The kernel goes from bucket to bucket and copies each under its lock: what is in the map all the while is found, and
//! found once. A walk from key to key (`BPF_MAP_GET_NEXT_KEY`, aya's iterators) starts all over when the key that it has
//! come to is gone, and under a flood of connections the keys of `pending_` go as fast as they are read.

use std::{
    os::fd::{AsFd as _, AsRawFd as _},
    ptr,
};

use aya::{
    Pod,
    maps::{HashMap, IterableMap as _, MapData, MapError},
    sys::SyscallError,
};
use nix::{errno::Errno, libc};

/// Elements of a batch. One bucket's must find room in it.
const BATCH: usize = 4_096;

/// `BPF_MAP_LOOKUP_BATCH` of `enum bpf_cmd` (include/uapi/linux/bpf.h).
const LOOKUP_BATCH: libc::c_int = 24;

/// The part of `union bpf_attr` that this command reads and writes, `batch`.
#[repr(C)]
struct Batch<K, V> {
    /// The bucket to begin with, or null for the first.
    in_batch: *const u32,
    /// Where the kernel writes the one that comes next.
    out_batch: *mut u32,
    keys: *mut K,
    values: *mut V,
    /// Room for so many elements; then how many there are.
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Shows each element of the map.
pub(super) fn visit<K: Pod, V: Pod>(map: &HashMap<MapData, K, V>, mut visit: impl FnMut(K, V)) -> Result<(), MapError> {
    let map_fd = map.map().fd().as_fd().as_raw_fd() as u32;
    let (mut keys, mut values) = (Vec::<K>::with_capacity(BATCH), Vec::<V>::with_capacity(BATCH));
    let mut bucket = None::<u32>;
    let mut next = 0;
    loop {
        let mut batch = Batch {
            in_batch: bucket.as_ref().map_or(ptr::null(), ptr::from_ref),
            out_batch: &raw mut next,
            keys: keys.as_mut_ptr(),
            values: values.as_mut_ptr(),
            count: keys.capacity().min(values.capacity()) as u32,
            map_fd,
            elem_flags: 0,
            flags: 0,
        };
        // SAFETY: the map has keys and values of these types, whose sizes aya has compared with the kernel's; both vectors
        // have room for `count` of them, and the kernel reads and writes nothing else but `bucket` and `next`.
        let done = unsafe { libc::syscall(libc::SYS_bpf, LOOKUP_BATCH, &raw mut batch, size_of_val(&batch)) };
        let last = match Errno::result(done) {
            Ok(_) => false,
            Err(Errno::ENOENT) => true,
            Err(Errno::ENOSPC) => {
                // The bucket alone has more. Nothing has been read.
                keys.reserve(2 * keys.capacity());
                values.reserve(2 * values.capacity());
                continue;
            }
            Err(error) => {
                return Err(SyscallError {
                    call: "bpf_map_lookup_batch",
                    io_error: error.into(),
                }
                .into());
            }
        };
        // SAFETY: the kernel has written so many, and what this map holds are values of these types (see `Pod`).
        unsafe {
            keys.set_len(batch.count as usize);
            values.set_len(batch.count as usize);
        }
        for (key, value) in keys.drain(..).zip(values.drain(..)) {
            visit(key, value);
        }
        if last {
            return Ok(());
        }
        bucket = Some(next);
    }
}
