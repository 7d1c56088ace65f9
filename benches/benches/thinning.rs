//! Thinning on process metrics: each marking stage, the fold with its ledger, the whole chain, and the writing of state.
//! Batches are indexed outside of what is timed, and time passes from one to the next.
#![allow(missing_docs)] // criterion's macros write an undocumented main
#![allow(clippy::expect_used)] // what is built here is right

use std::cell::RefCell;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use phoenix_benches::{Host, INTERVAL, POINTS_PER_PROCESS};
use phoenix_pipeline::config::parse;
use phoenix_pipeline::{ComponentId, Context, Decision, Delivery, Entity, Marks, Processor, Site};
use phoenix_processors::PROCESSORS;
use phoenix_telemetry::{Batch, Limits};

const PROCESSES: usize = 1_000;

/// Name and settings.
type Stage = (&'static str, &'static str);

const PRIORITY: Stage = ("priority", "presets: [node_essentials, container_runtimes, databases, init, self]");
const TOPK: Stage = ("topk", "rank_by: [process.cpu.time, process.memory.usage, process.disk.io]");
const ADAPTIVE_FILTER: Stage = ("adaptive_filter", "");
const AGGREGATE: Stage = ("aggregate", "");
/// State as a scrape every 10 s would write it: with every batch.
const ALWAYS: Stage = ("aggregate", "state: { interval: 0s }");

/// A chain and the host that feeds it.
struct Lane {
    host: Host,
    stages: Vec<Box<dyn Processor>>,
    now: Instant,
}

impl Lane {
    fn new(stages: &[Stage], state: Option<&Path>) -> Self {
        let build = |(name, config): &Stage| {
            let factory = PROCESSORS.iter().find(|factory| factory.name == *name).expect("there is one");
            let site = Site { id: ComponentId::new(name), state: state.map(Into::into), ..Site::for_test(name) };
            (factory.build)(&parse("bench.yaml", config).expect("it is YAML"), &site).expect("it is right")
        };
        let stages = stages.iter().map(build).collect();
        Lane { host: Host::new(PROCESSES), stages, now: Instant::now() }
    }

    /// The next scrape; nine of ten processes are marked to be folded, always the same, if `marked`.
    fn next(&mut self, marked: bool) -> (Batch, Marks) {
        self.host.pass();
        self.now += Duration::from_secs(INTERVAL);
        let batch = Batch::decode(Bytes::from(self.host.scrape()), &Limits::default()).expect("it is OTLP");
        let mut marks = Marks::default();
        for resource in batch.resources().filter(|resource| marked && !resource.hash().is_multiple_of(10)) {
            marks.mark(Entity::Resource(resource.id()), Decision::Fold, "bench");
        }
        (batch, marks)
    }

    fn process(&mut self, (batch, marks): &mut (Batch, Marks)) {
        let mut delivery = Delivery::none();
        for stage in &mut self.stages {
            stage.process(batch, &mut Context { now: self.now, delivery: &mut delivery, marks });
        }
    }
}

fn thinning(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("thinning");
    group.throughput(Throughput::Elements((PROCESSES * POINTS_PER_PROCESS) as u64));
    let directory = tempfile::tempdir().expect("there is room");
    let cases: [(&str, &[Stage], bool); 7] = [
        ("priority", &[PRIORITY], false),
        ("topk by three measures", &[TOPK], false),
        ("adaptive_filter by three measures", &[ADAPTIVE_FILTER], false),
        ("aggregate, nothing folded", &[AGGREGATE], false),
        ("aggregate, 90 % folded", &[AGGREGATE], true),
        ("priority, topk, aggregate", &[PRIORITY, TOPK, AGGREGATE], false),
        ("aggregate, 90 % folded, state written", &[ALWAYS], true),
    ];
    for (name, stages, marked) in cases {
        let state = stages.contains(&ALWAYS).then_some(directory.path());
        group.bench_function(name, |bencher| {
            let mut lane = Lane::new(stages, state);
            // Windows are full before anything is timed.
            for _ in 0..10 {
                let mut next = lane.next(marked);
                lane.process(&mut next);
            }
            // Making a batch and working it off need the lane in turns.
            let lane = RefCell::new(lane);
            let next = || lane.borrow_mut().next(marked);
            bencher.iter_batched_ref(next, |next| lane.borrow_mut().process(next), BatchSize::PerIteration);
        });
    }
    group.finish();
}

criterion_group!(benches, thinning);
criterion_main!(benches);
