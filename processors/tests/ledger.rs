//! The ledger, read from outside: what leaves `aggregate` adds up to what went in, for both kinds of reader.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "ledger/attributes.rs"]
mod attributes;
#[path = "ledger/bad.rs"]
mod bad;
#[path = "ledger/edges.rs"]
mod edges;
#[path = "ledger/histograms.rs"]
mod histograms;
#[path = "ledger/readers.rs"]
mod readers;
#[path = "ledger/restarts.rs"]
mod restarts;
#[path = "ledger/rows.rs"]
mod rows;
#[path = "ledger/temporality.rs"]
mod temporality;
#[path = "ledger/utilization.rs"]
mod utilization;
#[path = "ledger/world.rs"]
mod world;

use std::sync::Arc;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use phoenix_pipeline::config::parse;
use phoenix_pipeline::{AttributeFold, Context, Decision, Delivery, Entity, Level, Marks, Processor, Site};
use phoenix_processors::PROCESSORS;
use phoenix_telemetry::{Batch, Limits};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use readers::{Readers, Total};
use world::{BEGIN, Event, SECOND, Scrape, Sent, World, counter, encode, scripts, wrap};

/// A stage and the readers behind it.
struct Bench {
    site: Site,
    config: &'static str,
    stage: Box<dyn Processor>,
    now: Instant,
    out: Readers,
    input: Readers,
    /// What is to be summed over.
    folds: Arc<[AttributeFold]>,
    /// Every point is sent twice, see [`attributes::doubled`].
    doubled: bool,
    /// No deltas are sent, see [`rows::without_deltas`].
    without_deltas: bool,
    /// No scope is a column, see [`rows::apart`].
    apart: bool,
    /// Scopes that were.
    columns: usize,
}

impl Bench {
    fn new(config: &'static str) -> Self {
        Self::at(Site::for_test("aggregate"), config)
    }

    fn at(site: Site, config: &'static str) -> Self {
        let stage = build(&site, config);
        let (out, input) = (Readers::default(), Readers::of_input());
        let (now, folds) = (Instant::now(), Arc::default());
        let (doubled, without_deltas, apart) = (false, false, false);
        Bench { site, config, stage, now, out, input, folds, doubled, without_deltas, apart, columns: 0 }
    }

    /// Sends points through the stage; `wire` says that somebody waits for them.
    fn send(&mut self, mut sent: Vec<Sent>, wire: bool) -> Batch {
        if self.doubled {
            attributes::doubled(&mut sent);
        }
        if self.without_deltas {
            rows::without_deltas(&mut sent);
        }
        let folds: Vec<bool> = sent.iter().map(|sent| sent.fold).collect();
        let resources: Vec<ResourceMetrics> = sent.into_iter().map(|sent| sent.resource).collect();
        let bytes = encode(resources);
        self.input.read(bytes.clone());
        let bytes = if self.apart { rows::apart(&bytes) } else { bytes };
        let mut batch = Batch::decode(bytes, &Limits::default()).unwrap();
        let scopes = batch.resources().flat_map(|resource| resource.scopes());
        self.columns += scopes.filter(|scope| scope.column().is_some()).count();
        let mut marks = Marks::default();
        marks.fold_attributes(&self.folds);
        for (resource, fold) in batch.resources().zip(folds) {
            if fold {
                marks.mark(Entity::Resource(resource.id()), Decision::Fold, "test");
            }
        }
        let mut delivery = if wire { Delivery::new(|_| ()) } else { Delivery::none() };
        let mut context = Context { now: self.now, delivery: &mut delivery, marks: &mut marks };
        self.stage.process(&mut batch, &mut context);
        delivery.delivered();
        self.out.read(batch.encode());
        batch
    }

    fn flush(&mut self, all: bool) -> Batch {
        let (mut batch, mut delivery) = (Batch::default(), Delivery::none());
        let mut marks = Marks::default();
        let mut context = Context { now: self.now, delivery: &mut delivery, marks: &mut marks };
        self.stage.flush(&mut batch, &mut context, all);
        delivery.delivered();
        self.out.read(batch.encode());
        batch
    }

    fn swap(&mut self) {
        let mut next = build(&self.site, self.config);
        next.adopt(self.stage.as_mut());
        let mut old = std::mem::replace(&mut self.stage, next);
        let (mut batch, mut delivery, mut marks) = (Batch::default(), Delivery::none(), Marks::default());
        old.flush(&mut batch, &mut Context { now: self.now, delivery: &mut delivery, marks: &mut marks }, true);
        assert!(batch.is_empty(), "the new stage has it all");
        delivery.delivered();
    }

    fn run(&mut self, world: &mut World, scrape: &Scrape) {
        if scrape.swap {
            self.swap();
        }
        let mut sent = world.scrape(scrape);
        self.now += Duration::from_secs(scrape.gap);
        if scrape.wire && sent.len() > 1 {
            let rest = sent.split_off(sent.len() / 2);
            self.send(sent, true);
            self.send(rest, true);
            if scrape.gap.is_multiple_of(2) {
                self.now += Duration::from_millis(200);
                self.flush(false);
            }
        } else {
            self.send(sent, scrape.wire);
        }
    }

    /// An own metric, over all its labels.
    fn own(&self, name: &str, label: &str) -> f64 {
        let own = self.site.metrics.gather(1, Level::Detailed);
        let of = own.series().filter(|point| point.metric().name() == name);
        of.filter(|point| label.is_empty() || point.attributes().iter().any(|(_, value)| value.as_str() == Some(label)))
            .map(|point| point.value().unwrap().as_f64())
            .sum()
    }

    fn balanced(&self, world: &World) -> Result<(), TestCaseError> {
        for (account, truth) in &world.truth {
            let r1 = self.out.r1.get(account).copied().unwrap_or_default();
            prop_assert_eq!(r1.int, truth.int, "R1 {:?}", account);
            prop_assert!(close(r1.double, truth.double), "R1 {:?}: {} is not {}", account, r1.double, truth.double);
            let r2 = self.out.r2.get(account).copied().unwrap_or_default();
            prop_assert!(r2.sum() <= truth.sum() + 1e-6, "R2 {:?}: {} > {}", account, r2.sum(), truth.sum());
        }
        for (account, total) in &self.out.r1 {
            let known = world.truth.contains_key(account) || *total == Total::default();
            prop_assert!(known, "nobody sent {:?}: {:?}", account, total);
        }
        prop_assert!(self.own("phoenix_conservation_error", "") < 1e-9);
        Ok(())
    }
}

fn build(site: &Site, config: &str) -> Box<dyn Processor> {
    let factory = PROCESSORS.iter().find(|factory| factory.name == "aggregate").unwrap();
    (factory.build)(&parse("test.yaml", config).unwrap(), site).unwrap()
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1.0)
}

const ALL: &[Event] = &[
    Event::Counts,
    Event::Counts,
    Event::Counts,
    Event::Resets,
    Event::Drifts,
    Event::Missed,
    Event::Ends,
    Event::Reborn,
    Event::Late,
    Event::Twice,
    Event::Broken,
];

fn cases(most: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(most);
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 20_000, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn what_leaves_adds_up_to_what_went_in(script in scripts(ALL, 5, 20)) {
        let (mut bench, mut world) = (Bench::new(""), World::new(5));
        for scrape in &script {
            bench.run(&mut world, scrape);
            prop_assert!(bench.own("phoenix_conservation_error", "") < 1e-9);
        }
        bench.flush(true);
        bench.balanced(&world)?;
    }

    #[test]
    fn a_reader_of_differences_loses_nothing_by_the_fold(
        script in scripts(&[Event::Counts, Event::Drifts, Event::Missed, Event::Late, Event::Twice], 4, 20)
    ) {
        let (mut bench, mut world) = (Bench::new(""), World::new(4));
        for scrape in &script {
            // All are there from the first scrape on: no group is opened by a newborn.
            let mut scrape = scrape.clone();
            if world.now == BEGIN && world.truth.is_empty() {
                scrape.steps.iter_mut().for_each(|step| step.event = Event::Counts);
            }
            bench.run(&mut world, &scrape);
        }
        bench.flush(true);
        for (account, total) in &bench.input.r2 {
            let out = bench.out.r2.get(account).copied().unwrap_or_default();
            prop_assert!(out.sum() >= total.sum() - 1e-6, "{:?}: {} < {}", account, out.sum(), total.sum());
        }
    }

    #[test]
    fn levels_add_up_at_every_scrape(script in scripts(&[Event::Counts, Event::Ends, Event::Reborn, Event::Resets], 5, 20)) {
        let (mut bench, mut world) = (Bench::new(""), World::new(5));
        for scrape in &script {
            bench.run(&mut world, &Scrape { wire: false, ..scrape.clone() });
        }
        for (at, total) in &world.levels {
            prop_assert_eq!(bench.out.levels.get(at), Some(total), "{:?}", at);
        }
        let more = bench.out.levels.iter().filter(|(at, _)| !world.levels.contains_key(*at));
        for (at, total) in more {
            prop_assert_eq!(*total, Total::default(), "{:?}", at);
        }
    }
}

#[test]
fn ten_thousand_scrapes_balance() {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let directory = tempfile::tempdir().unwrap();
    // Written when the agent ends, as 10,000 writes would take their time; what a kill does is tested elsewhere.
    let config = "{ member_expiry: 24h, state: { interval: 24h } }";
    let (mut bench, mut world) = (Bench::at(restarts::site(directory.path()), config), World::new(8));
    let script = scripts(ALL, 8, 1);
    let mut restarts = 0;
    for i in 0..10_000 {
        let scrape = script.new_tree(&mut runner).unwrap().current().remove(0);
        if scrape.swap && i % 4 == 0 {
            bench.restart(false);
            restarts += 1;
        }
        bench.run(&mut world, &scrape);
        if i % 1_000 == 0 {
            assert!(bench.own("phoenix_conservation_error", "") < 1e-9);
        }
    }
    bench.flush(true);
    bench.balanced(&world).unwrap();
    assert!(restarts > 300, "{restarts}");
}

/// The worked example of the ledger, cell by cell.
#[test]
fn the_worked_example() {
    let mut bench = Bench::new("");
    let (a, b) = ([100, 103, 104, 104, 106], [50, 52, 60, 69, 70]);
    let folds = [(false, true), (false, true), (true, false), (true, false), (false, true)];
    let mut cells = Vec::new();
    for (i, (fold_a, fold_b)) in folds.into_iter().enumerate() {
        let time = BEGIN + 10 * SECOND * i as u64;
        // Both are of one executable: 0 and 3.
        let of = |pid, value| wrap(pid, vec![counter("cpu", BEGIN - SECOND, time, value)]);
        let sent = vec![Sent { resource: of(0, a[i]), fold: fold_a }, Sent { resource: of(3, b[i]), fold: fold_b }];
        let batch = bench.send(sent, false);
        let cell = |pid: Option<i64>| {
            let point = batch.series().find(|point| {
                let own = point.metric().resource().attributes().get("process.pid");
                point.metric().name() == "cpu" && own == pid.map(phoenix_telemetry::AnyValue::Int)
            })?;
            let start = (point.start_time() as i64 - BEGIN as i64) / SECOND as i64;
            Some((point.no_recorded_value(), start, point.value().map_or(0, |value| value.as_f64() as i64)))
        };
        cells.push((cell(Some(0)), cell(Some(3)), cell(None)));
    }
    assert_eq!(
        cells,
        [
            (Some((false, -1, 100)), None, Some((false, 0, 0))),
            (Some((false, -1, 103)), None, Some((false, 0, 2))),
            (Some((false, -1, 104)), Some((false, 20, 0)), Some((false, 0, 10))),
            (Some((true, -1, 0)), Some((false, 20, 9)), Some((false, 0, 10))),
            (Some((false, 40, 0)), Some((false, 20, 10)), Some((false, 0, 12))),
        ]
    );
    let totals = [&bench.out.r1, &bench.out.r2].map(|reader| reader.values().map(|total| total.int).sum::<i128>());
    assert_eq!(totals, [26, 26]);
    assert_eq!(bench.own("phoenix_conservation_error", ""), 0.0);
}
