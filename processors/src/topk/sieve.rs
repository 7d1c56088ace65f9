//! Who of one ranking is looked at: those who can be among the first, and those who are in.
//!
//! Most of a host never comes near the first. Their score is made in one pass and they are left there, so that only some
//! hundred of thousands are put in order, and that the next part of a scrape need not look at the whole scope again.

use phoenix_pipeline::Class;

use super::history::{Decay, History};
use super::ranking::{Bands, Candidate, Place, Rank};

/// Part of the score that was the last to count: whoever had less the scrape before is not expected among the first.
const EXPECTED: f64 = 0.75;

/// What one ranking of a scope leaves for the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Rest {
    /// Number of the scrape, where it comes in parts; else 0.
    pub(super) scrape: u64,
    /// Of such a scrape those who are in, and some more of the first than count, in order.
    pub(super) known: Vec<Candidate>,
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
    /// Whether it is a further part of a scrape.
    pub(super) further: bool,
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

    /// Begins a ranking, as of a time; in a further part of a scrape all that is not there again counts as it was left.
    pub(super) fn begin(&mut self, rest: &Rest, (time, further): (u64, bool)) {
        (self.time, self.further) = (time, further);
        self.floor = if further { rest.cut } else { rest.expected };
        self.expect(rest.earliest);
        self.restart(rest);
    }

    fn expect(&mut self, earliest: u64) {
        self.earliest = earliest;
        self.longest = if earliest > 0 { self.decay.presence(self.time.saturating_sub(earliest)) } else { 1.0 };
        self.share = (earliest, 1.0);
    }

    fn restart(&mut self, rest: &Rest) {
        self.candidates.clear();
        self.above = 0;
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
        let score = past.max(surge);
        if score > self.floor || place.inside {
            self.keep(Candidate::new(Rank { score, key, at, class }, surge, measured, place));
        }
    }

    /// Takes one as it was left.
    #[inline]
    pub(super) fn keep(&mut self, mut candidate: Candidate) {
        candidate.was_inside = candidate.place.inside;
        self.above += usize::from(candidate.rank.score > self.floor);
        self.candidates.push(candidate);
    }

    #[inline]
    fn share_of(&mut self, first: u64) -> f64 {
        if first != self.share.0 {
            self.share_anew(first);
        }
        if self.found == 0 || first < self.found {
            self.found = first;
        }
        self.share.1
    }

    #[cold]
    fn share_anew(&mut self, first: u64) {
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

    /// Whether those who are not looked at again cannot be among the first.
    pub(super) fn is_enough(&self) -> bool {
        self.floor <= 0.0 || self.above >= self.bands.deciding()
    }

    /// Whether any history is long enough to hold somebody back.
    pub(super) fn is_settled(&self) -> bool {
        self.settled
    }

    /// Leaves what the next ranking of that scope needs to know; the first `kept` are in order.
    pub(super) fn leave(&self, kept: usize, enough: bool, rest: &mut Rest) {
        let (first, others) = self.candidates.split_at(kept.min(self.candidates.len()));
        (rest.earliest, rest.settled) = (self.found, self.settled);
        rest.expected = first.last().filter(|_| enough).map_or(0.0, |last| (last.rank.score * EXPECTED).max(0.0));
        if rest.scrape > 0 {
            let left = others.iter().filter(|other| !other.place.inside).map(|other| other.rank.score);
            rest.cut = left.fold(self.floor, f64::max);
            rest.known.clear();
            rest.known.extend(first);
            rest.known.extend(others.iter().filter(|other| other.place.inside));
        }
    }
}
