//! `topk`: the entities that lead by a measure stay individual, the others may be folded.
//!
//! Ranked is what windowed rates and levels, never lifetime totals, have been of late, and a hog by its first interval
//! alone. What other stages have decided already takes no place. An entity without any measure stays individual and is
//! counted. The stage only marks.

mod config;
mod leaders;
mod ranking;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use phoenix_pipeline::config::Value;
use phoenix_pipeline::{
    BuildError, Class, Context, Decision, Handover, Marks, Processor, ProcessorFactory, Site, Stability,
};
use phoenix_telemetry::Batch;

pub use config::{Combine, Config};

use crate::measure::{self, Plan, Report, Target, Tracker, interned};
use leaders::Leaders;
use ranking::{Bands, Candidate, History, Place, Turnover};

/// The row of the table of processors.
pub const FACTORY: ProcessorFactory = ProcessorFactory::new::<Config>(
    "topk",
    "keeps the entities that lead by a measure individual",
    Stability::Alpha,
    build,
);

/// Why an entity outside of all rankings is folded.
const RANK: &str = "topk_rank";
/// Why one is folded that found no room.
const OVERFLOW: &str = "topk_overflow";
/// Why one stays that has no measure.
const UNRANKED: &str = "topk_unranked";

fn build(value: &Value, site: &Site) -> Result<Box<dyn Processor>, BuildError> {
    let config: Config = site.settings(value)?;
    Ok(Box::new(TopK::new(&config, site)))
}

/// How an entity stands in one ranking.
#[derive(Clone, Copy, Debug, Default)]
struct Standing {
    place: Place,
    history: History,
    /// What it was last ranked by.
    score: f64,
}

/// What the stage keeps of an entity.
#[derive(Debug, Default)]
struct State {
    /// How it stands in each ranking.
    standings: Vec<Standing>,
    /// Class and openness as of the batch at hand, over all that belongs to it.
    class: Class,
    open: bool,
}

/// The stage.
struct TopK {
    tracker: Tracker<State>,
    bands: Bands,
    /// By scope, how many came into each ranking of late.
    turnover: HashMap<u64, Vec<Turnover>>,
    /// The weight of each measure, where they make one score.
    weights: Option<Vec<f64>>,
    /// Why an entity stays, by ranking.
    reasons: Vec<&'static str>,
    report: Report,
    leaders: Leaders,
    candidates: Vec<Candidate>,
}

impl TopK {
    fn new(config: &Config, site: &Site) -> Self {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let part = |factor: f64, round: fn(f64) -> f64| round(config.k as f64 * factor) as usize;
        let weight = |name: &String| config.weights.get(name).copied().unwrap_or(1.0);
        let weighted = config.combine == Combine::Weighted;
        let by_measure =
            || config.rank_by.iter().map(|name| interned(format!("topk_{name}"), "topk_measure")).collect();
        let names = if weighted {
            vec![Arc::from("score")]
        } else {
            config.rank_by.iter().map(|name| Arc::from(name.as_str())).collect()
        };
        TopK {
            tracker: Tracker::new(Plan {
                measures: config.rank_by.clone(),
                entity: config.entity.clone(),
                scope: config.scope.clone(),
                max_entities: config.max_entities,
            }),
            bands: Bands {
                enter: part(config.enter, f64::floor).max(1),
                leave: part(config.leave, f64::ceil),
                most: config.k.saturating_mul(2),
                turnover: part(config.turnover, f64::ceil),
                surge: config.surge,
                min_stay: nanos(config.min_stay),
                half_life: nanos(config.half_life),
            },
            turnover: HashMap::new(),
            weights: weighted.then(|| config.rank_by.iter().map(weight).collect()),
            reasons: if weighted { vec!["topk_score"] } else { by_measure() },
            report: Report::new(site, true),
            leaders: Leaders::new(site, names, config.entity.clone()),
            candidates: Vec::new(),
        }
    }

    /// Takes down what other stages said of the entities of this batch.
    fn note_marks(&mut self, marks: &Marks) {
        let rankings = self.reasons.len();
        let TopK { tracker, .. } = self;
        for i in 0..tracker.seen().len() {
            let Some((_, at)) = tracker.seen().get(i).copied() else { continue };
            if let Some(slot) = tracker.at_mut(at) {
                slot.state.standings.resize(rankings, Standing::default());
                slot.state.class = Class::Low;
                slot.state.open = false;
            }
        }
        for i in 0..tracker.targets().len() {
            let Some(target) = tracker.targets().get(i).copied() else { continue };
            let mark = marks.of(target.entity);
            if let Some(slot) = tracker.of_mut(&target) {
                slot.state.class = slot.state.class.max(mark.class);
                slot.state.open |= mark.decision == Decision::Open;
            }
        }
    }

    /// Ranks the scopes of this batch anew.
    fn rank(&mut self) {
        let seen: Vec<(u64, u32)> = self.tracker.seen().to_vec();
        if self.turnover.len() > 2 * self.tracker.scopes() {
            self.turnover.retain(|scope, _| self.tracker.time_of(*scope) > 0);
        }
        for group in seen.chunk_by(|a, b| a.0 == b.0) {
            let Some((scope, _)) = group.first().copied() else { continue };
            let mut members: Vec<u32> = group.iter().map(|(_, at)| *at).collect();
            let here = members.len();
            members.extend(self.tracker.elsewhere(scope));
            let time = self.tracker.time_of(scope);
            let totals = self.weights.as_ref().map(|weights| self.totals(&members, weights.len()));
            let mut turnover = self.turnover.remove(&scope).unwrap_or_default();
            turnover.resize(self.reasons.len(), Turnover::default());
            for (ranking, turnover) in turnover.iter_mut().enumerate() {
                self.rank_one(ranking, (&members, here), totals.as_deref(), turnover, time);
            }
            self.turnover.insert(scope, turnover);
        }
    }

    /// One ranking of one scope; the first `here` of the members are in this batch.
    fn rank_one(
        &mut self,
        ranking: usize,
        (members, here): (&[u32], usize),
        totals: Option<&[f64]>,
        turnover: &mut Turnover,
        time: u64,
    ) {
        let TopK { tracker, bands, weights, candidates, .. } = self;
        candidates.clear();
        for (i, at) in members.iter().enumerate() {
            let Some(slot) = tracker.at_mut(*at).filter(|slot| slot.state.open) else { continue };
            let (value, measured) = match (weights.as_deref(), totals) {
                (Some(weights), Some(totals)) => {
                    let estimated = (0..weights.len()).any(|measure| slot.is_estimated(measure));
                    (score(slot, weights, totals), !estimated)
                }
                _ if i < here => (slot.fresh(ranking), !slot.is_estimated(ranking)),
                _ => (slot.value(ranking), !slot.is_estimated(ranking)),
            };
            let Some(value) = value else { continue };
            let (class, key, read, reborn) = (slot.state.class, slot.key, slot.time, i < here && slot.is_reborn());
            let Some(standing) = slot.state.standings.get_mut(ranking) else { continue };
            if reborn {
                standing.history = History::default();
            }
            if measured {
                standing.history.take(value, read, bands.half_life);
            }
            let Standing { place, history, .. } = *standing;
            candidates.push(Candidate { measured, place, ..Candidate::new(value, history, class, key, *at) });
        }
        bands.rank(candidates, turnover, time);
        for candidate in candidates.iter() {
            let slot = tracker.at_mut(candidate.at);
            if let Some(standing) = slot.and_then(|slot| slot.state.standings.get_mut(ranking)) {
                (standing.place, standing.score) = (candidate.place, candidate.score);
            }
        }
    }

    /// What all members have of each measure.
    fn totals(&self, members: &[u32], measures: usize) -> Vec<f64> {
        let slots = || members.iter().filter_map(|at| self.tracker.at(*at)).filter(|slot| slot.state.open);
        (0..measures)
            .map(|measure| slots().filter_map(|slot| slot.value(measure)).map(|value| value.max(0.0)).sum())
            .collect()
    }
}

/// What the rankings say of an entity; `reasons` are theirs, `weights` those of the measures where they make one score.
fn decide(
    tracker: &Tracker<State>,
    target: &Target,
    reasons: &[&'static str],
    weights: Option<&[f64]>,
) -> (Decision, &'static str) {
    if target.place == measure::Place::Overflow {
        return (Decision::Fold, OVERFLOW);
    }
    let Some(slot) = tracker.of(target) else { return (Decision::Open, UNRANKED) };
    let mut standings = slot.state.standings.iter().enumerate();
    let inside =
        standings.find(|(ranking, standing)| standing.place.inside && (weights.is_some() || slot.is_recent(*ranking)));
    if let Some((ranking, _)) = inside {
        return (Decision::Open, reasons.get(ranking).copied().unwrap_or_default());
    }
    let measures = weights.map_or(reasons.len(), <[f64]>::len);
    if (0..measures).any(|measure| slot.value(measure).is_some()) {
        (Decision::Fold, RANK)
    } else {
        (Decision::Open, UNRANKED)
    }
}

/// The sum of an entity's shares of each measure, by weight; `None` if it has none of them.
fn score(slot: &measure::Slot<State>, weights: &[f64], totals: &[f64]) -> Option<f64> {
    let share = |(measure, (weight, total)): (usize, (&f64, &f64))| {
        let value = slot.value(measure)?.max(0.0);
        Some(if *total > 0.0 { weight * (value / total) } else { 0.0 })
    };
    let shares = weights.iter().zip(totals).enumerate().filter_map(share);
    shares.fold(None, |sum, share| Some(sum.unwrap_or(0.0) + share))
}

impl Processor for TopK {
    fn process(&mut self, batch: &mut Batch, cx: &mut Context<'_>) {
        self.tracker.read(batch, cx.now);
        self.note_marks(cx.marks);
        self.rank();
        self.leaders.publish(&self.tracker, batch, cx.now);
        let TopK { tracker, report, reasons, weights, .. } = self;
        tracker.mark(batch, cx.marks, report, UNRANKED, |tracker, target| {
            decide(tracker, target, reasons, weights.as_deref())
        });
    }

    fn adopt(&mut self, previous: &mut dyn Processor) -> Handover {
        let Some(previous) = previous.as_any().downcast_mut::<TopK>() else { return Handover::default() };
        let pieces = previous.tracker.len();
        // Places are those of the rankings: another way to combine them begins anew.
        if previous.reasons == self.reasons && self.tracker.adopt(&mut previous.tracker) {
            self.turnover = std::mem::take(&mut previous.turnover);
            Handover { carried: pieces, ..Handover::default() }
        } else {
            Handover { discarded: pieces, ..Handover::default() }
        }
    }

    fn pieces(&self) -> usize {
        self.tracker.len()
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}
