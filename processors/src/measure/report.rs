//! What a marking stage tells of its decisions: counts by reason, and changes for the log that explains them.

use std::sync::{Mutex, PoisonError};

use phoenix_pipeline::explain::Note;
use phoenix_pipeline::{ComponentId, Decision, Entity, Explain, Instrument, Level, Mark, Metrics, Site};
use phoenix_telemetry::Batch;

use super::Target;

static MARKS: Instrument = Instrument {
    name: "phoenix_marks_total",
    unit: "{mark}",
    description: "Decisions about entities, by what was decided and why.",
    level: Level::Normal,
};
static IGNORED: Instrument = Instrument {
    name: "phoenix_unread_points_total",
    unit: "{datapoint}",
    description: "Data points of a measure that could not be read, by reason.",
    level: Level::Normal,
};
static UNRANKED: Instrument = Instrument {
    name: "phoenix_unranked_entities",
    unit: "{entity}",
    description: "Entities in the newest batch that have no value of any measure and stay individual.",
    level: Level::Normal,
};

/// Reasons made of configured names that are kept for the life of the agent.
const MAX_INTERNED: usize = 1024;

/// `text` as a reason that lives as long as the agent. Reasons are made of configured names, once when a stage is built;
/// after a thousand different ones it is `otherwise`.
pub(crate) fn interned(text: String, otherwise: &'static str) -> &'static str {
    static KNOWN: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = known.iter().find(|known| **known == text) {
        return found;
    }
    if known.len() >= MAX_INTERNED {
        return otherwise;
    }
    let kept: &'static str = Box::leak(text.into_boxed_str());
    known.push(kept);
    kept
}

/// Counts by reason, few at a time.
#[derive(Debug)]
pub(crate) struct Reasons<K>(Vec<(K, u64)>);

impl<K> Default for Reasons<K> {
    fn default() -> Self {
        Reasons(Vec::new())
    }
}

impl<K: Copy + PartialEq> Reasons<K> {
    /// Counts one.
    pub(crate) fn count(&mut self, reason: K) {
        self.add(reason, 1);
    }

    fn add(&mut self, reason: K, more: u64) {
        match self.0.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, count)) => *count += more,
            None => self.0.push((reason, more)),
        }
    }
}

/// Points that did not count.
pub(crate) type Ignored = Reasons<&'static str>;

/// Where a stage reports.
pub(crate) struct Report {
    stage: ComponentId,
    metrics: Metrics,
    explain: Explain,
    /// The last decision and how often it came in a row, which is mostly often; and those before.
    last: ((Decision, &'static str), u64),
    counted: Reasons<(Decision, &'static str)>,
    counters: Vec<((Decision, &'static str), metrics::Counter)>,
    unread: Vec<(&'static str, metrics::Counter)>,
    unranked: Option<metrics::Gauge>,
    changes: Vec<(Target, u64, Mark)>,
}

impl Report {
    /// The report of the stage at this site; with `ranks`, it also says how many entities it could not rank.
    pub(crate) fn new(site: &Site, ranks: bool) -> Self {
        let labels = [("processor", site.id.as_str())];
        Report {
            stage: site.id.clone(),
            metrics: site.metrics.clone(),
            explain: site.explain.clone(),
            last: ((Decision::Open, ""), 0),
            counted: Reasons::default(),
            counters: Vec::new(),
            unread: Vec::new(),
            unranked: ranks.then(|| site.metrics.gauge(&UNRANKED, &labels)),
            changes: Vec::new(),
        }
    }

    /// Counts one decision.
    #[inline]
    pub(crate) fn count(&mut self, decision: Decision, reason: &'static str) {
        let ((last, why), count) = &mut self.last;
        if *last == decision && std::ptr::eq(*why, reason) {
            *count += 1;
        } else {
            self.count_last();
            self.last = ((decision, reason), 1);
        }
    }

    fn count_last(&mut self) {
        let (key, count) = &mut self.last;
        match std::mem::take(count) {
            0 => {}
            count => self.counted.add(*key, count),
        }
    }

    /// Remembers that the decision about an entity changed.
    pub(crate) fn changed(&mut self, target: Target, time: u64, mark: Mark) {
        self.changes.push((target, time, mark));
    }

    /// Says which entities (a key for each of their parts) could not be ranked, and which points not read.
    pub(crate) fn unranked(&mut self, mut keys: Vec<u64>, ignored: Ignored) {
        if let Some(gauge) = &self.unranked {
            keys.sort_unstable();
            keys.dedup();
            gauge.set(keys.len() as f64);
        }
        for (reason, count) in ignored.0 {
            let Report { unread, metrics, stage, .. } = self;
            let labels = [("processor", stage.as_str()), ("reason", reason)];
            add(unread, reason, || metrics.counter(&IGNORED, &labels), count);
        }
    }

    /// Ends the report about a batch.
    pub(crate) fn finish(&mut self, batch: &Batch) {
        self.count_last();
        let Report { counted, counters, metrics, stage, .. } = self;
        for (key, count) in &mut counted.0 {
            let decision = match key.0 {
                Decision::Open => "individual",
                Decision::Fold => "fold",
                Decision::Keep => "keep",
            };
            let labels = [("processor", stage.as_str()), ("decision", decision), ("reason", key.1)];
            add(counters, *key, || metrics.counter(&MARKS, &labels), std::mem::take(count));
        }
        if self.changes.is_empty() {
            return;
        }
        let mut writer = self.explain.writer();
        for (target, time, mark) in self.changes.drain(..) {
            let Some(point) = batch.point(target.sample) else { continue };
            let note = Note { entity: target.key, time, stage: &self.stage, mark };
            let own = matches!(target.entity, Entity::Point(_)).then_some(point);
            writer.note(&note, point.metric().resource(), own);
        }
    }
}

/// Adds to the counter of a key, which is made at its first use.
fn add<K: Copy + PartialEq>(
    counters: &mut Vec<(K, metrics::Counter)>,
    key: K,
    make: impl FnOnce() -> metrics::Counter,
    count: u64,
) {
    if let Some((_, counter)) = counters.iter().find(|(known, _)| *known == key) {
        return counter.increment(count);
    }
    let counter = make();
    counter.increment(count);
    counters.push((key, counter));
}
