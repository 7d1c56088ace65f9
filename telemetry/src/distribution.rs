//! Views of the points that are more than one number: histograms, exponential histograms, summaries; and exemplars.

use crate::kind::Number;
use crate::value::Attributes;
use crate::wire::{Payload, Reader, fields};

/// A histogram with explicit bounds.
#[derive(Debug, Clone, Copy, Default)]
pub struct Histogram<'a> {
    body: &'a [u8],
    /// Number of values.
    pub count: u64,
    /// Their sum, where known.
    pub sum: Option<f64>,
    /// The smallest, where known.
    pub min: Option<f64>,
    /// The largest, where known.
    pub max: Option<f64>,
}

impl<'a> Histogram<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Self {
        let mut view = Self { body, ..Self::default() };
        for field in fields(body) {
            let bits = field.payload.bits();
            match field.number {
                4 => view.count = bits,
                5 => view.sum = Some(f64::from_bits(bits)),
                11 => view.min = Some(f64::from_bits(bits)),
                12 => view.max = Some(f64::from_bits(bits)),
                _ => {}
            }
        }
        view
    }

    /// Values per bucket: one more than there are bounds, or none at all.
    pub fn bucket_counts(&self) -> impl Iterator<Item = u64> + use<'a> {
        repeated(self.body, 6, true)
    }

    /// Upper bounds of the buckets, inclusive and rising; the last bucket has none.
    pub fn explicit_bounds(&self) -> impl Iterator<Item = f64> + use<'a> {
        repeated(self.body, 7, true).map(f64::from_bits)
    }
}

/// A histogram whose bounds are powers of 2^(2^-scale).
#[derive(Debug, Clone, Copy, Default)]
pub struct ExponentialHistogram<'a> {
    /// Number of values.
    pub count: u64,
    /// Their sum, where known.
    pub sum: Option<f64>,
    /// The resolution.
    pub scale: i32,
    /// Number of values in the zero bucket.
    pub zero_count: u64,
    /// Largest magnitude that counts as zero.
    pub zero_threshold: f64,
    /// The smallest value, where known.
    pub min: Option<f64>,
    /// The largest value, where known.
    pub max: Option<f64>,
    positive: &'a [u8],
    negative: &'a [u8],
}

impl<'a> ExponentialHistogram<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Self {
        let mut view = Self::default();
        for field in fields(body) {
            let bits = field.payload.bits();
            match field.number {
                4 => view.count = bits,
                5 => view.sum = Some(f64::from_bits(bits)),
                6 => view.scale = zigzag(bits),
                7 => view.zero_count = bits,
                8 => view.positive = field.payload.bytes(),
                9 => view.negative = field.payload.bytes(),
                12 => view.min = Some(f64::from_bits(bits)),
                13 => view.max = Some(f64::from_bits(bits)),
                14 => view.zero_threshold = f64::from_bits(bits),
                _ => {}
            }
        }
        view
    }

    /// Buckets of the positive values.
    pub fn positive(&self) -> Buckets<'a> {
        Buckets::parse(self.positive)
    }

    /// Buckets of the negative values, by magnitude.
    pub fn negative(&self) -> Buckets<'a> {
        Buckets::parse(self.negative)
    }
}

/// One side of an exponential histogram.
#[derive(Debug, Clone, Copy, Default)]
pub struct Buckets<'a> {
    body: &'a [u8],
    /// Index of the first bucket.
    pub offset: i32,
}

impl<'a> Buckets<'a> {
    fn parse(body: &'a [u8]) -> Self {
        let offset = fields(body).filter(|field| field.number == 1).last();
        Self { body, offset: offset.map_or(0, |field| zigzag(field.payload.bits())) }
    }

    /// Values per bucket, from `offset` on.
    pub fn counts(&self) -> impl Iterator<Item = u64> + use<'a> {
        repeated(self.body, 2, false)
    }
}

/// Quantiles computed by the sender.
#[derive(Debug, Clone, Copy, Default)]
pub struct Summary<'a> {
    body: &'a [u8],
    /// Number of values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
}

impl<'a> Summary<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Self {
        let mut view = Self { body, ..Self::default() };
        for field in fields(body) {
            match field.number {
                4 => view.count = field.payload.bits(),
                5 => view.sum = f64::from_bits(field.payload.bits()),
                _ => {}
            }
        }
        view
    }

    /// Quantile (0 to 1) and value there.
    pub fn quantiles(&self) -> impl Iterator<Item = (f64, f64)> + use<'a> {
        fields(self.body).filter(|field| field.number == 6).map(|field| {
            let mut pair = (0.0, 0.0);
            for part in fields(field.payload.bytes()) {
                match part.number {
                    1 => pair.0 = f64::from_bits(part.payload.bits()),
                    2 => pair.1 = f64::from_bits(part.payload.bits()),
                    _ => {}
                }
            }
            pair
        })
    }
}

/// One measurement kept as an example.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exemplar<'a> {
    body: &'a [u8],
    /// When it was measured, Unix nanoseconds.
    pub time: u64,
    /// The value measured.
    pub value: Option<Number>,
    /// The trace it was measured in; 16 bytes or none.
    pub trace_id: &'a [u8],
    /// The span it was measured in; 8 bytes or none.
    pub span_id: &'a [u8],
}

impl<'a> Exemplar<'a> {
    pub(crate) fn parse(body: &'a [u8]) -> Self {
        let mut view = Self { body, ..Self::default() };
        for field in fields(body) {
            let bits = field.payload.bits();
            match field.number {
                2 => view.time = bits,
                3 => view.value = Some(Number::Double(f64::from_bits(bits))),
                4 => view.span_id = field.payload.bytes(),
                5 => view.trace_id = field.payload.bytes(),
                6 => view.value = Some(Number::Int(bits as i64)),
                _ => {}
            }
        }
        view
    }

    /// The attributes the metric itself does not carry.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes { body: self.body, field: 7 }
    }
}

pub(crate) fn zigzag(bits: u64) -> i32 {
    let bits = bits as u32;
    (bits >> 1) as i32 ^ -((bits & 1) as i32)
}

/// The bits of a repeated number, packed or not, in the order of the wire.
pub(crate) fn repeated(body: &[u8], number: u32, fixed: bool) -> impl Iterator<Item = u64> + use<'_> {
    fields(body).filter(move |field| field.number == number).flat_map(move |field| {
        let (single, packed) = match field.payload {
            Payload::Len(packed) => (None, packed),
            other => (Some(other.bits()), Reader::new(&[], 0)),
        };
        single.into_iter().chain(Packed { packed, fixed })
    })
}

struct Packed<'a> {
    packed: Reader<'a>,
    fixed: bool,
}

impl Iterator for Packed<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if self.packed.is_empty() {
            return None;
        }
        if self.fixed { self.packed.fixed64().ok() } else { self.packed.varint().ok() }
    }
}
