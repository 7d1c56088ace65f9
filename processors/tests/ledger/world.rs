//! A host whose processes come, go, count, reset and are judged anew at every scrape; and the truth about them.
//!
//! The truth is kept while the input is made: what every process added since it was first seen, and the whole value of
//! those that were created since the scrape before.

use std::collections::BTreeMap;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Request;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric::Data,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use proptest::prelude::*;
use prost::Message as _;

use super::readers::{Account, Total};

pub const SECOND: u64 = 1_000_000_000;
pub const BEGIN: u64 = 1_700_000_000 * SECOND;

/// What happens to a process until a scrape.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    Counts,
    /// Its values fall, its start time stays.
    Resets,
    /// Its start time wanders by milliseconds.
    Drifts,
    /// It is not read this time.
    Missed,
    /// It ends, and its sender says so.
    Ends,
    /// Another process took its id.
    Reborn,
    /// A point of an earlier time comes behind the right one.
    Late,
    /// The right point comes twice.
    Twice,
    /// A value that is none.
    Broken,
}

/// A process at a scrape.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    pub event: Event,
    pub fold: bool,
    pub added: u32,
    pub level: u32,
}

/// A scrape.
#[derive(Clone, Debug)]
pub struct Scrape {
    /// Seconds since the one before.
    pub gap: u64,
    pub steps: Vec<Step>,
    /// The stage is replaced by a new one before it.
    pub swap: bool,
    /// It comes over the wire, in parts.
    pub wire: bool,
}

/// Scripts of up to `length` scrapes of up to `processes` processes.
pub fn scripts(events: &'static [Event], processes: usize, length: usize) -> impl Strategy<Value = Vec<Scrape>> {
    let step = (prop::sample::select(events), any::<bool>(), 0u32..1000, 0u32..1000)
        .prop_map(|(event, fold, added, level)| Step { event, fold, added, level });
    let scrape = (1u64..10, prop::collection::vec(step, 1..=processes), prop::bool::weighted(0.2), any::<bool>())
        .prop_map(|(gap, steps, swap, wire)| Scrape { gap, steps, swap, wire });
    prop::collection::vec(scrape, 1..=length)
}

#[derive(Clone, Copy, Debug, Default)]
struct Process {
    alive: bool,
    /// Points of it were sent.
    known: bool,
    start: u64,
    cpu: i64,
    io: f64,
    level: i64,
    sent: u64,
    /// What was sent at that time.
    read: (i64, f64),
}

/// The host.
#[derive(Debug)]
pub struct World {
    processes: Vec<Process>,
    pub now: u64,
    before: Option<u64>,
    pub truth: BTreeMap<Account, Total>,
    /// The part of it that deltas of the first scrape said.
    pub first_deltas: BTreeMap<Account, Total>,
    /// Levels that were read, by account and time.
    pub levels: BTreeMap<(Account, u64), Total>,
}

/// What is sent of one process, and whether it is marked.
pub struct Sent {
    pub resource: ResourceMetrics,
    pub fold: bool,
}

pub fn string(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.into())) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

fn int(key: &str, value: i64) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::IntValue(value)) });
    KeyValue { key: key.into(), value, ..KeyValue::default() }
}

pub fn executable(pid: usize) -> String {
    format!("exe-{}", pid % 3)
}

const IO: [&str; 2] = ["read", "write"];

impl World {
    pub fn new(processes: usize) -> Self {
        World {
            processes: vec![Process::default(); processes],
            now: BEGIN,
            before: None,
            truth: BTreeMap::new(),
            first_deltas: BTreeMap::new(),
            levels: BTreeMap::new(),
        }
    }

    fn account(name: &str, attribute: Option<&str>, pid: usize) -> Account {
        let attributes = attribute
            .map(|value| string("direction", value))
            .map_or(String::new(), |attribute| format!("{}={:?}", attribute.key, attribute.value));
        (name.to_owned(), attributes, executable(pid))
    }

    fn book(&mut self, pid: usize, cpu: i64, io: f64) {
        self.truth.entry(Self::account("cpu", None, pid)).or_default().int += i128::from(cpu);
        for direction in IO {
            self.truth.entry(Self::account("io", Some(direction), pid)).or_default().double += io;
        }
    }

    /// The next scrape.
    pub fn scrape(&mut self, scrape: &Scrape) -> Vec<Sent> {
        let before = self.before;
        self.now = if before.is_none() { BEGIN } else { self.now + scrape.gap * SECOND };
        let mut sent = Vec::new();
        for pid in 0..self.processes.len() {
            let Some(step) = scrape.steps.get(pid % scrape.steps.len()) else { continue };
            self.step(pid, *step, &mut sent);
        }
        if !sent.is_empty() {
            self.before = Some(self.now);
        }
        sent
    }

    fn step(&mut self, pid: usize, step: Step, sent: &mut Vec<Sent>) {
        let (now, mut process) = (self.now, self.processes[pid]);
        let (added, amount) = (i64::from(step.added), f64::from(step.added) / 7.0);
        let mut drift = 0;
        match step.event {
            Event::Missed => {
                // It goes on counting; the next reading has it.
                if process.alive {
                    process.cpu += added;
                    process.io += amount;
                    self.processes[pid] = process;
                }
                return;
            }
            Event::Ends => {
                if process.alive && process.known {
                    sent.push(Sent { resource: resource(pid, &process, now, 0, true), fold: step.fold });
                    // Deltas of a process that is gone are nobody's.
                }
                self.processes[pid] = Process { alive: false, ..process };
                return;
            }
            _ if !process.alive || (step.event == Event::Reborn && process.known) => {
                let old = self.before.is_none() || (!process.known && step.event == Event::Drifts);
                let start = match self.before {
                    Some(before) if !old => before + 1 + u64::from(step.added) % 500_000_000,
                    _ => BEGIN - SECOND * (1 + pid as u64),
                };
                process = Process { alive: true, known: true, start, cpu: added, io: amount, ..process };
                if !old {
                    self.book(pid, added, amount);
                }
            }
            Event::Resets if process.read.0 > 1 && process.read.1 > 0.5 => {
                process.cpu = added.min(process.read.0 - 1);
                process.io = (process.read.1 / 2.0).min(amount);
                self.book(pid, process.cpu, process.io);
            }
            event => {
                if event == Event::Drifts {
                    drift = 1 + u64::from(step.added) * 5_000;
                }
                process.cpu += added;
                process.io += amount;
                self.book(pid, process.cpu - process.read.0, process.io - process.read.1);
            }
        }
        process.read = (process.cpu, process.io);
        process.level = i64::from(step.level);
        self.levels.entry((Self::account("memory", None, pid), now)).or_default().int += i128::from(process.level);
        // The delta is what the sender says was added since its last point.
        self.truth.entry(Self::account("faults", None, pid)).or_default().int += i128::from(added);
        if self.before.is_none() {
            self.first_deltas.entry(Self::account("faults", None, pid)).or_default().int += i128::from(added);
        }
        let mut right = resource(pid, &process, now, drift, false);
        delta(&mut right, process.sent, now, added);
        sent.push(Sent { resource: right, fold: step.fold });
        let time = process.sent;
        process.sent = now;
        self.processes[pid] = process;
        match step.event {
            Event::Late if time > 0 => {
                let mut late = resource(pid, &process, time.saturating_sub(1), 0, false);
                delta(&mut late, time.saturating_sub(2), time.saturating_sub(1), added);
                sent.push(Sent { resource: late, fold: step.fold });
            }
            Event::Twice => {
                let twice = Process { cpu: process.cpu + 5, level: 9, ..process };
                sent.push(Sent { resource: resource(pid, &twice, now, 0, false), fold: step.fold });
            }
            Event::Broken => {
                let broken = Process { io: f64::NAN, cpu: -1, ..process };
                sent.push(Sent { resource: resource(pid, &broken, now + 1, 0, false), fold: step.fold });
                let mut timeless = resource(pid, &process, 0, 0, false);
                delta(&mut timeless, 0, 0, added);
                sent.push(Sent { resource: timeless, fold: step.fold });
            }
            _ => {}
        }
    }
}

fn sum(name: &str, unit: &str, temporality: i32, monotonic: bool, points: Vec<NumberDataPoint>) -> Metric {
    let sum = Sum { data_points: points, aggregation_temporality: temporality, is_monotonic: monotonic };
    Metric { name: name.into(), unit: unit.into(), data: Some(Data::Sum(sum)), ..Metric::default() }
}

fn resource(pid: usize, process: &Process, time: u64, drift: u64, ended: bool) -> ResourceMetrics {
    let start = process.start - drift;
    let point = |value, attributes| NumberDataPoint {
        attributes,
        start_time_unix_nano: start,
        time_unix_nano: time,
        value: (!ended).then_some(value),
        flags: u32::from(ended),
        ..NumberDataPoint::default()
    };
    let io = IO.map(|direction| point(Value::AsDouble(process.io), vec![string("direction", direction)]));
    let mut metrics = vec![
        sum("cpu", "ms", 2, true, vec![point(Value::AsInt(process.cpu), vec![])]),
        sum("io", "By", 2, true, io.into()),
    ];
    if process.cpu >= 0 {
        metrics.push(sum("memory", "By", 2, false, vec![point(Value::AsInt(process.level), vec![])]));
    }
    wrap(pid, metrics)
}

fn delta(resource: &mut ResourceMetrics, start: u64, time: u64, added: i64) {
    let point = NumberDataPoint {
        start_time_unix_nano: start,
        time_unix_nano: time,
        value: Some(Value::AsInt(added)),
        ..NumberDataPoint::default()
    };
    resource.scope_metrics[0].metrics.push(sum("faults", "1", 1, true, vec![point]));
}

/// The resource of a process.
pub fn wrap(pid: usize, metrics: Vec<Metric>) -> ResourceMetrics {
    let attributes = vec![
        string("host.name", "h"),
        int("process.pid", pid as i64),
        string("process.executable.name", &executable(pid)),
    ];
    let scope = InstrumentationScope { name: "scraper".into(), ..InstrumentationScope::default() };
    ResourceMetrics {
        resource: Some(Resource { attributes, ..Resource::default() }),
        scope_metrics: vec![ScopeMetrics { scope: Some(scope), metrics, ..ScopeMetrics::default() }],
        ..ResourceMetrics::default()
    }
}

/// A cumulative integer counter.
pub fn counter(name: &str, start: u64, time: u64, value: i64) -> Metric {
    let point = NumberDataPoint {
        start_time_unix_nano: start,
        time_unix_nano: time,
        value: Some(Value::AsInt(value)),
        ..NumberDataPoint::default()
    };
    sum(name, "1", 2, true, vec![point])
}

/// A request.
pub fn encode(resources: Vec<ResourceMetrics>) -> Bytes {
    Bytes::from(Request { resource_metrics: resources }.encode_to_vec())
}
