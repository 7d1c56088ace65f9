//! What an entity did by one ranking, faded by age.

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

/// What is left after a 64th of a half-life, 2^(-1/64): a history that has just begun counts as one of so long.
const BEGIN: f64 = 0.989_228_013_193_975_5;

/// Fewer readings than this are no history by which anybody could be held back.
const ENOUGH: f64 = 2.5;

/// After so many half-lives a weight is less than the last digit of one.
const FADED: u64 = 64;

impl History {
    /// Takes a reading of a time; another one of the same time stands in its place.
    #[inline]
    pub(super) fn take(&mut self, value: f64, time: u64, decay: &mut Decay) {
        if self.first == 0 {
            self.first = time;
        } else if self.time != time {
            let kept = decay.remains(time.saturating_sub(self.time));
            self.sum = (self.sum + self.newest) * kept;
            self.weight = (self.weight + 1.0) * kept;
        }
        (self.newest, self.time) = (value, time);
    }

    /// The newest reading; `None` before the first.
    pub(super) fn newest(&self) -> Option<f64> {
        (self.first > 0).then_some(self.newest)
    }

    /// Time of the first reading, Unix nanoseconds; 0 before that.
    #[inline]
    pub(super) fn first(&self) -> u64 {
        self.first
    }

    /// The mean of what it did since its first reading; 0 before that.
    #[inline]
    pub(super) fn mean(&self) -> f64 {
        (self.sum + self.newest) / (self.weight + 1.0)
    }

    /// Whether it is long enough to hold somebody back.
    #[inline]
    pub(super) fn is_settled(&self) -> bool {
        self.weight + 1.0 >= ENOUGH
    }
}

/// What is left of weights after a span, of which one scrape has few: the last is remembered, as a power costs as much as
/// all else that is done for an entity in a ranking.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Decay {
    half_life: u64,
    known: (u64, f64),
}

impl Decay {
    pub(super) fn new(half_life: u64) -> Self {
        Decay { half_life, known: (0, if half_life == 0 { 0.0 } else { 1.0 }) }
    }

    /// What is left after that span; nothing where the half-life is 0.
    #[inline]
    pub(super) fn remains(&mut self, span: u64) -> f64 {
        if span != self.known.0 { self.fade(span) } else { self.known.1 }
    }

    #[cold]
    fn fade(&mut self, span: u64) -> f64 {
        let faded = span >= self.half_life.saturating_mul(FADED);
        self.known = (span, if faded { 0.0 } else { (-(span as f64) / self.half_life as f64).exp2() });
        self.known.1
    }

    /// Which part of all that counts one has been there for whose history began so long ago; 0 to 1.
    pub(super) fn presence(&mut self, span: u64) -> f64 {
        1.0 - self.remains(span) * BEGIN
    }
}
