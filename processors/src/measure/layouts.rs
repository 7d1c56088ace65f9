//! Which points of a scope are of a measure, found once for all scopes of one shape.
//!
//! Names are only compared for the first scope of a shape. Scopes that have lost points, and scopes unlike any other, are looked
//! through one by one.

use std::ops::Range;

use phoenix_telemetry::{Metric, Scope};

use super::reading::Kind;

/// A point that is of a measure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Measured {
    /// Its place among the points of its scope.
    pub(super) place: usize,
    pub(super) measure: u32,
    pub(super) kind: Kind,
}

/// Which of `measures` a metric is, and how it is read.
pub(super) fn measured(metric: Metric<'_>, measures: &[String]) -> Option<(u32, Kind)> {
    let name = metric.name();
    let found = (0u32..).zip(measures).find(|(_, measure)| *measure == name);
    Some((found?.0, Kind::of(metric)?))
}

/// The layouts of one batch.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    of_shapes: Vec<Option<Range<usize>>>,
    measured: Vec<Measured>,
    /// The last shape, which most scopes have in common with the one before, and its part of `measured`.
    last: (Option<usize>, Range<usize>),
}

impl Layouts {
    /// Forgets the batch, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.of_shapes.clear();
        self.measured.clear();
        self.last = (None, 0..0);
    }

    /// The points of a scope that are of one of `measures`, in their order.
    pub(super) fn of(&mut self, scope: Scope<'_>, measures: &[String]) -> &[Measured] {
        let shape = scope.shape();
        if shape.is_some() && shape == self.last.0 {
            return self.measured.get(self.last.1.clone()).unwrap_or_default();
        }
        let known = shape.and_then(|shape| self.of_shapes.get(shape)?.clone());
        let range = known.unwrap_or_else(|| {
            let begin = self.measured.len();
            let whole = self.find(scope, measures);
            let found = begin..self.measured.len();
            if let Some(shape) = shape.filter(|_| whole) {
                if self.of_shapes.len() <= shape {
                    self.of_shapes.resize(shape + 1, None);
                }
                self.of_shapes[shape] = Some(found.clone());
            }
            found
        });
        self.last = (shape, range.clone());
        self.measured.get(range).unwrap_or_default()
    }

    /// Looks through a scope; whether it has all its points.
    fn find(&mut self, scope: Scope<'_>, measures: &[String]) -> bool {
        let mut whole = true;
        let mut last = None;
        for (place, point) in scope.points().enumerate() {
            let Some(point) = point else {
                whole = false;
                continue;
            };
            let metric = point.metric();
            let found = match last {
                Some((place, found)) if place == metric.place() => found,
                _ => measured(metric, measures),
            };
            last = Some((metric.place(), found));
            if let Some((measure, kind)) = found {
                self.measured.push(Measured { place, measure, kind });
            }
        }
        whole
    }
}
