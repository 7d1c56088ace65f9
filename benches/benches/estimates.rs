//! What measuring costs: an insert into each form of sketch, and a scrape of 1,000 processes with 9 points each through
//! `cardinality` and through `adaptive` with and without shadows. Read figures as time per element.

#![allow(clippy::unwrap_used, missing_docs)] // a bench fails by panicking

#[path = "../../processors/src/measure/sample.rs"]
mod sample;

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
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
    run("own, dense, fresh", Distinct::dense(1));
    run("own, dense, full", full(Distinct::dense(1)));
    run("library, sparse, fresh", Distinct::sparse(1));
    run("library, dense by then", full(Distinct::sparse(1)));
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

const PROFILES: &str = "
  conservative: [priority, aggregate]
  balanced: [priority, topk, aggregate]
  tight: [priority, topk/tight, aggregate]
  aggressive: [priority, topk/tight, adaptive_filter, aggregate]
";

fn stage(kind: &str, text: &str) -> Box<dyn Processor> {
    let mut site = Site::for_test(kind);
    site.siblings = Some(Arc::new(|id, site| {
        let factory = PROCESSORS.iter().find(|factory| factory.answers_to(id.kind())).unwrap();
        let text = match id.as_str() {
            "priority" => "rules: [{ class: critical, match: { process.executable.name: [p7] } }]",
            "topk/tight" => "k: 10",
            _ => "{}",
        };
        (factory.build)(&parse("member.yaml", text).unwrap(), &Site { id: id.clone(), siblings: None, ..site.clone() })
    }));
    let factory = PROCESSORS.iter().find(|factory| factory.answers_to(kind)).unwrap();
    (factory.build)(&parse("bench.yaml", text).unwrap(), &site).unwrap()
}

fn stages(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scrape");
    group.throughput(Throughput::Elements(SERIES));
    let adaptive = |shadows: bool, profiles: &str| {
        format!("profile: balanced\nestimates: {{ shadows: {shadows} }}\nprofiles: {profiles}")
    };
    let alone = "{ balanced: [priority, topk, aggregate] }";
    let cases = [
        ("cardinality", "cardinality", "{}".to_owned()),
        ("adaptive, one profile", "adaptive", adaptive(false, alone)),
        ("adaptive, four profiles, no shadows", "adaptive", adaptive(false, PROFILES)),
        ("adaptive, four profiles, three shadows", "adaptive", adaptive(true, PROFILES)),
    ];
    for (name, kind, text) in cases {
        let mut stage = stage(kind, &text);
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
