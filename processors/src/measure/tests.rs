use super::sample::{Process, at, scrape};
use super::*;
use phoenix_telemetry::{AnyValue, BatchBuilder, Descriptor, Number, Shape, Temporality};
use proptest::prelude::*;

const CUMULATIVE: Shape = Shape::Sum { monotonic: true, temporality: Temporality::Cumulative };
const DELTA: Shape = Shape::Sum { monotonic: true, temporality: Temporality::Delta };

fn tracker(entity: EntityBy, measures: &[&str]) -> Tracker<()> {
    Tracker::new(Plan {
        measures: measures.iter().map(|name| (*name).to_owned()).collect(),
        entity,
        scope: ScopeBy::Host,
        max_entities: 1000,
    })
}

/// One process with one metric `m`; points as (start, time, value, state), in seconds.
fn one(shape: Shape, points: &[(i64, i64, Number, &str)]) -> Batch {
    let mut builder = BatchBuilder::new();
    let mut resource = builder.resource();
    resource.attribute("process.pid", 1);
    let mut scope = resource.scope("s", "");
    let mut metric = scope.metric(&Descriptor { name: "m", unit: "1", description: "", shape });
    for (start, time, value, state) in points {
        let start = if *start == i64::MIN { 0 } else { at(*start) };
        metric.point(start, at(*time), *value, &[("state", AnyValue::Str(state))]);
    }
    drop(metric);
    drop(scope);
    drop(resource);
    builder.finish()
}

/// The value after each of these batches.
fn values(shape: Shape, batches: &[&[(i64, i64, Number, &str)]]) -> Vec<Option<f64>> {
    let mut tracker = tracker(EntityBy::Resource, &["m"]);
    let value = |points: &&[(i64, i64, Number, &str)]| {
        tracker.read(&one(shape, points), Instant::now());
        tracker.targets().first().and_then(|target| tracker.of(target)).and_then(|slot| slot.value(0))
    };
    batches.iter().map(value).collect()
}

/// A scope that has lost points is no pattern for those that have all.
#[test]
fn a_scope_with_fewer_points_says_nothing_of_the_next() {
    let mut builder = BatchBuilder::new();
    for pid in 0..3 {
        let mut resource = builder.resource();
        resource.attribute("process.pid", pid);
        let mut scope = resource.scope("s", "");
        for name in ["m", "n"] {
            let level = Descriptor { name, unit: "1", description: "", shape: Shape::Gauge };
            scope.metric(&level).point(0, at(10), Number::Int(pid + 1), &[]);
        }
    }
    let mut batch = builder.finish();
    let first = batch.series().next().map(|point| point.id()).unwrap();
    batch.drop_ids(&[first]);
    let mut tracker = tracker(EntityBy::Resource, &["m", "n"]);
    tracker.read(&batch, Instant::now());
    let values: Vec<_> = tracker.targets().iter().filter_map(|target| tracker.of(target)).collect();
    let values: Vec<_> = values.iter().map(|slot| [slot.value(0), slot.value(1)]).collect();
    assert_eq!(values, [[None, Some(1.0)], [Some(2.0); 2], [Some(3.0); 2]]);
}

#[test]
fn a_counter_is_read_as_what_it_grew_by() {
    use Number::{Double, Int};
    let old = -1000;
    assert_eq!(
        values(
            CUMULATIVE,
            &[&[(old, 0, Int(5000), "")], &[(old, 10, Int(5020), "")], &[(old, 30, Double(5030.0), "")]]
        ),
        [Some(5.0), Some(2.0), Some(0.5)],
        "first over its life, then over the window, whatever the type"
    );
    assert_eq!(
        values(CUMULATIVE, &[&[(old, 0, Int(9), "a")], &[(old, 10, Int(19), "a"), (old, 10, Int(100), "b")]]),
        [Some(0.009), Some(1.0 + 100.0 / 1010.0)],
        "states add up"
    );
    assert_eq!(
        values(CUMULATIVE, &[&[(old, 0, Int(500), "")], &[(old, 10, Int(40), "")], &[(12, 20, Int(60), "")]])[1..],
        [Some(4.0), Some(6.0)],
        "a fall is a reset, a start after the last reading a new life"
    );
    let big = i64::MAX - 100;
    assert_eq!(values(CUMULATIVE, &[&[(old, 0, Int(big), "")], &[(old, 10, Int(big + 10), "")]])[1], Some(1.0));
    assert_eq!(
        values(CUMULATIVE, &[&[(i64::MIN, 0, Int(7), "")], &[(i64::MIN, 1, Int(8), "")]]),
        [None, Some(1.0)],
        "without a start there is no rate until the second reading"
    );
}

#[test]
fn deltas_and_levels_are_read_as_they_are() {
    use Number::{Double, Int};
    assert_eq!(
        values(DELTA, &[&[(0, 10, Int(20), "")], &[(10, 20, Double(5.0), ""), (10, 20, Int(5), "b")]]),
        [Some(2.0), Some(1.0)]
    );
    assert_eq!(
        values(Shape::Gauge, &[&[(0, 10, Int(20), ""), (0, 10, Double(0.5), "b")], &[(0, 20, Int(-3), "")]]),
        [Some(20.5), Some(-3.0)]
    );
    let change = Shape::Sum { monotonic: false, temporality: Temporality::Delta };
    assert_eq!(values(change, &[&[(0, 10, Int(20), "")]]), [None], "a change of a level is neither");
}

#[test]
fn a_newborn_counts_whole_over_the_interval() {
    let mut tracker = tracker(EntityBy::Resource, &["process.cpu.time"]);
    let old = Process { cpu: 1e6, ..Process::new(1, "old", -100_000) };
    tracker.read(&scrape("h", 0, [&old]), Instant::now());
    let young = Process { cpu: 8.0, ..Process::new(2, "young", 9) };
    tracker.read(&scrape("h", 10, [&old, &young]), Instant::now());
    let rates: Vec<(f64, bool)> = tracker
        .targets()
        .iter()
        .filter_map(|target| tracker.of(target))
        .map(|slot| (slot.value(0).unwrap(), slot.is_estimated(0)))
        .collect();
    assert_eq!(rates, [(0.0, false), (0.8, false)]);
}

#[test]
fn bad_points_are_counted_and_change_nothing() {
    let mut tracker = tracker(EntityBy::Resource, &["m"]);
    tracker.read(&one(CUMULATIVE, &[(-10, 10, Number::Int(10), "")]), Instant::now());
    let value = |tracker: &Tracker<()>| tracker.of(&tracker.targets()[0]).unwrap().value(0);
    for (time, bad) in [
        (20, Number::Double(f64::NAN)),
        (20, Number::Double(f64::INFINITY)),
        (10, Number::Int(99)),
        (5, Number::Int(99)),
    ] {
        tracker.read(&one(CUMULATIVE, &[(-10, time, bad, "")]), Instant::now());
        assert_eq!(value(&tracker), Some(0.5));
    }
    assert_eq!(
        format!("{:?}", tracker.take_ignored()),
        r#"Reasons([("not_finite", 2), ("duplicate", 1), ("out_of_order", 1)])"#
    );
    for time in [6, 7, 8] {
        tracker.read(&one(CUMULATIVE, &[(-10, time, Number::Int(60), "")]), Instant::now());
    }
    tracker.read(&one(CUMULATIVE, &[(-10, 9, Number::Int(61), "")]), Instant::now());
    assert_eq!(value(&tracker), Some(0.5 * 2.0), "a clock that was set back is followed after three points");
    let mut twice = one(CUMULATIVE, &[(-10, 20, Number::Int(70), "")]);
    _ = twice.append(one(CUMULATIVE, &[(-10, 20, Number::Int(70), "")]));
    tracker.read(&twice, Instant::now());
    assert_eq!(value(&tracker), Some(9.0 / 11.0), "a series that comes twice counts once");
}

#[test]
fn the_end_of_a_series_is_no_reading() {
    let mut builder = BatchBuilder::new();
    let mut resource = builder.resource();
    resource.attribute("process.pid", 1);
    let desc = Descriptor { name: "m", unit: "1", description: "", shape: CUMULATIVE };
    resource.scope("s", "").metric(&desc).closed(at(0), at(1), &[]);
    drop(resource);
    let mut tracker = tracker(EntityBy::Resource, &["m"]);
    tracker.read(&builder.finish(), Instant::now());
    assert_eq!((tracker.len(), tracker.targets().len()), (0, 1));
    assert_eq!(format!("{:?}", tracker.take_ignored()), "Reasons([])");
}

#[test]
fn memory_is_bounded_and_what_is_gone_is_forgotten() {
    let mut tracker: Tracker<()> = Tracker::new(Plan {
        measures: vec!["process.cpu.time".into()],
        entity: EntityBy::Resource,
        scope: ScopeBy::Host,
        max_entities: 50,
    });
    for round in 0..100i64 {
        let born: Vec<Process> = (0..10).map(|i| Process::new(round * 10 + i, "x", round * 10)).collect();
        tracker.read(&scrape("h", round * 10 + 10, &born), Instant::now());
        assert!(tracker.len() <= 50 && tracker.slots.len() <= 50 && tracker.series <= 400);
        assert!(tracker.targets().iter().all(|target| target.place != Place::Overflow), "what has gone makes room");
    }
    let many: Vec<Process> = (0..200).map(|pid| Process::new(100_000 + pid, "y", 0)).collect();
    tracker.read(&scrape("h", 2000, &many), Instant::now());
    let overflow = tracker.targets().iter().filter(|target| target.place == Place::Overflow).count();
    assert!((150..=200).contains(&overflow) && tracker.len() <= 50, "{overflow}");
    let one = [Process::new(1, "z", 0)];
    for second in [3000, 3300, 3600] {
        tracker.read(&scrape("h", second, &one), Instant::now());
    }
    assert_eq!(tracker.len(), 1);
}

#[test]
fn a_host_is_swept_by_its_own_time_and_goes_when_it_is_silent() {
    let mut tracker = tracker(EntityBy::Resource, &["process.memory.usage"]);
    let now = Instant::now();
    let of = |pid| [Process::new(pid, "x", -9)];
    for (host, pid) in [("a", 1), ("a", 2), ("b", 3), ("b", 4)] {
        tracker.read(&scrape(host, 0, &of(pid)), now);
    }
    for second in [300, 600, 900] {
        tracker.read(&scrape("a", second, &of(1)), now);
    }
    assert_eq!((tracker.len(), tracker.scopes(), tracker.series), (3, 2, 3), "the second process of a is gone");
    tracker.read(&scrape("a", 1200, &of(1)), now + SILENCE);
    assert_eq!((tracker.len(), tracker.scopes(), tracker.series), (1, 1, 1));
    tracker.read(&scrape("b", 1200, &of(3)), now + SILENCE);
    assert_eq!((tracker.len(), tracker.scopes()), (2, 2));
}

#[test]
fn a_scrape_in_parts_is_one_scrape() {
    let mut tracker = tracker(EntityBy::Resource, &["process.memory.usage"]);
    let all: Vec<Process> = (0..9).map(|pid| Process { memory: pid + 1, ..Process::new(pid, "x", -9) }).collect();
    for second in [0, 10, 20] {
        for (i, part) in all.chunks(3).enumerate() {
            tracker.read(&scrape("h", second, part), Instant::now());
            let scope = tracker.seen()[0].0;
            let elsewhere = tracker.elsewhere(scope).count();
            let expected = if second == 0 { [0, 3, 6][i] } else { 6 };
            assert_eq!(elsewhere, expected, "part {i} at {second}");
        }
    }
    for second in [30, 40, 50] {
        tracker.read(&scrape("h", second, &all), Instant::now());
    }
    tracker.read(&scrape("h", 60, &all[1..]), Instant::now());
    let scope = tracker.seen()[0].0;
    assert_eq!(tracker.elsewhere(scope).count(), 0, "in whole scrapes, what is not there is gone");
}

#[test]
fn entities_by_attributes_are_points_or_resources() {
    let mut builder = BatchBuilder::new();
    let mut resource = builder.resource();
    resource.attribute("host.name", "h");
    let mut scope = resource.scope("s", "");
    let gauge = Descriptor { name: "disk", unit: "1", description: "", shape: Shape::Gauge };
    let mut metric = scope.metric(&gauge);
    for (device, value) in [("sda", 5), ("sdb", 7), ("sda", 6)] {
        let attributes = [("device", AnyValue::Str(device)), ("v", AnyValue::Int(value))];
        metric.point(0, at(1), Number::Int(value), &attributes);
    }
    metric.point(0, at(1), Number::Int(1), &[]);
    drop(metric);
    scope.metric(&Descriptor { name: "other", ..gauge }).point(
        0,
        at(1),
        Number::Int(1),
        &[("device", AnyValue::Str("sda"))],
    );
    drop(scope);
    drop(resource);
    let batch = builder.finish();
    let mut tracker = tracker(EntityBy::Attributes(vec!["device".into()]), &["disk"]);
    tracker.read(&batch, Instant::now());
    assert_eq!(tracker.len(), 2);
    assert_eq!(tracker.targets().len(), 4, "all points with the attribute, and no other");
    let value = |i: usize| tracker.of(&tracker.targets()[i]).unwrap().value(0);
    assert_eq!((value(0), value(1), value(3)), (Some(11.0), Some(7.0), Some(11.0)));
    let mut by_host = self::tracker(EntityBy::Attributes(vec!["host.name".into()]), &["disk"]);
    by_host.read(&batch, Instant::now());
    assert_eq!((by_host.len(), by_host.targets().len()), (1, 1));
    assert!(matches!(by_host.targets()[0].entity, Entity::Resource(_)));
}

#[test]
fn another_host_is_another_scope_and_a_host_itself_is_no_entity() {
    let mut tracker = tracker(EntityBy::Resource, &["process.cpu.time"]);
    let process = Process::new(1, "x", -5);
    let mut batch = scrape("a", 0, [&process]);
    _ = batch.append(scrape("b", 100_000, [&process]));
    let mut builder = BatchBuilder::new();
    let mut host = builder.resource();
    host.attribute("host.name", "a");
    let desc = Descriptor { name: "process.cpu.time", unit: "s", description: "", shape: CUMULATIVE };
    host.scope("s", "").metric(&desc).point(at(-5), at(0), Number::Int(1), &[]);
    drop(host);
    _ = batch.append(builder.finish());
    tracker.read(&batch, Instant::now());
    assert_eq!((tracker.len(), tracker.targets().len()), (2, 2));
    let scopes: Vec<u64> = tracker.seen().iter().map(|(scope, _)| tracker.time_of(*scope)).collect();
    assert!(scopes.contains(&at(0)) && scopes.contains(&at(100_000)), "one host's clock is not the other's");
}

proptest! {
    /// Whatever comes, nothing panics, and memory stays within its bounds.
    #[test]
    fn any_points_are_survived(
        batches in prop::collection::vec(
            prop::collection::vec(
                (any::<u64>(), any::<u64>(), prop_oneof![any::<i64>().prop_map(Number::Int), any::<f64>().prop_map(Number::Double)], 0..40i64),
                0..12,
            ),
            1..12,
        ),
        shape in prop_oneof![Just(CUMULATIVE), Just(DELTA), Just(Shape::Gauge)],
    ) {
        let mut tracker: Tracker<()> = Tracker::new(Plan {
            measures: vec!["m".into()],
            entity: EntityBy::Resource,
            scope: ScopeBy::Host,
            max_entities: 8,
        });
        for points in batches {
            let mut builder = BatchBuilder::new();
            for (start, time, value, pid) in points {
                let mut resource = builder.resource();
                resource.attribute("process.pid", pid);
                let mut scope = resource.scope("s", "");
                scope.metric(&Descriptor { name: "m", unit: "1", description: "", shape }).point(start, time, value, &[]);
            }
            tracker.read(&builder.finish(), Instant::now());
            prop_assert!(tracker.len() <= 8 && tracker.slots.len() <= 8 && tracker.series <= 64);
            for target in tracker.targets() {
                let value = tracker.of(target).and_then(|slot| slot.value(0));
                prop_assert!(value.is_none_or(f64::is_finite));
            }
        }
    }
}
