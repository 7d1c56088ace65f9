//! Writing points that are in no batch: those of groups, and those that close a series. Knows bytes, not why.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use phoenix_telemetry::write::{close, open, put_bytes, put_fixed64, put_number};
use phoenix_telemetry::{Batch, BatchBuilder, Form, Head, Number, pattern};

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
    /// Resources that are written already.
    whole: BatchBuilder,
    /// How many bytes that probably becomes.
    room: usize,
    /// Start and value of the series of one resource, as its template has them.
    numbers: Vec<(u64, Number)>,
}

impl Pieces {
    /// For about as many bytes as were written before: groups mostly say as much as the last time.
    pub(crate) fn with_room(room: usize) -> Pieces {
        Pieces { room, ..Pieces::default() }
    }

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
        let field = if matches!(value, Number::Int(_)) { 6 } else { 4 };
        self.add(resource, desc, attributes, times, |point| put_fixed64(point, field, value.bits()));
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

    /// Adds all that one resource says at a time, which no other piece is of.
    pub(crate) fn resource(
        &mut self,
        head: &Head,
        template: &Template,
        time: u64,
        numbers: impl Iterator<Item = (u64, Number)>,
    ) {
        if self.whole.is_empty() {
            self.whole = BatchBuilder::with_capacity(self.room);
        }
        self.numbers.resize(template.form.len(), (0, Number::Int(0)));
        for (place, number) in template.places.iter().zip(numbers) {
            if let Some(at) = self.numbers.get_mut(*place) {
                *at = number;
            }
        }
        self.whole.again(head, &template.form, time, &self.numbers);
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.pieces.is_empty() && self.whole.is_empty()
    }

    /// The batch.
    pub(crate) fn finish(mut self) -> Batch {
        let points = self.pieces.len();
        let written = self.written();
        self.whole.encoded(&written, points);
        self.whole.finish()
    }

    fn written(&mut self) -> Vec<u8> {
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
        out
    }
}

/// What is written of a resource that says these series, but for the resource and the numbers: groups mostly say the same
/// as their neighbours, and as they did before.
pub(crate) struct Template {
    form: Form,
    /// The place of each series in it, in the order in which they were named.
    places: Vec<usize>,
}

impl Template {
    /// Of number series by description, attributes, and a value of the same type under a start of the same kind: set or not.
    fn new<'s>(series: impl Iterator<Item = (&'s Arc<Desc>, &'s [u8], (u64, Number))>) -> Option<Self> {
        let mut pieces = Pieces::default();
        let nobody: Arc<[u8]> = Arc::default();
        let mut order = Vec::new();
        for (desc, attributes, (start, value)) in series {
            order.push((desc.id, order.len()));
            pieces.number(&nobody, desc, attributes, (start, 1), value);
        }
        let (_, form) = pattern(&pieces.written())?;
        // As they were written: in the order of the descriptions, and then in that in which they came.
        order.sort_unstable();
        let mut places = vec![0; order.len()];
        for (at, (_, named)) in order.into_iter().enumerate() {
            *places.get_mut(named)? = at;
        }
        (places.len() == form.len()).then_some(Template { form, places })
    }
}

/// The templates that were of use.
#[derive(Default)]
pub(crate) struct Templates {
    known: HashMap<Vec<u64>, Option<Arc<Template>>>,
    /// The last one that was asked for.
    last: Option<(Vec<u64>, Option<Arc<Template>>)>,
    key: Vec<u64>,
}

/// Templates that are kept: hosts of one kind need a handful.
const TEMPLATES: usize = 256;

impl Templates {
    /// Series are named from here on.
    pub(crate) fn begin(&mut self) {
        self.key.clear();
    }

    /// One more series, by the number that its identity has, with a value under a start.
    #[inline]
    pub(crate) fn name(&mut self, ident: u64, start: u64, value: Number) {
        self.key.push(ident << 2 | u64::from(start != 0) << 1 | u64::from(matches!(value, Number::Double(_))));
    }

    /// The template for what a resource says of the series that were named, which are these; `None` where an attribute of theirs
    /// hides the numbers.
    pub(crate) fn of<'s>(
        &mut self,
        series: impl Iterator<Item = (&'s Arc<Desc>, &'s [u8], (u64, Number))>,
    ) -> Option<Arc<Template>> {
        let Templates { known, last, key } = self;
        if let Some((_, template)) = last.as_ref().filter(|(known, _)| known == key) {
            return template.clone();
        }
        let template = known.get(key.as_slice()).cloned().unwrap_or_else(|| {
            if known.len() >= TEMPLATES {
                known.clear();
            }
            let template = Template::new(series).map(Arc::new);
            known.insert(key.clone(), template.clone());
            template
        });
        *last = Some((key.clone(), template.clone()));
        template
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
