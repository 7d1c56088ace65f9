//! Writing a resource again that differs from what was written before in nothing but the numbers of its points.
//!
//! Who reports a thousand processes every few seconds writes the same names, attributes and lengths each time. What was
//! written once is kept as bytes: its [`Head`], which is the resource's own, and its [`Form`], which resources that report
//! alike share. Written again, both are copied and the numbers put in their places.

use crate::batch::Batch;
use crate::build::BatchBuilder;
use crate::decode::put_core;
use crate::error::Limits;
use crate::index::PointEntry;
use crate::kind::Number;
use crate::wire::{LEN, put_tag, put_varint};
use bytes::Bytes;

/// What a resource says of itself, as bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head(Box<[u8]>);

/// A scope whose points are numbers with start times, as bytes, and where in these the numbers lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    bytes: Box<[u8]>,
    numbers: Box<[u32]>,
}

impl BatchBuilder {
    /// The resource that was written last, to be written again. `None` where it has not exactly one scope, or a point that is
    /// no number, has no start time or no value.
    pub fn last(&self) -> Option<(Head, Form)> {
        let batch = Batch::decode(Bytes::copy_from_slice(self.buffer.get(self.last..)?), &Limits::NONE).ok()?;
        let ([resource], [scope]) = (batch.index.resources.as_slice(), batch.index.scopes.as_slice()) else {
            return None;
        };
        let bytes = |span| Box::from(batch.slice(span));
        let place = |point: &PointEntry| {
            let core = u32::from(point.core).checked_sub(1).filter(|_| point.start_time != 0)?;
            Some(point.body.start + core - scope.whole.start)
        };
        let numbers = batch.index.points.iter().map(place).collect::<Option<_>>()?;
        let form = Form { bytes: bytes(scope.whole), numbers };
        (resource.tail.len == 0).then(|| (Head(bytes(resource.head)), form))
    }

    /// Writes a resource again, with these numbers for its points in their order. Times are Unix nanoseconds. `numbers` are as
    /// many as the form has points, and `start` is not 0: else nothing is written (debug builds assert it).
    pub fn again(&mut self, head: &Head, form: &Form, start: u64, time: u64, numbers: &[Number]) {
        let fits = numbers.len() == form.numbers.len() && start != 0;
        debug_assert!(fits, "{} numbers for {} points, from {start}", numbers.len(), form.numbers.len());
        if !fits {
            return;
        }
        self.last = self.buffer.len();
        put_tag(&mut self.buffer, 1, LEN);
        put_varint(&mut self.buffer, (head.0.len() + form.bytes.len()) as u64);
        self.buffer.extend_from_slice(&head.0);
        let scope = self.buffer.len();
        self.buffer.extend_from_slice(&form.bytes);
        let written = self.buffer.get_mut(scope..).unwrap_or_default();
        for (place, number) in form.numbers.iter().zip(numbers) {
            let core = written.get_mut(*place as usize..).and_then(|rest| rest.first_chunk_mut());
            if let Some(core) = core {
                put_core(core, start, time, *number);
            }
        }
        self.points += numbers.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::build::{Descriptor, Shape};
    use crate::kind::Temporality;
    use proptest::prelude::*;

    const SUM: Shape = Shape::Sum { monotonic: true, temporality: Temporality::Cumulative };

    /// Writes a resource in the ordinary way: `points` are those of each metric.
    fn write(out: &mut BatchBuilder, name: &str, points: &[Vec<Number>], start: u64, time: u64) {
        let mut resource = out.resource();
        resource.schema_url("https://example.org").attribute("name", name).attribute("id", 7);
        let mut scope = resource.scope("scope", "1");
        for (metric, points) in points.iter().enumerate() {
            let name = format!("metric {metric}");
            let shape = if metric % 2 == 0 { SUM } else { Shape::Gauge };
            let mut metric = scope.metric(&Descriptor { name: &name, unit: "s", description: "", shape });
            for (at, value) in points.iter().enumerate() {
                let label = "x".repeat(at);
                metric.point(start, time, *value, &[("label", label.as_str().into())]);
            }
        }
    }

    fn number() -> impl Strategy<Value = Number> {
        prop_oneof![any::<i64>().prop_map(Number::Int), any::<f64>().prop_map(Number::Double)]
    }

    proptest! {
        #[test]
        fn it_is_what_is_written_in_the_ordinary_way(
            name in "[a-z]{0,200}",
            points in prop::collection::vec(prop::collection::vec((number(), number()), 1..5), 1..5),
            times in any::<[u64; 4]>(),
        ) {
            let [start, time, first_start, first_time] = times.map(|time| time.max(1));
            let pick = |side: fn(&(Number, Number)) -> Number| -> Vec<Vec<Number>> {
                points.iter().map(|metric| metric.iter().map(side).collect()).collect()
            };
            let (before, after) = (pick(|both| both.0), pick(|both| both.1));
            let mut first = BatchBuilder::new();
            write(&mut first, "another", &before, 1, 1);
            write(&mut first, &name, &before, first_start, first_time);
            let (head, form) = first.last().unwrap();
            let (mut again, mut anew) = (BatchBuilder::new(), BatchBuilder::new());
            again.again(&head, &form, start, time, &after.concat());
            prop_assert_eq!(again.last().unwrap().0, head);
            write(&mut anew, &name, &after, start, time);
            prop_assert!(!again.is_empty());
            let (again, anew) = (again.finish(), anew.finish());
            prop_assert_eq!(again.encode(), anew.encode());
            prop_assert_eq!(again.points(), anew.points());
        }
    }

    #[test]
    fn what_is_more_than_numbers_has_no_form() {
        assert!(BatchBuilder::new().last().is_none());
        let mut out = BatchBuilder::new();
        write(&mut out, "no start", &[vec![Number::Int(1)]], 0, 5);
        assert!(out.last().is_none());
        let one = Descriptor { name: "one", unit: "", description: "", shape: SUM };
        out.resource().scope("closed", "").metric(&one).closed(1, 2, &[]);
        assert!(out.last().is_none());
        let mut resource = out.resource();
        for scope in ["one", "two"] {
            resource.scope(scope, "").metric(&one).point(1, 2, Number::Int(3), &[]);
        }
        drop(resource);
        assert!(out.last().is_none());
    }
}
