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

/// Sets what is kept; whether the allocator took it. Elsewhere (musl) there is nothing to set.
pub fn keep_what_comes_again() -> bool {
    // SAFETY: mallopt takes two plain numbers and sets a field of the allocator under its lock; it may be called at any
    // time from any thread.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    let taken =
        unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT) + libc::mallopt(libc::M_MMAP_THRESHOLD, APART) == 2 };
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let taken = true;
    taken
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_allocator_takes_both_thresholds() {
        assert!(super::keep_what_comes_again());
    }
}
