//! Writing a resource again that differs from what was written before in nothing but the numbers of its points.
//!
//! Who reports a thousand processes every few seconds writes the same names, attributes and lengths each time. What was
//! written once is kept as bytes, with their index: its [`Head`], which is the resource's own, and its [`Form`], which resources
//! that report alike share. Written again, both are copied and the numbers put in their places, and nothing of it is read again.

use crate::batch::Batch;
use crate::build::BatchBuilder;
use crate::decode::{Known, START, put_core, put_level};
use crate::error::Limits;
use crate::index::{Index, PointEntry, ResourceEntry, ValueKind};
use crate::kind::Number;
use crate::wire::{LEN, put_tag, put_varint};
use bytes::Bytes;
use std::sync::Arc;

/// What a resource says of itself, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    bytes: Arc<[u8]>,
    /// Its entry, wherever these bytes lay.
    entry: ResourceEntry,
}

/// Scopes whose points are numbers, as bytes, and where in these the numbers lie.
#[derive(Debug, Clone)]
pub struct Form(Arc<Pattern>);

/// What a form holds.
#[derive(Debug)]
pub(crate) struct Pattern {
    bytes: Box<[u8]>,
    numbers: Box<[Place]>,
    /// The index of a request that held them, and where in that they began.
    pub(crate) index: Index,
    pub(crate) begin: u32,
}

/// Where a number lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Start (if any), time and value, in one piece.
    core: u32,
    has_start: bool,
    value: ValueKind,
}

impl Head {
    /// The head of a resource of these bytes: the fields of `ResourceMetrics` but for the scopes. `None` if they are not.
    pub fn parse(bytes: &Arc<[u8]>) -> Option<Head> {
        let mut message = Vec::with_capacity(bytes.len() + 4);
        put_tag(&mut message, 1, LEN);
        put_varint(&mut message, bytes.len() as u64);
        message.extend_from_slice(bytes);
        let batch = Batch::decode(Bytes::from(message), &Limits::NONE).ok()?;
        let [entry] = batch.index.resources.as_slice() else { return None };
        let is_all = entry.scopes.is_empty() && batch.slice(entry.head) == &**bytes;
        is_all.then(|| Head { bytes: Arc::clone(bytes), entry: entry.clone() })
    }
}

impl Form {
    /// How many numbers it takes.
    pub fn len(&self) -> usize {
        self.0.numbers.len()
    }

    /// Whether it takes none.
    pub fn is_empty(&self) -> bool {
        self.0.numbers.is_empty()
    }
}

/// The resource that a request holds, to be written again. `None` where it is not one alone, or has a point that is no number,
/// or has no value, or whose start, time and value do not lie in one piece.
pub fn pattern(request: &[u8]) -> Option<(Head, Form)> {
    let batch = Batch::decode(Bytes::copy_from_slice(request), &Limits::NONE).ok()?;
    let (Batch { index, .. }, [resource]) = (&batch, batch.index.resources.as_slice()) else { return None };
    let (first, last) = (index.scopes.first()?, index.scopes.last()?);
    let begin = first.whole.start;
    let mut numbers = Vec::with_capacity(index.bits.len());
    for scope in &index.scopes {
        for point in index.points.get(scope.table())? {
            let PointEntry { core, flags, value, .. } = *point;
            let body = point.body.moved(scope.by);
            let core = u32::from(core).checked_sub(1).filter(|_| flags == 0)? + body.start;
            let has_start = batch.bytes.get(core as usize) == Some(&START);
            if has_start != (scope.times(point).0 != 0) {
                return None;
            }
            numbers.push(Place { core: core - begin, has_start, value });
        }
    }
    let is_whole = resource.tail.len == 0 && index.extras.is_empty() && batch.bytes.len() == request.len();
    let bytes = Box::from(batch.bytes.get(begin as usize..last.whole.end() as usize)?);
    let head = Head { bytes: Arc::from(batch.slice(resource.head)), entry: resource.clone() };
    let index = index.clone();
    is_whole.then(|| (head, Form(Arc::new(Pattern { bytes, numbers: numbers.into(), index, begin }))))
}

impl BatchBuilder {
    /// The resource that was written last, to be written again; `None` as with [`pattern`].
    pub fn last(&self) -> Option<(Head, Form)> {
        pattern(self.buffer.get(self.last..)?)
    }

    /// Writes a resource again, with these starts and numbers for its points in their order. Times are Unix nanoseconds. There
    /// are as many as the form has points, a point that had a start has one that is not 0, and `time` is not 0: else nothing is
    /// written (debug builds assert it). The start of a point that had none is not looked at.
    pub fn again(&mut self, head: &Head, form: &Form, time: u64, numbers: &[(u64, Number)]) {
        let Form(pattern) = form;
        let has_start = |(place, (start, _)): (&Place, &(u64, Number))| !place.has_start || *start != 0;
        let fits =
            numbers.len() == pattern.numbers.len() && pattern.numbers.iter().zip(numbers).all(has_start) && time != 0;
        debug_assert!(fits, "{numbers:?} for {} points at {time}", pattern.numbers.len());
        if !fits {
            return;
        }
        self.last = self.buffer.len();
        put_tag(&mut self.buffer, 1, LEN);
        put_varint(&mut self.buffer, (head.bytes.len() + pattern.bytes.len()) as u64);
        let body = self.buffer.len();
        self.buffer.extend_from_slice(&head.bytes);
        let scopes = self.buffer.len();
        self.buffer.extend_from_slice(&pattern.bytes);
        let bytes = self.buffer.get_mut(scopes..).unwrap_or_default();
        let known = self.written.numbers.len();
        let said = |(place, (start, number)): (&Place, &(u64, Number))| {
            (if place.has_start { *start } else { 0 }, number.bits())
        };
        self.written.numbers.extend(pattern.numbers.iter().zip(numbers).map(said));
        let mut alike = true;
        for (place, (start, number)) in pattern.numbers.iter().zip(numbers) {
            let Some(rest) = bytes.get_mut(place.core as usize..) else { continue };
            if place.has_start {
                rest.first_chunk_mut().into_iter().for_each(|core| put_core(core, *start, time, *number));
            } else {
                rest.first_chunk_mut().into_iter().for_each(|core| put_level(core, time, *number));
            }
            alike &= place.value == (*number).into();
        }
        self.points += numbers.len();
        if !alike {
            // An integer where a double was: to be read as anything else.
            self.written.numbers.truncate(known);
            return;
        }
        let patterns = &mut self.written.patterns;
        let is_it = |known: &Arc<Pattern>| Arc::ptr_eq(known, pattern);
        let place = patterns.iter().rposition(is_it).unwrap_or_else(|| {
            patterns.push(Arc::clone(pattern));
            patterns.len() - 1
        });
        let entry = head.entry.clone();
        self.written.resources.push(Known { whole: self.last, body, entry, pattern: place, time });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Descriptor, Shape};
    use crate::kind::Temporality;
    use proptest::prelude::*;

    const SUM: Shape = Shape::Sum { monotonic: true, temporality: Temporality::Cumulative };

    /// Writes a resource in the ordinary way: `points` are those of each metric, every other one a gauge without a start.
    fn write(out: &mut BatchBuilder, name: &str, points: &[Vec<Number>], starts: &[u64], time: u64) {
        let mut resource = out.resource();
        resource.schema_url("https://example.org").attribute("name", name).attribute("id", 7);
        let mut starts = starts.iter().cycle();
        for (metric, points) in points.iter().enumerate() {
            let name = format!("metric {metric}");
            let shape = if metric % 2 == 0 { SUM } else { Shape::Gauge };
            let mut scope = resource.scope(if metric < 3 { "scope" } else { "another" }, "1");
            let mut metric = scope.metric(&Descriptor { name: &name, unit: "s", description: "", shape });
            for (at, value) in points.iter().enumerate() {
                let label = "x".repeat(at);
                let start = *starts.next().unwrap();
                let start = if shape == SUM { start } else { 0 };
                metric.point(start, time, *value, &[("label", label.as_str().into())]);
            }
        }
    }

    fn number() -> impl Strategy<Value = Number> {
        prop_oneof![any::<i64>().prop_map(Number::Int), any::<f64>().prop_map(Number::Double)]
    }

    /// All that can be asked of a batch.
    fn said(batch: &Batch) -> Vec<String> {
        let mut said = Vec::new();
        for scope in batch.resources().flat_map(|resource| resource.scopes()) {
            let resource = scope.resource();
            said.push(format!("{:?} {} {:?}", resource.attributes(), resource.schema_url(), resource.times()));
            said.push(format!("{} {} {:?}", scope.name(), scope.version(), scope.attributes()));
            let column = scope.column();
            said.push(format!("{:?}", column.map(|column| (column.start(), column.time(), column.bits().to_vec()))));
            for point in scope.points().flatten() {
                let metric = point.metric();
                said.push(format!("{} {} {:?} {:x}", metric.name(), metric.unit(), metric.kind(), point.series()));
                said.push(format!("{:?} {:?} {:?}", point.number(), point.attributes(), point.body()));
            }
        }
        said
    }

    proptest! {
        #[test]
        fn it_is_what_is_written_in_the_ordinary_way(
            name in "[a-z]{0,200}",
            points in prop::collection::vec(prop::collection::vec((number(), number()), 1..5), 1..5),
            [start, time, first_start, first_time] in any::<[u64; 4]>().prop_map(|times| times.map(|time| time.max(1))),
            (same_kinds, same_starts, change) in any::<(bool, bool, bool)>(),
        ) {
            let before: Vec<Vec<Number>> = points.iter().map(|metric| metric.iter().map(|both| both.0).collect()).collect();
            let after = |(before, after): &(Number, Number)| match (before, after) {
                (Number::Int(_), Number::Double(value)) if same_kinds => Number::Int(value.to_bits() as i64),
                (Number::Double(_), Number::Int(value)) if same_kinds => Number::Double(*value as f64),
                _ => *after,
            };
            let after: Vec<Vec<Number>> = points.iter().map(|metric| metric.iter().map(after).collect()).collect();
            let starts = if same_starts { vec![start] } else { vec![start, start / 2 + 1, start] };
            let mut first = BatchBuilder::new();
            write(&mut first, "another", &before, &[1], 1);
            write(&mut first, &name, &before, &[first_start], first_time);
            let (head, form) = first.last().unwrap();
            let (mut again, mut anew) = (BatchBuilder::new(), BatchBuilder::new());
            let mut numbers = Vec::new();
            for (number, start) in after.concat().into_iter().zip(starts.iter().cycle()) {
                numbers.push((*start, number));
            }
            for round in 0..3 {
                // Among others that are written in the ordinary way.
                for out in [&mut again, &mut anew] {
                    write(out, &format!("other {round}"), &before, &starts, time);
                }
                again.again(&head, &form, time, &numbers);
                prop_assert_eq!(&again.last().unwrap().0, &head);
                write(&mut anew, &name, &after, &starts, time);
            }
            prop_assert!(!again.is_empty());
            let (again, anew) = (again.finish(), anew.finish());
            prop_assert_eq!(again.encode(), anew.encode());
            prop_assert_eq!(again.points(), anew.points());
            prop_assert_eq!(said(&again), said(&anew));
            // And it takes changes as any other.
            let mut both = [again, anew];
            for batch in both.iter_mut().filter(|_| change) {
                let ids: Vec<_> = batch.series().map(|point| point.id()).collect();
                batch.rewrite_points(&[(ids[ids.len() - 1], 5, Number::Int(3))]);
                batch.drop_ids(&ids[..ids.len() / 2]);
            }
            prop_assert_eq!(said(&both[0]), said(&both[1]));
            prop_assert_eq!(both[0].encode(), both[1].encode());
        }
    }

    #[test]
    fn what_is_more_than_numbers_has_no_form() {
        assert!(BatchBuilder::new().last().is_none());
        let mut out = BatchBuilder::new();
        let one = Descriptor { name: "one", unit: "", description: "", shape: SUM };
        out.resource().scope("closed", "").metric(&one).closed(1, 2, &[]);
        assert!(out.last().is_none());
        let [one, two] = [1, 2].map(|at| {
            let mut out = BatchBuilder::new();
            write(&mut out, "one", &vec![vec![Number::Int(3)]; at], &[5], 6);
            out.finish().encode()
        });
        assert_eq!(pattern(&two).map(|(_, form)| form.len()), Some(2));
        assert!(pattern(&[one, two].concat()).is_none());
    }

    #[test]
    fn a_head_is_known_by_its_bytes() {
        let mut out = BatchBuilder::new();
        write(&mut out, "one", &[vec![Number::Int(3)]], &[5], 6);
        let (head, form) = out.last().unwrap();
        let parsed = Head::parse(&head.bytes).unwrap();
        let mut again = BatchBuilder::new();
        again.again(&parsed, &form, 6, &[(5, Number::Int(3))]);
        let (again, out) = (again.finish(), out.finish());
        assert_eq!((again.encode(), said(&again)), (out.encode(), said(&out)));
        assert!(Head::parse(&Arc::from(&b"no resource"[..])).is_none());
        assert!(Head::parse(&Arc::from(&out.encode()[..])).is_none());
    }
}
