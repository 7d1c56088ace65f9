//! How much memory this process may use at all.
//!
//! The smallest limit of its own cgroup and of the groups above it (v1 or v2), of the process itself (`RLIMIT_DATA`,
//! `RLIMIT_AS`), else the memory of the machine. The process's own path in the hierarchy is followed, so that a systemd
//! unit with `MemoryMax` is seen as well as a container that sees its own group as the root. A limit that is there but cannot be understood is an error, never "no limit".

use std::io;
use std::path::{Path, PathBuf};

/// Why it could not be learnt.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// A file that should be there cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file says something else than it should.
    #[error("{path} does not hold {what}")]
    Content {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
}

/// Bytes of memory this process may use. `root` is `/` except in tests.
///
/// # Errors
/// [`MemoryError`]: a file that is missing or says what nobody understands.
pub fn available(root: &Path) -> Result<u64, MemoryError> {
    let total = machine_memory(&root.join("proc/meminfo"))?;
    let limits = [cgroup_limit(root)?, own_limit(&root.join("proc/self/limits"))?];
    Ok(limits.into_iter().flatten().fold(total, u64::min))
}

fn read(path: &Path) -> Result<String, MemoryError> {
    std::fs::read_to_string(path).map_err(|source| MemoryError::Read { path: path.to_owned(), source })
}

fn machine_memory(path: &Path) -> Result<u64, MemoryError> {
    let text = read(path)?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.split_ascii_whitespace().next());
    let kib: u64 = kib
        .and_then(|kib| kib.parse().ok())
        .ok_or(MemoryError::Content { path: path.to_owned(), what: "a MemTotal line" })?;
    Ok(kib.saturating_mul(1024))
}

/// The smaller soft limit of data and address space, from proc_pid_limits(5); `None` = none is set. An allocation over
/// either fails, and that ends the process, so it counts as a limit of memory although neither counts resident pages.
fn own_limit(path: &Path) -> Result<Option<u64>, MemoryError> {
    if !path.exists() {
        return Ok(None);
    }
    let text = read(path)?;
    let mut smallest = None;
    for name in ["Max data size", "Max address space"] {
        let Some(rest) = text.lines().find_map(|line| line.strip_prefix(name)) else { continue };
        let soft = match rest.split_ascii_whitespace().next() {
            Some("unlimited") => continue,
            soft => soft.and_then(|soft| soft.parse::<u64>().ok()),
        };
        let what = "limits of data and address space";
        let soft = soft.ok_or_else(|| MemoryError::Content { path: path.to_owned(), what })?;
        smallest = Some(smallest.map_or(soft, |so_far: u64| so_far.min(soft)));
    }
    Ok(smallest)
}

/// The smallest memory limit from the process's own group up to the root of what is mounted; `None` = none is set.
fn cgroup_limit(root: &Path) -> Result<Option<u64>, MemoryError> {
    // A system without cgroups has no such file, and no limit.
    let own = root.join("proc/self/cgroup");
    if !own.exists() {
        return Ok(None);
    }
    let groups = read(&own)?;
    let mounts = read(&root.join("proc/self/mountinfo"))?;
    let mut smallest = None;
    for hierarchy in [Hierarchy::V1, Hierarchy::V2] {
        let Some(path) = groups.lines().find_map(|line| hierarchy.own_path(line)) else { continue };
        let Some(mount) = mounts.lines().find_map(|line| hierarchy.mount(line)) else { continue };
        for directory in directories(root, path, &mount) {
            let file = directory.join(hierarchy.file());
            // The root group has no limit file, and neither has a group whose memory is not controlled.
            if !file.exists() {
                continue;
            }
            if let Some(limit) = hierarchy.limit(&file, &read(&file)?)? {
                smallest = Some(smallest.map_or(limit, |so_far: u64| so_far.min(limit)));
            }
        }
    }
    Ok(smallest)
}

/// The two shapes a memory controller is found in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hierarchy {
    V1,
    V2,
}

/// Where a hierarchy is mounted, and which group the mount shows as its root.
#[derive(Debug, PartialEq, Eq)]
struct Mount<'a> {
    shows: &'a str,
    at: &'a str,
}

impl Hierarchy {
    fn file(self) -> &'static str {
        match self {
            Hierarchy::V1 => "memory.limit_in_bytes",
            Hierarchy::V2 => "memory.max",
        }
    }

    /// The path in a line of `/proc/self/cgroup` (`4:memory,hugetlb:/docker/ID`, `0::/user.slice`), if it is of this
    /// hierarchy's memory controller.
    fn own_path(self, line: &str) -> Option<&str> {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let found = match self {
            Hierarchy::V1 => controllers.split(',').any(|controller| controller == "memory"),
            Hierarchy::V2 => number == "0" && controllers.is_empty(),
        };
        found.then_some(path)
    }

    /// The mount in a line of `/proc/self/mountinfo` (proc(5)), if it is of this hierarchy's memory controller.
    fn mount(self, line: &str) -> Option<Mount<'_>> {
        let (mount, kind) = line.split_once(" - ")?;
        let mut kind = kind.split(' ');
        let (filesystem, options) = (kind.next()?, kind.nth(1)?);
        let found = match self {
            Hierarchy::V1 => filesystem == "cgroup" && options.split(',').any(|option| option == "memory"),
            Hierarchy::V2 => filesystem == "cgroup2",
        };
        let mut fields = mount.split(' ').skip(3);
        let (shows, at) = (fields.next()?, fields.next()?);
        found.then_some(Mount { shows, at })
    }

    fn limit(self, path: &Path, text: &str) -> Result<Option<u64>, MemoryError> {
        let text = text.trim();
        if self == Hierarchy::V2 && text == "max" {
            return Ok(None);
        }
        let what = "a number of bytes";
        let limit = text.parse().map_err(|_| MemoryError::Content { path: path.to_owned(), what })?;
        // v1 writes "no limit" as the largest multiple of a page in 63 bits.
        Ok(Some(limit).filter(|limit| *limit < 1 << 62))
    }
}

/// The directories of the process's group and of those above it, as far as the mount shows them.
fn directories(root: &Path, own: &str, mount: &Mount<'_>) -> Vec<PathBuf> {
    let at = root.join(mount.at.trim_start_matches('/'));
    // In a container the own path may lie outside of what is mounted (`/../..` or the host's view): then the mount's
    // root is the container's own group.
    let inside = Path::new(own).strip_prefix(mount.shows).ok().filter(|path| {
        path.components().all(|part| matches!(part, std::path::Component::Normal(_) | std::path::Component::RootDir))
    });
    let Some(inside) = inside else { return vec![at] };
    let groups = inside.ancestors().map(|group| at.join(group.strip_prefix("/").unwrap_or(group)));
    groups.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn host(cgroup: &str, mountinfo: &str) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "proc/meminfo", "MemTotal:        1000 kB\nMemFree: 5 kB\n");
        write(root.path(), "proc/self/cgroup", cgroup);
        write(root.path(), "proc/self/mountinfo", mountinfo);
        root
    }

    const V2: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";

    #[test]
    fn v2_takes_the_smallest_limit_on_the_way_up() {
        let root = host("0::/system.slice/phoenix.service\n", V2);
        assert_eq!(available(root.path()).unwrap(), 1_024_000, "no limit file: the machine");
        write(root.path(), "sys/fs/cgroup/system.slice/phoenix.service/memory.max", "max\n");
        assert_eq!(available(root.path()).unwrap(), 1_024_000);
        write(root.path(), "sys/fs/cgroup/system.slice/memory.max", "400000\n");
        assert_eq!(available(root.path()).unwrap(), 400_000);
        write(root.path(), "sys/fs/cgroup/system.slice/phoenix.service/memory.max", "300000\n");
        assert_eq!(available(root.path()).unwrap(), 300_000);
        write(root.path(), "sys/fs/cgroup/system.slice/phoenix.service/memory.max", "9000000000\n");
        assert_eq!(available(root.path()).unwrap(), 400_000);
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root() {
        let root = host("0::/\n", V2);
        write(root.path(), "sys/fs/cgroup/memory.max", "5000\n");
        assert_eq!(available(root.path()).unwrap(), 5_000);
        let root = host("0::/../../pod1/abc\n", V2);
        write(root.path(), "sys/fs/cgroup/memory.max", "6000\n");
        assert_eq!(available(root.path()).unwrap(), 6_000);
    }

    #[test]
    fn v1_with_the_hosts_view_of_the_path() {
        let mountinfo = "35 24 0:30 /docker/abc /sys/fs/cgroup/memory ro,nosuid master:12 - cgroup cgroup rw,memory\n";
        let root = host("5:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n", mountinfo);
        write(root.path(), "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(available(root.path()).unwrap(), 1_024_000, "v1's word for no limit");
        write(root.path(), "sys/fs/cgroup/memory/memory.limit_in_bytes", "7000\n");
        assert_eq!(available(root.path()).unwrap(), 7_000);
    }

    #[test]
    fn the_limits_of_the_process_count_too() {
        let root = host("0::/\n", V2);
        let limits = |data: &str, space: &str| {
            let line = |name: &str, soft: &str| format!("{name:<26}{soft:<21}unlimited            bytes     \n");
            let text = line("Limit", "Soft Limit") + &line("Max data size", data) + &line("Max address space", space);
            write(root.path(), "proc/self/limits", &text);
            available(root.path())
        };
        assert_eq!(limits("unlimited", "unlimited").unwrap(), 1_024_000);
        assert_eq!(limits("500000", "unlimited").unwrap(), 500_000);
        assert_eq!(limits("500000", "400000").unwrap(), 400_000);
        assert_eq!(limits("9000000000", "unlimited").unwrap(), 1_024_000);
        write(root.path(), "sys/fs/cgroup/memory.max", "300000\n");
        assert_eq!(limits("500000", "400000").unwrap(), 300_000);
        assert!(limits("much", "unlimited").unwrap_err().to_string().contains("proc/self/limits"));
    }

    #[test]
    fn what_cannot_be_understood_is_an_error_that_names_the_file() {
        let root = host("0::/\n", V2);
        write(root.path(), "sys/fs/cgroup/memory.max", "lots\n");
        let message = available(root.path()).unwrap_err().to_string();
        assert!(message.contains("memory.max does not hold a number of bytes"), "{message}");
        write(root.path(), "proc/meminfo", "MemFree: 1 kB\n");
        assert!(available(root.path()).unwrap_err().to_string().contains("a MemTotal line"));
    }

    #[test]
    fn no_cgroups_is_no_limit() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "proc/meminfo", "MemTotal: 2 kB\n");
        assert_eq!(available(root.path()).unwrap(), 2_048);
    }
}
