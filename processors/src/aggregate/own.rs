//! What `aggregate` says about itself. Handles are made once a reason; reasons are words of the code, so they are few.

use std::collections::HashMap;

use phoenix_pipeline::{Instrument, Level, Metrics, Site};

use super::host::Verdict;

static DROPPED: Instrument = Instrument {
    name: "phoenix_aggregate_dropped_points_total",
    unit: "{datapoint}",
    description: "Bad points that were dropped, by reason.",
    level: Level::Normal,
};
static UNFOLDED: Instrument = Instrument {
    name: "phoenix_aggregate_unfolded_points_total",
    unit: "{datapoint}",
    description: "Points that were marked to be folded and stayed individual, by reason.",
    level: Level::Normal,
};
static FOLDED: Instrument = Instrument {
    name: "phoenix_aggregate_folded_points_total",
    unit: "{datapoint}",
    description: "Points that went into a group.",
    level: Level::Normal,
};
static RESETS: Instrument = Instrument {
    name: "phoenix_aggregate_resets_total",
    unit: "{reset}",
    description: "Counters that fell under the same start time.",
    level: Level::Normal,
};
static FLIPS: Instrument = Instrument {
    name: "phoenix_aggregate_temporality_flips_total",
    unit: "{flip}",
    description: "Series whose sender changed their temporality.",
    level: Level::Normal,
};
static OVERFLOW: Instrument = Instrument {
    name: "phoenix_aggregate_overflow_points_total",
    unit: "{datapoint}",
    description: "Points folded into the group `other` because there were too many groups.",
    level: Level::Normal,
};
static ENTITIES: Instrument = Instrument {
    name: "phoenix_entities",
    unit: "{entity}",
    description: "Entities by what became of them and why.",
    level: Level::Normal,
};
static GROUPS: Instrument = Instrument {
    name: "phoenix_groups",
    unit: "{group}",
    description: "Groups that hold or held entities.",
    level: Level::Basic,
};
static ERROR: Instrument = Instrument {
    name: "phoenix_conservation_error",
    unit: "1",
    description: "Increments taken in less those written or held in groups: absolute for integers, relative for doubles.",
    level: Level::Basic,
};

static FOUND: Instrument = Instrument {
    name: "phoenix_aggregate_state_found_total",
    unit: "{state}",
    description: "States of an earlier run that were found, by reason: restored, outdated, other_boot or damaged.",
    level: Level::Normal,
};
static UNWRITTEN: Instrument = Instrument {
    name: "phoenix_aggregate_state_failures_total",
    unit: "{write}",
    description: "Writes of the state that failed.",
    level: Level::Normal,
};

/// The stage's own metrics.
pub(crate) struct Counts {
    metrics: Metrics,
    id: String,
    reasons: HashMap<(&'static str, &'static str), metrics::Counter>,
    entities: HashMap<Verdict, (i64, metrics::Gauge)>,
    folded: metrics::Counter,
    resets: metrics::Counter,
    flips: metrics::Counter,
    overflow: metrics::Counter,
    groups: metrics::Gauge,
    error: metrics::Gauge,
    unwritten: metrics::Counter,
    /// Another stage shows the figures now: what is left here is nothing.
    passed_on: bool,
}

impl Counts {
    pub(crate) fn new(site: &Site) -> Self {
        let labels = [("processor", site.id.as_str())];
        let metrics = &site.metrics;
        Counts {
            metrics: metrics.clone(),
            id: site.id.as_str().to_owned(),
            reasons: HashMap::new(),
            entities: HashMap::new(),
            folded: metrics.counter(&FOLDED, &labels),
            resets: metrics.counter(&RESETS, &labels),
            flips: metrics.counter(&FLIPS, &labels),
            overflow: metrics.counter(&OVERFLOW, &labels),
            groups: metrics.gauge(&GROUPS, &labels),
            error: metrics.gauge(&ERROR, &labels),
            unwritten: metrics.counter(&UNWRITTEN, &labels),
            passed_on: false,
        }
    }

    fn reason(&mut self, instrument: &'static Instrument, reason: &'static str) {
        let Counts { metrics, id, reasons, .. } = self;
        let make = || metrics.counter(instrument, &[("processor", id.as_str()), ("reason", reason)]);
        reasons.entry((instrument.name, reason)).or_insert_with(make).increment(1);
    }

    pub(crate) fn dropped(&mut self, reason: &'static str) {
        self.reason(&DROPPED, reason);
    }

    pub(crate) fn unfolded(&mut self, reason: &'static str) {
        self.reason(&UNFOLDED, reason);
    }

    /// A state of an earlier run was found.
    pub(crate) fn found(&mut self, outcome: &'static str) {
        self.reason(&FOUND, outcome);
    }

    /// The state could not be written.
    pub(crate) fn unwritten(&self) {
        self.unwritten.increment(1);
    }

    pub(crate) fn folded(&self, points: u64) {
        self.folded.increment(points);
    }

    pub(crate) fn reset(&self) {
        self.resets.increment(1);
    }

    pub(crate) fn flip(&self) {
        self.flips.increment(1);
    }

    pub(crate) fn overflow(&self) {
        self.overflow.increment(1);
    }

    /// One entity more or less with that verdict.
    pub(crate) fn entity(&mut self, verdict: Verdict, change: i64) {
        let Counts { metrics, id, entities, .. } = self;
        let (count, _) = entities.entry(verdict).or_insert_with(|| {
            let labels = [("processor", id.as_str()), ("verdict", verdict.0), ("reason", verdict.1)];
            (0, metrics.gauge(&ENTITIES, &labels))
        });
        *count += change;
    }

    /// Takes over what another stage's entities amount to.
    pub(crate) fn adopt(&mut self, previous: &mut Counts) {
        for (verdict, (count, _)) in std::mem::take(&mut previous.entities) {
            self.entity(verdict, count);
        }
        (self.passed_on, previous.passed_on) = (false, true);
    }

    /// Shows the figures that are not counted up.
    pub(crate) fn show(&self, groups: usize, error: f64) {
        if self.passed_on {
            return;
        }
        self.groups.set(groups as f64);
        self.error.set(error);
        self.entities.values().for_each(|(count, gauge)| gauge.set(*count as f64));
    }
}
