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
/// Heaps for all threads. By default every thread has one of its own, each with some free memory: an idle agent has 0.6 MB
/// less with one, and what passes batches between threads costs the same (docs/performance.md). That holds for its one lane: two
/// chains at work at once took a quarter longer with one heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const HEAPS: libc::c_int = 1;

/// Sets what is kept; whether the allocator took it. Elsewhere (musl) there is nothing to set.
pub fn keep_what_comes_again() -> bool {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    let taken = [(libc::M_TRIM_THRESHOLD, KEPT), (libc::M_MMAP_THRESHOLD, APART), (libc::M_ARENA_MAX, HEAPS)]
        .into_iter()
        // SAFETY: mallopt takes two plain numbers and sets a field of the allocator under its lock; it may be called at any
        // time from any thread.
        .all(|(name, value)| unsafe { libc::mallopt(name, value) } == 1);
    #[cfg(not(all(target_os = "linux", target_env = "gnu")))]
    let taken = true;
    taken
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_allocator_takes_what_is_set() {
        assert!(super::keep_what_comes_again());
    }
}
