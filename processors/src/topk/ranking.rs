//! One ranking: who is among the first. A pure function of its input.
//!
//! Ranked is what an entity does over a while, so that a spike takes nobody's place for long, or its newest value by
//! `surge`, so that a hog is there at once. Whoever is in stays within a band and for a time; nobody goes while there is
//! room; and of those who come by rank alone no more than [`Turnover`] allows come in.

use phoenix_pipeline::Class;

/// Whether an entity is in, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) inside: bool,
    /// Time of entry, Unix nanoseconds; 0 = before all time: an entry on an estimate earns no minimum stay.
    pub(super) since: u64,
}

/// What an entity did by one ranking, each reading counting half as much after a half-life as when it was new.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct History {
    /// The readings before the newest, and how much they count.
    sum: f64,
    weight: f64,
    newest: f64,
    /// Time of the first and of the newest, Unix nanoseconds; 0 = there was none.
    first: u64,
    time: u64,
}

/// A history that has just begun counts as one of this part of a half-life.
const BEGIN: f64 = 1.0 / 64.0;

impl History {
    /// Takes a reading of a time; another one of the same time stands in its place.
    pub(super) fn take(&mut self, value: f64, time: u64, half_life: u64) {
        if self.first == 0 {
            self.first = time;
        } else if self.time != time {
            let kept = remains(time.saturating_sub(self.time), half_life);
            self.sum = (self.sum + self.newest) * kept;
            self.weight = (self.weight + 1.0) * kept;
        }
        (self.newest, self.time) = (value, time);
    }

    /// The newest reading; `None` before the first.
    pub(super) fn newest(&self) -> Option<f64> {
        (self.first > 0).then_some(self.newest)
    }

    /// The mean of what it did since its first reading; `None` before that.
    fn mean(&self) -> Option<f64> {
        (self.first > 0).then(|| (self.sum + self.newest) / (self.weight + 1.0))
    }

    /// Which part of all that counts it has been there for, as of `now`; 0 to 1.
    fn presence(&self, now: u64, half_life: u64) -> f64 {
        if self.first == 0 {
            return 0.0;
        }
        1.0 - remains(now.saturating_sub(self.first), half_life) * (-BEGIN).exp2()
    }
}

/// Fewer readings than this are no history by which anybody could be held back.
const ENOUGH: f64 = 2.5;

/// After so many half-lives a weight is less than the last digit of one.
const FADED: u64 = 64;

/// What is left of a weight after a span; nothing where the half-life is 0.
fn remains(span: u64, half_life: u64) -> f64 {
    if span >= half_life.saturating_mul(FADED) { 0.0 } else { (-(span as f64) / half_life as f64).exp2() }
}

/// One who is ranked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    /// The newest value.
    pub(super) value: f64,
    pub(super) history: History,
    pub(super) class: Class,
    /// Identity, the last tie-breaker.
    pub(super) key: u64,
    pub(super) at: u32,
    /// Whether the value is a measured one.
    pub(super) measured: bool,
    pub(super) place: Place,
    /// What it is ranked by. Set by [`Bands::rank`].
    pub(super) score: f64,
}

impl Candidate {
    /// One with nothing decided yet.
    pub(super) fn new(value: f64, history: History, class: Class, key: u64, at: u32) -> Self {
        let (place, score) = (Place::default(), 0.0);
        Candidate { value, history, class, key, at, measured: true, place, score }
    }

    /// Whether its place is its own for the time being: one that was taken on an estimate goes to whoever measures more.
    fn holds(&self) -> bool {
        self.place.inside && self.score > 0.0 && (self.place.since > 0 || !self.measured)
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
    /// Gives every candidate its new place, as of `time`. What has no score above zero is never among the first.
    pub(super) fn rank(&self, candidates: &mut [Candidate], turnover: &mut Turnover, time: u64) {
        let presence = |candidate: &Candidate| candidate.history.presence(time, self.half_life);
        let mut longest: f64 = 0.0;
        for candidate in candidates.iter_mut() {
            candidate.score = presence(candidate);
            longest = longest.max(candidate.score);
        }
        for candidate in candidates.iter_mut() {
            // What was before its birth counts as nothing. Without a past there is only the estimate.
            let past = candidate.history.mean().map(|mean| mean * (candidate.score / longest));
            candidate.score = past.unwrap_or(candidate.value).max(self.surge_of(candidate));
        }
        let begins = candidates.iter().all(|candidate| candidate.history.weight + 1.0 < ENOUGH);
        let head = self.leave.max(self.enter + 1).min(candidates.len());
        if head > 0 && head < candidates.len() {
            candidates.select_nth_unstable_by(head - 1, before);
        }
        let (first, others) = candidates.split_at_mut(head);
        first.sort_unstable_by(before);
        let bar = first.get(self.enter).map_or(0.0, |next| next.score);
        let holding = |of: &[Candidate]| of.iter().filter(|candidate| candidate.holds()).count();
        // Places of those who are gone cost nobody anything.
        let mut vacant = self.enter.saturating_sub(holding(first) + holding(others));
        let mut inside = 0;
        let mut leaving: Vec<&mut Candidate> = Vec::new();
        for (rank, candidate) in first.iter_mut().enumerate() {
            if candidate.place.inside {
                // A place taken on an estimate has no band.
                let guest = candidate.place.since == 0 && candidate.measured;
                if candidate.score <= 0.0 || rank >= if guest { self.enter } else { self.leave } {
                    leaving.push(candidate);
                    continue;
                }
                if candidate.place.since == 0 {
                    candidate.place = self.entry(candidate, time);
                }
            } else if candidate.score <= 0.0 || rank >= self.enter {
                continue;
            } else if vacant > 0 {
                vacant -= 1;
                candidate.place = self.entry(candidate, time);
            } else if self.surge_of(candidate) >= bar.max(f64::MIN_POSITIVE) || begins || self.admits(turnover, time) {
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
            let room = candidate.score > 0.0 && inside < self.enter;
            if lingers || room {
                inside += 1;
            } else {
                candidate.place = Place::default();
            }
        }
    }

    /// What a newest value brings in at once.
    fn surge_of(&self, candidate: &Candidate) -> f64 {
        if candidate.measured { (candidate.value / self.surge).max(0.0) } else { 0.0 }
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
fn before(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    b.score.total_cmp(&a.score).then(b.class.cmp(&a.class)).then(a.key.cmp(&b.key))
}
