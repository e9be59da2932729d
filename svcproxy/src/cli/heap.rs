//! The heap of the daemon, which is largest while it starts.

/// Gives what was freed back to the kernel. glibc keeps free memory that lies below what is still in use: after reading
/// thousands of manifests a third of the heap.
pub(super) fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes a number and may be called at any time; no pointer changes.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}
