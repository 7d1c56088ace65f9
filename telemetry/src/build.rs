//! Building a batch from readings: one growing buffer, no structs in between.
//!
//! Guards close what they opened when they go out of scope. A metric, scope or resource that got no point is left out.

use crate::batch::Batch;
use crate::decode::{Written, decode_written};
use crate::edit::put_attribute;
use crate::kind::{Number, Temporality};
use crate::value::AnyValue;
use crate::wire::{LEN, VARINT, close, open, put_bytes, put_fixed64, put_tag, put_varint};
use bytes::Bytes;

/// The flag of a point that has no value, `DataPointFlags` of opentelemetry-proto.
const NO_RECORDED_VALUE: u8 = 1;

/// What a metric is. Can be made in a `const`, so that scrapers hold tables of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Descriptor<'a> {
    /// The name, such as `process.cpu.time`.
    pub name: &'a str,
    /// The unit in UCUM, such as `s` or `By`.
    pub unit: &'a str,
    /// What it tells, in words.
    pub description: &'a str,
    /// The type of its points.
    pub shape: Shape,
}

/// The type of a metric's points.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Last values.
    Gauge,
    /// Sums.
    Sum {
        /// Whether the values never fall.
        monotonic: bool,
        /// What the values count from.
        temporality: Temporality,
    },
    /// Histograms with explicit bounds.
    Histogram {
        /// What the values count from.
        temporality: Temporality,
    },
}

/// Builds a batch.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    pub(crate) buffer: Vec<u8>,
    pub(crate) points: usize,
    /// Where the resource begins that was written last.
    pub(crate) last: usize,
    /// What was written from patterns.
    pub(crate) written: Written,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty batch with room for as many bytes.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { buffer: Vec::with_capacity(bytes), ..Self::default() }
    }

    /// Begins a resource.
    pub fn resource(&mut self) -> ResourceBuilder<'_> {
        let start = self.buffer.len();
        let body = open(&mut self.buffer, 1);
        let own = open(&mut self.buffer, 1);
        ResourceBuilder { points: self.points, builder: self, start, body, own, own_end: own }
    }

    /// Adds resources that are encoded already, as in a request. If they are not well-formed, the whole batch is empty.
    pub fn encoded(&mut self, resources: &[u8], points: usize) {
        self.buffer.extend_from_slice(resources);
        self.points += points;
    }

    /// Whether no point was written.
    pub fn is_empty(&self) -> bool {
        self.points == 0
    }

    /// Bytes written so far.
    pub fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The batch. What was written is well-formed; only more than 4 GiB of it cannot be indexed and is empty.
    pub fn finish(self) -> Batch {
        let batch = decode_written(Bytes::from(self.buffer), &self.written);
        debug_assert!(batch.is_ok(), "{batch:?}");
        batch.unwrap_or_default()
    }

    fn undo(&mut self, start: usize, points: usize) -> bool {
        let empty = self.points == points;
        if empty {
            self.buffer.truncate(start);
        }
        empty
    }

    fn close(&mut self, body: usize) {
        let end = self.buffer.len();
        close(&mut self.buffer, body, end);
    }
}

/// A resource being written.
#[derive(Debug)]
pub struct ResourceBuilder<'b> {
    builder: &'b mut BatchBuilder,
    start: usize,
    body: usize,
    /// The `Resource` message: its length is written last, as attributes may still come.
    own: usize,
    own_end: usize,
    points: usize,
}

impl ResourceBuilder<'_> {
    /// Adds an attribute. Keys are the caller's to keep apart.
    pub fn attribute<'v>(&mut self, key: &str, value: impl Into<AnyValue<'v>>) -> &mut Self {
        let buffer = &mut self.builder.buffer;
        let before = buffer.len();
        put_attribute(buffer, 1, key, value.into());
        let len = buffer.len() - before;
        buffer[self.own_end..].rotate_right(len);
        self.own_end += len;
        self
    }

    /// Says which schema the resource follows.
    pub fn schema_url(&mut self, url: &str) -> &mut Self {
        put_bytes(&mut self.builder.buffer, 3, url.as_bytes());
        self
    }

    /// Begins a scope.
    pub fn scope(&mut self, name: &str, version: &str) -> ScopeBuilder<'_> {
        let points = self.builder.points;
        let buffer = &mut self.builder.buffer;
        let start = buffer.len();
        let body = open(buffer, 2);
        let own = open(buffer, 1);
        if !name.is_empty() {
            put_bytes(buffer, 1, name.as_bytes());
        }
        if !version.is_empty() {
            put_bytes(buffer, 2, version.as_bytes());
        }
        let end = buffer.len();
        close(buffer, own, end);
        ScopeBuilder { builder: self.builder, start, body, points }
    }
}

impl Drop for ResourceBuilder<'_> {
    fn drop(&mut self) {
        if !self.builder.undo(self.start, self.points) {
            close(&mut self.builder.buffer, self.own, self.own_end);
            self.builder.close(self.body);
            self.builder.last = self.start;
        }
    }
}

/// A scope being written.
#[derive(Debug)]
pub struct ScopeBuilder<'b> {
    builder: &'b mut BatchBuilder,
    start: usize,
    body: usize,
    points: usize,
}

impl ScopeBuilder<'_> {
    /// Begins a metric.
    pub fn metric(&mut self, desc: &Descriptor<'_>) -> MetricBuilder<'_> {
        let points = self.builder.points;
        let buffer = &mut self.builder.buffer;
        let start = buffer.len();
        let body = open(buffer, 2);
        for (number, text) in [(1, desc.name), (2, desc.description), (3, desc.unit)] {
            if !text.is_empty() {
                put_bytes(buffer, number, text.as_bytes());
            }
        }
        let data = match desc.shape {
            Shape::Gauge => open(buffer, 5),
            Shape::Sum { monotonic, temporality } => {
                let data = open(buffer, 7);
                put_temporality(buffer, temporality);
                if monotonic {
                    put_tag(buffer, 3, VARINT);
                    buffer.push(1);
                }
                data
            }
            Shape::Histogram { temporality } => {
                let data = open(buffer, 9);
                put_temporality(buffer, temporality);
                data
            }
        };
        MetricBuilder { builder: self.builder, shape: desc.shape, start, body, data, points }
    }
}

fn put_temporality(out: &mut Vec<u8>, temporality: Temporality) {
    if temporality != Temporality::Unspecified {
        put_tag(out, 2, VARINT);
        out.push(temporality as u8);
    }
}

impl Drop for ScopeBuilder<'_> {
    fn drop(&mut self) {
        if !self.builder.undo(self.start, self.points) {
            self.builder.close(self.body);
        }
    }
}

/// A metric being written.
#[derive(Debug)]
pub struct MetricBuilder<'b> {
    builder: &'b mut BatchBuilder,
    shape: Shape,
    start: usize,
    body: usize,
    data: usize,
    points: usize,
}

impl MetricBuilder<'_> {
    /// Adds a number point. Times are Unix nanoseconds; a start of 0 is not set. For gauges and sums: a histogram metric
    /// takes no such point (debug builds assert it, others leave it out).
    pub fn point(&mut self, start: u64, time: u64, value: Number, attributes: &[(&str, AnyValue<'_>)]) -> &mut Self {
        self.number(start, time, Some(value), attributes)
    }

    /// Ends a series of numbers: a point without a value that carries the no-recorded-value flag. Times and metrics as in
    /// [`MetricBuilder::point`].
    pub fn closed(&mut self, start: u64, time: u64, attributes: &[(&str, AnyValue<'_>)]) -> &mut Self {
        self.number(start, time, None, attributes)
    }

    fn number(
        &mut self,
        start: u64,
        time: u64,
        value: Option<Number>,
        attributes: &[(&str, AnyValue<'_>)],
    ) -> &mut Self {
        let fits = !matches!(self.shape, Shape::Histogram { .. });
        debug_assert!(fits, "a number point in a histogram metric");
        if fits {
            let buffer = &mut self.builder.buffer;
            let body = open(buffer, 1);
            for (key, value) in attributes {
                put_attribute(buffer, 7, key, *value);
            }
            put_times(buffer, start, time);
            match value {
                Some(Number::Int(value)) => put_fixed64(buffer, 6, value as u64),
                Some(Number::Double(value)) => put_fixed64(buffer, 4, value.to_bits()),
                None => {
                    put_tag(buffer, 8, VARINT);
                    buffer.push(NO_RECORDED_VALUE);
                }
            }
            self.builder.close(body);
            self.builder.points += 1;
        }
        self
    }

    /// Adds a histogram point; `counts` has one entry more than `bounds`, or both are empty. Times as in
    /// [`MetricBuilder::point`]. For histograms: other metrics take no such point.
    #[allow(clippy::too_many_arguments)] // the fields of the point, in the specification's order
    pub fn histogram(
        &mut self,
        start: u64,
        time: u64,
        count: u64,
        sum: f64,
        bounds: &[f64],
        counts: &[u64],
        attributes: &[(&str, AnyValue<'_>)],
    ) -> &mut Self {
        let fits = matches!(self.shape, Shape::Histogram { .. });
        debug_assert!(fits, "a histogram point in a metric of numbers");
        if fits {
            let buffer = &mut self.builder.buffer;
            let body = open(buffer, 1);
            for (key, value) in attributes {
                put_attribute(buffer, 9, key, *value);
            }
            put_times(buffer, start, time);
            put_fixed64(buffer, 4, count);
            put_fixed64(buffer, 5, sum.to_bits());
            put_packed(buffer, 6, counts.iter().copied());
            put_packed(buffer, 7, bounds.iter().map(|bound| bound.to_bits()));
            self.builder.close(body);
            self.builder.points += 1;
        }
        self
    }
}

fn put_times(out: &mut Vec<u8>, start: u64, time: u64) {
    if start != 0 {
        put_fixed64(out, 2, start);
    }
    put_fixed64(out, 3, time);
}

fn put_packed(out: &mut Vec<u8>, number: u32, bits: impl ExactSizeIterator<Item = u64>) {
    if bits.len() > 0 {
        put_tag(out, number, LEN);
        put_varint(out, bits.len() as u64 * 8);
        bits.for_each(|bits| out.extend_from_slice(&bits.to_le_bytes()));
    }
}

impl Drop for MetricBuilder<'_> {
    fn drop(&mut self) {
        if !self.builder.undo(self.start, self.points) {
            self.builder.close(self.data);
            self.builder.close(self.body);
        }
    }
}
