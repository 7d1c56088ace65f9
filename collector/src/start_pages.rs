//! Pages of the program, and of what it is linked with, that only its start needed, given back once the start is over.
//!
//! Reading a configuration, building chains and listening touch much of the program, and the kernel maps 16 pages where one
//! is touched: 10 MB of 15 are resident after it, and stay so while the host has memory. Unmapped, they stay in the page
//! cache, and what the agent goes on using comes back at its next use without being read again: 3 MB less for some 120
//! minor faults (docs/performance.md). The heap, stacks and what the loader wrote (relocations) are never touched.

#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::ops::Range;

/// Stands among the program's read-only data, as [`give_back`] does in its text: where they are, the program is mapped.
static DATA: [u8; 1] = [1];

/// How the files of the libraries begin that the program is linked with, and of the loader.
const LINKED: [&str; 4] = ["libc.so", "libm.so", "libgcc_s.so", "ld-linux"];

/// Unmaps the text and read-only data of the program and of what it is linked with.
///
/// # Errors
/// The kernel does not say what is mapped (it is no Linux, or one without `smaps`), or does not unmap it (locked memory).
pub fn give_back() -> io::Result<()> {
    let found = program()?;
    // Before it is done: a line of the log needs a good part of the program.
    let bytes: u64 = found.iter().filter(|mapping| mapping.is_the_files()).map(|mapping| mapping.resident).sum();
    tracing::debug!(bytes, "the start is over: the program's pages are given back, those in use will come again");
    // SAFETY: segments of the program and of the libraries it is linked with, which nothing unmaps or makes writable before the
    // process ends: the loader unloads none but those that were loaded later.
    unsafe { unmap(&found) }
}

/// Text and read-only data of the program and of what it is linked with.
fn program() -> io::Result<Vec<Mapping>> {
    let anchors = [give_back as fn() -> io::Result<()> as usize, DATA.as_ptr() as usize];
    let is_linked = |file: &str| LINKED.iter().any(|library| file.starts_with(library));
    own(|mapping, file| is_linked(file) || anchors.iter().any(|anchor| mapping.range.contains(anchor)))
}

/// The mappings of this process of which `wanted` says so, of each and the name of its file.
fn own(wanted: impl Fn(&Mapping, &str) -> bool) -> io::Result<Vec<Mapping>> {
    mappings(BufReader::new(File::open("/proc/self/smaps")?), wanted)
}

/// Unmaps the pages of those mappings that are nothing but a file's.
///
/// # Safety
/// The mappings must be as `found` says until this returns.
unsafe fn unmap(found: &[Mapping]) -> io::Result<()> {
    for Mapping { range, .. } in found.iter().filter(|mapping| mapping.is_the_files()) {
        let start = std::ptr::without_provenance_mut(range.start);
        // SAFETY: once its pages are dropped, a private mapping shows what its file says. It did so before: it cannot be
        // written to and has no page of its own, neither in memory nor swapped out. The range is a whole mapping.
        if unsafe { libc::madvise(start, range.len(), libc::MADV_DONTNEED) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Fields of `smaps` that are 0 where no page of a private mapping differs from its file's.
const OWN: [&str; 3] = ["Anonymous:", "Private_Hugetlb:", "Swap:"];

/// What `smaps` says of one mapping.
#[derive(Debug)]
struct Mapping {
    range: Range<usize>,
    /// Private, of a file, and not writable.
    of_file: bool,
    /// Bytes.
    resident: u64,
    /// How many of [`OWN`] are 0.
    clean: usize,
}

impl Mapping {
    /// The line that begins a mapping: `START-END PERMISSIONS OFFSET DEVICE INODE PATH`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_ascii_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        let address = |text| usize::from_str_radix(text, 16).ok();
        let range = address(start)?..address(end)?;
        let (permissions, inode) = (words.next()?, words.nth(2)?);
        let of_file = !permissions.contains('w') && permissions.ends_with('p') && inode != "0";
        Some(Mapping { range, of_file, resident: 0, clean: 0 })
    }

    /// A line about it: `KEY: NUMBER kB`, or flags.
    fn note(&mut self, line: &str) {
        let mut words = line.split_ascii_whitespace();
        let (Some(key), Some(Ok(number))) = (words.next(), words.next().map(str::parse::<u64>)) else { return };
        if key == "Rss:" {
            self.resident = number.saturating_mul(1024);
        }
        self.clean += usize::from(number == 0 && OWN.contains(&key));
    }

    /// Whether every page of it is its file's.
    fn is_the_files(&self) -> bool {
        self.of_file && self.clean == OWN.len()
    }
}

/// The mappings in `smaps` of which `wanted` says so.
fn mappings(smaps: impl BufRead, wanted: impl Fn(&Mapping, &str) -> bool) -> io::Result<Vec<Mapping>> {
    let mut found: Vec<Mapping> = Vec::new();
    let mut is_wanted = false;
    for line in smaps.lines() {
        let line = line?;
        if let Some(mapping) = Mapping::parse(&line) {
            is_wanted = wanted(&mapping, line.rsplit('/').next().unwrap_or_default());
            if is_wanted {
                found.push(mapping);
            }
        } else if is_wanted && let Some(mapping) = found.last_mut() {
            mapping.note(&line);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsRawFd;

    const LENGTH: usize = 64 << 10;

    /// A private mapping of a file that is all `7`, unmapped at the end.
    struct Mapped(*mut u8);

    impl Mapped {
        fn new() -> Self {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&[7; LENGTH]).unwrap();
            let (rights, private) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE);
            // SAFETY: a new mapping where the kernel likes, of an open file of that length.
            let at = unsafe { libc::mmap(std::ptr::null_mut(), LENGTH, rights, private, file.as_raw_fd(), 0) };
            assert_ne!(at, libc::MAP_FAILED);
            Mapped(at.cast())
        }

        fn seal(&self) {
            // SAFETY: a mapping of this test, which no reference points into.
            assert_eq!(unsafe { libc::mprotect(self.0.cast(), LENGTH, libc::PROT_READ) }, 0);
        }

        fn write(&self, at: usize, byte: u8) {
            assert!(at < LENGTH);
            // SAFETY: inside of a writable mapping of this test.
            unsafe { self.0.add(at).write_volatile(byte) }
        }

        fn read(&self, at: usize) -> u8 {
            assert!(at < LENGTH);
            // SAFETY: inside of a readable mapping of this test.
            unsafe { self.0.add(at).read_volatile() }
        }

        fn sum(&self) -> usize {
            (0..LENGTH).map(|at| usize::from(self.read(at))).sum()
        }

        fn mapping(&self) -> Mapping {
            own(|mapping, _| mapping.range.contains(&(self.0 as usize))).unwrap().remove(0)
        }

        fn unmap(&self) {
            // SAFETY: this test's own mapping, which it keeps.
            unsafe { unmap(&[self.mapping()]) }.unwrap();
        }

        fn resident(&self) -> u64 {
            self.mapping().resident
        }
    }

    impl Drop for Mapped {
        fn drop(&mut self) {
            // SAFETY: made in `new`, and nothing points into it any more.
            unsafe { libc::munmap(self.0.cast(), LENGTH) };
        }
    }

    #[test]
    fn what_is_a_files_goes_and_comes_back_as_it_was() {
        let mapped = Mapped::new();
        mapped.seal();
        assert_eq!(mapped.sum(), 7 * LENGTH);
        assert_eq!(mapped.resident(), LENGTH as u64);
        mapped.unmap();
        assert_eq!(mapped.resident(), 0);
        assert_eq!(mapped.sum(), 7 * LENGTH);
    }

    /// As the loader does with relocations.
    #[test]
    fn what_was_written_to_stays() {
        let mapped = Mapped::new();
        mapped.write(LENGTH / 2, 9);
        mapped.seal();
        mapped.unmap();
        assert_eq!(mapped.sum(), 7 * LENGTH + 2);
    }

    #[test]
    fn what_can_be_written_to_stays() {
        let mapped = Mapped::new();
        assert_eq!(mapped.read(0), 7);
        let resident = mapped.resident();
        mapped.unmap();
        assert_eq!(mapped.resident(), resident);
    }

    #[test]
    fn the_programs_own_pages_go_and_it_runs_on() {
        let found = program().unwrap();
        let held = |anchor: usize| {
            found.iter().any(|own| own.range.contains(&anchor) && own.is_the_files() && own.resident > 0)
        };
        assert!(
            held(DATA.as_ptr() as usize) && held(program as fn() -> io::Result<Vec<Mapping>> as usize),
            "{found:?}"
        );
        let libraries = own(|_, file| file.starts_with("libc.so")).unwrap();
        if let Some(text) = libraries.iter().find(|mapping| mapping.is_the_files()) {
            assert!(held(text.range.start), "{found:?}");
        }
        give_back().unwrap();
        give_back().unwrap();
    }

    const SMAPS: &str = "\
55f0-55f8 r--p 00000000 fe:00 77    /opt/my agent\nRss:  12 kB\nAnonymous: 0 kB\nPrivate_Hugetlb: 0 kB\nSwap: 0 kB\nVmFlags: rd mr\n\
55f8-55fa r-xp 00000000 fe:00 77    /opt/my agent\nRss:  8 kB\nAnonymous: 0 kB\nPrivate_Hugetlb: 0 kB\nSwap: 4 kB\nVmFlags: rd ex\n\
55fa-55fb r-xp 00000000 00:00 0     [vdso]\nRss:  4 kB\nAnonymous: 0 kB\nPrivate_Hugetlb: 0 kB\nSwap: 0 kB\nVmFlags: rd ex\n\
55fb-55fc r-xs 00000000 fe:00 77    /opt/my agent\nRss:  4 kB\nAnonymous: 0 kB\nPrivate_Hugetlb: 0 kB\nSwap: 0 kB\nVmFlags: rd ex\n\
55fc-55fd r-xp 00000000 fe:00 77    /opt/my agent\nRss:  4 kB\nAnonymous: 0 kB\nSwap: 0 kB\nVmFlags: rd ex\n";

    #[test]
    fn smaps_is_read_as_it_is_written() {
        let judge = |anchor| {
            let found = mappings(SMAPS.as_bytes(), |mapping, _| mapping.range.contains(&anchor)).unwrap();
            found.iter().map(|mapping| (mapping.range.clone(), mapping.resident, mapping.is_the_files())).next()
        };
        assert_eq!(judge(0x55f0), Some((0x55f0..0x55f8, 12 << 10, true)));
        assert_eq!(judge(0x55f9), Some((0x55f8..0x55fa, 8 << 10, false)), "a page of its own is swapped out");
        assert_eq!(judge(0x55fa), Some((0x55fa..0x55fb, 4 << 10, false)), "no file");
        assert_eq!(judge(0x55fb), Some((0x55fb..0x55fc, 4 << 10, false)), "shared");
        assert_eq!(judge(0x55fc), Some((0x55fc..0x55fd, 4 << 10, false)), "an old kernel does not say all of it");
        assert_eq!(judge(0x55fd), None);
        assert_eq!(judge(0x55ef), None);
        assert_eq!(mappings(SMAPS.as_bytes(), |_, file| file == "my agent").unwrap().len(), 4);
    }
}
