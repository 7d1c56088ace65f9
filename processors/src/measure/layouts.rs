//! Which points of a scope are of a measure, found once for all scopes of one shape.
//!
//! Names are only compared for the first scope of a shape. Scopes that have lost points, and scopes unlike any other, are looked
//! through one by one.

use std::ops::Range;
use std::sync::Arc;

use phoenix_telemetry::{Column, Metric, Scope};

use super::reading::Kind;
use super::row::{Form, Forms};

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

/// What of a scope is measured.
pub(super) struct Layout<'l> {
    /// The points that are of a measure, in their order.
    pub(super) measured: &'l [Measured],
    /// The scope as a column, and the form that a row of its values has, if entities can be kept so.
    pub(super) row: Option<(Column<'l>, &'l Arc<Form>)>,
}

/// The layouts of one batch.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    of_shapes: Vec<Option<usize>>,
    known: Vec<Known>,
    measured: Vec<Measured>,
    /// The last shape, which most scopes have in common with the one before, and its place in `known`.
    last: Option<(usize, usize)>,
    /// Kept from batch to batch.
    forms: Forms,
    /// Whether all are kept as series, as the rows are held to those.
    #[cfg(test)]
    pub(super) plain: bool,
}

/// What is known of a shape.
#[derive(Debug)]
struct Known {
    /// Its part of `measured`.
    range: Range<usize>,
    /// The form of its columns, once there was one.
    form: Option<Option<Arc<Form>>>,
}

impl Layouts {
    /// Forgets the batch, and keeps the memory.
    pub(super) fn clear(&mut self) {
        self.of_shapes.clear();
        self.known.clear();
        self.measured.clear();
        self.last = None;
    }

    /// What of a scope is of one of `measures`.
    #[inline(always)]
    pub(super) fn of<'l>(&'l mut self, scope: Scope<'l>, measures: &[String]) -> Layout<'l> {
        let shape = scope.shape();
        let at = match self.last {
            Some((last, at)) if shape == Some(last) => at,
            _ => self.find(scope, shape, measures),
        };
        let Layouts { known, measured, forms, .. } = self;
        let Some(Known { range, form }) = known.get_mut(at) else { return Layout { measured: &[], row: None } };
        let measured = measured.get(range.clone()).unwrap_or_default();
        #[cfg(test)]
        if self.plain {
            return Layout { measured, row: None };
        }
        let row = scope.column().and_then(|column| {
            let form = form.get_or_insert_with(|| forms.of(&scope.places(), measured, measures.len()));
            Some((column, form.as_ref()?))
        });
        Layout { measured, row }
    }

    /// The place in `known` of a scope's shape, or of itself.
    #[cold]
    fn find(&mut self, scope: Scope<'_>, shape: Option<usize>, measures: &[String]) -> usize {
        let known = shape.and_then(|shape| *self.of_shapes.get(shape)?);
        let at = known.unwrap_or_else(|| {
            let (begin, at) = (self.measured.len(), self.known.len());
            let whole = self.look_through(scope, measures);
            self.known.push(Known { range: begin..self.measured.len(), form: None });
            if let Some(shape) = shape.filter(|_| whole) {
                if self.of_shapes.len() <= shape {
                    self.of_shapes.resize(shape + 1, None);
                }
                self.of_shapes[shape] = Some(at);
            }
            at
        });
        self.last = shape.map(|shape| (shape, at));
        at
    }

    /// Looks through a scope; whether it has all its points.
    fn look_through(&mut self, scope: Scope<'_>, measures: &[String]) -> bool {
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
