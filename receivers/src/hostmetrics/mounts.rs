//! The mount table: `/proc/1/mountinfo`, and which of its lines are file systems of interest.
//!
//! Process 1 sees the host's mounts; the agent's own view is the fallback where process 1 may not be read.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::reading::{ReadError, Reading};
use super::root::Root;

/// One file system to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// The block device, or for virtual file systems what stands for it.
    pub device: String,
    /// Where it is mounted, as the host sees it.
    pub point: PathBuf,
    /// `ext4`, `tmpfs`, ...
    pub fs_type: String,
    /// `rw`, `ro`, or `unknown`.
    pub mode: &'static str,
}

/// The table of one host.
#[derive(Debug)]
pub(super) struct MountTable {
    first: Reading,
    own: Reading,
    root: Root,
}

impl MountTable {
    pub(super) fn new(root: &Root) -> Self {
        Self {
            first: Reading::new(root.proc.join("1/mountinfo")),
            own: Reading::new(root.proc.join("self/mountinfo")),
            root: root.clone(),
        }
    }

    /// Reads the table; without `virtual_too` only first mounts of file systems with a device or path as their source.
    pub(super) fn read(&mut self, virtual_too: bool) -> Result<Vec<Mount>, ReadError> {
        let file = match self.first.refresh() {
            Ok(()) => &self.first,
            // Without the right to read process 1 the agent's own mounts are the next best; if that fails too, the first
            // error is the one to tell.
            Err(error) => match self.own.refresh() {
                Ok(()) => &self.own,
                Err(_) => return Err(error),
            },
        };
        parse(file.bytes(), file.path(), virtual_too, &self.root)
    }
}

fn parse(text: &[u8], path: &Path, virtual_too: bool, root: &Root) -> Result<Vec<Mount>, ReadError> {
    let mut mounts: Vec<Mount> = Vec::new();
    let mut seen_at: HashMap<&[u8], PathBuf> = HashMap::new();
    for (i, line) in text.split(|byte| *byte == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
        let malformed =
            || ReadError::Malformed { path: path.to_path_buf(), line: i + 1, what: "expected a line of mountinfo" };
        // id parent major:minor root mount_point options [optional...] - fs_type source super_options
        let mut words = line.split(|byte| *byte == b' ').skip(2);
        let mut word = || words.next().ok_or_else(malformed);
        let (number, subtree, point, options) = (word()?, word()?, word()?, word()?);
        let mut words = words.skip_while(|word| *word != b"-").skip(1);
        let (Some(fs_type), Some(source)) = (words.next(), words.next()) else { return Err(malformed()) };
        let has_device = source.starts_with(b"/");
        if !virtual_too && !has_device {
            continue;
        }
        let point = PathBuf::from(OsStr::from_bytes(&unescape(point)));
        let device = match seen_at.get(number) {
            // The same file system again: a bind mount; its device is where it was mounted before.
            Some(_) if !virtual_too => continue,
            Some(before) => before.to_string_lossy().into_owned(),
            None if has_device => real_device(&text_of(source), number, root),
            None if subtree == b"/" => "none".to_owned(),
            None => text_of(subtree),
        };
        seen_at.insert(number, point.clone());
        let has = |option: &[u8]| options.split(|byte| *byte == b',').any(|word| word == option);
        let mode = if has(b"rw") {
            "rw"
        } else if has(b"ro") {
            "ro"
        } else {
            "unknown"
        };
        // What is mounted over a mount point hides what was there: statvfs sees the last one only.
        mounts.retain(|mount| mount.point != point);
        mounts.push(Mount { device, point, fs_type: text_of(fs_type), mode });
    }
    Ok(mounts)
}

/// `/dev/mapper/NAME` and `/dev/root` are other names; the kernel's own name is what the disk metrics carry too.
fn real_device(source: &str, number: &[u8], root: &Root) -> String {
    let named = |name: &OsStr| format!("/dev/{}", name.to_string_lossy());
    if let Some(name) = source.strip_prefix("/dev/mapper/") {
        let target = std::fs::read_link(root.dev.join("mapper").join(name)).ok();
        return target.and_then(|target| target.file_name().map(named)).unwrap_or_else(|| source.to_owned());
    }
    if source == "/dev/root" {
        let link = root.sys.join("dev/block").join(OsStr::from_bytes(number));
        let target = std::fs::read_link(link).ok();
        return target.and_then(|target| target.file_name().map(named)).unwrap_or_else(|| source.to_owned());
    }
    source.to_owned()
}

fn text_of(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// Undoes the kernel's `\040` for a space and the like; a backslash without three octal digits stays.
pub(super) fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(field);
    }
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = tail.get(..3).filter(|_| byte == b'\\').and_then(|digits| {
            let number = digits.iter().try_fold(0u16, |number, digit| {
                matches!(digit, b'0'..=b'7').then(|| number * 8 + u16::from(digit - b'0'))
            })?;
            u8::try_from(number).ok()
        });
        match escaped {
            Some(byte) => {
                plain.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                plain.push(byte);
                rest = tail;
            }
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw,nosuid - proc proc rw
24 22 0:22 / /run\\040x rw - tmpfs tmpfs rw
25 22 8:1 /srv /srv ro - ext4 /dev/sda1 rw
26 22 0:40 /doc /home ro - fuse.portal portal rw
27 22 8:2 / /mnt/a ro,noatime - xfs /dev/sdb2 ro
28 22 8:3 / /mnt/a rw - xfs /dev/sdc3 rw
";

    fn read(virtual_too: bool) -> Vec<Mount> {
        parse(TABLE.as_bytes(), Path::new("mountinfo"), virtual_too, &Root::new("/nonexistent")).unwrap()
    }

    fn mount(device: &str, point: &str, fs_type: &str, mode: &'static str) -> Mount {
        Mount { device: device.into(), point: point.into(), fs_type: fs_type.into(), mode }
    }

    #[test]
    fn only_first_mounts_with_a_device_unless_virtual_ones_are_wanted() {
        assert_eq!(read(false), [mount("/dev/sda1", "/", "ext4", "rw"), mount("/dev/sdc3", "/mnt/a", "xfs", "rw")]);
        assert_eq!(
            read(true),
            [
                mount("/dev/sda1", "/", "ext4", "rw"),
                mount("none", "/proc", "proc", "rw"),
                mount("none", "/run x", "tmpfs", "rw"),
                mount("/", "/srv", "ext4", "ro"),
                mount("/doc", "/home", "fuse.portal", "ro"),
                mount("/dev/sdc3", "/mnt/a", "xfs", "rw"),
            ]
        );
    }

    #[test]
    fn other_names_of_a_device_become_the_kernels_own() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path().to_str().unwrap());
        std::fs::create_dir_all(dir.path().join("dev/mapper")).unwrap();
        std::fs::create_dir_all(dir.path().join("sys/dev/block")).unwrap();
        std::os::unix::fs::symlink("../dm-3", dir.path().join("dev/mapper/vg-data")).unwrap();
        std::os::unix::fs::symlink("../../devices/pci/block/sda/sda1", dir.path().join("sys/dev/block/8:1")).unwrap();
        assert_eq!(real_device("/dev/mapper/vg-data", b"253:3", &root), "/dev/dm-3");
        assert_eq!(real_device("/dev/mapper/vg-none", b"253:4", &root), "/dev/mapper/vg-none");
        assert_eq!(real_device("/dev/root", b"8:1", &root), "/dev/sda1");
        assert_eq!(real_device("/dev/root", b"8:9", &root), "/dev/root");
        assert_eq!(real_device("/dev/sdb", b"8:16", &root), "/dev/sdb");
    }

    #[test]
    fn a_short_line_is_an_error_with_its_number() {
        let error =
            parse(b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n23 22\n", Path::new("mountinfo"), true, &Root::new(""))
                .unwrap_err();
        assert_eq!(error.to_string(), "mountinfo:2: expected a line of mountinfo");
    }

    proptest! {
        #[test]
        fn no_table_panics(text in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text, Path::new("mountinfo"), true, &Root::new("/nonexistent"));
            prop_assert!(unescape(&text).len() <= text.len());
        }
    }
}
