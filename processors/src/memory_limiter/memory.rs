//! What the memory limiter reads and gives back: the resident set of this process.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crate::machine;

/// The memory of a process, as the limiter sees it.
pub(super) trait Memory: Send {
    /// Resident bytes now.
    fn resident(&mut self) -> io::Result<u64>;
    /// Returns to the system what the allocator keeps.
    fn give_back(&mut self);
}

/// This process. The file stays open: a reading is one call of the kernel.
pub(super) struct ProcessMemory {
    statm: File,
    page_size: u64,
}

impl ProcessMemory {
    pub(super) fn open() -> io::Result<Self> {
        let statm = File::open("/proc/self/statm")?;
        let mut memory = ProcessMemory { statm, page_size: machine::page_size() };
        memory.resident()?;
        Ok(memory)
    }
}

impl Memory for ProcessMemory {
    fn resident(&mut self) -> io::Result<u64> {
        let mut buffer = [0u8; 128];
        let length = self.statm.read_at(&mut buffer, 0)?;
        let text = buffer.get(..length).unwrap_or_default();
        let pages = resident_pages(text)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the second field is not a number of pages"))?;
        Ok(pages.saturating_mul(self.page_size))
    }

    fn give_back(&mut self) {
        machine::trim();
    }
}

/// The second field of `/proc/PID/statm`.
fn resident_pages(statm: &[u8]) -> Option<u64> {
    std::str::from_utf8(statm).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_memory_can_be_read() {
        let mut memory = ProcessMemory::open().unwrap();
        assert!(memory.resident().unwrap() > 1 << 20);
        memory.give_back();
        assert!(memory.resident().unwrap() > 1 << 20);
    }

    #[test]
    fn statm_has_the_resident_pages_second() {
        assert_eq!(resident_pages(b"1000 250 30 1 0 90 0\n"), Some(250));
        assert_eq!(resident_pages(b"1000"), None);
        assert_eq!(resident_pages(b""), None);
    }
}
