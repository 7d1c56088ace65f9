//! What the points of a batch mean, found once for all scopes of one shape.
//!
//! A host of a thousand processes sends a thousand scopes that differ in times and values. Which series of its resource a point
//! is, and how it is treated, is looked up for the first of them; the others take it from its place. Where all points of a shape
//! are usual ones, they together have a [`Layout`], which stays the same from batch to batch. So does what was found, for scopes
//! that are like it but for their numbers: looked up anew for each request of 90 points, it was more than a third of the work on it.

use std::cell::Cell;
use std::sync::Arc;

use phoenix_pipeline::AttributeFold;
use phoenix_telemetry::{MetricKind, Number, Outline, Point, Scope};

use super::config::Config;
use super::identity::{Desc, Ident, Interner, Role};
use super::series::Kind;
use crate::measure::ByKey;

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
    /// Where those are doubles.
    pub(crate) double_levels: Box<[usize]>,
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
        let of = |counter: bool| -> Box<[Place]> {
            let all = series.iter().enumerate().filter(|(_, (_, form))| form.counter == counter);
            let place = |(at, (ident, form)): (usize, &(Arc<Ident>, Form))| {
                let cpu_time = ident.desc.role == Role::CpuTime;
                Place { at, double: form.double, cpu_time }
            };
            all.map(place).collect()
        };
        let levels = of(false);
        let double_levels = levels.iter().filter(|place| place.double).map(|place| place.at).collect();
        Layout { id, counters: of(true), levels, double_levels, series }
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
    /// The last host that heard of it, by its number.
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

/// Points of scopes that are kept beyond their batch: what one host's scrapers send. With its outline and meaning each takes some
/// 200 bytes.
const KEPT: usize = 4_096;

/// The meanings of one batch, and of scopes that may come again.
#[derive(Debug, Default)]
pub(crate) struct Layouts {
    /// The place of a shape of the batch in `known`.
    of_shapes: Vec<Option<usize>>,
    known: Vec<Known>,
    /// The places of those that are kept. What is found here is compared.
    by_likeness: ByKey<usize>,
    /// Points of those.
    kept: usize,
    /// One found no room.
    full: bool,
    /// The attributes that are summed over.
    folds: Vec<AttributeFold>,
}

/// What is known of a shape.
#[derive(Debug)]
struct Known {
    /// What scopes of other batches have to be like, and that hash of theirs; `None` where it is known for one batch alone.
    outline: Option<(u64, Outline)>,
    meanings: Vec<Option<Meaning>>,
    /// The layout of its columns, once one was asked for; `None` within where they have none.
    layout: Option<Option<Arc<Layout>>>,
    /// The last host whose column was heard of, by its number.
    heard: Cell<usize>,
}

impl Layouts {
    /// A batch begins: forgets what was of the last one alone.
    pub(crate) fn begin(&mut self, folds: &[AttributeFold]) {
        self.of_shapes.clear();
        if self.full || *folds != *self.folds {
            self.forget();
            self.folds = folds.to_vec();
        } else if self.known.len() > self.by_likeness.len() {
            self.known.retain(|known| known.outline.is_some());
            let places = self.known.iter().zip(0..);
            let places = places.filter_map(|(known, place)| Some((known.outline.as_ref()?.0, place)));
            self.by_likeness = places.collect();
        }
    }

    /// Forgets all, as the interner may.
    pub(crate) fn forget(&mut self) {
        *self = Layouts::default();
    }

    /// What is known of scopes like this, by its place.
    #[inline]
    pub(crate) fn of(&mut self, scope: Scope<'_>, interner: &mut Interner, config: &Config) -> usize {
        match scope.shape().and_then(|shape| *self.of_shapes.get(shape)?) {
            Some(place) => place,
            None => self.find(scope, interner, config),
        }
    }

    /// The same for the first of its shape, or one that has none.
    #[cold]
    fn find(&mut self, scope: Scope<'_>, interner: &mut Interner, config: &Config) -> usize {
        let likeness = scope.likeness();
        let kept = self.by_likeness.get(&likeness).copied();
        let outline = kept.and_then(|place| Some((place, &self.known.get(place)?.outline.as_ref()?.1)));
        let place = match outline.filter(|(_, outline)| scope.is_like(outline)) {
            Some((place, _)) => place,
            None => self.add(scope, likeness, interner, config),
        };
        if let Some(shape) = scope.shape() {
            if self.of_shapes.len() <= shape {
                self.of_shapes.resize(shape + 1, None);
            }
            self.of_shapes[shape] = Some(place);
        }
        place
    }

    fn add(&mut self, scope: Scope<'_>, likeness: u64, interner: &mut Interner, config: &Config) -> usize {
        let place = self.known.len();
        let mut last = None;
        let mut meaning = |point: Point<'_>| {
            let metric = point.metric();
            let desc = match last.take() {
                Some((place, desc)) if place == metric.place() => desc,
                _ => interner.desc(metric, config.temporality),
            };
            let meaning = Meaning::new(point, &desc, interner, (config, &self.folds));
            last = Some((metric.place(), desc));
            meaning
        };
        let meanings: Vec<_> = scope.points().map(|point| point.map(&mut meaning)).collect();
        let outline = scope.outline().filter(|outline| {
            let fits = self.kept + outline.points() <= KEPT;
            self.full |= !fits;
            fits
        });
        if let Some(outline) = &outline {
            self.kept += outline.points();
            // Another one of that hash is kept no longer.
            let former = self.by_likeness.insert(likeness, place).and_then(|former| self.known.get_mut(former));
            let former = former.and_then(|former| former.outline.take());
            self.kept -= former.map_or(0, |(_, former)| former.points());
        }
        let outline = outline.map(|outline| (likeness, outline));
        self.known.push(Known { outline, meanings, layout: None, heard: Cell::new(0) });
        place
    }

    /// What the points of a column are, and the last host that had such a column; `None` where one of them is not usual. The place
    /// is that of the scope.
    #[inline]
    pub(crate) fn column(
        &mut self,
        place: usize,
        scope: Scope<'_>,
        interner: &mut Interner,
    ) -> Option<(&Arc<Layout>, &Cell<usize>)> {
        let Known { meanings, layout, heard, .. } = self.known.get_mut(place)?;
        let layout = layout.get_or_insert_with(|| {
            let points = || scope.points().zip(&*meanings);
            interner.layout(|| points().map(|(point, meaning)| meaning.as_ref()?.in_column(point?)))
        });
        Some((layout.as_ref()?, heard))
    }

    /// What is known of the points of a scope, by its place.
    pub(crate) fn from(&self, place: usize) -> &[Option<Meaning>] {
        self.known.get(place).map_or(&[], |known| &known.meanings)
    }

    /// What a point at a place of a scope means. Where the first scope of its shape had lost that point, it is found now.
    pub(crate) fn meaning(
        &mut self,
        (scope, place): (usize, usize),
        point: Point<'_>,
        interner: &mut Interner,
        config: &Config,
    ) -> Option<&Meaning> {
        let meaning = self.known.get_mut(scope)?.meanings.get_mut(place)?;
        Some(meaning.get_or_insert_with(|| {
            let desc = interner.desc(point.metric(), config.temporality);
            Meaning::new(point, &desc, interner, (config, &self.folds))
        }))
    }
}

#[cfg(test)]
mod tests;
