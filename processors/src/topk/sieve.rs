//! Who of one ranking is looked at: those who can be among the first, and those who are in.
//!
//! Most of a host never comes near the first. Their score is made in one pass and they are left there, so that only some
//! hundred of thousands are put in order, and that the next part of a scrape need not look at the whole scope again.

use phoenix_pipeline::Class;

use super::history::{Decay, History};
use super::ranking::{Bands, Candidate, Place, Rank, before};

/// Part of the score that was the last to count: whoever had less the scrape before is not expected among the first.
const EXPECTED: f64 = 0.75;

/// What one ranking of a scope leaves for the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Rest {
    /// Number of the scrape, where it comes in parts; else 0.
    pub(super) scrape: u64,
    /// Of such a scrape those who are in, and some more of the first than count, in order.
    known: Vec<Candidate>,
    /// How often entities had been forgotten when these were known: since then a place may be another's.
    pub(super) forgotten: u64,
    /// No other one's score is above this.
    cut: f64,
    /// When the longest history begins; 0 = there is none.
    earliest: u64,
    /// Whether any history is long enough to hold somebody back.
    settled: bool,
    /// Of how much score an entity is expected to be that is among the first.
    expected: f64,
}

/// One pass over those who are ranked.
#[derive(Debug)]
pub(super) struct Sieve {
    pub(super) candidates: Vec<Candidate>,
    bands: Bands,
    time: u64,
    /// Whether it is a further part of a scrape: then so many of the candidates are as they were left, in order.
    further: bool,
    left: usize,
    /// The others of them, reused.
    part: Vec<Candidate>,
    decay: Decay,
    /// When the longest history begins, as far as known before the pass, and what it turned out to be.
    earliest: u64,
    found: u64,
    /// Part of what counts that the longest history has been there for, and, of a history that begins at some time, which
    /// part of that; the last one is remembered.
    longest: f64,
    share: (u64, f64),
    /// Of whom has no more only those who are in are looked at.
    floor: f64,
    above: usize,
    settled: bool,
}

/// One who is ranked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entrant<'h> {
    pub(super) value: f64,
    /// Whether the value is a measured one.
    pub(super) measured: bool,
    pub(super) history: &'h History,
    pub(super) place: Place,
    pub(super) class: Class,
    pub(super) key: u64,
    pub(super) at: u32,
}

impl Sieve {
    pub(super) fn new(bands: Bands) -> Self {
        Sieve {
            candidates: Vec::new(),
            bands,
            time: 0,
            further: false,
            left: 0,
            part: Vec::new(),
            decay: Decay::new(bands.half_life),
            earliest: 0,
            found: 0,
            longest: 1.0,
            share: (0, 1.0),
            floor: 0.0,
            above: 0,
            settled: false,
        }
    }

    /// Begins a ranking of all, as of a time.
    pub(super) fn begin(&mut self, rest: &Rest, time: u64) {
        (self.time, self.further, self.left, self.floor) = (time, false, 0, rest.expected);
        self.expect(rest.earliest);
        self.restart(rest);
    }

    /// Begins a ranking of a further part of a scrape: of those elsewhere only the first can be in it, as they were left.
    pub(super) fn go_on(&mut self, rest: &mut Rest, time: u64, is_elsewhere: impl Fn(&Rank) -> bool) {
        (self.time, self.further, self.floor) = (time, true, rest.cut);
        std::mem::swap(&mut self.candidates, &mut rest.known);
        self.candidates.retain(|known| is_elsewhere(&known.rank));
        self.left = self.candidates.len();
        self.expect(rest.earliest);
        self.restart(rest);
    }

    fn expect(&mut self, earliest: u64) {
        self.earliest = earliest;
        self.longest = if earliest > 0 { self.decay.presence(self.time.saturating_sub(earliest)) } else { 1.0 };
    }

    fn restart(&mut self, rest: &Rest) {
        self.candidates.truncate(self.left);
        self.share = (0, 1.0);
        self.above = self.candidates.partition_point(|known| known.rank.score > self.floor);
        (self.found, self.settled) = if self.further { (rest.earliest, rest.settled) } else { (0, false) };
    }

    /// Looks at one.
    #[inline]
    pub(super) fn add(&mut self, entrant: Entrant<'_>) {
        let Entrant { value, measured, history, place, class, key, at } = entrant;
        let surge = self.bands.surge_of(value, measured);
        let first = history.first();
        let past = if first == 0 {
            // Without a past there is only the estimate.
            value
        } else {
            // What was before its birth counts as nothing.
            history.mean() * self.share_of(first)
        };
        self.settled |= history.is_settled();
        // What is no number is not above either: `f64::max` takes five times as much to say so.
        let score = if past > surge { past } else { surge };
        if score > self.floor || place.inside {
            self.above += usize::from(score > self.floor);
            self.candidates.push(Candidate::new(Rank { score, key, at, class }, surge, measured, place));
        }
    }

    /// Puts in order the first `most` that have a score above zero, and behind them those who are in. How many have such a
    /// score. Of a further part all are put in order, at a cost that goes by the part: to sort them with those who were left
    /// took a sixth of a request of ten processes.
    pub(super) fn sort(&mut self, most: usize) -> usize {
        let Sieve { candidates, part, left, further, .. } = self;
        let is_positive = |candidate: &Candidate| candidate.rank.score > 0.0;
        if *further {
            part.clear();
            part.extend_from_slice(candidates.get(*left..).unwrap_or_default());
            part.sort_unstable_by(before);
            let mut end = *left;
            for (ahead, one) in part.iter().enumerate().rev() {
                let at = candidates.get(..end).unwrap_or_default().partition_point(|known| before(known, one).is_lt());
                candidates.copy_within(at..end, at + ahead + 1);
                if let Some(place) = candidates.get_mut(at + ahead) {
                    *place = *one;
                }
                end = at;
            }
            return candidates.partition_point(is_positive);
        }
        let positive = candidates.iter().filter(|candidate| is_positive(candidate)).count();
        let kept = most.min(positive);
        if kept > 0 && kept < candidates.len() {
            candidates.select_nth_unstable_by(kept - 1, before);
        }
        let inside = bring_inside(candidates, kept);
        let (first, others) = candidates.split_at_mut(kept);
        first.sort_unstable_by(before);
        others.get_mut(..inside - kept).unwrap_or_default().sort_unstable_by(before);
        positive
    }

    #[inline]
    fn share_of(&mut self, first: u64) -> f64 {
        if first != self.share.0 {
            self.share_anew(first);
        }
        self.share.1
    }

    #[cold]
    fn share_anew(&mut self, first: u64) {
        if self.found == 0 || first < self.found {
            self.found = first;
        }
        self.share = (first, self.decay.presence(self.time.saturating_sub(first)) / self.longest);
    }

    /// Whether all was as expected; if not, the same must be looked at again.
    pub(super) fn is_done(&mut self, rest: &Rest) -> bool {
        if self.found != self.earliest {
            self.expect(self.found);
        } else if !self.further && self.floor > 0.0 && self.above < self.bands.deciding() {
            self.floor = 0.0;
        } else {
            return true;
        }
        self.restart(rest);
        false
    }

    /// Whether those who are not looked at again cannot be among the first. If not, all have to be ranked.
    pub(super) fn is_enough(&mut self, rest: &mut Rest) -> bool {
        let enough = self.floor <= 0.0 || self.above >= self.bands.deciding();
        if !enough {
            std::mem::swap(&mut self.candidates, &mut rest.known);
        }
        enough
    }

    /// Whether any history is long enough to hold somebody back.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Leaves what the next ranking of that scope needs to know; the first `kept` are in order, and those who are in.
    pub(super) fn leave(&mut self, (kept, enough): (usize, bool), rest: &mut Rest) {
        let Sieve { candidates, .. } = self;
        (rest.earliest, rest.settled) = (self.found, self.settled);
        let last = kept.checked_sub(1).and_then(|last| candidates.get(last)).filter(|_| enough);
        rest.expected = last.map_or(0.0, |last| (last.rank.score * EXPECTED).max(0.0));
        if rest.scrape > 0 {
            let others = candidates.iter().skip(kept).filter(|other| !other.place.inside);
            rest.cut = others.map(|other| other.rank.score).fold(self.floor, f64::max);
            let known = bring_inside(candidates, kept);
            if self.further {
                candidates.truncate(known);
                std::mem::swap(candidates, &mut rest.known);
            } else {
                rest.known.clear();
                rest.known.extend_from_slice(candidates.get(..known).unwrap_or_default());
            }
        }
    }
}

/// Brings those who are in next to the first so many, in the order they have; how many there are together.
fn bring_inside(candidates: &mut [Candidate], first: usize) -> usize {
    let mut end = first;
    for at in first..candidates.len() {
        if candidates.get(at).is_some_and(|candidate| candidate.place.inside) {
            if at > end {
                candidates.swap(at, end);
            }
            end += 1;
        }
    }
    end
}
