//! What the agent says about itself: instruments that are named once, handles that are made once.
//!
//! The hot path only adds to a handle (the `metrics` crate's types over shared atomics). Reading is a [`Batch`] like
//! any other, so the agent's own page and the pages it serves for others come from one writer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use phoenix_telemetry::{AnyValue, Batch, BatchBuilder, Descriptor, Number, Shape, Temporality};

use crate::Clock;

/// From which `service.telemetry.metrics.level` on an instrument is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Always, unless own metrics are off.
    Basic,
    /// By default.
    Normal,
    /// Only when asked for.
    Detailed,
}

/// One metric of the agent itself; a constant beside the code that counts.
#[derive(Debug)]
pub struct Instrument {
    /// The OTLP name: `phoenix_…`, or the Collector's `otelcol_…` where the meaning is the same.
    pub name: &'static str,
    /// UCUM unit.
    pub unit: &'static str,
    /// One sentence.
    pub description: &'static str,
    /// From which level on it is shown.
    pub level: Level,
}

/// What kind of number an observed instrument yields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Only ever grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// A histogram with fixed upper bounds; recording is one atomic addition each for bucket, count and sum.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    bounds: &'static [f64],
    counts: Vec<AtomicU64>,
    sum_bits: AtomicU64,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram(Arc::new(Buckets { bounds, counts, sum_bits: AtomicU64::new(0f64.to_bits()) }))
    }

    /// Counts one measurement, in the instrument's unit.
    pub fn record(&self, value: f64) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        let add = |bits| Some((f64::from_bits(bits) + value).to_bits());
        // The closure always yields a value, so the update cannot fail.
        let _ = self.0.sum_bits.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

enum Source {
    Counter(Arc<AtomicU64>),
    Gauge(Arc<AtomicU64>),
    Histogram(Histogram),
    Observed(Observed, Box<dyn Fn() -> Number + Send + Sync>),
}

struct Entry {
    instrument: &'static Instrument,
    labels: Vec<(&'static str, String)>,
    source: Source,
}

struct Registry {
    start_unix_nanos: u64,
    resource: Mutex<Vec<(String, String)>>,
    entries: Mutex<Vec<Entry>>,
}

/// The agent's registry. Cheap to clone; all clones are one registry.
#[derive(Clone)]
pub struct Metrics(Arc<Registry>);

/// The labels of one handle.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

impl Metrics {
    /// An empty registry; `resource` describes the agent (service.name and so on), counters start now.
    pub fn new(clock: &Clock, resource: Vec<(String, String)>) -> Self {
        let registry = Registry {
            start_unix_nanos: clock.unix_nanos(),
            resource: Mutex::new(resource),
            entries: Mutex::default(),
        };
        Metrics(Arc::new(registry))
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Describes the agent anew (after a reload).
    pub fn set_resource(&self, resource: Vec<(String, String)>) {
        *self.0.resource.lock().unwrap_or_else(PoisonError::into_inner) = resource;
    }

    /// The entry of this instrument and these labels, made if it is new: asking twice yields the same atomics.
    fn entry<T>(
        &self,
        instrument: &'static Instrument,
        labels: Labels<'_>,
        make: impl FnOnce() -> Source,
        pick: impl Fn(&Source) -> Option<T>,
    ) -> Option<T> {
        let mut entries = self.entries();
        let same = |entry: &&Entry| {
            std::ptr::eq(entry.instrument, instrument)
                && entry.labels.len() == labels.len()
                && entry.labels.iter().zip(labels).all(|(have, want)| have.0 == want.0 && have.1 == want.1)
        };
        if let Some(found) = entries.iter().find(same) {
            return pick(&found.source);
        }
        let labels = labels.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        let entry = Entry { instrument, labels, source: make() };
        let handle = pick(&entry.source);
        entries.push(entry);
        handle
    }

    /// A handle to a monotonic count.
    pub fn counter(&self, instrument: &'static Instrument, labels: Labels<'_>) -> metrics::Counter {
        let pick = |source: &Source| match source {
            Source::Counter(value) => Some(metrics::Counter::from_arc(Arc::clone(value))),
            _ => None,
        };
        self.entry(instrument, labels, || Source::Counter(Arc::default()), pick).unwrap_or_else(metrics::Counter::noop)
    }

    /// A handle to a value that goes up and down.
    pub fn gauge(&self, instrument: &'static Instrument, labels: Labels<'_>) -> metrics::Gauge {
        let pick = |source: &Source| match source {
            Source::Gauge(bits) => Some(metrics::Gauge::from_arc(Arc::clone(bits))),
            _ => None,
        };
        self.entry(instrument, labels, || Source::Gauge(Arc::default()), pick).unwrap_or_else(metrics::Gauge::noop)
    }

    /// A handle to a distribution over `bounds` (upper, inclusive, ascending).
    pub fn histogram(&self, instrument: &'static Instrument, labels: Labels<'_>, bounds: &'static [f64]) -> Histogram {
        let pick = |source: &Source| match source {
            Source::Histogram(histogram) => Some(histogram.clone()),
            _ => None,
        };
        self.entry(instrument, labels, || Source::Histogram(Histogram::new(bounds)), pick)
            .unwrap_or_else(|| Histogram::new(bounds))
    }

    /// A value that is read when somebody looks. Observing the same instrument and labels again replaces the reader.
    pub fn observe(
        &self,
        instrument: &'static Instrument,
        labels: Labels<'_>,
        kind: Observed,
        read: impl Fn() -> Number + Send + Sync + 'static,
    ) {
        self.forget(instrument, labels);
        self.entry(instrument, labels, || Source::Observed(kind, Box::new(read)), |_| Some(()));
    }

    /// Takes an instrument with these labels off the page (its component is gone).
    pub fn forget(&self, instrument: &'static Instrument, labels: Labels<'_>) {
        self.entries().retain(|entry| {
            !std::ptr::eq(entry.instrument, instrument)
                || entry.labels.iter().map(|(key, value)| (*key, value.as_str())).ne(labels.iter().copied())
        });
    }

    /// Everything up to `level`, as one batch at `now` (Unix nanoseconds).
    pub fn gather(&self, now: u64, level: Level) -> Batch {
        let entries = self.entries();
        let mut shown: Vec<&Entry> = entries.iter().filter(|entry| entry.instrument.level <= level).collect();
        shown.sort_by(|a, b| (a.instrument.name, &a.labels).cmp(&(b.instrument.name, &b.labels)));
        let mut builder = BatchBuilder::new();
        let mut resource = builder.resource();
        for (key, value) in self.0.resource.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            resource.attribute(key, value.as_str());
        }
        let mut scope = resource.scope("phoenix", env!("CARGO_PKG_VERSION"));
        for series in shown.chunk_by(|a, b| a.instrument.name == b.instrument.name) {
            let Some(first) = series.first() else { continue };
            let mut metric = scope.metric(&descriptor(first));
            for entry in series {
                self.point(&mut metric, entry, now);
            }
        }
        drop(scope);
        drop(resource);
        drop(entries);
        builder.finish()
    }

    fn point(&self, metric: &mut phoenix_telemetry::MetricBuilder<'_>, entry: &Entry, now: u64) {
        let start = self.0.start_unix_nanos;
        let labels: Vec<(&str, AnyValue<'_>)> =
            entry.labels.iter().map(|(key, value)| (*key, AnyValue::from(value.as_str()))).collect();
        match &entry.source {
            Source::Counter(value) => {
                let value = i64::try_from(value.load(Ordering::Relaxed)).unwrap_or(i64::MAX);
                metric.point(start, now, Number::Int(value), &labels);
            }
            Source::Gauge(bits) => {
                metric.point(0, now, Number::Double(f64::from_bits(bits.load(Ordering::Relaxed))), &labels);
            }
            Source::Observed(Observed::Counter, read) => {
                metric.point(start, now, read(), &labels);
            }
            Source::Observed(Observed::Gauge, read) => {
                metric.point(0, now, read(), &labels);
            }
            Source::Histogram(Histogram(buckets)) => {
                let counts: Vec<u64> = buckets.counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
                let sum = f64::from_bits(buckets.sum_bits.load(Ordering::Relaxed));
                metric.histogram(start, now, counts.iter().sum(), sum, buckets.bounds, &counts, &labels);
            }
        }
    }
}

fn descriptor(entry: &Entry) -> Descriptor<'static> {
    let temporality = Temporality::Cumulative;
    let shape = match entry.source {
        Source::Counter(_) | Source::Observed(Observed::Counter, _) => Shape::Sum { monotonic: true, temporality },
        Source::Gauge(_) | Source::Observed(Observed::Gauge, _) => Shape::Gauge,
        Source::Histogram(_) => Shape::Histogram { temporality },
    };
    let Instrument { name, unit, description, .. } = entry.instrument;
    Descriptor { name, unit, description, shape }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SENT: Instrument =
        Instrument { name: "phoenix_sent", unit: "{datapoint}", description: "Points sent.", level: Level::Basic };
    static SIZE: Instrument =
        Instrument { name: "phoenix_size", unit: "By", description: "Sizes.", level: Level::Detailed };

    #[test]
    fn the_same_instrument_and_labels_share_one_value_and_come_out_as_a_batch() {
        let metrics = Metrics::new(&Clock::manual(7), vec![("service.name".into(), "phoenix".into())]);
        metrics.counter(&SENT, &[("exporter", "otlp")]).increment(2);
        metrics.counter(&SENT, &[("exporter", "otlp")]).increment(3);
        metrics.counter(&SENT, &[("exporter", "file")]).increment(1);
        metrics.histogram(&SIZE, &[], &[1.0, 10.0]).record(10.0);
        let batch = metrics.gather(9, Level::Normal);
        let values: Vec<_> = batch
            .series()
            .map(|p| {
                (
                    p.metric().name().to_owned(),
                    p.attributes().get_str("exporter").unwrap_or("").to_owned(),
                    p.value(),
                    p.start_time(),
                    p.time(),
                )
            })
            .collect();
        assert_eq!(
            values,
            vec![
                ("phoenix_sent".into(), "file".into(), Some(Number::Int(1)), 7, 9),
                ("phoenix_sent".into(), "otlp".into(), Some(Number::Int(5)), 7, 9),
            ]
        );
        let batch = metrics.gather(9, Level::Detailed);
        let histogram = batch.series().find_map(|point| point.histogram()).unwrap();
        assert_eq!(histogram.bucket_counts().collect::<Vec<_>>(), [0, 1, 0], "a bound is inclusive");
        metrics.forget(&SENT, &[("exporter", "otlp")]);
        assert_eq!(metrics.gather(9, Level::Normal).points(), 1);
    }
}
