//! What measuring costs: an insert into each form of sketch, and a scrape of 1,000 processes with 9 points each through
//! `cardinality` and through `adaptive` with and without shadows, as the embedded config has them. Read figures as time per
//! element.

#![allow(clippy::unwrap_used, missing_docs)] // a bench fails by panicking

#[path = "../../processors/src/measure/sample.rs"]
mod sample;

use std::hash::RandomState;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use hyperloglogplus::{HyperLogLog, HyperLogLogPlus};
use phoenix_pipeline::config::parse;
use phoenix_pipeline::{Context, Delivery, Marks, Processor, Site};
use phoenix_processors::PROCESSORS;
use phoenix_sketch::{Distinct, Sample};
use phoenix_telemetry::Batch;
use sample::{Process, scrape};

const SERIES: u64 = 9_000;

fn sketches(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("insert");
    group.throughput(Throughput::Elements(SERIES));
    let full = |mut sketch: Distinct| {
        (0..1_000_000).for_each(|hash| sketch.insert(hash));
        sketch
    };
    let mut run = |name: &str, start: Distinct| {
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || start.clone(),
                |sketch| (0..SERIES).for_each(|hash| sketch.insert(black_box(hash))),
                BatchSize::LargeInput,
            );
        });
    };
    run("dense, fresh", Distinct::dense(1));
    run("dense, full", full(Distinct::dense(1)));
    run("sparse, fresh", Distinct::sparse(1));
    run("sparse, dense by then", full(Distinct::sparse(1)));
    for (name, before) in [("library, fresh", 0), ("library, dense by then", 1_000_000)] {
        // As its sketch cannot be copied, one is begun anew each time.
        let start = || {
            let mut sketch: HyperLogLogPlus<u64, _> = HyperLogLogPlus::new(14, RandomState::new()).unwrap();
            (0..before).for_each(|hash| sketch.insert(&hash));
            sketch
        };
        let mut full = start();
        group.bench_function(name, |bencher| {
            let insert =
                |sketch: &mut HyperLogLogPlus<u64, _>| (0..SERIES).for_each(|hash| sketch.insert(black_box(&hash)));
            match before {
                0 => bencher.iter_batched_ref(start, insert, BatchSize::LargeInput),
                _ => bencher.iter(|| insert(&mut full)),
            }
        });
    }
    group.bench_function("sample, all known", |bencher| {
        let mut sample = Sample::new(20_000, 10, 1);
        bencher.iter(|| {
            (0..SERIES).for_each(|hash| {
                black_box(sample.meet(hash, 0, || (), |()| ()).map(|(met, _)| met));
            });
        });
    });
    group.finish();
    criterion.bench_function("estimate/dense", |bencher| {
        let mut sketch = full(Distinct::dense(1));
        bencher.iter(|| black_box(&mut sketch).estimate());
    });
}

/// A host of processes with a long tail.
struct Host {
    processes: Vec<Process>,
    second: i64,
}

impl Host {
    fn new() -> Self {
        let process = |pid: i64| Process::new(pid, &format!("p{}", pid % 100), -1_000);
        Host { processes: (1..=1_000).map(process).collect(), second: 0 }
    }

    /// The next scrape, ten seconds later.
    fn scrape(&mut self) -> Batch {
        for process in &mut self.processes {
            process.cpu += 10.0 / process.pid as f64;
            process.io += 1_000_000 / process.pid;
            process.memory = 1_000_000_000 / process.pid;
        }
        self.second += 10;
        scrape("host", self.second, &self.processes)
    }
}

/// The config that is measured: the one the agent runs without being told.
const CONFIG: &str = include_str!("../../configs/default.yaml");

/// A stage of [`CONFIG`]; or an `adaptive` with other settings, whose members are its.
fn stage(kind: &str, text: Option<&str>) -> Box<dyn Processor> {
    let processors = parse("default.yaml", CONFIG).unwrap().get("processors").unwrap().clone();
    let own = text.map_or_else(|| processors.get(kind).unwrap().clone(), |text| parse("bench.yaml", text).unwrap());
    let find = |kind: &str| PROCESSORS.iter().find(|factory| factory.answers_to(kind)).unwrap();
    let mut site = Site::for_test(kind);
    site.siblings = Some(Arc::new(move |id, site| {
        let site = Site { id: id.clone(), siblings: None, ..site.clone() };
        (find(id.kind()).build)(processors.get(id.as_str()).unwrap(), &site)
    }));
    (find(kind).build)(&own, &site).unwrap()
}

fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scrape");
    group.throughput(Throughput::Elements(SERIES));
    let cases = [
        ("cardinality", "cardinality", None),
        ("adaptive, one profile", "adaptive", Some("profiles: { balanced: [priority, topk, aggregate] }")),
        ("adaptive, its profiles and shadows", "adaptive", None),
    ];
    for (name, kind, text) in cases {
        let mut stage = stage(kind, text);
        let (mut now, mut host) = (Instant::now(), Host::new());
        group.bench_function(name, |bencher| {
            bencher.iter_batched_ref(
                || host.scrape(),
                |batch| {
                    now += Duration::from_secs(10);
                    let (mut delivery, mut marks) = (Delivery::none(), Marks::default());
                    stage.process(batch, &mut Context { now, delivery: &mut delivery, marks: &mut marks });
                },
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, sketches, stages);
criterion_main!(benches);
