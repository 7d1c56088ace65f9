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
    /// Whether there is something to write down: a place that it has or had, with its score, and that it was not left with.
    pub(super) is_news: bool,
}

impl Candidate {
    pub(super) fn new(rank: Rank, surge: f64, measured: bool, place: Place) -> Self {
        Candidate { rank, surge, measured, place, is_news: place.inside }
    }

    fn put(&mut self, place: Place) {
        (self.place, self.is_news) = (place, true);
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

    /// Gives all that the sieve has kept their new places, as of `time`; how many of the first are in order then, and whether
    /// there were enough. What has no score above zero is never among the first.
    pub(super) fn rank(&self, sieve: &mut Sieve, rest: &Rest, turnover: &mut Turnover, time: u64) -> (usize, bool) {
        let begins = !sieve.is_settled();
        let deciding = self.deciding();
        // A few more are left for the next part of a scrape: some of the first may fall until then.
        let most = deciding + if rest.scrape > 0 { deciding / 4 + 1 } else { 0 };
        let positive = sieve.sort(most);
        let candidates = &mut sieve.candidates;
        let head = deciding.min(positive);
        let bar = candidates.get(self.enter).filter(|_| self.enter < head).map_or(0.0, |next| next.rank.score);
        // Mostly the first are in for good, and there is nothing to do for them.
        let in_for_good = |candidate: &&Candidate| candidate.place.inside && candidate.place.since > 0;
        let settled = candidates.iter().take(self.enter.min(head)).take_while(in_for_good).count();
        // Places of those who are gone cost nobody anything.
        let others = candidates.iter().skip(settled).filter(|candidate| candidate.holds());
        let mut vacant = self.enter - settled;
        vacant -= others.take(vacant).count();
        let mut inside = settled;
        for (rank, candidate) in candidates.iter_mut().enumerate().take(head).skip(settled) {
            if candidate.place.inside {
                if self.is_leaving(candidate, rank) {
                    continue;
                }
                if candidate.place.since == 0 {
                    candidate.put(self.entry(candidate, time));
                }
            } else if rank >= self.enter {
                continue;
            } else if vacant > 0 {
                vacant -= 1;
                candidate.put(self.entry(candidate, time));
            } else if candidate.surge >= bar.max(f64::MIN_POSITIVE) || begins || self.admits(turnover, time) {
                candidate.put(self.entry(candidate, time));
            } else {
                continue;
            }
            inside += 1;
        }
        // Those who linger have what is left before the others, who go unless there is room.
        let mut others = false;
        for lingering in [true, false] {
            for (rank, candidate) in candidates.iter_mut().enumerate().skip(self.enter.min(head)) {
                let leaves = candidate.place.inside && (rank >= head || self.is_leaving(candidate, rank));
                if !leaves || self.lingers(candidate.place, time) != lingering {
                    others |= leaves;
                    continue;
                }
                let room = candidate.rank.score > 0.0 && inside < self.enter;
                if room || lingering && inside < self.most {
                    inside += 1;
                } else {
                    candidate.put(Place::default());
                }
            }
            if !others {
                break;
            }
        }
        (most.min(positive), positive >= deciding)
    }

    /// Whether one of the first who is in is beyond its band at that rank. A place taken on an estimate has no band.
    fn is_leaving(&self, candidate: &Candidate, rank: usize) -> bool {
        let guest = candidate.place.since == 0 && candidate.measured;
        rank >= if guest { self.enter } else { self.leave }
    }

    /// What a newest value brings in at once.
    #[inline]
    pub(super) fn surge_of(&self, value: f64, measured: bool) -> f64 {
        if measured && value > 0.0 { value / self.surge } else { 0.0 }
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
pub(super) fn before(Candidate { rank: a, .. }: &Candidate, Candidate { rank: b, .. }: &Candidate) -> Ordering {
    b.score.total_cmp(&a.score).then(b.class.cmp(&a.class)).then(a.key.cmp(&b.key))
}
