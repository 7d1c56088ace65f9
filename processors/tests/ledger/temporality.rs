//! `temporality`: the same totals where all that counts leaves as deltas, or as cumulative sums.

use super::*;
use crate::readers::{CUMULATIVE, DELTA};

fn wanting(config: &'static str, temporality: i32) -> Bench {
    let mut bench = Bench::new(config);
    bench.out.wanted = Some(temporality);
    bench
}

/// Deltas of the first scrape lie before a reader of cumulative sums began to look.
pub(crate) fn without_the_first(world: &mut World) {
    for (account, total) in std::mem::take(&mut world.first_deltas) {
        world.truth.entry(account).and_modify(|truth| truth.int -= total.int);
    }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn deltas_add_up_to_what_went_in(script in scripts(ALL, 5, 20)) {
        let (mut bench, mut world) = (wanting("temporality: delta", DELTA), World::new(5));
        for scrape in &script {
            bench.run(&mut world, scrape);
            prop_assert!(bench.own("phoenix_conservation_error", "") < 1e-9);
        }
        bench.flush(true);
        bench.balanced(&world)?;
    }

    #[test]
    fn cumulative_sums_add_up_to_what_went_in(script in scripts(ALL, 5, 20)) {
        let (mut bench, mut world) = (wanting("temporality: cumulative", CUMULATIVE), World::new(5));
        for scrape in &script {
            // In one piece, or the group has spoken before the last first delta comes.
            let wire = scrape.wire && world.now > BEGIN;
            bench.run(&mut world, &Scrape { wire, ..scrape.clone() });
            prop_assert!(bench.own("phoenix_conservation_error", "") < 1e-9);
        }
        bench.flush(true);
        without_the_first(&mut world);
        bench.balanced(&world)?;
    }

    #[test]
    fn levels_stay_levels(script in scripts(&[Event::Counts, Event::Ends, Event::Reborn], 5, 20), deltas: bool) {
        let mut bench = Bench::new(if deltas { "temporality: delta" } else { "temporality: cumulative" });
        let mut world = World::new(5);
        for scrape in &script {
            bench.run(&mut world, &Scrape { wire: false, ..scrape.clone() });
        }
        for (at, total) in &world.levels {
            prop_assert_eq!(bench.out.levels.get(at), Some(total), "{:?}", at);
        }
    }
}

/// A life that begins with the very scrape before it has nothing to say as a delta; folded at once, it is not closed either.
#[test]
fn what_was_never_said_is_not_closed() {
    use crate::world::Event::{Broken, Counts, Ends};
    use crate::world::Step;
    let scrape = |steps: &[(Event, bool)]| {
        let steps = steps.iter().map(|(event, fold)| Step { event: *event, fold: *fold, added: 0, level: 0 });
        Scrape { gap: 1, steps: steps.collect(), swap: false, wire: false }
    };
    let (mut bench, mut world) = (wanting("temporality: delta", DELTA), World::new(5));
    for scrape in [
        scrape(&[(Counts, false), (Counts, false)]),
        scrape(&[(Ends, false), (Broken, false), (Counts, false)]),
        scrape(&[(Counts, false), (Counts, false), (Counts, false), (Counts, true)]),
        scrape(&[(Counts, true), (Counts, false), (Counts, false)]),
    ] {
        bench.run(&mut world, &scrape);
    }
    bench.flush(true);
    assert!(bench.balanced(&world).is_ok());
}

/// The worked example of the ledger as deltas: start, time and value of all that is said.
#[test]
fn the_worked_example_in_deltas() {
    let mut bench = wanting("temporality: delta", DELTA);
    let (a, b) = ([100, 103, 104, 104, 106], [50, 52, 60, 69, 70]);
    let folds = [(false, true), (false, true), (true, false), (true, false), (false, true)];
    let mut cells = Vec::new();
    for (i, (fold_a, fold_b)) in folds.into_iter().enumerate() {
        let time = BEGIN + 10 * SECOND * i as u64;
        let of = |pid, value| wrap(pid, vec![counter("cpu", BEGIN - SECOND, time, value)]);
        let sent = vec![Sent { resource: of(0, a[i]), fold: fold_a }, Sent { resource: of(3, b[i]), fold: fold_b }];
        let batch = bench.send(sent, false);
        let cell = |pid: Option<i64>| {
            let point = batch.series().find(|point| {
                let own = point.metric().resource().attributes().get("process.pid");
                point.metric().name() == "cpu" && own == pid.map(phoenix_telemetry::AnyValue::Int)
            })?;
            let start = (point.start_time() as i64 - BEGIN as i64) / SECOND as i64;
            Some((start, point.value().map(|value| value.as_f64() as i64)))
        };
        cells.push((cell(Some(0)), cell(Some(3)), cell(None)));
    }
    assert_eq!(
        cells,
        [
            (None, None, None),
            (Some((0, Some(3))), None, Some((0, Some(2)))),
            (Some((10, Some(1))), None, Some((10, Some(8)))),
            (Some((-1, None)), Some((20, Some(9))), Some((20, Some(0)))),
            (None, Some((30, Some(1))), Some((30, Some(2)))),
        ]
    );
    assert_eq!(bench.out.r1.values().map(|total| total.int).sum::<i128>(), 26);
}

/// What converts keeps all that is not start, time or value, and what has the wanted temporality is not touched.
#[test]
fn exemplars_survive_and_what_fits_is_untouched() {
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Request;
    use opentelemetry_proto::tonic::metrics::v1::{Exemplar, metric::Data};
    use prost::Message as _;

    let sent = |time: u64, value: i64| {
        let mut metric = counter("cpu", BEGIN - SECOND, time, value);
        if let Some(Data::Sum(sum)) = &mut metric.data {
            let exemplar = Exemplar { time_unix_nano: time, trace_id: vec![7; 16], ..Exemplar::default() };
            sum.data_points[0].exemplars.push(exemplar);
            sum.data_points[0].attributes.push(crate::world::string("state", "user"));
        }
        vec![Sent { resource: wrap(0, vec![metric]), fold: false }]
    };
    let mut bench = wanting("temporality: delta", DELTA);
    assert!(bench.send(sent(BEGIN, 5), false).is_empty());
    let batch = bench.send(sent(BEGIN + SECOND, 9), false);
    let request = Request::decode(batch.encode()).unwrap();
    let Some(Data::Sum(sum)) = &request.resource_metrics[0].scope_metrics[0].metrics[0].data else { panic!() };
    let point = &sum.data_points[0];
    assert_eq!((point.start_time_unix_nano, point.time_unix_nano), (BEGIN, BEGIN + SECOND));
    assert_eq!((point.exemplars.len(), point.attributes.len(), sum.aggregation_temporality), (1, 1, DELTA));

    let mut bench = wanting("temporality: cumulative", CUMULATIVE);
    let sent = sent(BEGIN, 5);
    let bytes = encode(vec![sent[0].resource.clone()]);
    assert_eq!(bench.send(sent, false).encode(), bytes);
}
