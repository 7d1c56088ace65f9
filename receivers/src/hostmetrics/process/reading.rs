//! What the files of `/proc/PID` say: pure parsers, from bytes to numbers.
//!
//! Hand-written because they run for every process at every scrape. They open nothing and know no metric; a text that is not
//! what the kernel writes is an error that names the file and the field, never a missing value.

/// A file of a process is not what the kernel writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: the field {field} is missing or no number")]
pub(crate) struct Malformed {
    /// Name of the file below `/proc/PID`.
    pub file: &'static str,
    /// Field as proc(5) calls it.
    pub field: &'static str,
}

/// Longest name the kernel shows: a kernel worker's, with its work queue.
const COMM_MAX: usize = 64;

/// The name of a process's main thread, as bytes: at most 15 for programs, up to 64 for kernel workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Comm {
    bytes: [u8; COMM_MAX],
    len: u8,
}

impl Comm {
    fn new(name: &[u8]) -> Self {
        let mut bytes = [0; COMM_MAX];
        let len = name.len().min(COMM_MAX);
        for (slot, byte) in bytes.iter_mut().zip(name) {
            *slot = *byte;
        }
        Self { bytes, len: len as u8 }
    }

    /// The name as the kernel wrote it.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

/// `/proc/PID/stat`, as far as it is exported. Times are clock ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Field 2, without the parentheses; a kernel worker without its current work queue.
    pub comm: Comm,
    /// Field 3, a letter.
    pub state: u8,
    /// Field 4.
    pub parent: i64,
    /// Field 9 has PF_KTHREAD: a kernel thread.
    pub kernel: bool,
    /// Field 10.
    pub minor_faults: u64,
    /// Field 12.
    pub major_faults: u64,
    /// Field 14.
    pub user: u64,
    /// Field 15.
    pub system: u64,
    /// Fields 16 and 17: user and system times of the children that were waited for, and of theirs.
    pub waited: [u64; 2],
    /// Field 20.
    pub threads: u64,
    /// Field 22: ticks after boot.
    pub start: u64,
    /// Field 42: waiting for block I/O; 0 while delay accounting is off.
    pub wait: u64,
}

impl Stat {
    /// Whether it ended and waits for its parent to notice; its texts are gone already.
    pub(crate) fn ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

const PF_KTHREAD: u64 = 0x0020_0000;

/// Parses `stat`. The name may hold anything, so fields are counted from the last `)`.
pub(crate) fn stat(text: &[u8]) -> Result<Stat, Malformed> {
    let fail = |field| Malformed { file: "stat", field };
    let open = text.iter().position(|b| *b == b'(').ok_or(fail("comm"))?;
    let close = text.iter().rposition(|b| *b == b')').filter(|close| *close > open).ok_or(fail("comm"))?;
    let name = text.get(open + 1..close).unwrap_or_default();
    let mut fields = words(text.get(close + 1..).unwrap_or_default());
    let state = fields.next().and_then(|word| word.first()).copied().ok_or(fail("state"))?;
    // `skip` fields lie between one that is read and the next.
    let mut next = |skip: usize, field: &'static str| fields.nth(skip).and_then(number).ok_or(fail(field));
    let parent = next(0, "ppid")?.cast_signed();
    let flags = next(4, "flags")?;
    let minor_faults = next(0, "minflt")?;
    let major_faults = next(1, "majflt")?;
    let user = next(1, "utime")?;
    let system = next(0, "stime")?;
    let waited = [next(0, "cutime")?, next(0, "cstime")?];
    let threads = next(2, "num_threads")?;
    let start = next(1, "starttime")?;
    let wait = next(19, "delayacct_blkio_ticks")?;
    let kernel = flags & PF_KTHREAD != 0;
    let comm = Comm::new(if kernel { without_work_queue(name) } else { name });
    Ok(Stat { comm, state, parent, kernel, minor_faults, major_faults, user, system, waited, threads, start, wait })
}

/// `kworker/0:1-events` serves another queue a moment later; as part of a series' identity that would make a new series each time.
fn without_work_queue(name: &[u8]) -> &[u8] {
    match name.strip_prefix(b"kworker/") {
        Some(worker) if !worker.starts_with(b"R-") => {
            let end = worker.iter().position(|b| matches!(b, b'-' | b'+')).unwrap_or(worker.len());
            name.get(..name.len() - worker.len() + end).unwrap_or(name)
        }
        _ => name,
    }
}

/// `/proc/PID/statm`, in pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statm {
    /// Field 1: virtual size.
    pub size: u64,
    /// Field 2: resident set.
    pub resident: u64,
}

/// Parses `statm`.
pub(crate) fn statm(text: &[u8]) -> Result<Statm, Malformed> {
    let mut fields = words(text);
    let mut next = |field| fields.next().and_then(number).ok_or(Malformed { file: "statm", field });
    Ok(Statm { size: next("size")?, resident: next("resident")? })
}

/// `/proc/PID/schedstat`: how the main thread was run, in nanoseconds and turns. All of it grows with every turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    on_cpu: u64,
    waited: u64,
    turns: u64,
}

/// Parses `schedstat`; `None` of a thread that never ran, which is also what a kernel writes that does not count.
pub(crate) fn schedstat(text: &[u8]) -> Result<Option<Ran>, Malformed> {
    let mut fields = words(text);
    let mut next = |field| fields.next().and_then(number).ok_or(Malformed { file: "schedstat", field });
    let ran = Ran { on_cpu: next("on_cpu")?, waited: next("run_delay")?, turns: next("timeslices")? };
    Ok(Some(ran).filter(|ran| ran.turns > 0))
}

/// `/proc/PID/io`, as far as it is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Io {
    /// Bytes fetched from block devices.
    pub read_bytes: u64,
    /// Bytes sent towards block devices.
    pub write_bytes: u64,
    /// Read system calls.
    pub read_calls: u64,
    /// Write system calls.
    pub write_calls: u64,
}

/// Parses `io`.
pub(crate) fn io(text: &[u8]) -> Result<Io, Malformed> {
    let find = |field: &'static str| line(text, field).and_then(number).ok_or(Malformed { file: "io", field });
    Ok(Io {
        read_bytes: find("read_bytes")?,
        write_bytes: find("write_bytes")?,
        read_calls: find("syscr")?,
        write_calls: find("syscw")?,
    })
}

/// The real user id in `status`.
pub(crate) fn uid(text: &[u8]) -> Result<u32, Malformed> {
    let user =
        line(text, "Uid").and_then(|ids| words(ids).next()).and_then(number).and_then(|id| u32::try_from(id).ok());
    user.ok_or(Malformed { file: "status", field: "Uid" })
}

/// The signals in `status` that wait for the main thread or the whole process; each counts once, as the kernel keeps masks.
pub(crate) fn signals(text: &[u8]) -> Result<u64, Malformed> {
    let mask = |field| {
        let hex = line(text, field).and_then(|hex| std::str::from_utf8(hex).ok());
        let mask = hex.and_then(|hex| u128::from_str_radix(hex.trim(), 16).ok());
        mask.ok_or(Malformed { file: "status", field })
    };
    Ok(u64::from((mask("SigPnd")? | mask("ShdPnd")?).count_ones()))
}

/// Context switches of the main thread in `status`: involuntary and voluntary. Those of the other threads would cost a file
/// each, and a sum over the threads that live falls whenever one ends.
pub(crate) fn switches(text: &[u8]) -> Result<[u64; 2], Malformed> {
    let count = |field| line(text, field).and_then(number).ok_or(Malformed { file: "status", field });
    Ok([count("nonvoluntary_ctxt_switches")?, count("voluntary_ctxt_switches")?])
}

/// What is left out at the end of arguments that were not read to their end: what stands there may be the half of a secret
/// that the other half would have betrayed.
const DOUBTFUL: usize = 4096;

/// The arguments in `cmdline`, each ended by a NUL; `cut` says that the text was not read to its end.
pub(crate) fn cmdline(text: &[u8], cut: bool) -> Vec<String> {
    let mut pieces: Vec<&[u8]> = text.split(|b| *b == 0).collect();
    if cut {
        let last = pieces.pop().unwrap_or_default();
        pieces.extend(last.get(..last.len().saturating_sub(DOUBTFUL)).filter(|rest| !rest.is_empty()));
    } else if text.last().is_none_or(|end| *end == 0) {
        pieces.pop();
    }
    // A rewritten title is padded with NULs.
    while pieces.len() > 1 && pieces.last().is_some_and(|piece| piece.is_empty()) {
        pieces.pop();
    }
    pieces.into_iter().map(|piece| String::from_utf8_lossy(piece).into_owned()).collect()
}

fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}

/// A whole number without a sign. By hand, since std's way leads through a check for UTF-8.
fn number(word: &[u8]) -> Option<u64> {
    let word = word.trim_ascii();
    let digit =
        |sum: u64, byte: &u8| sum.checked_mul(10)?.checked_add(u64::from(byte.checked_sub(b'0').filter(|d| *d < 10)?));
    if word.is_empty() { None } else { word.iter().try_fold(0, digit) }
}

/// What stands behind `name:` at the beginning of a line.
fn line<'t>(text: &'t [u8], name: &str) -> Option<&'t [u8]> {
    text.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(name.as_bytes())?.strip_prefix(b":"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample(comm: &str, flags: u64) -> String {
        format!(
            "7 ({comm}) S 1 7 7 0 -1 {flags} 11 12 13 14 101 102 103 104 20 0 5 0 4321 2500000000 77 18446744073709551615 1 2 3 4 5 6 7 8 9 10 11 12 17 3 0 0 66 0 0 1 2 3 4 5 6 7 0\n"
        )
    }

    #[test]
    fn stat_is_read_behind_the_last_parenthesis() {
        for name in ["cat", "a b", ") S 9 (", "((", "x)\n(y", ""] {
            let stat = stat(sample(name, 0).as_bytes()).unwrap();
            assert_eq!(stat.comm.as_bytes(), name.as_bytes());
            assert_eq!((stat.parent, stat.minor_faults, stat.major_faults), (1, 11, 13));
            assert_eq!((stat.user, stat.system, stat.threads, stat.start, stat.wait), (101, 102, 5, 4321, 66));
            assert_eq!(stat.waited, [103, 104]);
            assert!(!stat.kernel && !stat.ended());
        }
    }

    #[test]
    fn kernel_workers_keep_one_name() {
        for (name, expected) in [
            ("kworker/0:1-events", "kworker/0:1"),
            ("kworker/u4:0+flush-8:0", "kworker/u4:0"),
            ("kworker/0:1H-kblockd", "kworker/0:1H"),
            ("kworker/R-rcu_gp", "kworker/R-rcu_gp"),
            ("ksoftirqd/0", "ksoftirqd/0"),
        ] {
            assert_eq!(stat(sample(name, PF_KTHREAD).as_bytes()).unwrap().comm.as_bytes(), expected.as_bytes());
            assert_eq!(
                stat(sample(name, 0).as_bytes()).unwrap().comm.as_bytes(),
                name.as_bytes(),
                "a program may call itself so"
            );
        }
    }

    #[test]
    fn what_is_cut_short_names_the_field() {
        assert_eq!(stat(b"").unwrap_err().field, "comm");
        assert_eq!(stat(b"7 )x( S 1").unwrap_err().field, "comm");
        assert_eq!(stat(b"7 (x)").unwrap_err().field, "state");
        assert_eq!(stat(b"7 (x) S one").unwrap_err().field, "ppid");
        assert_eq!(stat(b"7 (x) S 1 2 3").unwrap_err().to_string(), "stat: the field flags is missing or no number");
        assert_eq!(statm(b"12").unwrap_err().field, "resident");
        assert_eq!(io(b"rchar: 1\nread_bytes: 1\n").unwrap_err().field, "write_bytes");
        assert_eq!(uid(b"Name:\tx\n").unwrap_err().field, "Uid");
        assert_eq!(signals(b"SigPnd:\t0\n").unwrap_err().field, "ShdPnd");
    }

    #[test]
    fn status_counts_pending_signals_and_takes_the_real_user() {
        let text = b"Name:\tx\nUid:\t33\t0\t0\t0\nSigQ:\t9/1\nSigPnd:\t0000000000000001\nShdPnd:\t0000000000004001\nvoluntary_ctxt_switches:\t7\nnonvoluntary_ctxt_switches:\t8\n";
        assert_eq!((uid(text), signals(text), switches(text)), (Ok(33), Ok(2), Ok([8, 7])));
    }

    #[test]
    fn io_counts_block_devices_not_system_calls() {
        let text = b"rchar: 1\nwchar: 2\nsyscr: 3\nsyscw: 4\nread_bytes: 5\nwrite_bytes: 6\ncancelled_write_bytes: 7\n";
        assert_eq!(io(text).unwrap(), Io { read_bytes: 5, write_bytes: 6, read_calls: 3, write_calls: 4 });
    }

    #[test]
    fn arguments_end_with_nul_and_titles_are_padded() {
        assert_eq!(cmdline(b"", false), Vec::<String>::new());
        assert_eq!(cmdline(b"a\0b c\0\0", false), ["a", "b c"]);
        assert_eq!(cmdline(b"a\0\0b\0", false), ["a", "", "b"]);
        assert_eq!(cmdline(b"nginx: worker process\0\0\0\0", false), ["nginx: worker process"]);
        assert_eq!(cmdline(b"title without end", false), ["title without end"]);
        assert_eq!(cmdline(b"a\0--password=hal", true), ["a"]);
        let long = [b"java\0-cp\0".as_slice(), &[b'x'; 5000]].concat();
        assert_eq!(cmdline(&long, true), ["java", "-cp", &"x".repeat(5000 - DOUBTFUL)]);
        assert_eq!(cmdline(b"a\xff\0", false), ["a\u{fffd}"]);
    }

    proptest! {
        #[test]
        fn stat_agrees_with_the_procfs_crate(comm in "[ -~]{0,15}", numbers in prop::collection::vec(0u32..2_000_000_000, 50)) {
            let fields: Vec<String> = numbers.iter().map(ToString::to_string).collect();
            let text = format!("42 ({comm}) S {}\n", fields.join(" "));
            let ours = stat(text.as_bytes()).unwrap();
            let theirs = <procfs::process::Stat as procfs::FromRead>::from_read(text.as_bytes()).unwrap();
            prop_assert_eq!(ours.parent, i64::from(theirs.ppid));
            prop_assert_eq!((ours.minor_faults, ours.major_faults), (theirs.minflt, theirs.majflt));
            prop_assert_eq!((ours.user, ours.system), (theirs.utime, theirs.stime));
            prop_assert_eq!(ours.waited.map(|ticks| ticks as i64), [theirs.cutime, theirs.cstime]);
            prop_assert_eq!((ours.threads as i64, ours.start), (theirs.num_threads, theirs.starttime));
            prop_assert_eq!(Some(ours.wait), theirs.delayacct_blkio_ticks);
            prop_assert_eq!(ours.kernel, theirs.flags & PF_KTHREAD as u32 != 0);
            if !ours.kernel {
                prop_assert_eq!(ours.comm.as_bytes(), comm.as_bytes());
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut: bool) {
            let _ = (stat(&bytes), statm(&bytes), io(&bytes), cmdline(&bytes, cut));
            let _ = (uid(&bytes), signals(&bytes), switches(&bytes), schedstat(&bytes));
        }
    }
}
