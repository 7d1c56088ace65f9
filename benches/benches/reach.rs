//! What a core carries in memory, from the bytes of a request to the bytes of what is sent on: process metrics of one host with
//! 9,000 live series, and of 112 hosts with a million. The rows are those of docs/performance.md.
//!
//! As in the agent, glibc keeps what is freed (its own thresholds would have every request pay for fresh pages), and a
//! request is copied to where it is read right before, as it comes from a socket. Up to 64 are made first and then follow
//! each other; rows of 1, 10 and 64 took the same, but for the first of each row.
#![allow(missing_docs)] // criterion's macros write an undocumented main
#![allow(clippy::expect_used)] // what is built here is right

#[path = "support/cpu_time.rs"]
mod measured;

use std::hint::black_box;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cpu_time::ThreadTime;
use criterion::{Criterion, Throughput, criterion_group};
use measured::CpuTime;
use phoenix_benches::POINTS_PER_PROCESS;
use phoenix_benches::chain::{Encode, FULL, Load, THIN, carry, chain};
use phoenix_pipeline::{Clock, Delivery, Lane, Metrics, Site};
use phoenix_sketch::Distinct;
use phoenix_telemetry::{Batch, Limits};

const PROCESSES: usize = 1_000;
const SERIES: u64 = (PROCESSES * POINTS_PER_PROCESS) as u64;
/// Hosts of a million series.
const HOSTS: usize = 112;
/// Scrapes of each host until windows are full.
const FIRST: usize = 8;

/// The full chain without those that measure: what they cost is the difference.
const FULL_UNMEASURED: &[&str] = &["memory_limiter", "priority", "topk", "aggregate"];

/// What so many scrapes take to be worked off.
fn timed(load: &mut Load, scrapes: u64, work: &mut dyn FnMut(Bytes, Instant)) -> Duration {
    const IN_A_ROW: u64 = 64;
    let (mut left, mut taken) = (scrapes, Duration::ZERO);
    while left > 0 {
        let ready: Vec<_> = (0..left.min(IN_A_ROW)).map(|_| load.scrape()).collect();
        left -= ready.len() as u64;
        for (sent, now) in ready {
            let received = Bytes::from(sent.to_vec());
            let began = ThreadTime::now();
            work(received, now);
            taken += began.elapsed();
        }
    }
    taken
}

fn one_core(criterion: &mut Criterion<CpuTime>) {
    let mut group = criterion.benchmark_group("reach");
    group.throughput(Throughput::Elements(SERIES)).sample_size(20);
    group.bench_function("index, hashes, sketch", |bencher| {
        let (mut load, mut sketch) = (Load::new(1, PROCESSES), Distinct::dense(1));
        let mut run = |bytes, _| {
            let batch = Batch::decode(bytes, &Limits::default()).expect("it is OTLP");
            batch.series().for_each(|point| sketch.insert(point.series()));
            black_box(&sketch);
        };
        bencher.iter_custom(|scrapes| timed(&mut load, scrapes, &mut run));
    });
    let cases: [(&str, &[&str], usize); 7] = [
        ("pass, 9,000 series", &[], 1),
        ("topk, aggregate, 9,000 series", THIN, 1),
        ("full chain unmeasured, 9,000 series", FULL_UNMEASURED, 1),
        ("full chain, 9,000 series", FULL, 1),
        ("topk, aggregate, 1,000,000 series", THIN, HOSTS),
        ("full chain unmeasured, 1,000,000 series", FULL_UNMEASURED, HOSTS),
        ("full chain, 1,000,000 series", FULL, HOSTS),
    ];
    for (name, ids, hosts) in cases {
        // Made for the first sample of those that are wanted: a million series take seconds.
        let mut made = None;
        group.bench_function(name, |bencher| {
            let (load, chain) = made.get_or_insert_with(|| {
                let mut load = Load::new(hosts, PROCESSES);
                let mut chain = chain(ids, vec![Arc::new(Encode)], &Site::for_test("bench")).expect("it is right");
                for _ in 0..FIRST * hosts {
                    let (bytes, now) = load.scrape();
                    carry(&mut chain, bytes, now);
                }
                (load, chain)
            });
            bencher.iter_custom(|scrapes| timed(load, scrapes, &mut |bytes, now| carry(chain, bytes, now)));
        });
    }
    group.finish();
}

/// Batches that wait in front of each lane.
const WAITING: u32 = 64;
/// Those of them that are not counted: two threads just woken may share a core for some milliseconds. Of the first 12 two lanes
/// carried 1.2 times as much as one, of the first 32 1.5 times, of the 48 after these 1.9 times, as two processes do.
const STARTING: u32 = 16;

/// Lanes side by side, each with a host of its own: what more of them carry by the clock while all are at work, which is
/// from when the last has begun until the first has nothing left. Requests are indexed before, as receivers do it.
fn lanes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("lanes");
    for count in [1u32, 2] {
        let site = Site::for_test("bench");
        let lanes: Vec<Lane> = (0..count)
            .map(|number| {
                let chain = chain(THIN, vec![Arc::new(Encode)], &site).expect("it is right");
                let metrics = Metrics::clone(&site.metrics);
                let ended = |why| panic!("{why}");
                Lane::start(&format!("lane-{number}"), vec![chain], Clock::system(), metrics, ended).expect("a thread")
            })
            .collect();
        let mut loads: Vec<Load> = lanes.iter().map(|_| Load::new(1, PROCESSES)).collect();
        let next = |load: &mut Load| Batch::decode(load.scrape().0, &Limits::default()).expect("it is OTLP");
        let mut run = |rounds: u64| {
            let mut taken = Duration::ZERO;
            for _ in 0..rounds {
                let batches: Vec<Vec<Batch>> =
                    loads.iter_mut().map(|load| (0..WAITING).map(|_| next(load)).collect()).collect();
                let (done, waking) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(count)));
                let (tell, told) = mpsc::channel();
                for (lane, batches) in lanes.iter().zip(batches) {
                    let left = Arc::new(AtomicU32::new(WAITING));
                    for batch in batches {
                        let (left, done, waking) = (Arc::clone(&left), Arc::clone(&done), Arc::clone(&waking));
                        let tell = tell.clone();
                        let delivery = Delivery::new(move |outcome| {
                            outcome.expect("it is delivered");
                            let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                            let is_moment = match left.fetch_sub(1, Ordering::Relaxed) {
                                1 => true,
                                left => left == WAITING - STARTING && waking.fetch_sub(1, Ordering::Relaxed) == 1,
                            };
                            if is_moment {
                                tell.send((Instant::now(), done)).expect("somebody waits");
                            }
                        });
                        lane.handle().send(&"metrics".into(), batch, delivery).expect("there is room");
                    }
                }
                drop(tell);
                let mut moments = told.iter();
                let mut moment = || moments.next().expect("all have begun, then one ends first");
                let ((began, before), (first, done)) = (moment(), moment());
                taken += (first - began) * count * WAITING / (done - before);
                moments.for_each(drop);
            }
            taken
        };
        run(2);
        group.throughput(Throughput::Elements(u64::from(count * WAITING) * SERIES)).sample_size(20);
        group.bench_function(format!("topk, aggregate, 9,000 series a lane, {count} of them"), |bencher| {
            bencher.iter_custom(&mut run);
        });
        lanes.into_iter().for_each(Lane::stop);
    }
    group.finish();
}

criterion_group!(name = cores; config = Criterion::default().with_measurement(CpuTime); targets = one_core);
criterion_group!(several, lanes);

/// As the agent sets them, see `collector/src/allocator.rs`; but for its one heap, as it has one lane.
const ALLOCATOR: (&str, &str) =
    ("GLIBC_TUNABLES", "glibc.malloc.trim_threshold=16777216:glibc.malloc.mmap_threshold=8388608");

fn main() {
    let (name, value) = ALLOCATOR;
    if std::env::var_os(name).is_none() {
        // glibc reads them as the program starts.
        let again = Command::new(std::env::current_exe().expect("it runs"))
            .args(std::env::args_os().skip(1))
            .env(name, value)
            .exec();
        panic!("it cannot be started again: {again}");
    }
    cores();
    several();
    Criterion::default().configure_from_args().final_summary();
}
