//! Edits of attributes, on the bytes: the message's new body is written to the arena and the index points there.
//!
//! Whatever else the message holds (unknown fields, counts of dropped attributes, entity references, exemplars)
//! survives. An edit that changes nothing leaves the batch untouched.

use crate::batch::Batch;
use crate::decode::{START, put_core};
use crate::hash;
use crate::index::{Common, PointEntry, Span};
use crate::kind::{MetricKind, Number};
use crate::value::{AnyValue, Attributes, Values, key_value};
use crate::view::{PointId, ResourceId};
use crate::wire::{Payload, VARINT, close, fields, open, put_bytes, put_fixed64, put_tag, put_varint};
use bytes::Bytes;
use std::ops::Range;

/// Room that rewritten points take with the rest of their scopes; too low a guess only costs a move.
const BYTES_PER_POINT: usize = 256;

impl Batch {
    /// Edits the attributes of a resource. An id the batch does not know is ignored.
    pub fn edit_resource(&mut self, id: ResourceId, edit: impl FnOnce(&mut AttributeEdits<'_>)) {
        let index = id.0 as usize;
        let Some(entry) = self.index.resources.get(index) else { return };
        let (body, attributes) = (entry.body, entry.attributes);
        let Some((body, attributes)) = self.rewrite(body, 1, attributes, edit) else { return };
        let Some(entry) = self.index.resources.get_mut(index) else { return };
        entry.body = body;
        entry.attributes = attributes;
        entry.edited = true;
        entry.dirty = true;
        self.dirty = true;
        self.index.identify(index);
    }

    /// Edits the attributes of a data point. An id the batch does not know, or of a dropped point, is ignored.
    pub fn edit_point(&mut self, id: PointId, edit: impl FnOnce(&mut AttributeEdits<'_>)) {
        let Some((scope, place, entry, kind)) = self.found(id) else { return };
        let field = kind.attributes_field();
        let Some((body, attributes)) = self.rewrite(entry.body, field, entry.attributes, edit) else { return };
        let bits = self.index.bits.get(id.0 as usize).copied().unwrap_or_default();
        self.replace_point(scope, place, PointEntry { body, attributes, ..entry }, bits);
        if let Some(scope) = self.index.scopes.get_mut(scope) {
            scope.shape = 0;
        }
    }

    /// A live point: its scope, its place there, its entry with times and positions as they are, the kind of its metric.
    fn found(&self, id: PointId) -> Option<(usize, usize, PointEntry, MetricKind)> {
        if !self.index.is_live(id.0) {
            return None;
        }
        let at = self.index.scope_of(id.0)?;
        let scope = self.index.scopes.get(at)?;
        let place = scope.place_of(id.0)?;
        let entry = *self.index.points.get(scope.entries as usize + place)?;
        let kind = self.index.metrics.get((scope.metrics.start + entry.metric) as usize)?.kind;
        let (start_time, time) = scope.times(&entry);
        Some((at, place, PointEntry { body: entry.body.moved(scope.by), start_time, time, ..entry }, kind))
    }

    /// Gives number points other start times (0 = not set) and values. All else in them survives: flags, exemplars, attributes,
    /// fields nobody knows. An id the batch does not know, or of a dropped point or a distribution, is ignored. Points that follow
    /// each other here as they do in their scope cost a fraction of what they do alone.
    pub fn rewrite_points(&mut self, points: &[(PointId, u64, Number)]) {
        self.arena.reserve(self.bytes.len().min(points.len() * BYTES_PER_POINT));
        // Their scopes are given entries of their own, which are as many at least.
        self.index.points.reserve(points.len());
        let mut rest = points;
        while let Some(((id, start, value), others)) = rest.split_first() {
            rest = match self.renumber(rest) {
                0 => {
                    self.rewrite_point(*id, *start, *value);
                    others
                }
                done => rest.get(done..).unwrap_or_default(),
            };
        }
    }

    /// One that is not to be had at less.
    fn rewrite_point(&mut self, id: PointId, start: u64, value: Number) {
        let Some((scope, place, entry, kind)) = self.found(id) else { return };
        if !matches!(kind, MetricKind::Gauge | MetricKind::Sum) {
            return;
        }
        let (seam, before) = (self.bytes.len(), self.arena.len());
        let mut body = Vec::with_capacity(entry.body.len as usize + 18);
        if start != 0 {
            put_fixed64(&mut body, 2, start);
        }
        put_fixed64(&mut body, if matches!(value, Number::Int(_)) { 6 } else { 4 }, value.bits());
        let old = self.slice(entry.body);
        for field in fields(old).filter(|field| !matches!(field.number, 2 | 4 | 6)) {
            body.extend_from_slice(old.get(field.start..field.end).unwrap_or_default());
        }
        let end = seam + before + body.len();
        if u32::try_from(end).is_ok() {
            self.arena.append(&mut body);
            let body = Span::new(seam + before, end);
            let successor = PointEntry { body, start_time: start, value: value.into(), core: 0, ..entry };
            self.replace_point(scope, place, successor, value.bits());
        }
    }

    /// Writes over the numbers of the first points, in bytes of their scope's own, as far as they are of one scope that is still
    /// as it came, and their numbers lie in one piece, with a start. Returns how many that were.
    fn renumber(&mut self, points: &[(PointId, u64, Number)]) -> usize {
        let scope = points.first().and_then(|(id, ..)| self.index.scope_of(id.0));
        let Some(scope) = scope.filter(|scope| self.index.scopes.get(*scope).is_some_and(|scope| !scope.dirty)) else {
            return 0;
        };
        let mut moved = false;
        for (done, (id, start, value)) in points.iter().enumerate() {
            let place = self.index.scopes.get(scope).and_then(|scope| scope.place_of(id.0));
            let Some(place) = place.filter(|_| *start != 0 && self.index.is_live(id.0)) else { return done };
            if !moved && self.core_of(scope, place).is_some_and(|core| self.slice(core).first() == Some(&START)) {
                moved = self.move_scope(scope);
            }
            let Some(core) = self.core_of(scope, place).filter(|_| moved) else { return done };
            let core = self.arena.get_mut(core.start as usize - self.bytes.len()..).and_then(<[u8]>::first_chunk_mut);
            let Some(core) = core.filter(|core| core[0] == START) else { return done };
            let index = &mut self.index;
            let Some(entry) = index.scopes.get(scope) else { return done };
            let (bits, point) = (entry.points.start as usize + place, entry.entries as usize + place);
            let (Some(bits), Some(point)) = (index.bits.get_mut(bits), index.points.get_mut(point)) else {
                return done;
            };
            put_core(core, *start, point.time, *value);
            (*bits, point.start_time, point.value) = (value.bits(), *start, (*value).into());
        }
        points.len()
    }

    /// Where start, time and value of a point begin, if they lie in one piece.
    fn core_of(&self, scope: usize, place: usize) -> Option<Span> {
        let scope = self.index.scopes.get(scope)?;
        let PointEntry { body, core, .. } = self.index.points.get(scope.entries as usize + place)?;
        let before = u32::from(*core).checked_sub(1)?;
        Some(Span { start: body.moved(scope.by).start + before, len: body.len - before })
    }

    /// Gives a scope that is still as it came bytes in the arena, and entries, of its own; its numbers are to change. Whether there
    /// is room.
    fn move_scope(&mut self, scope: usize) -> bool {
        let Batch { bytes, arena, index, dirty, .. } = self;
        index.own(scope);
        let Some(entry) = index.scopes.get_mut(scope) else { return false };
        let (seam, old) = (bytes.len(), entry.whole);
        if (old.start as usize) < seam {
            let begin = seam + arena.len();
            if u32::try_from(begin + old.len as usize).is_err() {
                return false;
            }
            copy(bytes, arena, old.range());
            let by = begin as u32 - old.start;
            (entry.whole, entry.by) = (old.moved(by), entry.by.wrapping_add(by));
        }
        entry.common = Common::default();
        if let Some(resource) = index.resources.get_mut(entry.resource as usize) {
            resource.dirty = true;
        }
        *dirty = true;
        true
    }

    /// Puts a point's successor, whose body lies in the arena, in its place.
    fn replace_point(&mut self, scope: usize, place: usize, successor: PointEntry, bits: u64) {
        let index = &mut self.index;
        index.own(scope);
        let Some(entry) = index.scopes.get_mut(scope) else { return };
        (entry.dirty, entry.common) = (true, Common::default());
        let (by, resource) = (entry.by, entry.resource as usize);
        if let Some(old) = index.bits.get_mut(entry.points.start as usize + place) {
            *old = bits;
        }
        let Some(point) = index.points.get_mut(entry.entries as usize + place) else { return };
        let metric = entry.metrics.start + point.metric;
        let body = successor.body.moved(by.wrapping_neg());
        let before = std::mem::replace(point, PointEntry { body, edited: true, ..successor }).encoded_len();
        let after = point.encoded_len();
        let Some(metric) = index.metrics.get_mut(metric as usize) else { return };
        metric.live_bytes = metric.live_bytes - before + after;
        metric.dirty = true;
        let Some(resource) = index.resources.get_mut(resource) else { return };
        resource.dirty = true;
        self.dirty = true;
    }

    /// Runs `edit` on a message; returns the new body and sum of hashes where something changed.
    fn rewrite(
        &mut self,
        body: Span,
        field: u32,
        sum: u64,
        edit: impl FnOnce(&mut AttributeEdits<'_>),
    ) -> Option<(Span, u64)> {
        let seam = self.bytes.len();
        let start = self.arena.len();
        let mut edits =
            AttributeEdits { bytes: &self.bytes, arena: &mut self.arena, body, start, changed: false, field, sum };
        edit(&mut edits);
        let (changed, sum) = (edits.changed, edits.sum);
        let end = seam + self.arena.len();
        if changed && u32::try_from(end).is_ok() {
            Some((Span::new(seam + start, end), sum))
        } else {
            self.arena.truncate(start);
            None
        }
    }
}

/// Copies a range of input and arena to the arena's end.
fn copy(bytes: &Bytes, arena: &mut Vec<u8>, range: Range<usize>) {
    let seam = bytes.len();
    if range.end <= seam {
        arena.extend_from_slice(&bytes[range]);
    } else {
        arena.extend_from_within(range.start - seam..range.end - seam);
    }
}

/// The attributes of one message, to be changed.
pub struct AttributeEdits<'a> {
    bytes: &'a Bytes,
    arena: &'a mut Vec<u8>,
    /// The message as it was.
    body: Span,
    /// Where the message lies in the arena once something changed.
    start: usize,
    changed: bool,
    field: u32,
    sum: u64,
}

impl AttributeEdits<'_> {
    /// The value of the first attribute of that key.
    pub fn get(&self, key: &str) -> Option<AnyValue<'_>> {
        self.attributes().get(key)
    }

    /// The attributes as they stand.
    pub fn attributes(&self) -> Attributes<'_> {
        Attributes { body: self.message(), field: self.field }
    }

    /// Adds the attribute unless its key is there. Returns whether it was added.
    pub fn insert<'v>(&mut self, key: &str, value: impl Into<AnyValue<'v>>) -> bool {
        let absent = self.find(key).is_none();
        if absent {
            self.append(key, value.into());
        }
        absent
    }

    /// Gives the attribute a new value if its key is there. Returns whether it was.
    pub fn update<'v>(&mut self, key: &str, value: impl Into<AnyValue<'v>>) -> bool {
        let found = self.find(key);
        if let Some((start, end)) = found {
            self.replace(start, end, key, value.into());
        }
        found.is_some()
    }

    /// Adds the attribute, or gives it a new value.
    pub fn upsert<'v>(&mut self, key: &str, value: impl Into<AnyValue<'v>>) {
        match self.find(key) {
            Some((start, end)) => self.replace(start, end, key, value.into()),
            None => self.append(key, value.into()),
        }
    }

    /// Removes every attribute of that key. Returns whether there was one.
    pub fn delete(&mut self, key: &str) -> bool {
        let mut any = false;
        while let Some((start, end)) = self.find(key) {
            self.forget(start, end);
            self.own();
            self.arena.drain(self.start + start..self.start + end);
            any = true;
        }
        any
    }

    fn message(&self) -> &[u8] {
        if self.changed {
            &self.arena[self.start..]
        } else {
            let seam = self.bytes.len();
            let range = self.body.range();
            if range.end <= seam { &self.bytes[range] } else { &self.arena[range.start - seam..range.end - seam] }
        }
    }

    /// Copies the message to the end of the arena, once.
    fn own(&mut self) {
        if self.changed {
            return;
        }
        self.changed = true;
        copy(self.bytes, self.arena, self.body.range());
    }

    /// Where the first attribute of that key lies in the message, with its tag.
    fn find(&self, key: &str) -> Option<(usize, usize)> {
        let mut attributes = fields(self.message());
        std::iter::from_fn(|| attributes.next_of(self.field))
            .find(|field| key_value(field.payload.bytes()).0 == key.as_bytes())
            .map(|field| (field.start, field.end))
    }

    /// Takes the attribute at that place out of the sum of hashes.
    fn forget(&mut self, start: usize, end: usize) {
        let field = self.message().get(start..end).and_then(|field| fields(field).next());
        if let Some(field) = field {
            self.sum = self.sum.wrapping_sub(hash::key_value(field.payload.bytes()));
        }
    }

    fn append(&mut self, key: &str, value: AnyValue<'_>) {
        self.own();
        let before = self.arena.len();
        put_attribute(self.arena, self.field, key, value);
        let written = self.arena.get(before..).and_then(|field| fields(field).next());
        if let Some(field) = written {
            self.sum = self.sum.wrapping_add(hash::key_value(field.payload.bytes()));
        }
    }

    fn replace(&mut self, start: usize, end: usize, key: &str, value: AnyValue<'_>) {
        self.forget(start, end);
        self.own();
        let tail = self.arena.len();
        self.append(key, value);
        let len = self.arena.len() - tail;
        self.arena[self.start + start..].rotate_right(len);
        let old = self.start + start + len;
        self.arena.drain(old..old + (end - start));
    }
}

/// Appends an attribute as a field of that number.
pub fn put_attribute(out: &mut Vec<u8>, number: u32, key: &str, value: AnyValue<'_>) {
    let body = open(out, number);
    put_bytes(out, 1, key.as_bytes());
    let inner = open(out, 2);
    put_value(out, value);
    let end = out.len();
    close(out, inner, end);
    let end = out.len();
    close(out, body, end);
}

/// Appends the content of an `AnyValue`.
fn put_value(out: &mut Vec<u8>, value: AnyValue<'_>) {
    match value {
        AnyValue::Empty => {}
        AnyValue::Str(text) => put_bytes(out, 1, text.as_bytes()),
        AnyValue::Bool(value) => {
            put_tag(out, 2, VARINT);
            out.push(u8::from(value));
        }
        AnyValue::Int(value) => {
            put_tag(out, 3, VARINT);
            put_varint(out, value as u64);
        }
        AnyValue::Double(value) => put_fixed64(out, 4, value.to_bits()),
        AnyValue::Array(Values { body }) => put_bytes(out, 5, body),
        AnyValue::Map(map) => {
            let body = open(out, 6);
            for field in fields(map.body).filter(|field| field.number == map.field) {
                if let Payload::Len(entry) = field.payload {
                    put_bytes(out, 1, entry.rest());
                }
            }
            let end = out.len();
            close(out, body, end);
        }
        AnyValue::Bytes(data) => put_bytes(out, 7, data),
    }
}
