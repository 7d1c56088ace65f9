//! Writing points that are in no batch: those of groups, and those that close a series. Knows bytes, not why.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use phoenix_telemetry::write::{close, open, put_bytes, put_fixed64, put_number};
use phoenix_telemetry::{Batch, Limits, Number};

use super::distribution::Distribution;
use super::identity::{Desc, Ident, put_shape};

/// The flag of a point that has no value, `DataPointFlags` of opentelemetry-proto.
const NO_RECORDED_VALUE: u64 = 1;

/// A point to be written.
struct Piece {
    resource: Arc<[u8]>,
    desc: Arc<Desc>,
    /// Where its message lies.
    point: Range<usize>,
}

/// The points of one batch to come.
#[derive(Default)]
pub(crate) struct Pieces {
    pieces: Vec<Piece>,
    points: Vec<u8>,
}

impl Pieces {
    /// Adds a number point. Times in Unix nanoseconds; a start of 0 is not set. For `attributes`, a whole number point will
    /// do, and keeps what is not said here: of a field that is there twice, the last one holds.
    pub(crate) fn number(
        &mut self,
        resource: &Arc<[u8]>,
        desc: &Arc<Desc>,
        attributes: &[u8],
        times: (u64, u64),
        value: Number,
    ) {
        self.add(resource, desc, attributes, times, |point| match value {
            Number::Int(value) => put_fixed64(point, 6, value as u64),
            Number::Double(value) => put_fixed64(point, 4, value.to_bits()),
        });
    }

    /// Adds a histogram point; `range` says whether its smallest and largest value are to be told. Times as above.
    pub(crate) fn distribution(
        &mut self,
        resource: &Arc<[u8]>,
        ident: &Ident,
        times: (u64, u64),
        value: &Distribution,
        range: bool,
    ) {
        self.add(resource, &ident.desc, &ident.attributes, times, |point| value.put(point, range));
    }

    /// Adds a point that came under another start time; all else in it is kept, as the last of two fields holds.
    pub(crate) fn restarted(&mut self, resource: &Arc<[u8]>, desc: &Arc<Desc>, body: &[u8], times: (u64, u64)) {
        self.add(resource, desc, body, times, |_| ());
    }

    /// Ends a series of any kind.
    pub(crate) fn closed(&mut self, resource: &Arc<[u8]>, ident: &Ident, times: (u64, u64)) {
        self.closed_as(resource, &ident.desc, &ident.attributes, times);
    }

    /// The same, by description and attributes.
    pub(crate) fn closed_as(&mut self, resource: &Arc<[u8]>, desc: &Arc<Desc>, attributes: &[u8], times: (u64, u64)) {
        self.add(resource, desc, attributes, times, |point| {
            put_number(point, desc.kind.flags_field(), NO_RECORDED_VALUE);
        });
    }

    fn add(
        &mut self,
        resource: &Arc<[u8]>,
        desc: &Arc<Desc>,
        attributes: &[u8],
        (start, time): (u64, u64),
        rest: impl FnOnce(&mut Vec<u8>),
    ) {
        let begin = self.points.len();
        self.points.extend_from_slice(attributes);
        if start != 0 {
            put_fixed64(&mut self.points, 2, start);
        }
        put_fixed64(&mut self.points, 3, time);
        rest(&mut self.points);
        let point = begin..self.points.len();
        self.pieces.push(Piece { resource: Arc::clone(resource), desc: Arc::clone(desc), point });
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty()
    }

    /// The batch. What is written here is well-formed; only what no index can address is empty.
    pub(crate) fn finish(mut self) -> Batch {
        // By place in memory: the points of one resource come to lie together, and that is all that matters.
        self.pieces.sort_by_key(|piece| (piece.resource.as_ptr() as usize, piece.desc.id));
        let mut out = Vec::with_capacity(2 * self.points.len());
        for of_resource in self.pieces.chunk_by(|a, b| Arc::ptr_eq(&a.resource, &b.resource)) {
            let Some(first) = of_resource.first() else { continue };
            let message = open(&mut out, 1);
            out.extend_from_slice(&first.resource);
            let same_scope = |a: &Piece, b: &Piece| {
                a.desc.id == b.desc.id || (a.desc.scope == b.desc.scope && a.desc.scope_schema == b.desc.scope_schema)
            };
            for of_scope in of_resource.chunk_by(same_scope) {
                scope(&mut out, of_scope, &self.points);
            }
            let end = out.len();
            close(&mut out, message, end);
        }
        let limits = Limits { max_bytes: usize::MAX, max_depth: usize::MAX, max_points: usize::MAX };
        let batch = Batch::decode(Bytes::from(out), &limits);
        debug_assert!(batch.is_ok(), "{batch:?}");
        batch.unwrap_or_default()
    }
}

fn scope(out: &mut Vec<u8>, pieces: &[Piece], points: &[u8]) {
    let Some(first) = pieces.first() else { return };
    let message = open(out, 2);
    put_bytes(out, 1, &first.desc.scope);
    for of_metric in pieces.chunk_by(|a, b| a.desc.id == b.desc.id) {
        metric(out, of_metric, points);
    }
    if !first.desc.scope_schema.is_empty() {
        put_bytes(out, 3, first.desc.scope_schema.as_bytes());
    }
    let end = out.len();
    close(out, message, end);
}

fn metric(out: &mut Vec<u8>, pieces: &[Piece], points: &[u8]) {
    let Some(first) = pieces.first() else { return };
    let message = open(out, 2);
    out.extend_from_slice(&first.desc.head);
    let data = open(out, first.desc.kind.field());
    for piece in pieces {
        put_bytes(out, 1, points.get(piece.point.clone()).unwrap_or_default());
    }
    put_shape(out, &first.desc);
    let end = out.len();
    close(out, data, end);
    let end = out.len();
    close(out, message, end);
}
