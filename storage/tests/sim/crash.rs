//! A crash between any two file operations.

use std::collections::BTreeMap;
use std::path::Path;

use phoenix_storage::{Fsync, Id, OnFull, Queue, Settings};

use crate::disk::{Crash, SimDisk};

const SETTINGS: Settings = Settings { max_bytes: 1 << 20, max_age: None, segment_bytes: 400, fsync: Fsync::Never };

pub fn payload(number: u64) -> Vec<u8> {
    (0..number * 37 % 90).map(|byte| (byte * 7 + number) as u8).collect()
}

/// What became of a record, as its sender and its receiver know it.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    appended: bool,
    synced: bool,
    /// Nobody may be surprised to see it again.
    finishing: bool,
    finished: bool,
}

#[derive(Debug, Default)]
struct Oracle {
    known: BTreeMap<u64, Known>,
    under_way: Vec<(Id, u64)>,
}

fn open(disk: &SimDisk) -> Option<Queue> {
    Queue::open_on(disk.files(), Path::new("/queue"), SETTINGS).ok()
}

impl Oracle {
    fn append(&mut self, queue: &mut Queue, number: u64) {
        let payload = payload(number);
        let (one, two) = payload.split_at(payload.len() / 3);
        let appended = queue.append(&[one, two], number, number, OnFull::Refuse).is_ok();
        self.known.insert(number, Known { appended, ..Known::default() });
    }

    fn sync(&mut self, queue: &mut Queue) {
        if queue.sync().is_ok() {
            self.known.values_mut().for_each(|known| known.synced = known.appended);
        }
    }

    fn next(&mut self, queue: &mut Queue) {
        if let Ok(Some(record)) = queue.next(0) {
            assert_eq!(record.payload, payload(record.points), "delivered altered");
            self.under_way.push((record.id, record.points));
        }
    }

    fn finish(&mut self, queue: &mut Queue, which: usize) {
        if which < self.under_way.len() {
            let (id, number) = self.under_way.remove(which);
            let unnoted = queue.stats().unnoted;
            self.known.entry(number).or_default().finishing = true;
            let finished = queue.finish(id) && queue.stats().unnoted == unnoted;
            self.known.entry(number).or_default().finished = finished;
        }
    }

    fn give_back(&mut self, queue: &mut Queue, which: usize) {
        if which < self.under_way.len() {
            queue.give_back(self.under_way.remove(which).0);
        }
    }

    /// All that may happen, in some forty steps: several segments, records finished in and out of order, given back, a
    /// restart in order.
    fn history(&mut self, disk: &SimDisk) {
        let Some(mut queue) = open(disk) else { return };
        for number in 0..12 {
            self.append(&mut queue, number);
            match number {
                2 | 7 => self.sync(&mut queue),
                4 => (0..3).for_each(|_| self.next(&mut queue)),
                5 => self.finish(&mut queue, 1),
                6 => self.give_back(&mut queue, 1),
                8 => (0..4).for_each(|_| self.next(&mut queue)),
                9 => (0..3).for_each(|_| self.finish(&mut queue, 0)),
                _ => {}
            }
        }
        self.under_way.clear();
        drop(queue);
        let Some(mut queue) = open(disk) else { return };
        self.append(&mut queue, 12);
        self.sync(&mut queue);
        (0..7).for_each(|_| self.next(&mut queue));
        (0..6).for_each(|which| self.finish(&mut queue, which % 2));
        self.append(&mut queue, 13);
        self.under_way.clear();
    }

    /// Opens after the crash and drains.
    fn check(&self, disk: &SimDisk, crash: Crash, what: &str) {
        let mut queue = open(disk).unwrap_or_else(|| panic!("{what}: does not open"));
        let mut found = Vec::new();
        while let Some(record) = queue.next(0).unwrap() {
            assert_eq!(record.payload, payload(record.points), "{what}: delivered altered");
            found.push(record.points);
        }
        assert!(found.is_sorted_by(|a, b| a < b), "{what}: in order, once: {found:?}");
        for (number, known) in &self.known {
            let there = found.contains(number);
            let safe = known.appended && (known.synced || crash == Crash::Kill);
            assert!(there || known.finishing || !safe, "{what}: {number} is lost: {known:?}");
            assert!(!there || !known.finished || crash != Crash::Kill, "{what}: {number} comes again: {known:?}");
        }
        // And it goes on.
        queue.append(&[&payload(99)], 99, 0, OnFull::Refuse).unwrap();
        assert_eq!(queue.next(0).unwrap().unwrap().points, 99, "{what}");
        assert_eq!(queue.stats().records, found.len() as u64 + 1, "{what}");
    }
}

fn crash_everywhere(crashes: &[Crash]) {
    let disk = SimDisk::default();
    let mut whole = Oracle::default();
    whole.history(&disk);
    assert!(whole.known.values().all(|known| known.appended));
    assert!(whole.known.values().filter(|known| known.finished).count() > 8);
    let operations = disk.operations();
    assert!(operations > 60, "{operations}");
    for &crash in crashes {
        for stop in 0..=operations {
            let disk = SimDisk::default();
            disk.stop_at(Some(stop));
            let mut oracle = Oracle::default();
            oracle.history(&disk);
            disk.restart(crash);
            // Once more, while it recovers.
            for again in 1..4 {
                disk.stop_at(Some(again));
                drop(open(&disk));
                disk.restart(crash);
            }
            oracle.check(&disk, crash, &format!("{crash:?} at operation {stop}"));
        }
    }
}

#[test]
fn a_kill_between_any_two_operations_loses_and_repeats_nothing() {
    crash_everywhere(&[Crash::Kill]);
}

#[test]
fn a_power_loss_between_any_two_operations_loses_nothing_that_was_synced() {
    crash_everywhere(&[Crash::Power]);
    crash_everywhere(
        &(0u64..40).map(|seed| Crash::Torn((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect::<Vec<_>>(),
    );
}
