//! What the crate asks of the machine that safe Rust has no name for: two calls of the C library for the memory limiter, and
//! that memory is fetched before it is needed. Nothing else of this crate is unsafe.

#![allow(unsafe_code)]

/// Bytes of a memory page; 4096 if the system does not say.
pub(crate) fn page_size() -> u64 {
    // SAFETY: sysconf takes a plain number, touches no memory of ours and answers -1 for what it does not know.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).ok().filter(|size| *size > 0).unwrap_or(4096)
}

/// Asks glibc's allocator to return free memory to the system. Elsewhere (musl, which returns it by itself) does nothing.
pub(crate) fn trim() {
    // SAFETY: malloc_trim takes a plain number, locks the arenas it walks and gives back only pages that hold no live
    // allocation; it may be called at any time from any thread.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Of so many entities later memory is fetched where a stage knows who comes; 4 to 12 do as well.
pub(crate) const AHEAD: usize = 6;

/// Bytes of a cache line.
const LINE: usize = 64;

/// Has the cache fetch a value; on other processors than x86-64 does nothing.
///
/// What is kept of a process lies in some pieces of the heap, each of which is found through the one before. No cache that
/// is near holds those of a thousand processes, and a stage that goes from one to the next waits for its memory at each:
/// `topk` and `aggregate` spent a twentieth of their time so.
#[inline(always)]
pub(crate) fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let begin = std::ptr::from_ref(value).cast::<i8>();
        let mut at = 0;
        while at < size_of_val(value) {
            // SAFETY: the instruction is a hint: it changes nothing that a program can see and never faults, whatever the address. It
            // is part of SSE, which every x86-64 processor has.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(begin.wrapping_add(at)) };
            at += LINE;
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, LINE);
}
