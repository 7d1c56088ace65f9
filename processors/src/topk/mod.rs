//! `topk`: the entities that lead by a measure stay individual, the others may be folded.
//!
//! Ranked is what windowed rates and levels, never lifetime totals, have been of late, and a hog by its first interval
//! alone. What other stages have decided already takes no place. An entity without any measure stays individual and is
//! counted. The stage only marks.

mod config;
mod history;
mod leaders;
mod ranking;
mod sieve;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use phoenix_pipeline::config::Value;
use phoenix_pipeline::{
    BuildError, Class, Context, Decision, Handover, Marks, Processor, ProcessorFactory, Site, Stability,
};
use phoenix_telemetry::Batch;

pub use config::{Combine, Config};

use crate::machine::{AHEAD, prefetch};
use crate::measure::{self, ByKey, Plan, Report, Target, Tracker, interned};
use history::{Decay, History};
use leaders::Leaders;
use ranking::{Bands, Place, Turnover};
use sieve::{Entrant, Rest, Sieve};

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
    standings: Box<[Standing]>,
    /// In how many rankings it is in: of most entities that is all that is asked.
    inside: u32,
    /// Class and openness as of the batch of that number, over all that belongs to it.
    noted: u32,
    class: Class,
    open: bool,
}

/// What the stage keeps of a scope, by ranking: how many came in of late, and what the ranking before left.
type Scope = Box<[(Turnover, Rest)]>;

/// The stage.
struct TopK {
    tracker: Tracker<State>,
    bands: Bands,
    scopes: ByKey<Scope>,
    /// The weight of each measure, where they make one score.
    weights: Option<Vec<f64>>,
    /// Why an entity stays, by ranking.
    reasons: Vec<&'static str>,
    report: Report,
    leaders: Leaders,
    /// One a ranking, reused from scope to scope.
    sieves: Vec<Sieve>,
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
        let bands = Bands {
            enter: part(config.enter, f64::floor).max(1),
            leave: part(config.leave, f64::ceil),
            most: config.k.saturating_mul(2),
            turnover: part(config.turnover, f64::ceil),
            surge: config.surge,
            min_stay: nanos(config.min_stay),
            half_life: nanos(config.half_life),
        };
        let reasons = if weighted { vec!["topk_score"] } else { by_measure() };
        let sieves = reasons.iter().map(|_| Sieve::new(bands)).collect();
        TopK {
            tracker: Tracker::new(Plan {
                measures: config.rank_by.clone(),
                entity: config.entity.clone(),
                scope: config.scope.clone(),
                max_entities: config.max_entities,
            }),
            scopes: ByKey::default(),
            weights: weighted.then(|| config.rank_by.iter().map(weight).collect()),
            reasons,
            report: Report::new(site, true),
            leaders: Leaders::new(site, names, config.entity.clone()),
            sieves,
            bands,
        }
    }

    /// Takes down what other stages said of the entities of this batch.
    fn note_marks(&mut self, marks: &Marks) {
        let (rankings, batch) = (self.reasons.len(), self.tracker.batch());
        self.tracker.each_target(|target, slot| {
            let (mark, state) = (marks.of(target.entity), &mut slot.state);
            if state.noted != batch {
                (state.noted, state.class, state.open) = (batch, Class::Low, false);
                if state.standings.len() != rankings {
                    (state.standings, state.inside) = (vec![Standing::default(); rankings].into(), 0);
                }
            }
            state.class = state.class.max(mark.class);
            state.open |= mark.decision == Decision::Open;
        });
    }

    /// Ranks the scopes of this batch anew.
    fn rank(&mut self) {
        let seen: Vec<(u64, u32)> = self.tracker.seen().to_vec();
        if self.scopes.len() > 2 * self.tracker.scopes() {
            self.scopes.retain(|scope, _| self.tracker.time_of(*scope) > 0);
        }
        for group in seen.chunk_by(|a, b| a.0 == b.0) {
            let Some((scope, _)) = group.first().copied() else { continue };
            let mut known = self.scopes.remove(&scope).unwrap_or_default();
            if known.len() != self.reasons.len() {
                known = vec![Default::default(); self.reasons.len()].into();
            }
            self.rank_scope(scope, group, &mut known);
            self.scopes.insert(scope, known);
        }
    }

    /// All rankings of one scope, of which the batch shows these.
    fn rank_scope(&mut self, scope: u64, here: &[(u64, u32)], known: &mut Scope) {
        let (time, scrape) = (self.tracker.time_of(scope), self.tracker.in_parts(scope).unwrap_or(0));
        let totals = self.weights.as_ref().map(|weights| self.totals(scope, here, weights.len()));
        let mut whole = Vec::new();
        for (ranking, (_, rest)) in known.iter_mut().enumerate() {
            // A score goes by the totals of all, which every part changes.
            let further = scrape > 0 && rest.scrape == scrape && totals.is_none();
            if !further || !self.sift_part(ranking, here, rest, time) {
                rest.scrape = scrape;
                whole.push(ranking);
            }
        }
        if !whole.is_empty() {
            let elsewhere: Vec<u32> = self.tracker.elsewhere(scope).collect();
            self.sift(whole, (here, &elsewhere), totals.as_deref(), (known, time));
        }
        for (ranking, ((turnover, rest), sieve)) in known.iter_mut().zip(&mut self.sieves).enumerate() {
            rest.forgotten = self.tracker.forgotten();
            let first = self.bands.rank(sieve, rest, turnover, time);
            settle(&mut self.tracker, ranking, sieve);
            sieve.leave(first, rest);
        }
    }

    /// Finds out who of a whole scope can be among the first of these rankings: of all in one pass, as to come to an entity
    /// costs as much as to rank it.
    fn sift(
        &mut self,
        mut rankings: Vec<usize>,
        (here, elsewhere): (&[(u64, u32)], &[u32]),
        totals: Option<&[f64]>,
        (known, time): (&Scope, u64),
    ) {
        let TopK { tracker, weights, sieves, bands, .. } = self;
        let mut decay = Decay::new(bands.half_life);
        let weighted = weights.as_deref().zip(totals);
        let rest_of = |ranking: usize| known.get(ranking).map(|(_, rest)| rest);
        for ranking in &rankings {
            if let (Some(sieve), Some(rest)) = (sieves.get_mut(*ranking), rest_of(*ranking)) {
                sieve.begin(rest, time);
            }
        }
        while !rankings.is_empty() {
            let shown = here.iter().map(|(_, at)| (*at, true));
            for (place, (at, is_here)) in shown.chain(elsewhere.iter().map(|at| (*at, false))).enumerate() {
                if let Some(later) = here.get(place + AHEAD).and_then(|(_, at)| tracker.at(*at)) {
                    prefetch(&*later.state.standings);
                }
                let Some(slot) = tracker.at_mut(at).filter(|slot| slot.state.open) else { continue };
                for ranking in &rankings {
                    let read = match weighted {
                        Some((weights, totals)) => {
                            let estimated = (0..weights.len()).any(|measure| slot.is_estimated(measure));
                            score(slot, weights, totals).map(|score| (score, estimated))
                        }
                        None => slot.read(*ranking, is_here),
                    };
                    if let (Some((value, estimated)), Some(sieve)) = (read, sieves.get_mut(*ranking)) {
                        enter((slot, at), *ranking, (value, !estimated, is_here), (&mut decay, sieve));
                    }
                }
            }
            rankings.retain(|ranking| {
                let sieve = sieves.get_mut(*ranking).zip(rest_of(*ranking));
                sieve.is_some_and(|(sieve, rest)| !sieve.is_done(rest))
            });
        }
    }

    /// The same for a further part of a scrape: of those elsewhere only the first, by the scores they had. `false` if others
    /// might be among the first now.
    fn sift_part(&mut self, ranking: usize, here: &[(u64, u32)], rest: &mut Rest, time: u64) -> bool {
        let TopK { tracker, sieves, bands, .. } = self;
        let Some(sieve) = sieves.get_mut(ranking) else { return false };
        let mut decay = Decay::new(bands.half_life);
        // Who has no bit of those here is elsewhere, and need not be looked up, unless some were forgotten since.
        let bit = |at: u32| 1u64 << (at % u64::BITS);
        let some = if rest.forgotten == tracker.forgotten() { 0 } else { u64::MAX };
        let here_or_gone = here.iter().fold(some, |bits, (_, at)| bits | bit(*at));
        sieve.go_on(rest, time, |known| {
            here_or_gone & bit(known.at) == 0 || {
                // Of who is gone the place may be another's.
                let slot = tracker.at(known.at).filter(|slot| slot.key == known.key);
                slot.is_some_and(|slot| !tracker.is_here(slot))
            }
        });
        loop {
            for (_, at) in here {
                let Some(slot) = tracker.at_mut(*at).filter(|slot| slot.state.open) else { continue };
                if let Some((value, estimated)) = slot.read(ranking, true) {
                    enter((slot, *at), ranking, (value, !estimated, true), (&mut decay, sieve));
                }
            }
            if sieve.is_done(rest) {
                return sieve.is_enough(rest);
            }
        }
    }

    /// What all members have of each measure.
    fn totals(&self, scope: u64, here: &[(u64, u32)], measures: usize) -> Vec<f64> {
        let members = || here.iter().map(|(_, at)| *at).chain(self.tracker.elsewhere(scope));
        let slots = || members().filter_map(|at| self.tracker.at(at)).filter(|slot| slot.state.open);
        (0..measures)
            .map(|measure| slots().filter_map(|slot| slot.value(measure)).map(|value| value.max(0.0)).sum())
            .collect()
    }
}

/// Writes down who is in after a ranking, and who was before.
fn settle(tracker: &mut Tracker<State>, ranking: usize, sieve: &mut Sieve) {
    for candidate in sieve.candidates.iter_mut().filter(|candidate| candidate.is_news) {
        candidate.is_news = false;
        let Some(State { standings, inside, .. }) = tracker.at_mut(candidate.rank.at).map(|slot| &mut slot.state)
        else {
            continue;
        };
        if let Some(standing) = standings.get_mut(ranking) {
            *inside = *inside + u32::from(candidate.place.inside) - u32::from(standing.place.inside);
            (standing.place, standing.score) = (candidate.place, candidate.rank.score);
        }
    }
}

/// Enters an entity in a ranking with its value, whether that is a measured one, and whether the batch shows it. Of what it
/// costs to call this a third would be the call.
#[inline(always)]
fn enter(
    (slot, at): (&mut measure::Slot<State>, u32),
    ranking: usize,
    (value, measured, here): (f64, bool, bool),
    (decay, sieve): (&mut Decay, &mut Sieve),
) {
    let (class, key, read, reborn) = (slot.state.class, slot.key, slot.time, here && slot.is_reborn());
    let Some(Standing { place, history, .. }) = slot.state.standings.get_mut(ranking) else { return };
    if reborn {
        *history = History::default();
    }
    if measured {
        history.take(value, read, decay);
    }
    sieve.add(Entrant { value, measured, history, place: *place, class, key, at });
}

/// What the rankings say of an entity; `reasons` are theirs, `weights` those of the measures where they make one score.
fn decide(
    target: &Target,
    slot: Option<&measure::Slot<State>>,
    reasons: &[&'static str],
    weights: Option<&[f64]>,
) -> (Decision, &'static str) {
    if target.place == measure::Place::Overflow {
        return (Decision::Fold, OVERFLOW);
    }
    let Some(slot) = slot else { return (Decision::Open, UNRANKED) };
    if slot.state.inside > 0 {
        let mut standings = slot.state.standings.iter().enumerate();
        let is_in = |(ranking, standing): &(usize, &Standing)| {
            standing.place.inside && (weights.is_some() || slot.is_recent(*ranking))
        };
        if let Some((ranking, _)) = standings.find(is_in) {
            return (Decision::Open, reasons.get(ranking).copied().unwrap_or_default());
        }
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
        tracker
            .mark(batch, cx.marks, report, UNRANKED, |target, slot| decide(target, slot, reasons, weights.as_deref()));
    }

    fn adopt(&mut self, previous: &mut dyn Processor) -> Handover {
        let Some(previous) = previous.as_any().downcast_mut::<TopK>() else { return Handover::default() };
        let pieces = previous.tracker.len();
        // Places are those of the rankings: another way to combine them begins anew.
        if previous.reasons == self.reasons && self.tracker.adopt(&mut previous.tracker) {
            self.scopes = std::mem::take(&mut previous.scopes);
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
