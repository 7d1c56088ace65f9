//! Queues on disk that no exporter of a configuration has: they are kept, and found here so that somebody hears of them.
//!
//! It reads; nothing is deleted or sent.

use std::path::{Path, PathBuf};

use phoenix_storage::{Fsync, Queue as Disk, Settings};

use super::spool::folder;
use crate::otlp::percent_decode;

/// A queue that holds data and that nobody empties.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leftover {
    /// Where it lies.
    pub directory: PathBuf,
    /// The id of the exporter that left it.
    pub exporter: String,
    /// Data points in it.
    pub points: u64,
    /// Bytes on disk.
    pub bytes: u64,
}

/// The queues below a storage's directory that hold data and belong to none of these exporters. What cannot be opened, such as a
/// queue that another agent has, is left out. Blocks on the disk.
pub fn leftovers(storage: &Path, exporters: &[&str]) -> Vec<Leftover> {
    let owned: Vec<PathBuf> = exporters.iter().map(|id| storage.join(folder(id))).collect();
    let Ok(entries) = std::fs::read_dir(storage) else { return Vec::new() };
    let mut found: Vec<Leftover> = entries
        .filter_map(|entry| {
            let directory = entry.ok()?.path();
            let id = directory.file_name()?.to_str()?.strip_prefix("exporter_")?;
            let exporter = String::from_utf8_lossy(&percent_decode(id.as_bytes())).into_owned();
            if owned.contains(&directory) || !directory.is_dir() {
                return None;
            }
            let queue = Disk::open(&directory, Settings { fsync: Fsync::Never, ..Settings::default() }).ok()?;
            let held = queue.stats();
            let left = Leftover { exporter, points: held.points, bytes: held.bytes, directory };
            (held.records > 0).then_some(left)
        })
        .collect();
    found.sort_by(|one, other| one.directory.cmp(&other.directory));
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use phoenix_storage::OnFull;

    #[test]
    fn queues_of_exporters_that_are_gone_are_found_and_left_as_they_are() {
        let room = tempfile::tempdir().unwrap();
        let fill = |id: &str, points: &[u64]| {
            let mut queue = Disk::open(&room.path().join(folder(id)), Settings::default()).unwrap();
            for points in points {
                queue.append(&[b"record"], *points, 0, OnFull::Refuse).unwrap();
            }
            queue
        };
        for (id, points) in [("otlp/kept", &[1][..]), ("otlp/gone", &[2, 3]), ("otlp_http/empty", &[])] {
            drop(fill(id, points));
        }
        let _held = fill("otlp/held", &[4]);
        std::fs::create_dir(room.path().join("something else")).unwrap();
        for _ in 0..2 {
            let found = leftovers(room.path(), &["otlp/kept", "otlp/held"]);
            assert_eq!(found.len(), 1, "{found:?}");
            assert_eq!((found[0].exporter.as_str(), found[0].points), ("otlp/gone", 5));
            assert!(found[0].bytes > 100 && found[0].directory.ends_with("exporter_otlp%2Fgone"));
        }
        assert_eq!(leftovers(room.path(), &["otlp/kept"]).len(), 1, "what another holds is not touched");
        assert_eq!(leftovers(&room.path().join("nowhere"), &[]), []);
    }
}
