//! The decoder's lowest level: a metric's points and their attributes.
//!
//! This is where the time goes. What exporters write is read as it comes, by its first byte; everything else goes the
//! general way. Nothing is allocated a point.

use super::repeat::core;
use super::{Outcome, Run, Scan};
use crate::hash;
use crate::index::{PointEntry, Span, ValueKind};
use crate::kind::{MetricKind, Temporality};
use crate::schema::Message;
use crate::wire::{FIXED64, LEN, Reader, VARINT};

/// What a metric's data message says besides its points.
pub(super) struct Data {
    pub(super) kind: MetricKind,
    pub(super) temporality: Temporality,
    pub(super) monotonic: bool,
    /// What lies before and behind the points.
    pub(super) head: Span,
    pub(super) tail: Span,
    pub(super) point_bytes: u32,
}

impl Data {
    pub(super) fn none(at: usize) -> Self {
        let empty = Span::new(at, at);
        Self {
            kind: MetricKind::None,
            temporality: Temporality::Unspecified,
            monotonic: false,
            head: empty,
            tail: empty,
            point_bytes: 0,
        }
    }
}

impl<'a> Scan<'a> {
    /// The data message of a metric: the field of that number.
    #[inline]
    pub(super) fn data(&mut self, field: u32, mut body: Reader<'a>, metric: u32) -> Outcome<Data> {
        let (start, end) = (body.offset(), body.offset() + body.rest().len());
        let (kind, message, point) = match field {
            5 => (MetricKind::Gauge, Message::Gauge, Message::NumberDataPoint),
            7 => (MetricKind::Sum, Message::Sum, Message::NumberDataPoint),
            9 => (MetricKind::Histogram, Message::Histogram, Message::HistogramDataPoint),
            10 => (
                MetricKind::ExponentialHistogram,
                Message::ExponentialHistogram,
                Message::ExponentialHistogramDataPoint,
            ),
            _ => (MetricKind::Summary, Message::Summary, Message::SummaryDataPoint),
        };
        let mut data = Data { kind, ..Data::none(start) };
        let mut run = Run::new();
        while !body.is_empty() {
            let at = body;
            match body.tag()? {
                (1, LEN) => {
                    self.validator.in_pieces |= run.begin(at.offset());
                    let content = body.delimited()?;
                    self.admit(at)?;
                    let (reading, bits) = if point == Message::NumberDataPoint {
                        self.number_point(content)?
                    } else {
                        (self.other_point(point, kind.attributes_field(), content)?, 0)
                    };
                    self.index.bits.push(bits);
                    self.index.points.push(PointEntry {
                        at: at.offset() as u32,
                        body: Span::new(content.offset(), body.offset()),
                        metric,
                        ..reading
                    });
                    run.end = body.offset();
                }
                (2, VARINT) if field != 5 && field != 11 => {
                    data.temporality = Temporality::from_wire(body.varint()?);
                }
                (3, VARINT) if field == 7 => data.monotonic = body.varint()? != 0,
                (field, wire) => self.validator.field(message, at, field, wire, &mut body, 0)?,
            }
        }
        (data.head, data.tail) = run.around(start, end);
        data.point_bytes = run.first.map_or(0, |first| run.end - first) as u32;
        Ok(data)
    }

    /// The hot loop. Attributes and the usual core (start, time, value in one piece) are read as they come; the rest
    /// goes the general way.
    #[inline(always)]
    fn number_point(&mut self, mut body: Reader<'a>) -> Outcome<(PointEntry, u64)> {
        let (mut point, mut bits) = (PointEntry::default(), 0);
        let size = body.rest().len();
        loop {
            match body.rest() {
                [] => return Ok((point, bits)),
                [0x3A, ..] => {
                    body.skip(1);
                    let pair = body.delimited()?;
                    point.attributes = point.attributes.wrapping_add(self.attribute(pair)?);
                }
                [0x11 | 0x19, ..] => match core(body.rest()) {
                    Some(core) => {
                        point.start_time = core.start.unwrap_or(point.start_time);
                        (point.time, bits, point.value) = (core.time, core.bits, core.value);
                        point.core = u8::try_from(size - body.rest().len() + 1).unwrap_or(0);
                        body.skip(core.len);
                    }
                    None => self.number_field(&mut body, &mut point, &mut bits)?,
                },
                _ => self.number_field(&mut body, &mut point, &mut bits)?,
            }
        }
    }

    /// A field that is not where exporters put it. What follows may change the numbers, so the point has no core.
    #[inline(never)]
    fn number_field(&mut self, body: &mut Reader<'a>, point: &mut PointEntry, bits: &mut u64) -> Outcome<()> {
        let at = *body;
        point.core = 0;
        match body.tag()? {
            (2, FIXED64) => point.start_time = body.fixed64()?,
            (3, FIXED64) => point.time = body.fixed64()?,
            (4, FIXED64) => (*bits, point.value) = (body.fixed64()?, ValueKind::Double),
            (6, FIXED64) => (*bits, point.value) = (body.fixed64()?, ValueKind::Int),
            (7, LEN) => {
                let pair = body.delimited()?;
                point.attributes = point.attributes.wrapping_add(self.attribute(pair)?);
            }
            (8, VARINT) => point.flags = body.varint()? as u32,
            (field, wire) => self.validator.field(Message::NumberDataPoint, at, field, wire, body, 0)?,
        }
        Ok(())
    }

    /// Points that are more than one number: times, flags and attributes go to the index.
    fn other_point(&mut self, message: Message, attributes: u32, mut body: Reader<'a>) -> Outcome<PointEntry> {
        let mut point = PointEntry::default();
        let flags = if message == Message::SummaryDataPoint { 8 } else { 10 };
        let mut seen = 0;
        while !body.is_empty() {
            let at = body;
            match body.tag()? {
                (2, FIXED64) => point.start_time = body.fixed64()?,
                (3, FIXED64) => point.time = body.fixed64()?,
                (field, LEN) if field == attributes => {
                    let pair = body.delimited()?;
                    point.attributes = point.attributes.wrapping_add(self.attribute(pair)?);
                }
                (field, VARINT) if field == flags => point.flags = body.varint()? as u32,
                (field, wire) => {
                    self.validator.once(message, field, &mut seen);
                    self.validator.field(message, at, field, wire, &mut body, 0)?;
                }
            }
        }
        Ok(point)
    }

    /// A message that is attributes and little else; returns the sum of their hashes.
    pub(super) fn attributed(&mut self, message: Message, attributes: u32, mut body: Reader<'a>) -> Outcome<u64> {
        let mut sum = 0u64;
        while !body.is_empty() {
            let at = body;
            if let Some(pair) = body.take(attributes) {
                sum = sum.wrapping_add(self.attribute(pair)?);
                continue;
            }
            match body.tag()? {
                (field, LEN) if field == attributes => {
                    let pair = body.delimited()?;
                    sum = sum.wrapping_add(self.attribute(pair)?);
                }
                (field, wire) => self.validator.field(message, at, field, wire, &mut body, 0)?,
            }
        }
        Ok(sum)
    }

    /// Validates a `KeyValue` and returns its hash.
    #[inline]
    pub(super) fn attribute(&mut self, pair: Reader<'a>) -> Outcome<u64> {
        match hash::plain(pair.rest()) {
            Some(hash) => Ok(hash),
            None => self.any_attribute(pair),
        }
    }

    #[inline(never)]
    fn any_attribute(&mut self, pair: Reader<'a>) -> Outcome<u64> {
        if hash::is_canonical(pair.rest()) {
            return Ok(hash::bytes(pair.rest()));
        }
        self.validator.message(Message::KeyValue, pair, 0)?;
        if self.validator.in_pieces {
            return Ok(0);
        }
        Ok(hash::key_value(pair.rest()))
    }
}
