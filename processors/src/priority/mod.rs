//! `priority`: says by rule how much an entity matters.
//!
//! The first rule that fits gives a class: critical is kept whatever other stages say, low is folded unless something
//! keeps it, high wins ties in `topk`. What the rules say of a resource is remembered by its hash, so that a scrape of
//! processes seen before costs one look-up each. The stage only marks.

mod config;
mod presets;
mod rules;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::hash::{BuildHasher, RandomState};
use std::mem;

use phoenix_pipeline::config::Value;
use phoenix_pipeline::{
    BuildError, Class, Context, Decision, Entity, Handover, Mark, Marks, Processor, ProcessorFactory, Site, Stability,
};
use phoenix_sketch::Ordered;
use phoenix_telemetry::{Batch, Resource};

pub use config::{ClassName, Config, Preset, Rule};

use crate::flaws::Flaws;
use crate::machine::prefetch;
use crate::measure::{Place, Report, Target};
use rules::{Rules, Verdict};

/// The row of the table of processors.
pub const FACTORY: ProcessorFactory = ProcessorFactory::new::<Config>(
    "priority",
    "says by rule what is kept and what may be folded",
    Stability::Alpha,
    build,
);

fn build(value: &Value, site: &Site) -> Result<Box<dyn Processor>, BuildError> {
    let config: Config = site.settings(value)?;
    let mut flaws = Flaws::default();
    let rules = Rules::new(&config, &mut flaws);
    let rules = flaws.none_or(rules)?;
    let known = Known { newer: table(), older: table(), most: config.max_entities };
    Ok(Box::new(Priority { config, rules, known, report: Report::new(site, false) }))
}

/// An empty table, of a seed that nobody knows.
fn table() -> Table {
    Ordered::new(RandomState::new().hash_one(0))
}

/// What was said of a resource, by its hash, and whether that was explained.
type Table = Ordered<(Verdict, bool)>;

/// What was said of resources, in two generations: where there is no room the newer becomes the older, and where there is none
/// again, what is left of the older is forgotten: it did not come since.
struct Known {
    newer: Table,
    older: Table,
    most: usize,
}

impl Known {
    /// What is known of a resource, or else what `judge` says; and whether it is still to be explained, which it is once.
    fn ask(&mut self, key: u64, judge: impl FnOnce() -> Verdict) -> Option<(&Verdict, bool)> {
        let place = self.newer.find(key);
        self.newer.far().into_iter().for_each(prefetch);
        let place = place.or_else(|| self.remember(key, judge))?;
        let (verdict, explained) = self.newer.get_mut(place)?;
        let new = !mem::replace(explained, true);
        Some((verdict, new))
    }

    #[cold]
    fn remember(&mut self, key: u64, judge: impl FnOnce() -> Verdict) -> Option<u32> {
        if let Some(known) = self.older.remove(key) {
            return self.newer.insert(key, known);
        }
        if self.len() + 1 >= self.most {
            self.older = if self.older.is_empty() { mem::replace(&mut self.newer, table()) } else { table() };
        }
        self.newer.insert(key, (judge(), false))
    }

    /// Takes over what another stage knows. That may have worked unseen: here it is explained again.
    fn adopt(&mut self, previous: &mut Known) {
        self.newer = mem::replace(&mut previous.newer, table());
        self.older = mem::replace(&mut previous.older, table());
        self.newer.values_mut().chain(self.older.values_mut()).for_each(|(_, explained)| *explained = false);
    }

    fn len(&self) -> usize {
        self.newer.len() + self.older.len()
    }
}

/// The stage.
struct Priority {
    config: Config,
    rules: Rules,
    known: Known,
    report: Report,
}

impl Processor for Priority {
    fn process(&mut self, batch: &mut Batch, cx: &mut Context<'_>) {
        let Priority { rules, known, report, .. } = self;
        for resource in batch.resources() {
            // There are places for 2^32.
            let ask = known.ask(resource.hash(), || rules.judge(resource.attributes()));
            let Some((verdict, new)) = ask else { continue };
            if let Some(class) = verdict.class {
                let mark = apply(cx.marks, Entity::Resource(resource.id()), class);
                report.count(mark.decision, mark.reason);
                if new {
                    explain(report, resource, mark);
                }
            }
            if !verdict.by_metric.is_empty() {
                for metric in resource.metrics() {
                    let Some(class) = rules.of_metric(&verdict.by_metric, metric.name()) else { continue };
                    for point in metric.points() {
                        let mark = apply(cx.marks, Entity::Point(point.id()), class);
                        report.count(mark.decision, mark.reason);
                    }
                }
            }
        }
        report.finish(batch);
    }

    fn adopt(&mut self, previous: &mut dyn Processor) -> Handover {
        let Some(previous) = previous.as_any().downcast_mut::<Priority>() else { return Handover::default() };
        let pieces = previous.known.len();
        if previous.config != self.config {
            return Handover { discarded: pieces, ..Handover::default() };
        }
        self.known.adopt(&mut previous.known);
        Handover { carried: pieces, ..Handover::default() }
    }

    fn pieces(&self) -> usize {
        self.known.len()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

/// Marks an entity of that class, and says how.
fn apply(marks: &mut Marks, entity: Entity, class: Class) -> Mark {
    let (decision, reason) = match class {
        Class::Critical => (Decision::Keep, "priority_critical"),
        Class::High => (Decision::Open, "priority_high"),
        Class::Normal => (Decision::Open, "priority_normal"),
        Class::Low => (Decision::Fold, "priority_low"),
    };
    marks.classify(entity, class);
    marks.mark(entity, decision, reason);
    Mark { decision, class, reason }
}

fn explain(report: &mut Report, resource: Resource<'_>, mark: Mark) {
    let Some(point) = resource.metrics().flat_map(|metric| metric.points()).next() else { return };
    let target = Target {
        key: resource.hash(),
        entity: Entity::Resource(resource.id()),
        sample: point.id(),
        place: Place::None,
    };
    report.changed(target, point.time(), mark);
}
