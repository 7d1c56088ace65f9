//! The one validating pass: protobuf bytes to index and identity hashes.
//!
//! It reads the messages on the way to the points itself and leaves the rest to `validate`. It stores where things lie,
//! never what they say. Input that is legal but sent in pieces (a message seen twice, children not in one run) is only
//! validated here; `normal` rewrites it and the pass runs again on the result.

mod known;
mod points;
mod repeat;

use crate::batch::Batch;
use crate::error::{DecodeError, DecodeErrorKind, Limits};
use crate::hash;
use crate::index::{InCommon, Index, MetricEntry, ResourceEntry, ScopeEntry, ScopeText, Span, Verdict};
use crate::kind::MetricKind;
use crate::normal;
use crate::schema::Message;
use crate::validate::Validator;
use crate::wire::{LEN, Reader, is_utf8};
use bytes::Bytes;
use known::Placed;
pub(crate) use known::{Known, Written};
use points::Data;
use repeat::{PATTERNS, Repeated};
pub(crate) use repeat::{START, alike, place, put_core, put_level};

type Outcome<T> = Result<T, DecodeError>;

/// Bytes of input for one point, and the least for a resource, to reserve the index by; too low a guess only costs a move.
const BYTES_PER_POINT: usize = 96;
const BYTES_PER_RESOURCE: usize = 512;

pub(crate) fn decode(bytes: Bytes, limits: &Limits) -> Outcome<Batch> {
    if bytes.len() > limits.max_bytes || u32::try_from(bytes.len()).is_err() {
        return Err(DecodeError { offset: limits.max_bytes.min(bytes.len()), kind: DecodeErrorKind::TooLarge });
    }
    let (index, in_pieces) = scan(&bytes, limits, &Written::default())?;
    if !in_pieces {
        return Ok(batch(bytes, index));
    }
    let bytes = Bytes::from(normal::form(&bytes));
    if u32::try_from(bytes.len()).is_err() {
        return Err(DecodeError { offset: 0, kind: DecodeErrorKind::TooLarge });
    }
    let (index, _) = scan(&bytes, limits, &Written::default())?;
    Ok(batch(bytes, index))
}

/// The same for what a builder wrote, in part from patterns.
pub(crate) fn decode_written(bytes: Bytes, written: &Written) -> Outcome<Batch> {
    if u32::try_from(bytes.len()).is_err() {
        return Err(DecodeError { offset: 0, kind: DecodeErrorKind::TooLarge });
    }
    let (index, in_pieces) = scan(&bytes, &Limits::NONE, written)?;
    if in_pieces { decode(bytes, &Limits::NONE) } else { Ok(batch(bytes, index)) }
}

fn batch(bytes: Bytes, index: Index) -> Batch {
    let live = index.bits.len();
    Batch { bytes, index, live, ..Batch::default() }
}

fn scan(bytes: &[u8], limits: &Limits, written: &Written) -> Outcome<(Index, bool)> {
    let mut scan = Scan {
        bytes,
        index: Index::default(),
        room: limits.max_points,
        validator: Validator::new(limits.max_depth),
        patterns: [const { None }; PATTERNS],
        roomy: false,
        written,
        next_known: 0,
        next_number: 0,
        placed: Vec::new(),
    };
    scan.index.bits.reserve(bytes.len() / BYTES_PER_POINT);
    scan.request()?;
    let Index { resources, scopes, bits, texts, metrics, points, .. } = &mut scan.index;
    // A few giant points must not keep the room of many.
    bits.shrink_to(2 * bits.len());
    resources.shrink_to(2 * resources.len());
    scopes.shrink_to(2 * scopes.len());
    texts.shrink_to(2 * texts.len());
    metrics.shrink_to(2 * metrics.len());
    points.shrink_to(2 * points.len());
    scan.index.verdicts = vec![Verdict::Individual; scan.index.bits.len()];
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

struct Scan<'a> {
    bytes: &'a [u8],
    index: Index,
    /// How many more entries there may be.
    room: usize,
    validator: Validator,
    /// Scopes whose points all have their numbers in one piece.
    patterns: [Option<Repeated>; PATTERNS],
    /// Room was made in the tables.
    roomy: bool,
    /// What is known of the bytes, and how far that was made use of.
    written: &'a Written,
    next_known: usize,
    next_number: usize,
    placed: Vec<Option<Placed>>,
}

impl<'a> Scan<'a> {
    fn request(&mut self) -> Outcome<()> {
        let mut request = Reader::new(self.bytes, 0);
        while !request.is_empty() {
            let at = request;
            match request.tag()? {
                (1, LEN) => {
                    let body = request.delimited()?;
                    if !self.known(at.offset(), request.offset()) {
                        self.resource(at.offset(), body)?;
                    }
                    if self.index.resources.len() == 1 {
                        // Most are like the first, give or take; the room for them stays below half of the input's size.
                        let others = request.rest().len() / body.rest().len().max(BYTES_PER_RESOURCE);
                        self.index.resources.reserve(others + others / 8);
                        self.index.scopes.reserve(others + others / 8);
                    }
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
        let points = self.index.bits.len();
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
        entry.live = (self.index.bits.len() - points) as u32;
        self.index.resources.push(entry);
        self.index.identify(id);
        Ok(())
    }

    fn scope(&mut self, whole: usize, mut body: Reader<'a>, resource: u32) -> Outcome<()> {
        if self.repeat(whole, body, resource) {
            return Ok(());
        }
        self.make_room(whole);
        let (start, end) = (body.offset(), body.offset() + body.rest().len());
        let empty = Span::new(start, start);
        let id = self.index.scopes.len();
        let mut text =
            ScopeText { body: empty, name: empty, version: empty, schema_url: empty, ..ScopeText::default() };
        let mut entry = ScopeEntry {
            whole: Span::new(whole, end),
            text: self.index.texts.len() as u32,
            hash: hash::scope(&[], &[], 0),
            resource,
            entries: self.index.points.len() as u32,
            place: self.index.places(),
            ..ScopeEntry::default()
        };
        self.admit(body)?;
        let metrics = self.index.metrics.len() as u32;
        let points = self.index.bits.len() as u32;
        let mut run = Run::new();
        let mut seen = false;
        while !body.is_empty() {
            let at = body;
            match body.tag()? {
                (1, LEN) => {
                    let own = body.delimited()?;
                    self.validator.in_pieces |= std::mem::replace(&mut seen, true);
                    entry.hash = self.instrumentation_scope(own, &mut text)?;
                }
                (2, LEN) => {
                    self.validator.in_pieces |= run.begin(at.offset());
                    let metric = body.delimited()?;
                    self.metric(at.offset(), metric, (metrics, entry.entries))?;
                    run.end = body.offset();
                }
                (3, LEN) => text.schema_url = string(&mut body)?,
                (field, wire) => self.validator.field(Message::ScopeMetrics, at, field, wire, &mut body, 0)?,
            }
        }
        (text.head, text.tail) = run.around(start, end);
        self.index.texts.push(text);
        entry.metrics = metrics..self.index.metrics.len() as u32;
        entry.points = points..self.index.bits.len() as u32;
        entry.live = entry.points.len() as u32;
        entry.shape = id as u32 + 1;
        let mut common = InCommon::default();
        let regular = self.index.points.get(entry.table()).unwrap_or_default().iter().all(|point| {
            let core = point.body.start as usize + usize::from(point.core);
            let has_start = self.bytes.get(core.wrapping_sub(1)) == Some(&START);
            common.add(point, has_start.then_some(point.start_time), point.time);
            point.core != 0
        });
        if regular {
            entry.common = common.get();
        }
        if let Some(slot) = self.patterns.get_mut((end - start) % PATTERNS) {
            *slot = (regular && !entry.metrics.is_empty()).then_some(Repeated::new(id as u32));
        }
        self.index.scopes.push(entry);
        Ok(())
    }

    /// Once it is clear that many scopes are like no other, makes room for as many more as the bytes from here on may hold:
    /// tables that double as they grow are moved, and take fresh pages, time and again.
    fn make_room(&mut self, at: usize) {
        const MANY: usize = 512;
        let Index { points, metrics, texts, .. } = &mut self.index;
        if self.roomy || points.len() < MANY {
            return;
        }
        self.roomy = true;
        let more = |so_far: usize| {
            let each = so_far as u128 * (self.bytes.len() - at) as u128 / at.max(1) as u128;
            usize::try_from(each + each / 8).unwrap_or_default()
        };
        points.reserve(more(points.len()));
        metrics.reserve(more(metrics.len()));
        texts.reserve(more(texts.len()));
    }

    /// Returns the scope's hash.
    fn instrumentation_scope(&mut self, own: Reader<'a>, text: &mut ScopeText) -> Outcome<u64> {
        let start = own.offset() as u32;
        text.body = Span { start, len: own.rest().len() as u32 };
        let empty = Span { start, len: 0 };
        (text.name, text.version) = (empty, empty);
        let mut attributes = 0u64;
        let mut body = own;
        while !body.is_empty() {
            let at = body;
            match body.tag()? {
                (1, LEN) => text.name = string(&mut body)?,
                (2, LEN) => text.version = string(&mut body)?,
                (3, LEN) => {
                    let pair = body.delimited()?;
                    attributes = attributes.wrapping_add(self.attribute(pair)?);
                }
                (field, wire) => self.validator.field(Message::InstrumentationScope, at, field, wire, &mut body, 0)?,
            }
        }
        Ok(hash::scope(self.at(text.name), self.at(text.version), attributes))
    }

    /// A metric of the scope whose entries of metrics and points begin at `scope`.
    fn metric(&mut self, whole: usize, mut body: Reader<'a>, scope: (u32, u32)) -> Outcome<()> {
        let (start, end) = (body.offset(), body.offset() + body.rest().len());
        self.admit(body)?;
        let first = self.index.points.len() as u32 - scope.1;
        let id = self.index.metrics.len() as u32 - scope.0;
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
        let points = first..self.index.points.len() as u32 - scope.1;
        let text = hash::metric_text(self.at(name), self.at(unit));
        let hash = hash::metric(text, data.kind, data.temporality, data.monotonic);
        for point in self.index.points.iter_mut().skip((scope.1 + first) as usize) {
            point.metric_hash = hash;
        }
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
            hash,
            live: points.end - points.start,
            points,
            live_bytes: data.point_bytes,
            dirty: false,
            thinned: false,
        });
        Ok(())
    }

    fn at(&self, span: Span) -> &'a [u8] {
        self.bytes.get(span.range()).unwrap_or_default()
    }
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
