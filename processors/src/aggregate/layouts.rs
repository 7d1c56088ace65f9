//! What the points of a batch mean, found once for all scopes of one shape.
//!
//! A host of a thousand processes sends a thousand scopes that differ in times and values. Which series of its resource a point
//! is, and how it is treated, is looked up for the first of them; the others take it from its place.

use std::cell::Cell;
use std::sync::Arc;

use phoenix_pipeline::AttributeFold;
use phoenix_telemetry::{MetricKind, Point, Scope};

use super::config::Config;
use super::identity::{Desc, Ident, Interner};
use super::series::Kind;

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
}

/// The meanings of one batch.
#[derive(Debug, Default)]
pub(crate) struct Layouts {
    /// Where the meanings of a shape begin.
    begins: Vec<Option<usize>>,
    meanings: Vec<Option<Meaning>>,
}

impl Layouts {
    /// Forgets the batch, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.begins.clear();
        self.meanings.clear();
    }

    /// Where the meanings of a scope's points begin.
    pub(crate) fn of(
        &mut self,
        scope: Scope<'_>,
        interner: &mut Interner,
        (config, folds): (&Config, &[AttributeFold]),
    ) -> usize {
        let known = scope.shape().and_then(|shape| *self.begins.get(shape)?);
        if let Some(begin) = known {
            return begin;
        }
        let begin = self.meanings.len();
        if let Some(shape) = scope.shape() {
            if self.begins.len() <= shape {
                self.begins.resize(shape + 1, None);
            }
            self.begins[shape] = Some(begin);
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
