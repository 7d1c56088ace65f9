//! What stands before and behind the chain, and its change: each scraper on this machine, a swap, encoding, the page that
//! Prometheus reads. What the chain itself costs stage by stage is in `thinning.rs` and `estimates.rs`.
#![allow(missing_docs)] // criterion's macros write an undocumented main
#![allow(clippy::expect_used)] // what is built here is right

use std::cell::RefCell;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use phoenix_benches::POINTS_PER_PROCESS;
use phoenix_benches::chain::{Encode, FULL, Load, THIN, carry, chain};
use phoenix_exporters::EXPORTERS;
use phoenix_pipeline::config::parse;
use phoenix_pipeline::{Delivery, Level, Outlet, Shipment, Site};
use phoenix_receivers::RECEIVERS;
use phoenix_telemetry::{Batch, Limits};

const PROCESSES: usize = 1_000;
const SERIES: u64 = (PROCESSES * POINTS_PER_PROCESS) as u64;

const SCRAPERS: [&str; 10] =
    ["cpu", "memory", "load", "disk", "filesystem", "network", "paging", "processes", "process", "system"];

/// Scrapes so far and the seconds they took, by the receiver's own histogram.
fn scraped(site: &Site) -> (u64, f64) {
    let batch = site.metrics.gather(1, Level::Normal);
    let durations = batch.series().filter(|point| point.metric().name() == "phoenix_scrape_duration_seconds");
    let taken = durations.filter_map(|point| point.histogram()).next();
    taken.map_or((0, 0.0), |taken| (taken.count, taken.sum.unwrap_or_default()))
}

/// Each scraper on this machine, with all processes that it has, over and over on the receiver's own thread.
fn scrapers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scrape");
    group.sample_size(10).measurement_time(Duration::from_secs(2));
    let factory = RECEIVERS.iter().find(|factory| factory.name == "hostmetrics").expect("there is one");
    for scraper in SCRAPERS {
        let site = Site::for_test("hostmetrics");
        let config = format!("{{ collection_interval: 1us, initial_delay: 0s, scrapers: {{ {scraper}: {{}} }} }}");
        let mut receiver =
            (factory.build)(&parse("bench.yaml", &config).expect("it is YAML"), &site).expect("it is right");
        receiver.start(Outlet::new(&site.metrics, "hostmetrics", "", Vec::new())).expect("a thread");
        group.bench_function(scraper, |bencher| {
            bencher.iter_custom(|wanted| {
                let (first, begun) = scraped(&site);
                loop {
                    std::thread::sleep(Duration::from_millis(1));
                    let (count, seconds) = scraped(&site);
                    if count >= first + wanted {
                        break Duration::from_secs_f64((seconds - begun) * wanted as f64 / (count - first) as f64);
                    }
                }
            });
        });
        drop(receiver);
    }
    group.finish();
}

/// A chain takes over from one with 9,000 live series.
fn swap(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("swap");
    for (name, ids) in [("topk, aggregate", THIN), ("full chain", FULL)] {
        let site = Site::for_test("bench");
        let build = || chain(ids, vec![Arc::new(Encode)], &site).expect("it is right");
        let (mut load, current) = (Load::new(1, PROCESSES), RefCell::new(build()));
        group.bench_function(name, |bencher| {
            let next = || {
                let (bytes, now) = load.scrape();
                carry(&mut current.borrow_mut(), bytes, now);
                (build(), now)
            };
            let take_over = |(new, now)| {
                let mut current = current.borrow_mut();
                let old = std::mem::replace(&mut *current, new);
                black_box(current.replace(old, now));
            };
            bencher.iter_batched(next, take_over, BatchSize::PerIteration);
        });
    }
    group.finish();
}

fn batch(load: &mut Load) -> Batch {
    Batch::decode(load.scrape().0, &Limits::default()).expect("it is OTLP")
}

/// Nine of ten processes were dropped, or nothing was.
fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(SERIES));
    let whole = batch(&mut Load::new(1, PROCESSES));
    let mut tenth = whole.clone();
    tenth.drop_points(|point| !point.metric().resource().hash().is_multiple_of(10));
    for (name, batch) in [("untouched", whole), ("90 % of the processes dropped", tenth)] {
        group.bench_function(name, |bencher| bencher.iter(|| batch.encode()));
    }
    group.finish();
}

/// What an export costs where the series are known and a few come and go, and what a page.
fn exposition(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("prometheus");
    group.throughput(Throughput::Elements(SERIES)).sample_size(20);
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("a port");
    let factory = EXPORTERS.iter().find(|factory| factory.name == "prometheus").expect("there is one");
    let config = parse("bench.yaml", &format!("endpoint: \"{free}\"")).expect("it is YAML");
    let exporter = (factory.build)(&config, &Site::for_test("prometheus")).expect("it is right");
    let load = RefCell::new(Load::new(1, PROCESSES));
    let next = || Shipment::new(batch(&mut load.borrow_mut()));
    exporter.export(next(), Delivery::none());
    group.bench_function("page of 9,000 series, over the loopback", |bencher| {
        bencher.iter(|| {
            let mut page = Vec::new();
            let mut stream = TcpStream::connect(free).expect("it listens");
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n")
                .expect("it takes it");
            stream.read_to_end(&mut page).expect("it answers");
            assert!(page.len() as u64 > SERIES, "a line for each series");
        });
    });
    group.bench_function("export of 9,000 series", |bencher| {
        let export = |shipment| exporter.export(shipment, Delivery::none());
        bencher.iter_batched(next, export, BatchSize::PerIteration);
    });
    group.finish();
}

criterion_group!(benches, scrapers, swap, encode, exposition);
criterion_main!(benches);
