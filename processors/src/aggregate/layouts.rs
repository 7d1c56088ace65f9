//! What the points of a batch mean, found once for all scopes of one shape.
//!
//! A host of a thousand processes sends a thousand scopes that differ in times and values. Which series of its resource a point
//! is, and how it is treated, is looked up for the first of them; the others take it from its place. Where all points of a shape
//! are usual ones, they together have a [`Layout`], which stays the same from batch to batch.

use std::cell::Cell;
use std::sync::Arc;

use phoenix_pipeline::AttributeFold;
use phoenix_telemetry::{MetricKind, Number, Point, Scope};

use super::config::Config;
use super::identity::{Desc, Ident, Interner, Role};
use super::series::Kind;

/// The series of a column, in its order.
#[derive(Debug)]
pub(crate) struct Layout {
    /// In the order of first sight.
    pub(crate) id: u64,
    pub(crate) series: Box<[(Arc<Ident>, Form)]>,
    /// Those that count.
    pub(crate) counters: Box<[Place]>,
    /// The others.
    pub(crate) levels: Box<[Place]>,
}

/// What the numbers of a series in a column are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Form {
    /// They count; else they tell a level.
    pub(crate) counter: bool,
    /// They are doubles; else integers.
    pub(crate) double: bool,
    pub(crate) has_start: bool,
}

/// Where a series is in a column.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) at: usize,
    /// Its numbers are doubles; else integers.
    pub(crate) double: bool,
    pub(crate) cpu_time: bool,
}

/// The number that is in those bits.
#[inline(always)]
pub(crate) fn number(double: bool, bits: u64) -> Number {
    if double { Number::Double(f64::from_bits(bits)) } else { Number::Int(bits as i64) }
}

impl Layout {
    pub(crate) fn new(id: u64, series: Box<[(Arc<Ident>, Form)]>) -> Layout {
        let of = |counter: bool| {
            let all = series.iter().enumerate().filter(|(_, (_, form))| form.counter == counter);
            let place = |(at, (ident, form)): (usize, &(Arc<Ident>, Form))| {
                let cpu_time = ident.desc.role == Role::CpuTime;
                Place { at, double: form.double, cpu_time }
            };
            all.map(place).collect()
        };
        Layout { id, counters: of(true), levels: of(false), series }
    }

    /// Whether it is that of these series.
    pub(crate) fn is_of<'s>(&self, mut series: impl Iterator<Item = Option<(&'s Arc<Ident>, Form)>>) -> bool {
        let mut own = self.series.iter();
        let alike = own.all(|(ident, form)| {
            series.next().flatten().is_some_and(|(other, its)| Arc::ptr_eq(ident, other) && its == *form)
        });
        alike && series.next().is_none()
    }

    /// Whether a series is one of them.
    pub(crate) fn has(&self, ident: &Arc<Ident>) -> bool {
        self.series.iter().any(|(own, _)| Arc::ptr_eq(own, ident))
    }

    /// What series are at these places.
    pub(crate) fn at(&self, places: &[Place]) -> impl Iterator<Item = &Arc<Ident>> {
        places.iter().filter_map(|place| Some(&self.series.get(place.at)?.0))
    }
}

/// What is left of a series that is summed over some of its attributes.
#[derive(Debug)]
pub(crate) struct Rest {
    /// Their keys.
    pub(crate) without: Box<str>,
    /// The series of the sum.
    pub(crate) ident: Arc<Ident>,
}

/// What a point is.
#[derive(Debug)]
pub(crate) struct Meaning {
    pub(crate) ident: Arc<Ident>,
    /// What it becomes a part of, where attributes of its metric are to be summed over.
    pub(crate) rest: Option<Rest>,
    /// How its series is treated, or why it cannot be folded.
    pub(crate) kind: Result<Kind, &'static str>,
    /// The same, for a sum that counts or tells a level and leaves as it came: most are.
    pub(crate) usual: Option<Kind>,
    /// The last host of the batch that heard of it, by its number.
    pub(crate) heard: Cell<usize>,
}

impl Meaning {
    fn new(
        point: Point<'_>,
        desc: &Arc<Desc>,
        interner: &mut Interner,
        (config, folds): (&Config, &[AttributeFold]),
    ) -> Meaning {
        let (ident, kind) = (interner.ident(point, desc), Kind::of(desc, config));
        let keys = || folds.iter().filter(|fold| *fold.metric == *desc.name).map(|fold| &*fold.attribute);
        let rest = match folds {
            [] => None,
            _ => interner.rest(point, desc, &keys().collect::<Vec<_>>()),
        };
        let usual = kind.ok().filter(|kind| {
            matches!(kind, Kind::Counter | Kind::Level) && desc.kind == MetricKind::Sum && desc.out.is_none()
        });
        Meaning { ident, rest, kind, usual, heard: Cell::new(0) }
    }

    /// What such a point is in a column; `None` where it cannot be in one.
    fn in_column(&self, point: Point<'_>) -> Option<(&Arc<Ident>, Form)> {
        let kind = self.usual.filter(|_| self.rest.is_none())?;
        let form = Form {
            counter: kind == Kind::Counter,
            double: matches!(point.value()?, Number::Double(_)),
            has_start: point.start_time() > 0,
        };
        Some((&self.ident, form))
    }
}

/// The meanings of one batch.
#[derive(Debug, Default)]
pub(crate) struct Layouts {
    of_shapes: Vec<Option<Known>>,
    meanings: Vec<Option<Meaning>>,
}

/// What is known of a shape.
#[derive(Debug)]
struct Known {
    /// Where its meanings begin.
    begin: usize,
    /// The layout of its columns, once one was asked for; `None` within where they have none.
    layout: Option<Option<Arc<Layout>>>,
    /// The last host of the batch whose column was heard of, by its number.
    heard: Cell<usize>,
}

impl Layouts {
    /// Forgets the batch, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.of_shapes.clear();
        self.meanings.clear();
    }

    /// Where the meanings of a scope's points begin.
    pub(crate) fn of(
        &mut self,
        scope: Scope<'_>,
        interner: &mut Interner,
        (config, folds): (&Config, &[AttributeFold]),
    ) -> usize {
        let known = scope.shape().and_then(|shape| self.of_shapes.get(shape)?.as_ref());
        if let Some(known) = known {
            return known.begin;
        }
        let begin = self.meanings.len();
        if let Some(shape) = scope.shape() {
            if self.of_shapes.len() <= shape {
                self.of_shapes.resize_with(shape + 1, || None);
            }
            self.of_shapes[shape] = Some(Known { begin, layout: None, heard: Cell::new(0) });
        }
        let mut last = None;
        for point in scope.points() {
            let meaning = point.map(|point| {
                let metric = point.metric();
                let desc = match last.take() {
                    Some((place, desc)) if place == metric.place() => desc,
                    _ => interner.desc(metric, config.temporality),
                };
                let meaning = Meaning::new(point, &desc, interner, (config, folds));
                last = Some((metric.place(), desc));
                meaning
            });
            self.meanings.push(meaning);
        }
        begin
    }

    /// What the points of a column are, and the last host of the batch that had such a column; `None` where one of them is
    /// not usual. [`Layouts::of`] was asked about the scope before.
    #[inline]
    pub(crate) fn column(&mut self, scope: Scope<'_>, interner: &mut Interner) -> Option<(&Arc<Layout>, &Cell<usize>)> {
        let Layouts { of_shapes, meanings } = self;
        let Known { begin, layout, heard } = of_shapes.get_mut(scope.shape()?)?.as_mut()?;
        let layout = layout.get_or_insert_with(|| {
            let meanings = meanings.get(*begin..)?;
            let points = || scope.points().zip(meanings);
            interner.layout(|| points().map(|(point, meaning)| meaning.as_ref()?.in_column(point?)))
        });
        Some((layout.as_ref()?, heard))
    }

    /// What is known of the points from a place on.
    pub(crate) fn from(&self, begin: usize) -> &[Option<Meaning>] {
        self.meanings.get(begin..).unwrap_or_default()
    }

    /// What a point at a place means. Where the first scope of its shape had lost that point, it is found now.
    pub(crate) fn meaning(
        &mut self,
        place: usize,
        point: Point<'_>,
        interner: &mut Interner,
        (config, folds): (&Config, &[AttributeFold]),
    ) -> Option<&Meaning> {
        let meaning = self.meanings.get_mut(place)?;
        Some(meaning.get_or_insert_with(|| {
            let desc = interner.desc(point.metric(), config.temporality);
            Meaning::new(point, &desc, interner, (config, folds))
        }))
    }
}
