//! The two calls of the C library that the memory limiter needs. Nothing else of this crate is unsafe.

#![allow(unsafe_code)]

/// Bytes of a memory page; 4096 if the system does not say.
pub(super) fn page_size() -> u64 {
    // SAFETY: sysconf takes a plain number, touches no memory of ours and answers -1 for what it does not know.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).ok().filter(|size| *size > 0).unwrap_or(4096)
}

/// Asks glibc's allocator to return free memory to the system. Elsewhere (musl, which returns it by itself) does nothing.
pub(super) fn trim() {
    // SAFETY: malloc_trim takes a plain number, locks the arenas it walks and gives back only pages that hold no live
    // allocation; it may be called at any time from any thread.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}
