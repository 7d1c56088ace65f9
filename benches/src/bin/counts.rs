//! The hot path as fixed work whose instructions are counted: no clock, no randomness of its own, the same bytes in every run.
//! Alone it names its cases and their data points; with the name of a case it does that one, which `benches/count` has
//! callgrind look at.
#![allow(missing_docs)] // a program without an API
#![allow(clippy::expect_used, clippy::print_stdout)] // what is built here is right, and it says what it counts

use std::hint::black_box;
use std::sync::Arc;

use bytes::Bytes;
use phoenix_benches::chain::{Encode, FULL, Load, THIN, chain};
use phoenix_benches::{POINTS_PER_PROCESS, process_metrics};
use phoenix_pipeline::{Delivery, Site};
use phoenix_sketch::Distinct;
use phoenix_telemetry::{Batch, Limits};

const PROCESSES: usize = 500;
/// Scrapes before those that are counted.
const FIRST: usize = 4;
/// Scrapes through a chain that are counted: half a window of what is estimated, so that what is done once an epoch and once
/// a half has its part.
const SCRAPES: usize = 15;

/// A case: its name, how many scrapes it is of, and what makes its work. What is done to make it is not counted.
type Case = (&'static str, usize, fn() -> Box<dyn FnMut()>);

const CASES: [Case; 13] = [
    ("build", 1, || Box::new(|| drop(black_box(process_metrics(PROCESSES))))),
    ("index", 1, || {
        let bytes = Bytes::from(process_metrics(PROCESSES));
        Box::new(move || drop(black_box(decode(&bytes))))
    }),
    ("series hashes, sketch", 1, || {
        let (batch, mut sketch) = (batch(), Distinct::dense(1));
        Box::new(move || batch.series().for_each(|point| sketch.insert(point.series())))
    }),
    ("drop 90 % of the processes, encode", 1, || {
        let mut batch = batch();
        Box::new(move || {
            batch.drop_points(|point| !point.metric().resource().hash().is_multiple_of(10));
            black_box(batch.encode());
        })
    }),
    ("cardinality", SCRAPES, || pushed(&["cardinality"])),
    ("priority", SCRAPES, || pushed(&["priority"])),
    ("topk", SCRAPES, || pushed(&["topk"])),
    ("adaptive_filter", SCRAPES, || pushed(&["adaptive_filter"])),
    ("aggregate, nothing folded", SCRAPES, || pushed(&["aggregate"])),
    ("topk, aggregate", SCRAPES, || pushed(THIN)),
    ("topk, aggregate, answered when exported", SCRAPES, || answered(THIN)),
    ("topk, aggregate, in requests of 90 points", SCRAPES, in_parts),
    ("full chain", SCRAPES, || pushed(FULL)),
];

/// What is counted is called from here; callgrind collects inside.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}

fn batch() -> Batch {
    decode(&Bytes::from(process_metrics(PROCESSES)))
}

fn decode(bytes: &Bytes) -> Batch {
    Batch::decode(bytes.clone(), &Limits::default()).expect("it is OTLP")
}

/// Scrapes through a chain that has seen some.
fn pushed(ids: &[&str]) -> Box<dyn FnMut()> {
    passed(ids, Delivery::none)
}

/// The same where somebody waits for every answer: groups speak of a scrape when the next one comes.
fn answered(ids: &[&str]) -> Box<dyn FnMut()> {
    passed(ids, || Delivery::new(|_| ()))
}

fn passed(ids: &[&str], delivery: fn() -> Delivery) -> Box<dyn FnMut()> {
    let mut load = Load::new(1, PROCESSES);
    let mut chain = chain(ids, vec![Arc::new(Encode)], &Site::for_test("counts")).expect("it is right");
    for _ in 0..FIRST {
        let (bytes, now) = load.scrape();
        chain.push(decode(&bytes), delivery(), now);
    }
    let mut next: Vec<_> = (0..SCRAPES).map(|_| load.scrape()).map(|(bytes, now)| (decode(&bytes), now)).collect();
    Box::new(move || next.drain(..).for_each(|(batch, now)| chain.push(batch, delivery(), now)))
}

/// Scrapes that come in many small requests.
fn in_parts() -> Box<dyn FnMut()> {
    let mut load = Load::new(1, PROCESSES);
    let mut chain = chain(THIN, vec![Arc::new(Encode)], &Site::for_test("counts")).expect("it is right");
    let mut requests = move || {
        let (bytes, now) = load.scrape();
        let mut rest = decode(&bytes);
        let mut parts = Vec::new();
        while !rest.is_empty() {
            let next = rest.split_off(10 * POINTS_PER_PROCESS);
            parts.push(decode(&std::mem::replace(&mut rest, next).encode()));
        }
        (parts, now)
    };
    for _ in 0..FIRST {
        let (parts, now) = requests();
        parts.into_iter().for_each(|part| chain.push(part, Delivery::new(|_| ()), now));
    }
    let mut next: Vec<_> = (0..SCRAPES).map(|_| requests()).collect();
    Box::new(move || {
        for (parts, now) in next.drain(..) {
            parts.into_iter().for_each(|part| chain.push(part, Delivery::new(|_| ()), now));
        }
    })
}

fn main() {
    let wanted = std::env::args().nth(1);
    for (name, scrapes, case) in CASES {
        match &wanted {
            None => println!("{name}\t{}", scrapes * PROCESSES * POINTS_PER_PROCESS),
            Some(wanted) if wanted == name => counted(&mut case()),
            Some(_) => {}
        }
    }
}
