use std::time::{Duration, Instant};

use phoenix_pipeline::estimates::Share;
use phoenix_pipeline::{Delivery, Marks};
use phoenix_telemetry::{AnyValue, BatchBuilder, Descriptor, Number, Shape};
use proptest::prelude::*;

use super::by_metric::OTHER;
use super::*;
use crate::measure::sample::{Process, scrape};
use crate::testing::{counted, mistakes, value};

struct Bench {
    site: Site,
    stage: Box<dyn Processor>,
    began: Instant,
    second: i64,
    processes: Vec<Process>,
}

impl Bench {
    fn new(config: &str) -> Self {
        let site = Site::for_test("cardinality");
        let stage = (FACTORY.build)(&value(config), &site).unwrap();
        Bench { site, stage, began: Instant::now(), second: 0, processes: Vec::new() }
    }

    fn spawn(&mut self, count: i64, name: &str) {
        let next = self.processes.iter().map(|process| process.pid).max().unwrap_or(0) + 1;
        self.processes.extend((next..next + count).map(|pid| Process::new(pid, name, self.second)));
    }

    /// Scrapes every ten seconds until that second.
    fn until(&mut self, second: i64) -> Arc<Cardinality> {
        while self.second < second {
            self.second += 10;
            let batch = scrape("host", self.second, &self.processes);
            self.pass(batch);
        }
        self.newest()
    }

    fn pass(&mut self, mut batch: Batch) {
        let points = batch.points();
        let now = self.began + Duration::from_secs(self.second as u64);
        let (mut delivery, mut marks) = (Delivery::none(), Marks::default());
        self.stage.process(&mut batch, &mut Context { now, delivery: &mut delivery, marks: &mut marks });
        assert_eq!(batch.points(), points, "it changes nothing");
    }

    fn newest(&self) -> Arc<Cardinality> {
        Arc::clone(&self.site.estimates.cardinality.list()[0].snapshot)
    }
}

fn series_of(shares: &[Share], name: &str) -> f64 {
    shares.iter().find(|share| *share.name == *name).map_or(0.0, |share| share.series)
}

#[test]
fn it_counts_by_metric_and_attribute_exactly_while_there_is_room() {
    let mut bench = Bench::new("window: 1m");
    bench.spawn(100, "nginx");
    let seen = bench.until(60);
    assert!((seen.series.series / 900.0 - 1.0).abs() < 0.03, "{}", seen.series.series);
    assert_eq!(
        (seen.sampled, seen.new_per_minute),
        (1, 0.0),
        "the first minute is not over before the first batch's is"
    );
    assert_eq!(series_of(&seen.metrics, "process.cpu.time"), 200.0);
    assert_eq!(series_of(&seen.metrics, "process.threads"), 100.0);
    assert_eq!(&*seen.attributes[0].key, "process.pid");
    assert!((seen.attributes[0].values.series - 100.0).abs() < 3.0);
    let names = seen.attributes.iter().find(|row| &*row.key == "process.executable.name").unwrap();
    assert_eq!((&*names.leading[0].name, names.leading[0].series), ("nginx", 900.0));
    assert_eq!(counted(&bench.site, "phoenix_series_sampled"), 1);
}

#[test]
fn what_leads_is_on_the_page_and_leaves_it_when_it_leads_no_longer() {
    let mut bench = Bench::new("{ window: 10s, leading: 1 }");
    bench.spawn(10, "nginx");
    bench.until(10);
    let shown = |bench: &Bench| {
        let own = bench.site.metrics.gather(1, Level::Normal);
        let names = ["phoenix_metric_series", "phoenix_attribute_values"];
        let points = own.series().filter(|point| names.contains(&point.metric().name()));
        let row = |point: phoenix_telemetry::Point<'_>| {
            let label = |key| point.attributes().get_str(key).map(str::to_owned);
            let name = label("metric").or_else(|| label("attribute")).unwrap_or_default();
            (name, point.value().map_or(0.0, |value| value.as_f64().round()))
        };
        points.map(row).collect::<Vec<_>>()
    };
    let leads = |name: &str, value: f64| (name.to_owned(), value);
    assert_eq!(shown(&bench), [leads("process.pid", 10.0), leads("process.cpu.time", 20.0)]);
    // Everything ends; another metric of another kind of thing comes.
    bench.processes.clear();
    for second in [60, 120, 180] {
        bench.second = second;
        bench.pass(crate::testing::batch_of(1));
    }
    assert_eq!(shown(&bench), [leads("group", 1.0), leads("m", 1.0)]);
    let Bench { stage, site, .. } = bench;
    drop(stage);
    assert_eq!(counted(&site, "phoenix_metric_series") + counted(&site, "phoenix_attribute_values"), 0);
}

#[test]
fn rates_are_exact_and_the_culprit_has_a_name() {
    let mut bench = Bench::new("window: 1m");
    bench.spawn(10, "nginx");
    bench.until(120);
    // Two new ids a second for a minute, each of nine series; one of the old ends.
    for second in (130..=180).step_by(10) {
        bench.spawn(20, "leaky");
        bench.until(second);
    }
    bench.processes.remove(0);
    let seen = bench.until(190);
    assert_eq!(seen.new_per_minute, 120.0 * 9.0);
    let names = seen.attributes.iter().find(|row| &*row.key == "process.executable.name").unwrap();
    let leaky = names.leading.iter().find(|share| &*share.name == "leaky").unwrap();
    assert!(leaky.new_per_minute >= 500.0, "{leaky:?}");
    assert!(names.leading.iter().all(|share| &*share.name == "leaky" || share.new_per_minute == 0.0), "{names:?}");
    // It is looked after once a minute, and counts while it is within the window.
    let seen = bench.until(250);
    assert_eq!((seen.new_per_minute, seen.gone_per_minute), (0.0, 9.0));
}

#[test]
fn of_too_many_series_a_fair_part_is_remembered() {
    let mut bench = Bench::new("{ window: 1m, max_series: 1000, max_metrics: 3, max_attributes: 2, leading: 2 }");
    bench.spawn(2_000, "many");
    let seen = bench.until(20);
    assert!(seen.sampled >= 16);
    let total: f64 = seen.metrics.iter().map(|share| share.series).sum();
    assert!((total / 18_000.0 - 1.0).abs() < 0.2, "{total}");
    assert!((seen.series.series / 18_000.0 - 1.0).abs() < 0.03);
    assert_eq!(seen.metrics.len(), 4, "three and the others");
    assert!((series_of(&seen.metrics, OTHER) / 8_000.0 - 1.0).abs() < 0.3);
    assert_eq!(seen.attributes.len(), 2);
    bench.processes.truncate(10);
    let seen = bench.until(1_200);
    let total: f64 = seen.metrics.iter().map(|share| share.series).sum();
    assert_eq!((seen.sampled, total), (1, 90.0), "it becomes exact again");
}

/// The stage guesses what comes next: here in a new order each time, with processes that end, come back and begin, over
/// many epochs.
#[test]
fn what_comes_out_of_order_or_comes_back_is_counted_all_the_same() {
    let mut bench = Bench::new("window: 1m");
    bench.spawn(40, "nginx");
    let mut away = Vec::new();
    for round in 1..=60usize {
        let places = bench.processes.len();
        bench.processes.rotate_left(round % places);
        bench.processes.swap(round % places, round * 7 % places);
        if round % 3 == 0 {
            away.push(bench.processes.remove(round * 5 % places));
        }
        if round % 4 == 0 {
            bench.processes.insert(round % 10, away.remove(0));
        }
        if round % 5 == 0 {
            bench.spawn(1, "newcomer");
        }
        let seen = bench.until(10 * round as i64);
        let batch = scrape("host", 0, &bench.processes);
        let now: std::collections::BTreeSet<u64> = batch.series().map(|point| point.series()).collect();
        // Whoever was there within the window is still counted: the few that left in it, and in the minute after.
        let exact: f64 = seen.metrics.iter().map(|share| share.series).sum();
        let (least, most) = (now.len() as f64, now.len() as f64 + 9.0 * away.len() as f64);
        assert!((least..=most).contains(&exact), "{round}: {least} <= {exact} <= {most}");
        assert!((0.98 * least - 2.0..=1.02 * most + 2.0).contains(&seen.series.series), "{round}: {:?}", seen.series);
        let pids = seen.attributes.iter().find(|row| &*row.key == "process.pid").unwrap().values.series;
        assert!((0.98 * least / 9.0 - 2.0..=1.02 * most / 9.0 + 2.0).contains(&pids), "{round}: {pids} pids");
        let of = |name: &str| series_of(&seen.metrics, name);
        assert_eq!(of("process.cpu.time"), 2.0 * of("process.threads"), "{round}");
    }
    // All are silent for longer than the window, and come back in the order in which they were expected.
    bench.second += 130;
    let seen = bench.until(bench.second + 10);
    assert_eq!(series_of(&seen.metrics, "process.threads"), bench.processes.len() as f64);
    assert!((seen.series.series / (9.0 * bench.processes.len() as f64) - 1.0).abs() < 0.03, "{:?}", seen.series);
}

#[test]
fn no_value_is_said_to_have_more_series_than_it_has() {
    let mut bench = Bench::new("{ window: 1m, leading: 5 }");
    bench.spawn(500, "many");
    let seen = bench.until(20);
    let pids = seen.attributes.iter().find(|row| &*row.key == "process.pid").unwrap();
    assert!(pids.leading.iter().all(|pid| pid.series <= 9.0), "{:?}", pids.leading);
    let names = seen.attributes.iter().find(|row| &*row.key == "process.executable.name").unwrap();
    assert_eq!(names.leading[0].series, 4_500.0);
}

#[test]
fn a_metric_that_is_gone_makes_room() {
    let mut bench = Bench::new("{ window: 30s, max_metrics: 7 }");
    bench.spawn(1, "nginx");
    bench.until(20);
    let now = |second| Instant::now() + Duration::from_secs(second);
    let mut send = |second| {
        let mut batch = crate::testing::batch_of(5);
        let (mut delivery, mut marks) = (Delivery::none(), Marks::default());
        let mut cx = Context { now: now(second), delivery: &mut delivery, marks: &mut marks };
        bench.stage.process(&mut batch, &mut cx);
        Arc::clone(&bench.site.estimates.cardinality.list()[0].snapshot)
    };
    assert_eq!(series_of(&send(30).metrics, OTHER), 5.0, "there are seven others");
    assert_eq!(series_of(&send(200).metrics, "m"), 5.0, "they are silent for longer than the window");
}

#[test]
fn a_swap_carries_what_it_knows() {
    let mut bench = Bench::new("window: 1m");
    bench.spawn(10, "nginx");
    bench.until(30);
    let mut next = (FACTORY.build)(&value("window: 1m"), &bench.site).unwrap();
    assert_eq!(next.adopt(bench.stage.as_mut()), Handover { carried: 90, ..Handover::default() });
    bench.stage = next;
    let seen = bench.until(70);
    assert_eq!((seen.new_per_minute, series_of(&seen.metrics, "process.threads")), (90.0, 10.0));
    let mut other = (FACTORY.build)(&value("window: 2m"), &bench.site).unwrap();
    assert_eq!(other.adopt(bench.stage.as_mut()), Handover { discarded: 90, ..Handover::default() });
}

#[test]
fn every_mistake_is_named() {
    let found = mistakes(&FACTORY, "{ window: 1ms, max_series: 0, max_metrics: 1000000000, leading: 0 }");
    for key in ["window", "max_series", "max_metrics", "leading"] {
        assert!(found.contains(&format!("{key}: must be from 1")), "{key} in {found}");
    }
}

/// A resource: its number, which of its metrics it sends, whether in another order, whether one of its series has ended.
type Sent = (i64, u8, bool, bool);

fn batch_of_these(second: u64, sent: &[Sent]) -> Batch {
    let mut builder = BatchBuilder::new();
    for (pid, metrics, turned, ended) in sent {
        let mut resource = builder.resource();
        resource.attribute("process.executable.name", format!("p{}", pid % 3).as_str());
        resource.attribute("process.pid", *pid);
        let mut scope = resource.scope("s", "");
        let mut names = ["a", "b", "c", "d"];
        if *turned {
            names.reverse();
        }
        for (bit, name) in names.into_iter().enumerate().filter(|(bit, _)| metrics & 1 << bit != 0) {
            let mut metric = scope.metric(&Descriptor { name, unit: "1", description: "", shape: Shape::Gauge });
            for state in 0..2 {
                let (time, state) = (second * 1_000_000_000, [("state", AnyValue::Int(state))]);
                match *ended && bit == 1 {
                    true => metric.closed(1, time + 1, &state),
                    false => metric.point(1, time, Number::Int(second as i64), &state),
                };
            }
        }
    }
    builder.finish()
}

fn sent() -> impl Strategy<Value = Vec<Sent>> {
    let metrics = prop_oneof![3 => Just(0b111u8), 1 => 1u8..16];
    let one = (0i64..12, metrics, prop::bool::weighted(0.2), prop::bool::weighted(0.2));
    prop::collection::vec(one, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Resources vanish, come back, come twice, with other series and as before, with points dropped, while epochs and halves
    /// turn and the sample loses and regains its room: what is left out never shows.
    #[test]
    fn to_know_a_resource_by_one_look_changes_nothing(
        kinds in prop::collection::vec((sent(), any::<bool>()), 1..5),
        steps in prop::collection::vec((0usize..5, 1usize..10, prop_oneof![4 => 0u64..12, 1 => 0u64..130]), 1..20),
        window in prop_oneof![Just(50), Just(60), Just(200)],
        max_series in prop_oneof![3 => Just(24usize), 1 => Just(1_000)],
    ) {
        let steps = steps.into_iter().flat_map(|(kind, times, wait)| std::iter::repeat_n((kind, wait), times));
        let steps = steps.map(|(kind, wait)| (wait, &kinds[kind % kinds.len()]));
        looked_at_alike(Config { max_series, window: Duration::from_secs(window), ..Config::default() }, steps)?;
    }
}

/// Sends all that, after so many seconds each, some with a third of the series dropped, to a stage that knows resources and to
/// one that has no room for any.
fn looked_at_alike<'a>(
    config: Config,
    steps: impl IntoIterator<Item = (u64, &'a (Vec<Sent>, bool))>,
) -> Result<(), TestCaseError> {
    let sites = ["ours", "plain"].map(Site::for_test);
    let mut stages = sites.each_ref().map(|site| Stage::new(config.clone(), site));
    stages[1].again = Again::without_room();
    let (began, mut second) = (Instant::now(), 0);
    for (wait, (sent, thinned)) in steps {
        second += wait;
        let mut batch = batch_of_these(second, sent);
        if *thinned {
            batch.drop_points(|point| point.series().is_multiple_of(3));
        }
        let now = began + Duration::from_secs(second);
        for stage in &mut stages {
            let (mut delivery, mut marks) = (Delivery::none(), Marks::default());
            stage.published = None;
            stage.process(&mut batch, &mut Context { now, delivery: &mut delivery, marks: &mut marks });
        }
        let [ours, plain] = sites.each_ref().map(|site| format!("{:?}", site.estimates.cardinality.list()[0].snapshot));
        prop_assert_eq!(ours, plain, "after {} s", second);
        prop_assert_eq!(stages[0].pieces(), stages[1].pieces());
    }
    Ok(())
}

#[test]
fn a_known_resource_is_looked_at_again_when_there_is_room_for_more_of_its_series() {
    let config = Config { max_series: 24, window: Duration::from_secs(50), ..Config::default() };
    let flood = ((0..60).map(|pid| (pid, 0b1111, false, false)).collect(), false);
    let few = ((0..2).map(|pid| (pid, 0b0001, false, false)).collect(), false);
    // At 60 s the flood is forgotten, within an epoch of the window and within a half.
    let steps = [(1, &flood)].into_iter().chain([(55, &few)]).chain([1; 140].map(|second| (second, &few)));
    looked_at_alike(config, steps).unwrap();
}
