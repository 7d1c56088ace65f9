//! One ranking: who is among the first, with bands and a minimum stay so that nobody flaps. A pure function of its input.

use phoenix_pipeline::Class;

/// Whether an entity is in, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) inside: bool,
    /// Time of entry, Unix nanoseconds; 0 = before all time: an entry on an estimate earns no minimum stay.
    pub(super) since: u64,
}

/// One who is ranked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub(super) value: f64,
    pub(super) class: Class,
    /// Identity, the last tie-breaker.
    pub(super) key: u64,
    pub(super) at: u32,
    /// Whether the value is a measured one.
    pub(super) measured: bool,
    pub(super) place: Place,
}

/// How many are in, and how one comes and goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bands {
    enter: usize,
    leave: usize,
    /// More than these are never in.
    most: usize,
    min_stay: u64,
}

impl Bands {
    pub(super) fn new(k: usize, enter: f64, leave: f64, min_stay: u64) -> Self {
        let part = |factor: f64, round: fn(f64) -> f64| round(k as f64 * factor) as usize;
        Bands {
            enter: part(enter, f64::floor).max(1),
            leave: part(leave, f64::ceil),
            most: k.saturating_mul(2),
            min_stay,
        }
    }

    /// Gives every candidate its new place, as of `time`. What has no value above zero is never among the first.
    pub(super) fn rank(&self, candidates: &mut [Candidate], time: u64) {
        let before = |a: &Candidate, b: &Candidate| {
            b.value.total_cmp(&a.value).then(b.class.cmp(&a.class)).then(a.key.cmp(&b.key))
        };
        let head = self.leave.min(candidates.len());
        if head > 0 && head < candidates.len() {
            candidates.select_nth_unstable_by(head - 1, before);
        }
        let (first, others) = candidates.split_at_mut(head);
        first.sort_unstable_by(before);
        let mut inside = 0;
        for (rank, candidate) in first.iter_mut().enumerate() {
            let stays = candidate.place.inside && (candidate.value > 0.0 || self.lingers(candidate.place, time));
            let enters = candidate.value > 0.0 && rank < self.enter;
            candidate.place = match (stays, enters) {
                (true, _) => candidate.place,
                (false, true) => Place { inside: true, since: if candidate.measured { time } else { 0 } },
                (false, false) => Place::default(),
            };
            inside += usize::from(candidate.place.inside);
        }
        let mut lingering: Vec<&mut Candidate> = Vec::new();
        for candidate in others {
            if candidate.place.inside && self.lingers(candidate.place, time) {
                lingering.push(candidate);
            } else {
                candidate.place = Place::default();
            }
        }
        lingering.sort_unstable_by(|a, b| before(a, b));
        for candidate in lingering.into_iter().skip(self.most.saturating_sub(inside)) {
            candidate.place = Place::default();
        }
    }

    fn lingers(&self, place: Place, time: u64) -> bool {
        place.since > 0 && time.saturating_sub(place.since) < self.min_stay
    }
}
