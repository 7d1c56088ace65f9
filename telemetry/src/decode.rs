//! The one validating pass: protobuf bytes to index and identity hashes.
//!
//! It reads the messages on the way to the points itself and leaves the rest to `validate`. It stores where things lie,
//! never what they say. Input that is legal but sent in pieces (a message seen twice, children not in one run) is only
//! validated here; `normal` rewrites it and the pass runs again on the result.

use crate::batch::Batch;
use crate::error::{DecodeError, DecodeErrorKind, Limits};
use crate::hash;
use crate::index::{Index, MetricEntry, PointEntry, ResourceEntry, ScopeEntry, Span, ValueKind, slice};
use crate::normal;
use crate::schema::Message;
use crate::validate::Validator;
use crate::view::{MetricKind, Temporality};
use crate::wire::{FIXED64, LEN, Reader, VARINT, is_utf8, same};
use bytes::Bytes;

type Outcome<T> = Result<T, DecodeError>;

/// Bytes of input for one point and for one metric, to reserve the index by; too low a guess only costs a move.
const BYTES_PER_POINT: usize = 96;
const BYTES_PER_METRIC: usize = 192;

pub(crate) fn decode(bytes: Bytes, limits: &Limits) -> Outcome<Batch> {
    if bytes.len() > limits.max_bytes || u32::try_from(bytes.len()).is_err() {
        return Err(DecodeError { offset: limits.max_bytes.min(bytes.len()), kind: DecodeErrorKind::TooLarge });
    }
    let (index, in_pieces) = scan(&bytes, limits)?;
    if !in_pieces {
        let live = index.points.len();
        return Ok(Batch { bytes, index, live, ..Batch::default() });
    }
    let bytes = Bytes::from(normal::form(&bytes));
    if u32::try_from(bytes.len()).is_err() {
        return Err(DecodeError { offset: 0, kind: DecodeErrorKind::TooLarge });
    }
    let (index, _) = scan(&bytes, limits)?;
    let live = index.points.len();
    Ok(Batch { bytes, index, live, ..Batch::default() })
}

fn scan(bytes: &[u8], limits: &Limits) -> Outcome<(Index, bool)> {
    let mut scan = Scan {
        bytes,
        index: Index::default(),
        room: limits.max_points,
        validator: Validator::new(limits.max_depth),
        patterns: [None; PATTERNS],
        scope: None,
    };
    scan.index.points.reserve(bytes.len() / BYTES_PER_POINT);
    scan.index.metrics.reserve(bytes.len() / BYTES_PER_METRIC);
    scan.request()?;
    Ok((scan.index, scan.validator.in_pieces))
}

/// Where a message's children lie: in one run, in the normal form.
struct Run {
    first: Option<usize>,
    end: usize,
}

impl Run {
    fn new() -> Self {
        Self { first: None, end: 0 }
    }

    /// A child begins at `at`. Returns whether it is apart from the run.
    #[inline(always)]
    fn begin(&mut self, at: usize) -> bool {
        match self.first {
            Some(_) => at != self.end,
            None => {
                self.first = Some(at);
                false
            }
        }
    }

    /// What lies before and behind the run, in a message from `start` to `end`.
    #[inline(always)]
    fn around(&self, start: usize, end: usize) -> (Span, Span) {
        match self.first {
            Some(first) => (Span::new(start, first), Span::new(self.end, end)),
            None => (Span::new(start, end), Span::new(end, end)),
        }
    }
}

/// Exporters write the same metrics, in the same order, for every resource. The last one of each place in a scope serves
/// as a pattern for the next.
const PATTERNS: usize = 32;

/// What a metric's data message says besides its points.
struct Data {
    kind: MetricKind,
    temporality: Temporality,
    monotonic: bool,
    head: Span,
    tail: Span,
    point_bytes: u32,
}

impl Data {
    fn none(at: usize) -> Self {
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

/// A scope message seen before.
#[derive(Clone, Copy)]
struct Known<'a> {
    bytes: &'a [u8],
    start: u32,
    name: Span,
    version: Span,
    hash: u64,
}

struct Scan<'a> {
    bytes: &'a [u8],
    index: Index,
    /// How many more entries there may be.
    room: usize,
    validator: Validator,
    /// Positions of metrics whose points all have their numbers in one piece.
    patterns: [Option<u32>; PATTERNS],
    scope: Option<Known<'a>>,
}

impl<'a> Scan<'a> {
    fn request(&mut self) -> Outcome<()> {
        let mut request = Reader::new(self.bytes, 0);
        while !request.is_empty() {
            let at = request;
            match request.tag()? {
                (1, LEN) => {
                    let body = request.delimited()?;
                    self.resource(at.offset(), body)?;
                }
                (field, wire) => {
                    self.validator.field(Message::ExportMetricsServiceRequest, at, field, wire, &mut request, 0)?;
                    self.index.extras.push(Span::new(at.offset(), request.offset()));
                    self.admit(at)?;
                }
            }
        }
        Ok(())
    }

    /// Refuses one entry too many.
    #[inline(always)]
    fn admit(&mut self, at: Reader<'_>) -> Outcome<()> {
        match self.room.checked_sub(1) {
            Some(room) => {
                self.room = room;
                Ok(())
            }
            None => Err(at.fault(DecodeErrorKind::TooMany)),
        }
    }

    fn resource(&mut self, whole: usize, mut body: Reader<'a>) -> Outcome<()> {
        let (start, end) = (body.offset(), body.offset() + body.rest().len());
        let id = self.index.resources.len();
        let mut entry = ResourceEntry {
            whole: Span::new(whole, end),
            own: Span::new(start, start),
            body: Span::new(start, start),
            schema_url: Span::new(start, start),
            ..ResourceEntry::default()
        };
        self.admit(body)?;
        let scopes = self.index.scopes.len() as u32;
        let points = self.index.points.len();
        let mut run = Run::new();
        let mut seen = false;
        while !body.is_empty() {
            let at = body;
            match body.tag()? {
                (1, LEN) => {
                    let own = body.delimited()?;
                    self.validator.in_pieces |= std::mem::replace(&mut seen, true);
                    entry.own = Span::new(at.offset(), body.offset());
                    entry.body = Span::new(own.offset(), body.offset());
                    entry.attributes = self.attributed(Message::Resource, 1, own)?;
                }
                (2, LEN) => {
                    self.validator.in_pieces |= run.begin(at.offset());
                    let scope = body.delimited()?;
                    self.scope(at.offset(), scope, id as u32)?;
                    run.end = body.offset();
                }
                (3, LEN) => entry.schema_url = string(&mut body)?,
                (field, wire) => self.validator.field(Message::ResourceMetrics, at, field, wire, &mut body, 0)?,
            }
        }
        (entry.head, entry.tail) = run.around(start, end);
        if !seen {
            entry.own = Span { start: entry.head.start, len: 0 };
        }
        entry.scopes = scopes..self.index.scopes.len() as u32;
        entry.live = (self.index.points.len() - points) as u32;
        self.index.resources.push(entry);
        self.index.identify(id);
        Ok(())
    }

    fn scope(&mut self, whole: usize, mut body: Reader<'a>, resource: u32) -> Outcome<()> {
        let (start, end) = (body.offset(), body.offset() + body.rest().len());
        let empty = Span::new(start, start);
        let id = self.index.scopes.len();
        let mut entry = ScopeEntry {
            whole: Span::new(whole, end),
            body: empty,
            name: empty,
            version: empty,
            schema_url: empty,
            hash: hash::scope(&[], &[], 0),
            resource,
            ..ScopeEntry::default()
        };
        self.admit(body)?;
        let metrics = self.index.metrics.len();
        let points = self.index.points.len();
        let mut run = Run::new();
        let mut seen = false;
        while !body.is_empty() {
            let at = body;
            match body.tag()? {
                (1, LEN) => {
                    let own = body.delimited()?;
                    self.validator.in_pieces |= std::mem::replace(&mut seen, true);
                    self.instrumentation_scope(own, &mut entry)?;
                }
                (2, LEN) => {
                    self.validator.in_pieces |= run.begin(at.offset());
                    let metric = body.delimited()?;
                    self.metric(at.offset(), metric, id as u32, self.index.metrics.len() - metrics)?;
                    run.end = body.offset();
                }
                (3, LEN) => entry.schema_url = string(&mut body)?,
                (field, wire) => self.validator.field(Message::ScopeMetrics, at, field, wire, &mut body, 0)?,
            }
        }
        (entry.head, entry.tail) = run.around(start, end);
        entry.metrics = metrics as u32..self.index.metrics.len() as u32;
        entry.live = (self.index.points.len() - points) as u32;
        self.index.scopes.push(entry);
        Ok(())
    }

    fn instrumentation_scope(&mut self, own: Reader<'a>, entry: &mut ScopeEntry) -> Outcome<()> {
        let start = own.offset() as u32;
        entry.body = Span { start, len: own.rest().len() as u32 };
        if let Some(known) = self.scope.filter(|known| known.bytes == own.rest()) {
            let shift = |span: Span| Span { start: span.start - known.start + start, len: span.len };
            entry.name = shift(known.name);
            entry.version = shift(known.version);
            entry.hash = known.hash;
            return Ok(());
        }
        let empty = Span { start, len: 0 };
        (entry.name, entry.version) = (empty, empty);
        let mut attributes = 0u64;
        let mut body = own;
        while !body.is_empty() {
            let at = body;
            match body.tag()? {
                (1, LEN) => entry.name = string(&mut body)?,
                (2, LEN) => entry.version = string(&mut body)?,
                (3, LEN) => {
                    let pair = body.delimited()?;
                    attributes = attributes.wrapping_add(self.attribute(pair)?);
                }
                (field, wire) => self.validator.field(Message::InstrumentationScope, at, field, wire, &mut body, 0)?,
            }
        }
        entry.hash = hash::scope(self.at(entry.name), self.at(entry.version), attributes);
        self.scope =
            Some(Known { bytes: own.rest(), start, name: entry.name, version: entry.version, hash: entry.hash });
        Ok(())
    }

    fn metric(&mut self, whole: usize, mut body: Reader<'a>, scope: u32, place: usize) -> Outcome<()> {
        if self.repeat(whole, body, scope, place) {
            return Ok(());
        }
        let (start, end) = (body.offset(), body.offset() + body.rest().len());
        self.admit(body)?;
        let first = self.index.points.len() as u32;
        let id = self.index.metrics.len() as u32;
        let empty = Span::new(start, start);
        let (mut name, mut description, mut unit) = (empty, empty, empty);
        let mut data = Data::none(start);
        let mut run = Run::new();
        while !body.is_empty() {
            let at = body;
            match body.tag()? {
                (1, LEN) => name = string(&mut body)?,
                (2, LEN) => description = string(&mut body)?,
                (3, LEN) => unit = string(&mut body)?,
                (field @ (5 | 7 | 9 | 10 | 11), LEN) => {
                    self.validator.in_pieces |= run.begin(at.offset()) || data.kind != MetricKind::None;
                    let content = body.delimited()?;
                    data = self.data(field, content, id)?;
                    run.end = body.offset();
                }
                (field, wire) => self.validator.field(Message::Metric, at, field, wire, &mut body, 0)?,
            }
        }
        let (head, tail) = run.around(start, end);
        let points = first..self.index.points.len() as u32;
        let text = hash::metric_text(self.at(name), self.at(unit));
        self.index.metrics.push(MetricEntry {
            whole: Span::new(whole, end),
            head,
            tail,
            data_head: data.head,
            data_tail: data.tail,
            name,
            description,
            unit,
            kind: data.kind,
            temporality: data.temporality,
            monotonic: data.monotonic,
            hash: hash::metric(text, data.kind, data.temporality, data.monotonic),
            identity: 0,
            scope,
            live: points.end - points.start,
            points,
            live_bytes: data.point_bytes,
            dirty: false,
            thinned: false,
        });
        if let (Some(slot), Some(entry)) = (self.patterns.get_mut(place % PATTERNS), self.index.metrics.last()) {
            *slot = self.index.points_of(entry).iter().all(|point| point.core != 0).then_some(id);
        }
        Ok(())
    }

    /// Indexes a metric that equals the pattern of its place in every byte but the numbers of its points: then it is
    /// valid, and all positions and hashes are known. Returns whether it does.
    #[inline]
    fn repeat(&mut self, whole: usize, body: Reader<'a>, scope: u32, place: usize) -> bool {
        let Some(Some(pattern)) = self.patterns.get(place % PATTERNS) else { return false };
        let Some(pattern) = self.index.metrics.get(*pattern as usize) else { return false };
        let (start, new) = (body.offset(), body.rest());
        let origin = pattern.head.start;
        let Some(old) = self.bytes.get(origin as usize..pattern.whole.end() as usize) else { return false };
        let by = start as u32 - origin;
        let points = pattern.points.clone();
        let live = points.end - points.start;
        if old.len() != new.len() || self.room <= live as usize {
            return false;
        }
        let id = self.index.metrics.len() as u32;
        let first = self.index.points.len();
        let entries = &mut self.index.points;
        entries.extend_from_within(slice(&points));
        let fresh = entries.get_mut(first..).unwrap_or_default();
        if renumber(fresh, old, new, origin, by, id).is_none() {
            entries.truncate(first);
            return false;
        }
        let first = first as u32;
        let Some(pattern) = self.patterns.get_mut(place % PATTERNS).and_then(|slot| slot.replace(id)) else {
            return false;
        };
        let Some(pattern) = self.index.metrics.get(pattern as usize) else { return false };
        let entry = MetricEntry {
            whole: Span::new(whole, start + new.len()),
            head: pattern.head.moved(by),
            tail: pattern.tail.moved(by),
            data_head: pattern.data_head.moved(by),
            data_tail: pattern.data_tail.moved(by),
            name: pattern.name.moved(by),
            description: pattern.description.moved(by),
            unit: pattern.unit.moved(by),
            scope,
            points: first..first + live,
            ..*pattern
        };
        self.index.metrics.push(entry);
        self.room -= 1 + live as usize;
        true
    }

    #[inline]
    fn data(&mut self, field: u32, mut body: Reader<'a>, metric: u32) -> Outcome<Data> {
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
                    let reading = if point == Message::NumberDataPoint {
                        self.number_point(content)?
                    } else {
                        self.other_point(point, kind.attributes_field(), content)?
                    };
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
    fn number_point(&mut self, mut body: Reader<'a>) -> Outcome<PointEntry> {
        let mut point = PointEntry::default();
        let size = body.rest().len();
        loop {
            match body.rest() {
                [] => return Ok(point),
                [0x3A, ..] => {
                    body.skip(1);
                    let pair = body.delimited()?;
                    point.attributes = point.attributes.wrapping_add(self.attribute(pair)?);
                }
                [0x11, ..] => match body.rest().first_chunk().and_then(numbers) {
                    Some(core) => {
                        (point.start_time, point.time, point.bits, point.value) = core;
                        point.core = u8::try_from(size - body.rest().len() + 1).unwrap_or(0);
                        body.skip(CORE);
                    }
                    None => self.number_field(&mut body, &mut point)?,
                },
                _ => self.number_field(&mut body, &mut point)?,
            }
        }
    }

    /// A field that is not where exporters put it. What follows may change the numbers, so the point has no core.
    #[inline(never)]
    fn number_field(&mut self, body: &mut Reader<'a>, point: &mut PointEntry) -> Outcome<()> {
        let at = *body;
        point.core = 0;
        match body.tag()? {
            (2, FIXED64) => point.start_time = body.fixed64()?,
            (3, FIXED64) => point.time = body.fixed64()?,
            (4, FIXED64) => (point.bits, point.value) = (body.fixed64()?, ValueKind::Double),
            (6, FIXED64) => (point.bits, point.value) = (body.fixed64()?, ValueKind::Int),
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
    fn other_point(
        &mut self,
        message: Message,
        attributes: u32,
        mut body: Reader<'a>,
    ) -> Outcome<PointEntry> {
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
    fn attributed(&mut self, message: Message, attributes: u32, mut body: Reader<'a>) -> Outcome<u64> {
        let mut sum = 0u64;
        while !body.is_empty() {
            let at = body;
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
    fn attribute(&mut self, pair: Reader<'a>) -> Outcome<u64> {
        if hash::is_canonical(pair.rest()) {
            return Ok(hash::bytes(pair.rest()));
        }
        self.any_attribute(pair)
    }

    #[inline(never)]
    fn any_attribute(&mut self, pair: Reader<'a>) -> Outcome<u64> {
        self.validator.message(Message::KeyValue, pair, 0)?;
        if self.validator.in_pieces {
            return Ok(0);
        }
        Ok(hash::key_value(pair.rest()))
    }

    fn at(&self, span: Span) -> &'a [u8] {
        self.bytes.get(span.range()).unwrap_or_default()
    }
}

/// Bytes of a number point's usual core: start, time and value, 8 bytes each behind their tags.
const CORE: usize = 27;

/// Start, time, the value's bits and its type.
#[inline(always)]
fn numbers(core: &[u8; CORE]) -> Option<(u64, u64, u64, ValueKind)> {
    let [
        0x11, s0, s1, s2, s3, s4, s5, s6, s7, //
        0x19, t0, t1, t2, t3, t4, t5, t6, t7, //
        tag @ (0x21 | 0x31), v0, v1, v2, v3, v4, v5, v6, v7,
    ] = *core
    else {
        return None;
    };
    let value = if tag == 0x21 { ValueKind::Double } else { ValueKind::Int };
    Some((
        u64::from_le_bytes([s0, s1, s2, s3, s4, s5, s6, s7]),
        u64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
        u64::from_le_bytes([v0, v1, v2, v3, v4, v5, v6, v7]),
        value,
    ))
}

/// Turns copies of a pattern's points into those of a metric whose bytes are `new`, if these differ from the pattern's,
/// `old`, in nothing but the numbers. The pattern begins at `origin`, the metric `by` bytes further on.
#[inline(always)]
fn renumber(points: &mut [PointEntry], old: &[u8], new: &[u8], origin: u32, by: u32, metric: u32) -> Option<()> {
    let mut seen = 0;
    for point in points {
        let core = (point.body.start - origin) as usize + usize::from(point.core) - 1;
        let (start_time, time, bits, value) = numbers(new.get(core..)?.first_chunk()?)?;
        if !same(old.get(seen..core)?, new.get(seen..core)?) || value != point.value {
            return None;
        }
        point.at += by;
        point.body.start += by;
        point.metric = metric;
        point.start_time = start_time;
        point.time = time;
        point.bits = bits;
        seen = core + CORE;
    }
    same(old.get(seen..)?, new.get(seen..)?).then_some(())
}

/// A string field's content, where it lies.
#[inline(always)]
fn string(body: &mut Reader<'_>) -> Outcome<Span> {
    let text = body.delimited()?;
    if !is_utf8(text.rest()) {
        return Err(text.fault(DecodeErrorKind::Utf8));
    }
    Ok(Span::new(text.offset(), text.offset() + text.rest().len()))
}
