//! Requests that are on the disk and still in memory, in case they are sent soon: while the destination keeps up, nothing is
//! read back. They count as memory of the line, and give way to what is nowhere else.

use std::collections::VecDeque;

use bytes::Bytes;
use phoenix_pipeline::Shipment;
use phoenix_storage::{Id, Queue as Disk};

use super::load::Charge;
use super::spool::Stored;

/// Most bytes that are kept. Ten requests under way, the default, of 1.6 MB each; a destination that is away longer than that
/// is not helped by memory.
pub(super) const RECENT: u64 = 16 << 20;

/// One of them.
struct Kept {
    id: Id,
    bytes: Bytes,
    points: usize,
    /// When it was written, nanoseconds since 1970.
    written: u64,
    charge: Charge,
}

/// Oldest first, in the order in which they are on the disk.
#[derive(Default)]
pub(super) struct Recent(VecDeque<Kept>);

impl Recent {
    /// Bytes that are kept.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|kept| kept.charge.memory()).sum()
    }

    /// Keeps a request that was written at that time.
    pub fn keep(&mut self, id: Id, shipment: &Shipment, written: u64, charge: Charge) {
        self.0.push_back(Kept { id, bytes: shipment.bytes(), points: shipment.points(), written, charge });
    }

    /// Lets go of the one that is sent last; false if there is none.
    pub fn give_way(&mut self) -> bool {
        self.0.pop_back().is_some()
    }

    /// The next request that is to be sent, handed out by the disk, if it is here.
    pub fn next(&mut self, disk: &mut Disk, now: u64) -> Option<Stored> {
        let id = disk.peek()?;
        // What is older was evicted.
        while self.0.front().is_some_and(|oldest| oldest.id <= id) {
            let Kept { id, bytes, points, written, .. } = self.0.pop_front()?;
            if disk.take(id, bytes.len(), points as u64, written, now) {
                return Some(Stored { id, shipment: Shipment::encoded(bytes, points) });
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use metrics::Gauge;
    use phoenix_pipeline::Delivery;
    use phoenix_storage::{OnFull, Settings};
    use phoenix_telemetry::{Batch, Limits};

    use super::*;
    use crate::sending::queue::Queue;
    use crate::sending::{QueueSettings, Sizer};

    /// A line of 1 MiB before a disk.
    fn line() -> Queue {
        let storage = Some("file_storage".to_owned());
        let settings = QueueSettings { storage, max_memory_mib: 1, sizer: Some(Sizer::Bytes), ..Default::default() };
        Queue::new(&settings, Gauge::noop())
    }

    fn request(fill: u8, size: usize) -> Shipment {
        Shipment::encoded(vec![fill; size].into(), 1)
    }

    fn store(disk: &mut Disk, line: &Queue, shipment: &Shipment) -> Id {
        let id = disk.append(&[&shipment.bytes()], 1, 0, OnFull::Refuse).unwrap();
        line.keep(id, shipment, 0);
        id
    }

    fn disk(room: &Path) -> Disk {
        Disk::open(room, Settings::default()).unwrap()
    }

    #[test]
    fn what_is_kept_is_not_read_and_what_gave_way_is() {
        let room = tempfile::tempdir().unwrap();
        let (mut disk, line) = (disk(room.path()), line());
        let written: Vec<Shipment> = (0..4).map(|fill| request(fill, 300_000)).collect();
        let ids: Vec<Id> = written.iter().map(|shipment| store(&mut disk, &line, shipment)).collect();
        assert_eq!(line.load().memory(), 900_000, "three of them fit");
        // What comes in needs the place of one.
        let batch = Batch::default();
        let weight = batch.retained_bytes() as u64;
        line.keep(ids[3], &request(9, (1 << 20) - 900_000 - weight as usize + 1), 0);
        line.push(Shipment::new(batch), false, &mut Delivery::none()).1.unwrap();
        assert_eq!(line.load().memory(), 900_000 + weight, "the youngest gave way, for nothing else");
        for (place, shipment) in written.iter().enumerate() {
            let Some(kept) = line.recall(&mut disk, 0) else {
                assert_eq!(place, 3);
                let record = disk.next(0).unwrap().unwrap();
                assert_eq!((record.id, record.payload), (ids[3], shipment.bytes().to_vec()));
                continue;
            };
            assert_eq!((kept.id, kept.shipment.bytes()), (ids[place], shipment.bytes()));
        }
        assert_eq!(line.load().memory(), weight);
    }

    #[test]
    fn nothing_is_refused_for_what_is_kept() {
        let room = tempfile::tempdir().unwrap();
        let (mut disk, line) = (disk(room.path()), line());
        for fill in 0..10 {
            store(&mut disk, &line, &request(fill, 100_000));
        }
        // An unknown field of 1,000,000 bytes.
        let field = [&[0x7a, 0xc0, 0x84, 0x3d][..], &[7; 1_000_000]].concat();
        let large = Shipment::new(Batch::decode(field.into(), &Limits::default()).unwrap());
        line.push(large.clone(), false, &mut Delivery::none()).1.unwrap();
        assert!((1_000_000..=1 << 20).contains(&line.load().memory()), "{}", line.load().memory());
        assert!(line.push(large, false, &mut Delivery::none()).1.is_err(), "the limit stands");
        assert!(line.recall(&mut disk, 0).is_none());
        assert_eq!(disk.next(0).unwrap().unwrap().payload, vec![0; 100_000]);
    }
}
