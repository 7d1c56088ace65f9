//! One ranking: who is among the first. A pure function of its input.
//!
//! Ranked is what an entity does over a while, so that a spike takes nobody's place for long, or its newest value by
//! `surge`, so that a hog is there at once. Whoever is in stays within a band and for a time; nobody goes while there is
//! room; and of those who come by rank alone no more than [`Turnover`] allows come in.

use std::cmp::Ordering;

use phoenix_pipeline::Class;

use super::sieve::{Rest, Sieve};

/// Whether an entity is in, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) inside: bool,
    /// Time of entry, Unix nanoseconds; 0 = before all time: an entry on an estimate earns no minimum stay.
    pub(super) since: u64,
}

/// What candidates are put in order by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rank {
    pub(super) score: f64,
    /// Identity, the last tie-breaker.
    pub(super) key: u64,
    /// The place of its slot.
    pub(super) at: u32,
    pub(super) class: Class,
}

/// One who may have a place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) rank: Rank,
    /// What its newest value brings in at once.
    surge: f64,
    /// Whether that is a measured one.
    measured: bool,
    pub(super) place: Place,
    pub(super) was_inside: bool,
}

impl Candidate {
    pub(super) fn new(rank: Rank, surge: f64, measured: bool, place: Place) -> Self {
        Candidate { rank, surge, measured, place, was_inside: place.inside }
    }

    /// Whether a ranking has anything to say of it.
    pub(super) fn is_or_was_inside(&self) -> bool {
        self.place.inside || self.was_inside
    }

    /// Whether its place is its own for the time being: one that was taken on an estimate goes to whoever measures more.
    fn holds(&self) -> bool {
        self.place.inside && self.rank.score > 0.0 && (self.place.since > 0 || !self.measured)
    }
}

/// How many came in by rank alone of late, in one ranking of one scope: a bucket that fills once in a half-life.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Turnover {
    /// How many have come in that are not made up for yet, as of a time.
    came: f64,
    time: u64,
}

/// How many are in, and how one comes and goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bands {
    /// Ranks within which one enters, and within which one stays for certain.
    pub(super) enter: usize,
    pub(super) leave: usize,
    /// More than these are never in.
    pub(super) most: usize,
    /// How many may enter by rank alone in a half-life while all places are taken.
    pub(super) turnover: usize,
    pub(super) surge: f64,
    pub(super) min_stay: u64,
    pub(super) half_life: u64,
}

impl Bands {
    /// How many of the first decide who is in.
    pub(super) fn deciding(&self) -> usize {
        self.leave.max(self.enter + 1)
    }

    /// Gives all that the sieve has kept their new places, as of `time`. What has no score above zero is never among the
    /// first.
    pub(super) fn rank(&self, sieve: &mut Sieve, rest: &mut Rest, turnover: &mut Turnover, time: u64) {
        let begins = !sieve.is_settled();
        let candidates = &mut sieve.candidates;
        let positive = candidates.iter().filter(|candidate| candidate.rank.score > 0.0).count();
        let deciding = self.deciding();
        let (enough, head) = (positive >= deciding, deciding.min(positive));
        // A few more are left for the next part of a scrape: some of the first may fall until then.
        let more = if rest.scrape > 0 { deciding / 4 + 1 } else { 0 };
        let kept = (head + more).min(positive);
        if sieve.further {
            // Nearly all are in order already, which this sort is quick to see.
            candidates.sort_by(before);
        } else {
            if kept > 0 && kept < candidates.len() {
                candidates.select_nth_unstable_by(kept - 1, before);
            }
            candidates.get_mut(..kept).unwrap_or_default().sort_unstable_by(before);
        }
        let bar = candidates.get(self.enter).filter(|_| self.enter < head).map_or(0.0, |next| next.rank.score);
        // Places of those who are gone cost nobody anything.
        let mut vacant = self.enter.saturating_sub(candidates.iter().filter(|candidate| candidate.holds()).count());
        let mut inside = 0;
        let (first, others) = candidates.split_at_mut(head);
        let mut leaving: Vec<&mut Candidate> = Vec::new();
        for (rank, candidate) in first.iter_mut().enumerate() {
            if candidate.place.inside {
                // A place taken on an estimate has no band.
                let guest = candidate.place.since == 0 && candidate.measured;
                if rank >= if guest { self.enter } else { self.leave } {
                    leaving.push(candidate);
                    continue;
                }
                if candidate.place.since == 0 {
                    candidate.place = self.entry(candidate, time);
                }
            } else if rank >= self.enter {
                continue;
            } else if vacant > 0 {
                vacant -= 1;
                candidate.place = self.entry(candidate, time);
            } else if candidate.surge >= bar.max(f64::MIN_POSITIVE) || begins || self.admits(turnover, time) {
                candidate.place = self.entry(candidate, time);
            } else {
                continue;
            }
            inside += 1;
        }
        leaving.extend(others.iter_mut().filter(|candidate| candidate.place.inside));
        leaving.sort_unstable_by(|a, b| {
            self.lingers(b.place, time).cmp(&self.lingers(a.place, time)).then_with(|| before(a, b))
        });
        for candidate in leaving {
            let lingers = self.lingers(candidate.place, time) && inside < self.most;
            let room = candidate.rank.score > 0.0 && inside < self.enter;
            if lingers || room {
                inside += 1;
            } else {
                candidate.place = Place::default();
            }
        }
        sieve.leave(kept, enough, rest);
    }

    /// What a newest value brings in at once.
    #[inline]
    pub(super) fn surge_of(&self, value: f64, measured: bool) -> f64 {
        if measured { (value / self.surge).max(0.0) } else { 0.0 }
    }

    fn entry(&self, candidate: &Candidate, time: u64) -> Place {
        Place { inside: true, since: if candidate.measured { time } else { 0 } }
    }

    fn lingers(&self, place: Place, time: u64) -> bool {
        place.since > 0 && time.saturating_sub(place.since) < self.min_stay
    }

    /// Whether one more may enter by its rank alone; if so, it counts.
    fn admits(&self, turnover: &mut Turnover, time: u64) -> bool {
        let most = self.turnover as f64;
        let passed = time.saturating_sub(turnover.time) as f64 / self.half_life as f64;
        turnover.came = (turnover.came - passed * most).max(0.0);
        turnover.time = time;
        let admits = turnover.came + 1.0 <= most;
        turnover.came += f64::from(u8::from(admits));
        admits
    }
}

/// The higher score first; then class and identity.
fn before(Candidate { rank: a, .. }: &Candidate, Candidate { rank: b, .. }: &Candidate) -> Ordering {
    b.score.total_cmp(&a.score).then(b.class.cmp(&a.class)).then(a.key.cmp(&b.key))
}
