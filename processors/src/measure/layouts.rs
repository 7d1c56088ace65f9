//! Which points of a scope are of a measure, found once for all scopes of one shape.
//!
//! Names are only compared for the first scope of a shape; in the batches after it, whether its points are the same ones. Scopes
//! that have lost points, and scopes unlike any other, are looked through one by one.

use std::sync::Arc;

use phoenix_telemetry::{Column, Metric, Places, RelativeId, Scope};

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

/// Shapes that are remembered from batch to batch: a sender has few, whatever its requests' size.
const MAX_SHAPES: usize = 64;
/// A shape of so many points is not: all together take half a megabyte at most.
const MAX_POINTS: usize = 128;

/// The layouts of the shapes of a batch, and of those before.
#[derive(Debug, Default)]
pub(super) struct Layouts {
    of_shapes: Vec<Option<usize>>,
    /// The first is of a scope that is like no other, for the time being; then those that are remembered, and those of the batch.
    known: Vec<Known>,
    remembered: usize,
    /// The last shape, which most scopes have in common with the one before, and its place in `known`.
    last: Option<(usize, usize)>,
    forms: Forms,
    /// Whether all are kept as series and nothing is remembered, as the rows and what is remembered are held to that.
    #[cfg(test)]
    pub(super) plain: bool,
}

/// What is known of a shape.
#[derive(Debug, Default)]
struct Known {
    /// What its points are, the first [`MAX_POINTS`].
    points: Vec<RelativeId>,
    measured: Vec<Measured>,
    /// The form of its columns, once there was one.
    form: Option<Option<Arc<Form>>>,
    /// Whether a shape of the batch is this one. Another shape with the same points may have another form.
    in_use: bool,
}

impl Layouts {
    /// Begins a batch, of which shapes have other numbers.
    pub(super) fn begin(&mut self) {
        self.of_shapes.clear();
        self.last = None;
        if let Some(own) = self.known.first_mut() {
            *own = Known::default();
        }
        self.known.retain_mut(|known| {
            known.in_use = false;
            known.points.len() < MAX_POINTS
        });
        if self.known.len() > MAX_SHAPES {
            self.known.clear();
        }
        #[cfg(test)]
        if self.plain {
            self.known.clear();
        }
        if self.known.is_empty() {
            self.known.push(Known::default());
        }
        self.remembered = self.known.len();
    }

    /// What of a scope is of one of `measures`, which are the same in all batches.
    #[inline(always)]
    pub(super) fn of<'l>(&'l mut self, scope: Scope<'l>, measures: &[String]) -> Layout<'l> {
        let shape = scope.shape();
        let at = match self.last {
            Some((last, at)) if shape == Some(last) => at,
            _ => self.find(scope, shape, measures),
        };
        let Layouts { known, forms, .. } = self;
        let Some(Known { measured, form, .. }) = known.get_mut(at) else { return Layout { measured: &[], row: None } };
        #[cfg(test)]
        if self.plain {
            return Layout { measured, row: None };
        }
        let row = scope.column().and_then(|column| {
            if form.is_none() {
                *form = Some(forms.of(&scope.places(), measured, measures.len()));
            }
            Some((column, form.as_ref()?.as_ref()?))
        });
        Layout { measured, row }
    }

    /// The place in `known` of a scope's shape, or of itself.
    #[cold]
    fn find(&mut self, scope: Scope<'_>, shape: Option<usize>, measures: &[String]) -> usize {
        let of_batch = shape.and_then(|shape| *self.of_shapes.get(shape)?);
        let at = of_batch.or_else(|| shape.and_then(|_| self.recall(scope))).unwrap_or_else(|| {
            let mut one = self.known.first_mut().map(std::mem::take).unwrap_or_default();
            let whole = one.look_through(scope, measures);
            match self.known.first_mut() {
                Some(first) if shape.is_none() || !whole => {
                    *first = one;
                    0
                }
                _ => {
                    self.known.push(one);
                    self.known.len() - 1
                }
            }
        });
        self.last = shape.filter(|_| at > 0).map(|shape| (shape, at));
        if let Some((shape, at)) = self.last {
            if self.of_shapes.len() <= shape {
                self.of_shapes.resize(shape + 1, None);
            }
            self.of_shapes[shape] = Some(at);
        }
        at
    }

    /// How many shapes of the batch were remembered.
    #[cfg(test)]
    pub(super) fn recalled(&self) -> usize {
        self.known.iter().filter(|known| known.in_use).count()
    }

    /// The place of a shape that is remembered from a batch before: of requests of ten processes it took a tenth of all that was
    /// done to rank them to find out what each is made of.
    fn recall(&mut self, scope: Scope<'_>) -> Option<usize> {
        let Layouts { known, remembered, .. } = self;
        let places = scope.places();
        let (at, known) = known
            .iter_mut()
            .enumerate()
            .take(*remembered)
            .skip(1)
            .find(|(_, known)| !known.in_use && known.is_of(&places))?;
        known.in_use = true;
        // Whether its numbers are of the same kind as then is asked again.
        known.form = known.form.take().flatten().filter(|form| form.is_of(&places, &known.measured)).map(Some);
        Some(at)
    }
}

impl Known {
    /// Whether a scope has these points and no others.
    fn is_of(&self, places: &Places<'_>) -> bool {
        self.points.len() == places.len()
            && (0..).zip(&self.points).all(|(at, id)| places.get(at).is_some_and(|point| point.relative() == *id))
    }

    /// Looks through a scope; whether it has all its points.
    fn look_through(&mut self, scope: Scope<'_>, measures: &[String]) -> bool {
        let mut whole = true;
        let mut last = None;
        self.points.clear();
        self.measured.clear();
        self.form = None;
        for (place, point) in scope.points().enumerate() {
            let Some(point) = point else {
                whole = false;
                continue;
            };
            if place < MAX_POINTS {
                self.points.push(point.relative());
            }
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
