//! What glibc's allocator keeps of freed memory. Nothing else of this crate is unsafe.
//!
//! A request or a scrape takes some megabytes and gives them back a moment later. Left alone, glibc returns to the system
//! whatever is free at the end of its heap beyond twice the largest block it has seen, so that every request of 1.3 MB
//! pays for 610 fresh pages: a third of all the CPU time of a relay (docs/performance.md).

#![allow(unsafe_code)]

/// Free memory at the end of a heap that is kept for the next request: room for one of 4 MiB, gRPC's largest by default,
/// with its index.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const KEPT: libc::c_int = 16 << 20;
/// Blocks from this size on come from the system and go back to it by themselves, so that one huge request leaves no
/// hole behind.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const APART: libc::c_int = 8 << 20;

/// Sets what is kept. Elsewhere (musl) does nothing.
pub fn keep_what_comes_again() {
    // SAFETY: mallopt takes two plain numbers and sets a field of the allocator under its lock; it may be called at any
    // time from any thread.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        // A value that is refused leaves the allocator as it was, which costs time and nothing else.
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_MMAP_THRESHOLD, APART);
    }
}
