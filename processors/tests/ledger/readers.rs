//! The two readers of the ledger. They decode what leaves the stage with `opentelemetry-proto`, and know nothing of the
//! code that wrote it.
//!
//! R1 is an OTLP reader: differences within a start time, and the whole value at the first point of a start time that lies
//! after the reader began to look. R2 is Prometheus' `increase`: differences only, and a value that falls is a reset.

use std::collections::BTreeMap;

use bytes::Bytes;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Request;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, metric, number_data_point};
use prost::Message as _;

/// Metric, attributes of the point, executable: what totals are kept by.
pub type Account = (String, String, String);

/// `AggregationTemporality` of opentelemetry-proto.
pub const DELTA: i32 = 1;
pub const CUMULATIVE: i32 = 2;

/// Integers and doubles of one account, apart.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    pub int: i128,
    pub double: f64,
}

impl Total {
    pub fn add(&mut self, value: number_data_point::Value, sign: i32) {
        match value {
            number_data_point::Value::AsInt(value) => self.int += i128::from(value) * i128::from(sign),
            number_data_point::Value::AsDouble(value) => self.double += value * f64::from(sign),
        }
    }

    /// Both together; exact as long as there are only small integers.
    pub fn sum(self) -> f64 {
        self.int as f64 + self.double
    }
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    start: u64,
    time: u64,
    value: number_data_point::Value,
    closed: bool,
}

/// Both readers over one stream of requests.
#[derive(Debug, Default)]
pub struct Readers {
    /// When they began to look: the first time they see.
    began: Option<u64>,
    series: BTreeMap<String, Seen>,
    pub r1: BTreeMap<Account, Total>,
    pub r2: BTreeMap<Account, Total>,
    /// Levels (non-monotonic sums) by account and time.
    pub levels: BTreeMap<(Account, u64), Total>,
    /// Entities the groups say they hold, by executable: the newest.
    pub entities: BTreeMap<String, i64>,
    pub points: usize,
    pub closings: usize,
    /// The temporality all counters must have.
    pub wanted: Option<i32>,
    /// Whether what is read must obey the output's laws; input need not.
    lawless: bool,
}

fn text(attributes: &[KeyValue]) -> String {
    let mut all: Vec<String> = attributes.iter().map(|a| format!("{}={:?}", a.key, a.value)).collect();
    all.sort();
    all.join(",")
}

fn executable(attributes: &[KeyValue]) -> String {
    let found = attributes.iter().find(|a| a.key == "process.executable.name");
    match found.and_then(|a| a.value.as_ref()).and_then(|v| v.value.as_ref()) {
        Some(any_value::Value::StringValue(name)) => name.clone(),
        _ => String::new(),
    }
}

fn number(value: number_data_point::Value) -> f64 {
    match value {
        number_data_point::Value::AsInt(value) => value as f64,
        number_data_point::Value::AsDouble(value) => value,
    }
}

impl Readers {
    /// Readers that only add up: for what goes in.
    pub fn of_input() -> Self {
        Readers { lawless: true, ..Readers::default() }
    }

    pub fn read(&mut self, bytes: Bytes) {
        let request = Request::decode(bytes).expect("what leaves the stage is well-formed");
        for resource in &request.resource_metrics {
            let own = resource.resource.clone().unwrap_or_default().attributes;
            for scope in &resource.scope_metrics {
                let instrumentation = scope.scope.clone().unwrap_or_default();
                for one in &scope.metrics {
                    let of = format!("{}|{}|{}|{}", text(&own), instrumentation.name, one.name, one.unit);
                    let Some(data) = &one.data else { continue };
                    match data {
                        metric::Data::Sum(sum) => {
                            let of = format!("{of}|{}|{}", sum.aggregation_temporality, sum.is_monotonic);
                            for point in &sum.data_points {
                                let account = (one.name.clone(), text(&point.attributes), executable(&own));
                                let delta = sum.aggregation_temporality == DELTA;
                                let fits = self.wanted.is_none_or(|wanted| wanted == sum.aggregation_temporality);
                                assert!(fits || !sum.is_monotonic, "{of}: not in the temporality that is set");
                                self.point(&of, account, delta, sum.is_monotonic, point);
                            }
                        }
                        metric::Data::Gauge(gauge) if one.name == "phoenix.group.entities" => {
                            let last = gauge.data_points.last().and_then(|point| point.value);
                            if let Some(number_data_point::Value::AsInt(count)) = last {
                                self.entities.insert(executable(&own), count);
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
    }

    fn point(&mut self, metric: &str, account: Account, delta: bool, monotonic: bool, point: &NumberDataPoint) {
        self.points += 1;
        let (start, time) = (point.start_time_unix_nano, point.time_unix_nano);
        let began = *self.began.get_or_insert(time);
        let series = format!("{metric}|{}", text(&point.attributes));
        let former = self.series.get(&series).copied();
        if let Some(former) = former {
            if self.lawless && time <= former.time {
                return;
            }
            assert!(time > former.time, "two points at one time, or one in the past: {series} {former:?} {point:?}");
        }
        if point.flags & 1 == 1 {
            self.closings += 1;
            let Some(former) = former else {
                assert!(self.lawless, "closed before it was ever exported: {series} at {time}");
                return;
            };
            assert!(self.lawless || !former.closed, "closed twice: {series} {former:?} at {time}");
            self.series.insert(series, Seen { time, closed: true, ..former });
            return;
        }
        let value = point.value.expect("a point has a value");
        self.series.insert(series.clone(), Seen { start, time, value, closed: false });
        if !monotonic {
            self.levels.entry((account, time)).or_default().add(value, 1);
            return;
        }
        let (r1, r2) = (self.r1.entry(account.clone()).or_default(), self.r2.entry(account).or_default());
        if delta {
            let since = former.map_or(0, |former| former.time);
            let sound = start < time && (since <= start || former.is_some_and(|former| former.closed));
            // The sender's own deltas ("faults") may lack a start.
            let own = series.contains("|faults|");
            assert!(
                self.wanted.is_none() || sound || own,
                "deltas overlap or are empty: {series} {former:?} {point:?}"
            );
            r1.add(value, 1);
            return r2.add(value, 1);
        }
        match former {
            Some(former) if former.start == start => {
                assert!(
                    self.lawless || number(value) >= number(former.value),
                    "fell under one start: {series} {former:?} {point:?}"
                );
                r1.add(value, 1);
                r1.add(former.value, -1);
            }
            Some(former) => {
                assert!(self.lawless || start > former.start, "a start in the past: {series} {former:?} {point:?}");
                if start < time {
                    r1.add(value, 1);
                }
            }
            None if start >= began && start < time => r1.add(value, 1),
            None => {}
        }
        match former {
            Some(former) if number(value) >= number(former.value) => {
                r2.add(value, 1);
                r2.add(former.value, -1);
            }
            Some(_) => r2.add(value, 1),
            None => {}
        }
    }
}
