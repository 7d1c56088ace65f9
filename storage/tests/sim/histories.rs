//! Random histories with a disk that fails and fills, kills in between, a clock that jumps, against an oracle that knows
//! every record: each is delivered unaltered and in order, finished, or counted as evicted.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use phoenix_storage::{AppendError, Damage, Fsync, Id, Loss, OnFull, Queue, Settings, Stats};
use proptest::prelude::*;

use crate::disk::{Crash, EIO, ENOMEM, ENOSPC, EROFS, SimDisk};

const SECOND: u64 = 1_000_000_000;

#[derive(Clone, Debug)]
enum Step {
    Append {
        bytes: usize,
        evict: bool,
    },
    Sync,
    Next,
    Finish(usize),
    GiveBack(usize),
    /// Seconds, forward or back.
    Clock(i64),
    Expire,
    Fail(&'static str, i32),
    Space(usize),
    Heal,
    Kill,
}

fn step() -> impl Strategy<Value = Step> {
    let operations =
        prop::sample::select(vec!["write", "create", "open", "open_to_write", "sync", "sync_dir", "remove", "set_len"]);
    let kinds = prop::sample::select(vec![EROFS, ENOSPC, EIO, ENOMEM]);
    prop_oneof![
        12 => (0usize..400, any::<bool>()).prop_map(|(bytes, evict)| Step::Append { bytes, evict }),
        2 => Just(Step::Sync),
        8 => Just(Step::Next),
        6 => (0usize..4).prop_map(Step::Finish),
        2 => (0usize..4).prop_map(Step::GiveBack),
        2 => (-3600i64..3600).prop_map(Step::Clock),
        1 => Just(Step::Expire),
        1 => (operations, kinds).prop_map(|(operation, kind)| Step::Fail(operation, kind)),
        1 => (0usize..500).prop_map(Step::Space),
        3 => Just(Step::Heal),
        1 => Just(Step::Kill),
    ]
}

/// A kill and a failing disk damage no record. Half a record that nobody was told of may lie at an end.
fn assert_whole(stats: &Stats) {
    let Damage { payload, missing, unreadable, foreign, cut, header, .. } = stats.damaged;
    assert_eq!([payload, missing, unreadable, foreign], [Loss::default(); 4]);
    assert!(cut.records + header.records <= 1, "{stats:?}");
}

fn evicted(stats: &Stats) -> (u64, u64) {
    let (size, age) = (stats.evicted_size, stats.evicted_age);
    (size.records + age.records, size.points + age.points)
}

struct World {
    disk: SimDisk,
    settings: Settings,
    queue: Queue,
    now: u64,
    appended: u64,
    /// In the queue, or evicted.
    outstanding: BTreeSet<u64>,
    under_way: Vec<(Id, u64)>,
    /// Finished, though that may not have been written down.
    maybe: BTreeSet<u64>,
    /// Evictions of this opening that an earlier audit has seen: records and points.
    settled: (u64, u64),
}

fn open(disk: &SimDisk, settings: &Settings) -> Option<Queue> {
    Queue::open_on(disk.files(), Path::new("/queue"), settings.clone()).ok()
}

fn payload(number: u64, bytes: usize) -> Vec<u8> {
    let mut payload = number.to_le_bytes().to_vec();
    payload.extend((0..bytes).map(|place| (place as u64 * 13 + number) as u8));
    payload
}

impl World {
    fn new(max_age: Option<Duration>) -> Self {
        let disk = SimDisk::default();
        let settings = Settings { max_bytes: 4000, max_age, segment_bytes: 500, fsync: Fsync::Never };
        let queue = open(&disk, &settings).unwrap();
        let now = 1_000_000 * SECOND;
        World {
            disk,
            settings,
            queue,
            now,
            appended: 0,
            outstanding: BTreeSet::new(),
            under_way: Vec::new(),
            maybe: BTreeSet::new(),
            settled: (0, 0),
        }
    }

    fn next(&mut self) -> Option<u64> {
        let record = self.queue.next(self.now).ok()??;
        let number = record.points;
        assert_eq!(record.payload, payload(number, record.payload.len() - 8), "delivered altered");
        assert!(self.outstanding.contains(&number) || self.maybe.remove(&number), "{number} was finished");
        self.outstanding.insert(number);
        self.under_way.push((record.id, number));
        Some(number)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Append { bytes, evict } => {
                let on_full = if evict { OnFull::EvictOldest } else { OnFull::Refuse };
                self.appended += 1;
                match self.queue.append(&[&payload(self.appended, bytes)], self.appended, self.now, on_full) {
                    Ok(_) => drop(self.outstanding.insert(self.appended)),
                    Err(AppendError::TooLarge { .. }) => panic!("it would fit"),
                    Err(AppendError::Full { .. }) => assert!(!evict, "room can be made"),
                    Err(_) => {}
                }
            }
            Step::Sync => drop(self.queue.sync()),
            Step::Next => drop(self.next()),
            Step::Finish(which) if which < self.under_way.len() => {
                let (id, number) = self.under_way.remove(which);
                let unnoted = self.queue.stats().unnoted;
                assert!(self.queue.finish(id) && !self.queue.finish(id));
                self.outstanding.remove(&number);
                if self.queue.stats().unnoted > unnoted {
                    self.maybe.insert(number);
                }
            }
            Step::GiveBack(which) if which < self.under_way.len() => {
                let (id, _) = self.under_way.remove(which);
                self.queue.give_back(id);
                assert!(!self.queue.give_back(id));
            }
            Step::Finish(_) | Step::GiveBack(_) => {}
            Step::Clock(seconds) => self.now = self.now.saturating_add_signed(seconds * SECOND as i64),
            Step::Expire => self.queue.expire(self.now),
            Step::Fail(operation, kind) => self.disk.fail(Some((operation, kind))),
            Step::Space(bytes) => self.disk.set_space(Some(bytes)),
            Step::Heal => {
                self.disk.fail(None);
                self.disk.set_space(None);
            }
            Step::Kill => self.kill(),
        }
        let stats = self.queue.stats();
        assert!(stats.bytes <= 4000, "{stats:?}");
    }

    /// A kill and a new start; everything is accounted for: what is in the queue comes out in order, the rest was counted as
    /// evicted.
    fn kill(&mut self) {
        self.disk.fail(None);
        self.disk.set_space(None);
        self.under_way.drain(..).for_each(|(id, _)| _ = self.queue.give_back(id));
        let before = self.queue.stats();
        assert_whole(&before);
        self.disk.stop_at(Some(0));
        assert!(open(&self.disk, &self.settings).is_none(), "held, and stopped");
        // What a queue does when it is dropped comes too late.
        let spare = open(&SimDisk::default(), &self.settings).unwrap();
        drop(std::mem::replace(&mut self.queue, spare));
        self.disk.restart(Crash::Kill);
        self.queue = open(&self.disk, &self.settings).unwrap();
        let mut found = Vec::new();
        while let Some(number) = self.next() {
            found.push(number);
        }
        assert!(found.is_sorted_by(|a, b| a < b), "{found:?}");
        let after = self.queue.stats();
        let found: BTreeSet<u64> = found.into_iter().collect();
        let missing: Vec<u64> = self.outstanding.difference(&found).copied().collect();
        let unnoted = before.unnoted;
        let (before, now) = (evicted(&before), evicted(&after));
        let lost = (before.0 + now.0 - self.settled.0, before.1 + now.1 - self.settled.1);
        self.settled = now;
        // What was done with and could not be noted comes again, and may be evicted again.
        if unnoted == 0 {
            assert_eq!(lost, (missing.len() as u64, missing.iter().sum::<u64>()), "{missing:?}");
        }
        assert_eq!(after.records, found.len() as u64);
        assert_whole(&after);
        self.outstanding = found;
        self.maybe.clear();
        self.under_way.drain(..).for_each(|(id, _)| assert!(self.queue.give_back(id)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn every_record_is_delivered_finished_or_counted(
        steps in prop::collection::vec(step(), 1..80),
        minutes in prop::option::of(1u64..60),
    ) {
        let mut world = World::new(minutes.map(|minutes| Duration::from_secs(60 * minutes)));
        steps.into_iter().for_each(|step| world.step(step));
        world.kill();
    }
}
