//! `adaptive_filter`: what is small by every measure may be folded, by thresholds that move with the data.
//!
//! A threshold is a robust figure of what a scope's entities did within a window, and of one pressure from 0 to 1. What
//! other stages have decided already has no part in it: behind a `topk` the pressure turns all of what that left. What
//! is unusual for itself, a jump or a fall against its own habit, is kept for a while even when it is small. The stage
//! only marks.

mod config;
#[cfg(test)]
mod tests;
mod threshold;

use std::any::Any;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use phoenix_pipeline::config::Value;
use phoenix_pipeline::{BuildError, Context, Decision, Handover, Marks, Processor, ProcessorFactory, Site, Stability};
use phoenix_sketch::{Distribution, Habit, Recent};
use phoenix_telemetry::Batch;

pub use config::{Bounds, Config, Method, Span, Unusual};
pub use threshold::Pressure;

use crate::machine::{AHEAD, prefetch};
use crate::measure::{Place, Plan, Report, Slot, Target, Tracker};
use threshold::Rule;

/// The row of the table of processors.
pub const FACTORY: ProcessorFactory = ProcessorFactory::new::<Config>(
    "adaptive_filter",
    "marks what is small by thresholds that move with the data",
    Stability::Alpha,
    build,
);

/// Why an entity stays that is not small.
const ABOVE: &str = "adaptive_above";
/// Why one is folded that is.
const BELOW: &str = "adaptive_below";
/// Why one is kept that does what it does not usually do.
const UNUSUAL: &str = "adaptive_unusual";
/// Why one is folded that found no room.
const OVERFLOW: &str = "adaptive_overflow";
/// Why one stays that has no measure.
const UNRANKED: &str = "adaptive_unranked";

/// The least deviation that means anything, as part of the threshold: what changes by less than a few of these is small
/// before and after.
const LEAST_DEVIATION: f64 = 0.02;
/// Scopes not heard of for so long are forgotten when a new one comes.
const SILENCE: Duration = Duration::from_secs(3600);

fn build(value: &Value, site: &Site) -> Result<Box<dyn Processor>, BuildError> {
    Ok(Box::new(AdaptiveFilter::new(site.settings(value)?, site)))
}

/// What the stage keeps of an entity.
#[derive(Debug, Default)]
struct State {
    habits: Vec<Habit>,
    /// Whether the batch of that number leaves it to this stage.
    open: bool,
    noted: u32,
    inside: bool,
    /// Newest time it was above a threshold on measured values, and until when it is kept as unusual.
    above: u64,
    unusual_until: u64,
}

/// What the stage keeps of a scope: the recent values of each measure.
struct Scope {
    recent: Vec<Recent>,
    heard: Instant,
}

/// The stage.
pub struct AdaptiveFilter {
    config: Config,
    bounds: Vec<Bounds>,
    rule: Rule,
    pressure: Pressure,
    tracker: Tracker<State>,
    scopes: HashMap<u64, Scope>,
    report: Report,
}

impl AdaptiveFilter {
    fn new(config: Config, site: &Site) -> Self {
        AdaptiveFilter {
            tracker: Tracker::new(Plan {
                measures: config.measures.keys().cloned().collect(),
                entity: config.entity.clone(),
                scope: config.scope.clone(),
                max_entities: config.max_entities,
            }),
            bounds: config.measures.values().copied().collect(),
            rule: Rule::new(&config),
            pressure: Pressure::new(config.pressure),
            scopes: HashMap::new(),
            report: Report::new(site, true),
            config,
        }
    }

    /// The stage's pressure, to be turned from outside. It survives a swap that does not change the configured one.
    pub fn pressure(&self) -> Pressure {
        self.pressure.clone()
    }

    /// Turns the pressure; `None` = to what is configured.
    pub(crate) fn press(&self, pressure: Option<f64>) {
        self.pressure.set(pressure.unwrap_or(self.config.pressure));
    }

    /// Takes down which entities of this batch nobody has decided about.
    fn note_marks(&mut self, marks: &Marks) {
        let AdaptiveFilter { tracker, .. } = self;
        let batch = tracker.batch();
        tracker.each_target(|target, slot| {
            let is_open = marks.of(target.entity).decision == Decision::Open;
            slot.state.open = is_open || slot.state.noted == batch && slot.state.open;
            slot.state.noted = batch;
        });
    }

    /// Takes up the values of a scope's undecided entities in this batch and forms its thresholds.
    fn thresholds(&mut self, scope: u64, members: &[(u64, u32)], now: Instant) -> Vec<f64> {
        let pressure = self.pressure.get();
        let time = self.tracker.time_of(scope);
        let window = nanos(self.config.window);
        if !self.scopes.contains_key(&scope) {
            self.scopes.retain(|_, scope| now.saturating_duration_since(scope.heard) < SILENCE);
            if self.scopes.len() >= self.config.max_entities {
                self.scopes.clear();
            }
        }
        let AdaptiveFilter { tracker, bounds, rule, scopes, .. } = self;
        let known = scopes
            .entry(scope)
            .or_insert_with(|| Scope { recent: bounds.iter().map(|_| Recent::new(window)).collect(), heard: now });
        known.heard = now;
        let mut values = vec![Distribution::default(); bounds.len()];
        for (_, at) in members {
            let Some(slot) = tracker.at(*at).filter(|slot| slot.state.open) else { continue };
            for (measure, values) in values.iter_mut().enumerate() {
                slot.fresh(measure).into_iter().for_each(|value| values.add(value));
            }
        }
        let one = |((recent, bounds), values): ((&mut Recent, &Bounds), &Distribution)| {
            recent.add(time, values);
            rule.threshold(recent, pressure, *bounds).unwrap_or(0.0)
        };
        known.recent.iter_mut().zip(bounds.iter()).zip(&values).map(one).collect()
    }

    /// Decides about the entities of one scope.
    fn judge(&mut self, members: &[(u64, u32)], thresholds: &[f64], time: u64) {
        let AdaptiveFilter { config, tracker, .. } = self;
        let (min_stay, hold) = (nanos(config.min_stay), nanos(config.unusual.hold));
        let mut news: Vec<(f64, u64, u32)> = Vec::new();
        let mut held = 0;
        for (place, (_, at)) in members.iter().enumerate() {
            if let Some(later) = members.get(place + AHEAD).and_then(|(_, at)| tracker.at(*at)) {
                prefetch(&*later.state.habits);
            }
            let mut strongest: f64 = 0.0;
            let (mut above, mut near) = (false, false);
            let mut measured = false;
            let Some(slot) = tracker.at_mut(*at) else { continue };
            slot.state.habits.resize(thresholds.len(), Habit::default());
            for (measure, threshold) in thresholds.iter().enumerate() {
                let Some((value, estimated)) = slot.read(measure, true) else { continue };
                if !estimated && let Some(habit) = slot.state.habits.get_mut(measure) {
                    strongest = strongest.max(habit.take(value, LEAST_DEVIATION * threshold.abs()).abs());
                }
                // What does nothing is small, even where most do nothing and the threshold is 0.
                above |= value >= *threshold && value > 0.0;
                near |= value >= *threshold * config.leave && value > 0.0;
                measured |= !estimated;
            }
            if above && measured {
                slot.state.above = time;
            }
            let lingers = slot.state.above > 0 && time.saturating_sub(slot.state.above) < min_stay;
            slot.state.inside = above || slot.state.inside && (near || lingers);
            let unusual = config.unusual.factor > 0.0 && strongest >= config.unusual.factor;
            if slot.state.unusual_until > time {
                held += 1;
                if unusual {
                    slot.state.unusual_until = time.saturating_add(hold);
                }
            } else if unusual {
                news.push((strongest, slot.key, *at));
            }
        }
        news.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (.., at) in news.into_iter().take(config.unusual.max.saturating_sub(held)) {
            if let Some(slot) = tracker.at_mut(at) {
                slot.state.unusual_until = time.saturating_add(hold);
            }
        }
    }
}

/// What is to become of an entity.
fn decide(target: &Target, slot: Option<&Slot<State>>, measures: usize) -> (Decision, &'static str) {
    if target.place == Place::Overflow {
        return (Decision::Fold, OVERFLOW);
    }
    match slot {
        Some(slot) if slot.state.unusual_until > slot.time => (Decision::Keep, UNUSUAL),
        Some(slot) if slot.state.inside => (Decision::Open, ABOVE),
        Some(slot) if (0..measures).any(|measure| slot.value(measure).is_some()) => (Decision::Fold, BELOW),
        _ => (Decision::Open, UNRANKED),
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Processor for AdaptiveFilter {
    fn process(&mut self, batch: &mut Batch, cx: &mut Context<'_>) {
        self.tracker.read(batch, cx.now);
        self.note_marks(cx.marks);
        let seen: Vec<(u64, u32)> = self.tracker.seen().to_vec();
        for members in seen.chunk_by(|a, b| a.0 == b.0) {
            let Some((scope, _)) = members.first().copied() else { continue };
            let thresholds = self.thresholds(scope, members, cx.now);
            let time = self.tracker.time_of(scope);
            self.judge(members, &thresholds, time);
        }
        let AdaptiveFilter { tracker, report, bounds, .. } = self;
        tracker.mark(batch, cx.marks, report, UNRANKED, |target, slot| decide(target, slot, bounds.len()));
    }

    fn adopt(&mut self, previous: &mut dyn Processor) -> Handover {
        let Some(previous) = previous.as_any().downcast_mut::<AdaptiveFilter>() else { return Handover::default() };
        if previous.config.pressure == self.config.pressure {
            self.pressure = previous.pressure.clone();
        }
        let pieces = previous.tracker.len();
        if !self.tracker.adopt(&mut previous.tracker) {
            return Handover { discarded: pieces, ..Handover::default() };
        }
        if previous.config.window == self.config.window {
            self.scopes = std::mem::take(&mut previous.scopes);
        }
        Handover { carried: pieces, ..Handover::default() }
    }

    fn pieces(&self) -> usize {
        self.tracker.len()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
