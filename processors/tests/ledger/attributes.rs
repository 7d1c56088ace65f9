//! Attributes of single metrics are summed over and no more, at any scrape: what is left adds up to what went in.

use std::collections::BTreeMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use phoenix_pipeline::AttributeFold;

use super::*;
use crate::readers::{Account, CUMULATIVE, DELTA};
use crate::temporality::without_the_first;

/// What may be summed over: an attribute that tells two series apart, and one that every process has beside it.
const FOLDS: [(&str, &str); 6] =
    [("io", "direction"), ("io", "id"), ("cpu", "id"), ("memory", "id"), ("faults", "id"), ("other", "id")];

fn folds(bits: u8) -> Arc<[AttributeFold]> {
    let all = FOLDS.iter().enumerate().filter(|(bit, _)| bits & 1 << bit != 0);
    all.map(|(_, (metric, attribute))| AttributeFold { metric: (*metric).into(), attribute: (*attribute).into() })
        .collect()
}

/// Every point twice, told apart by `id`.
pub(crate) fn doubled(sent: &mut [Sent]) {
    let metrics =
        sent.iter_mut().flat_map(|sent| &mut sent.resource.scope_metrics).flat_map(|scope| &mut scope.metrics);
    for metric in metrics {
        if let Some(Data::Sum(sum)) = &mut metric.data {
            let with = |id: &'static str| {
                move |mut point: opentelemetry_proto::tonic::metrics::v1::NumberDataPoint| {
                    point.attributes.push(world::string("id", id));
                    point
                }
            };
            let points = std::mem::take(&mut sum.data_points);
            sum.data_points =
                points.iter().cloned().map(with("a")).chain(points.iter().cloned().map(with("b"))).collect();
        }
    }
}

/// Sums by metric and executable.
fn by_metric(totals: &BTreeMap<Account, Total>) -> BTreeMap<(String, String), Total> {
    let mut sums: BTreeMap<(String, String), Total> = Default::default();
    for ((metric, _, executable), total) in totals {
        let sum = sums.entry((metric.clone(), executable.clone())).or_default();
        sum.int += total.int;
        sum.double += total.double;
    }
    sums
}

impl Bench {
    /// All that was sent came out, whatever it is told apart by.
    fn balanced_by_metric(&self, world: &World) -> Result<(), TestCaseError> {
        let (truth, out) = (by_metric(&world.truth), by_metric(&self.out.r1));
        let differences = by_metric(&self.out.r2);
        for (of, truth) in &truth {
            let r1 = out.get(of).copied().unwrap_or_default();
            prop_assert_eq!(r1.int, 2 * truth.int, "R1 {:?}", of);
            prop_assert!(close(r1.double, 2.0 * truth.double), "R1 {:?}: {} is not {}", of, r1.double, truth.double);
            let r2 = differences.get(of).copied().unwrap_or_default();
            prop_assert!(r2.sum() <= 2.0 * truth.sum() + 1e-6, "R2 {:?}: {} > {}", of, r2.sum(), truth.sum());
        }
        prop_assert!(out.iter().all(|(of, total)| truth.contains_key(of) || *total == Total::default()));
        prop_assert!(self.own("phoenix_conservation_error", "") < 1e-9);
        Ok(())
    }
}

fn bits() -> impl Strategy<Value = Vec<u8>> {
    // Most scrapes change nothing.
    prop::collection::vec(prop_oneof![Just(0u8), Just(0b11_1111), 0u8..64], 1..6)
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn sums_over_attributes_add_up_to_what_went_in(script in scripts(ALL, 5, 20), bits in bits(), temporality in 0usize..3) {
        let (config, wanted) =
            [("", None), ("temporality: delta", Some(DELTA)), ("temporality: cumulative", Some(CUMULATIVE))][temporality];
        let (mut bench, mut world) = (Bench::new(config), World::new(5));
        (bench.doubled, bench.out.wanted) = (true, wanted);
        for (i, scrape) in script.iter().enumerate() {
            bench.folds = folds(bits[i / 2 % bits.len()]);
            // In one piece, or the group has spoken before the last first delta comes.
            let wire = scrape.wire && (wanted != Some(CUMULATIVE) || world.now > BEGIN);
            bench.run(&mut world, &Scrape { wire, ..scrape.clone() });
            prop_assert!(bench.own("phoenix_conservation_error", "") < 1e-9);
        }
        bench.flush(true);
        if wanted == Some(CUMULATIVE) {
            without_the_first(&mut world);
        }
        bench.balanced_by_metric(&world)?;
    }

    #[test]
    fn levels_summed_over_attributes_add_up_at_every_scrape(
        script in scripts(&[Event::Counts, Event::Ends, Event::Reborn, Event::Resets], 5, 20), bits in bits()
    ) {
        let (mut bench, mut world) = (Bench::new(""), World::new(5));
        bench.doubled = true;
        for (i, scrape) in script.iter().enumerate() {
            bench.folds = folds(bits[i % bits.len()]);
            bench.run(&mut world, &Scrape { wire: false, ..scrape.clone() });
        }
        let mut sums: BTreeMap<(String, u64), i128> = Default::default();
        for (((_, _, executable), time), total) in &bench.out.levels {
            *sums.entry((executable.clone(), *time)).or_default() += total.int;
        }
        for (((_, _, executable), time), total) in &world.levels {
            prop_assert_eq!(sums.get(&(executable.clone(), *time)), Some(&(2 * total.int)), "{} at {}", executable, time);
        }
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn sums_over_attributes_survive_restarts(script in scripts(ALL, 5, 20), bits in bits()) {
        let directory = tempfile::tempdir().unwrap();
        let mut bench = Bench::at(restarts::site(directory.path()), "state: {interval: 0s}");
        bench.doubled = true;
        let mut world = World::new(5);
        for (i, scrape) in script.iter().enumerate() {
            bench.folds = folds(bits[i / 2 % bits.len()]);
            bench.run_and_restart(&mut world, scrape);
            prop_assert_eq!(bench.own("phoenix_aggregate_state_found_total", "damaged"), 0.0);
        }
        bench.flush(true);
        bench.balanced_by_metric(&world)?;
    }
}

/// One process, whose `requests` are told apart by `request.id`, of which each is sent once.
#[test]
fn a_sum_begins_where_it_is_asked_for_and_ends_with_it() {
    let mut bench = Bench::new("member_expiry: 20s");
    let mut leaving = Vec::new();
    for i in 0..14u64 {
        let time = BEGIN + 10 * SECOND * i;
        bench.folds = if (2..6).contains(&i) { folds(0b10) } else { Arc::default() };
        // Three at a time, each new, each counting five from the last scrape on.
        let mut metric = counter("io", time - 5 * SECOND, time, 5);
        let Some(Data::Sum(sum)) = &mut metric.data else { unreachable!() };
        let point = sum.data_points.remove(0);
        for n in 0..3 {
            let mut point = point.clone();
            point.attributes = vec![world::string("id", &format!("{i}-{n}")), world::string("direction", "read")];
            sum.data_points.push(point);
        }
        let batch = bench.send(vec![Sent { resource: wrap(0, vec![metric]), fold: false }], false);
        let text = |point: &phoenix_telemetry::Point<'_>, key| point.attributes().get_str(key).map(str::to_owned);
        let live = batch.series().filter(|point| !point.no_recorded_value());
        let (sums, own): (Vec<_>, Vec<_>) = live.partition(|point| text(point, "phoenix.folded").is_some());
        assert!(
            sums.iter().all(|point| text(point, "direction").as_deref() == Some("read") && text(point, "id").is_none())
        );
        let sum = sums.first().and_then(|point| point.value()).map(|value| value.as_f64());
        assert!(sums.len() <= 1 && batch.series().all(|point| point.metric().name() != "phoenix.group.entities"));
        leaving.push((own.len(), sum));
    }
    let folded = [15.0, 30.0, 45.0, 60.0].map(|sum| (0, Some(sum)));
    assert_eq!(leaving[..2], [(3, None); 2], "before it is asked for");
    assert_eq!(leaving[2..6], folded, "what is never sent individually");
    assert_eq!(leaving[6].0, 3, "and individual again");
    assert_eq!(leaving.last(), Some(&(3, None)), "the sum is closed when nobody is in it any more: {leaving:?}");
    let total: i128 = bench.out.r1.values().map(|total| total.int).sum();
    assert_eq!(total, 14 * 15 - 15, "of the first scrape nothing is known: {:?}", bench.out.r1);
}

/// What a rule keeps is not summed over, nor is CPU time.
#[test]
fn what_is_kept_and_cpu_time_stay_as_they_are() {
    let mut bench = Bench::new("");
    let asked: Arc<[AttributeFold]> =
        ["process.cpu.time", "io"].map(|metric| AttributeFold { metric: metric.into(), attribute: "id".into() }).into();
    for i in 0..3 {
        let time = BEGIN + 10 * SECOND * i;
        let mut sent = vec![Sent {
            resource: wrap(
                0,
                vec![counter("process.cpu.time", BEGIN - SECOND, time, 5), counter("io", BEGIN - SECOND, time, 7)],
            ),
            fold: false,
        }];
        doubled(&mut sent);
        let bytes = encode(sent.into_iter().map(|sent| sent.resource).collect());
        let came = Batch::decode(bytes, &Limits::default()).unwrap();
        for keep in [true, false] {
            let (mut batch, mut marks, mut delivery) = (came.clone(), Marks::default(), Delivery::none());
            marks.fold_attributes(&asked);
            let resource = batch.resources().next().unwrap().id();
            if keep {
                marks.mark(Entity::Resource(resource), Decision::Keep, "test");
            }
            let mut stage = build(&bench.site, "");
            stage.process(&mut batch, &mut Context { now: bench.now, delivery: &mut delivery, marks: &mut marks });
            delivery.delivered();
            let names: Vec<String> = batch
                .series()
                .filter(|point| point.attributes().get("id").is_some())
                .map(|point| point.metric().name().to_owned())
                .collect();
            let expected = if keep {
                vec!["process.cpu.time"; 2].into_iter().chain(vec!["io"; 2]).collect()
            } else {
                vec!["process.cpu.time"; 2]
            };
            assert_eq!(names, expected);
        }
        bench.now += Duration::from_secs(10);
    }
}
