//! Rows are held to the series they stand for: whatever comes, both say the same.

use std::collections::BTreeSet;
use std::time::Instant;

use phoenix_telemetry::{AnyValue, Batch, BatchBuilder, Descriptor, Number, Scope, Shape, Temporality};
use proptest::prelude::*;

use super::super::readings::Readings;
use super::super::sample::{Process, at, scrape};
use super::super::{EXPIRY, Plan, Tracker};
use crate::entity::{EntityBy, ScopeBy};

const CUMULATIVE: Shape = Shape::Sum { monotonic: true, temporality: Temporality::Cumulative };
const DELTA: Shape = Shape::Sum { monotonic: true, temporality: Temporality::Delta };
const MEASURES: [&str; 3] = ["count", "sum", "level"];

fn tracker(plain: bool) -> Tracker<()> {
    let mut tracker = Tracker::new(Plan {
        measures: MEASURES.map(str::to_owned).into(),
        entity: EntityBy::Resource,
        scope: ScopeBy::Host,
        max_entities: 6,
    });
    tracker.layouts.plain = plain;
    tracker
}

/// How many entities are kept as a row.
fn rows(tracker: &Tracker<()>) -> usize {
    let slots = tracker.slots.iter().flatten();
    slots.filter(|slot| matches!(slot.readings, Readings::Row(_))).count()
}

/// All a tracker knows and says.
fn known(tracker: &mut Tracker<()>) -> String {
    let ignored = tracker.take_ignored();
    let mut all = format!("{:?} {:?} {ignored:?} {}", tracker.targets, tracker.seen, tracker.series);
    for slot in tracker.slots.iter().flatten() {
        let unpacked;
        let apart = match &slot.readings {
            Readings::Apart(apart) => apart,
            Readings::Row(row) => {
                let (time, batch) = row.newest();
                unpacked = row.unpack(slot.key, (0, time, batch));
                &unpacked
            }
        };
        let read: Vec<_> = (0..4).map(|measure| slot.readings.get(measure)).collect();
        let of_slot = (slot.key, slot.scope, slot.time, slot.scrape, slot.batch, slot.reborn, slot.newest);
        all += &format!("\n{of_slot:?} {read:?} {:?} {:?}", apart.measures, apart.series);
    }
    all
}

/// What one process sends in one batch, made of some random bits: mostly as usual.
#[derive(Clone, Copy, Debug)]
struct Sent {
    pid: i64,
    odd: u16,
    grown: [u8; 6],
}

impl Sent {
    /// Whether that odd thing happens: one time of four, any may.
    fn is(&self, bit: u16) -> bool {
        self.odd & 3 == 0 && self.odd >> (2 + bit) & 1 == 1
    }
}

/// The counters of the processes, as they went on.
type Totals = [[i64; 6]; 5];

fn send(builder: &mut BatchBuilder, second: i64, sent: &Sent, totals: &mut [i64; 6]) {
    for (total, grown) in totals.iter_mut().zip(sent.grown) {
        // A few fall, and begin anew.
        *total = if grown > 250 { 1 } else { *total + i64::from(grown) };
    }
    let start = if sent.is(0) { at(second - 1) } else { at(-100) };
    let time = if sent.is(1) { at(second) - 5 } else { at(second) };
    let mut resource = builder.resource();
    resource.attribute("process.pid", sent.pid);
    let mut scope = resource.scope("s", "");
    let mut metric = |name: &str, shape, start: u64, values: &[(Number, &str)]| {
        let mut metric = scope.metric(&Descriptor { name, unit: "1", description: "", shape });
        for (value, state) in values {
            metric.point(start, time, *value, &[("state", AnyValue::Str(state))]);
        }
    };
    let int = |i: usize| Number::Int(totals[i]);
    let double = |i: usize| Number::Double(if sent.is(2) { f64::NAN } else { totals[i] as f64 / 3.0 });
    if sent.is(3) {
        metric("other", Shape::Gauge, 0, &[(int(0), "")]);
    }
    metric("count", if sent.is(4) { DELTA } else { CUMULATIVE }, start, &[(int(0), "a"), (int(1), "b")]);
    metric("unread", Shape::Gauge, start, &[(int(0), "")]);
    if !sent.is(5) {
        let value = if sent.is(6) { int(2) } else { double(2) };
        metric("sum", CUMULATIVE, if sent.is(7) { 0 } else { start }, &[(value, "a"), (double(3), "b")]);
    }
    let level = if sent.is(8) { "a" } else { "b" };
    metric("level", Shape::Gauge, 0, &[(double(4), "a"), (int(5), level)]);
    drop(scope);
    if sent.is(9) {
        let mut scope = resource.scope("other", "");
        let name = if sent.is(10) { "level" } else { "other" };
        let desc = Descriptor { name, unit: "1", description: "", shape: Shape::Gauge };
        scope.metric(&desc).point(0, time, Number::Int(1), &[]);
    }
}

#[test]
fn usual_processes_are_rows_and_come_back_as_the_series_they_were() {
    let (mut packed, mut plain) = (tracker_of_processes(false), tracker_of_processes(true));
    let mut all: Vec<Process> = (0..6).map(|pid| Process::new(pid, "x", -9)).collect();
    for round in 0..8i64 {
        for process in &mut all {
            (process.cpu, process.io, process.memory) = (process.cpu + 1.5, process.io + 9, 7 + round);
        }
        if round == 5 {
            // The second of its counters falls, as all others go on.
            all[2].cpu = 0.5;
        }
        let batch = scrape("h", 10 * round, &all);
        packed.read(&batch, Instant::now());
        plain.read(&batch, Instant::now());
        assert_eq!(known(&mut packed), known(&mut plain), "round {round}");
        let expected = [0, 6, 6, 6, 6, 5, 6, 6][round as usize];
        assert_eq!((rows(&packed), rows(&plain)), (expected, 0), "round {round}");
    }
    let later = at(80) + EXPIRY;
    packed.slots.iter_mut().flatten().for_each(|slot| slot.readings.sweep(later, slot.key));
    assert_eq!(rows(&packed), 0, "what is old is forgotten, as a row too");
}

/// Shapes that differ in nothing but whether their numbers are integers are remembered apart.
#[test]
fn integers_and_doubles_of_the_same_series_stay_rows_from_batch_to_batch() {
    let (mut packed, mut plain) = (tracker(false), tracker(true));
    for round in 0..5i64 {
        let mut builder = BatchBuilder::new();
        for pid in [0, 2, 1, 3, 4, 5i64] {
            let value = if pid % 2 == 0 { Number::Int(7 * round) } else { Number::Double(0.5 * round as f64) };
            let mut resource = builder.resource();
            resource.attribute("process.pid", pid);
            let mut scope = resource.scope("s", "");
            let desc = Descriptor { name: "sum", unit: "1", description: "", shape: CUMULATIVE };
            scope.metric(&desc).point(at(-100), at(10 * round), value, &[]);
        }
        let batch = builder.finish();
        packed.read(&batch, Instant::now());
        plain.read(&batch, Instant::now());
        assert_eq!(known(&mut packed), known(&mut plain), "round {round}");
        let shapes: BTreeSet<_> = batch.resources().flat_map(|resource| resource.scopes()).map(Scope::shape).collect();
        let (all, recalled) = if round > 0 { (6, shapes.len()) } else { (0, 0) };
        assert_eq!((rows(&packed), rows(&plain)), (all, 0), "round {round}");
        assert_eq!(packed.layouts.recalled(), recalled, "round {round}");
    }
}

fn tracker_of_processes(plain: bool) -> Tracker<()> {
    let mut tracker = tracker(plain);
    tracker.plan.measures =
        ["process.cpu.time", "process.disk.io", "process.memory.usage", "never"].map(str::to_owned).into();
    tracker
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    /// Whatever churns, restarts, falls, comes twice or in parts.
    #[test]
    fn rows_say_what_series_say(
        batches in prop::collection::vec(
            (0..12i64, any::<u8>(), prop::collection::vec(
                (0..5i64, any::<u16>(), any::<[u8; 6]>()).prop_map(|(pid, odd, grown)| Sent { pid, odd, grown }),
                1..9,
            )),
            1..12,
        ),
    ) {
        let (mut packed, mut plain) = (tracker(false), tracker(true));
        let mut totals = Totals::default();
        let mut second = 0;
        for (passed, odd, sent) in batches {
            // Sometimes a further part of the scrape before, sometimes after a long silence.
            second += if odd > 250 { 400 } else { passed };
            let mut builder = BatchBuilder::new();
            for one in &sent {
                send(&mut builder, second, one, &mut totals[one.pid as usize]);
            }
            let mut batch: Batch = builder.finish();
            if odd % 16 == 1 {
                batch.drop_points(|point| point.series() % 8 == u64::from(odd / 32));
            }
            packed.read(&batch, Instant::now());
            plain.read(&batch, Instant::now());
            prop_assert_eq!(known(&mut packed), known(&mut plain));
            prop_assert_eq!(rows(&plain), 0);
        }
    }
}
