//! What a key's own bursts reach, over a day: a rate that is met again and again is no explosion.
//!
//! Ten minutes say what is usual now; they do not know of the batch at every full hour, of noon, or of requests that come in
//! crowds. Rates of single minutes are counted in logarithmic bins that lose half of what they know within a day.

/// Bins; each is wider than the last by a ninth.
const BINS: usize = 128;
/// Bins for each natural log of a rate: the last one is beyond a hundred thousand a second.
const EACH: f64 = 9.0;
/// Rates below this, a second, are one.
const LEAST: f64 = 0.1;
const MINUTE: f64 = 60.0;
const DAY: f64 = 86_400.0;
/// Part of the minutes that stay below what is reached: a rare minute, like that of a deploy, is no habit.
const PART: f64 = 0.99;

/// The rates of one key.
#[derive(Clone, Debug)]
pub(super) struct Bursts {
    /// Minutes by rate.
    bins: [f32; BINS],
    /// Minutes of the rise that goes on, and the most that they count for once it has been called.
    rise: [f32; BINS],
    most: Option<f64>,
    /// New ones and seconds of the minute at hand.
    minute: (f64, f64),
    /// The rate of about the last minute.
    now: f64,
}

impl Default for Bursts {
    fn default() -> Self {
        Bursts { bins: [0.0; BINS], rise: [0.0; BINS], most: None, minute: (0.0, 0.0), now: 0.0 }
    }
}

impl Bursts {
    /// So many new ones came in so many seconds. What belongs to a rise counts when it is over.
    pub(super) fn passes(&mut self, new: f64, seconds: f64, rises: bool) {
        if !rises {
            self.settle();
        }
        self.now += (new / seconds - self.now) * (seconds / MINUTE).min(1.0);
        self.minute = (self.minute.0 + new, self.minute.1 + seconds);
        let (all, lasted) = self.minute;
        if lasted >= MINUTE {
            self.minute = (0.0, 0.0);
            let fade = (-std::f64::consts::LN_2 * lasted / DAY).exp() as f32;
            self.bins.iter_mut().for_each(|minutes| *minutes *= fade);
            let bins = if rises { &mut self.rise } else { &mut self.bins };
            if let Some(minutes) = bins.get_mut(bin(all / lasted)) {
                *minutes += (lasted / MINUTE) as f32;
            }
        }
    }

    /// The rise at hand was called, beyond this rate. Its minutes will count for no more: it is to be called again, and one
    /// that comes day by day is usual in the end.
    pub(super) fn called(&mut self, rate: f64) {
        self.most.get_or_insert(rate);
    }

    /// A rise is over.
    fn settle(&mut self) {
        let most = self.most.take().map_or(BINS - 1, bin);
        for (place, minutes) in self.rise.iter_mut().enumerate() {
            if let Some(known) = self.bins.get_mut(place.min(most)) {
                *known += std::mem::take(minutes);
            }
        }
    }

    /// The rate of about the last minute.
    pub(super) fn now(&self) -> f64 {
        self.now
    }

    /// What all but a few minutes stay below, a second.
    pub(super) fn usual(&self) -> f64 {
        let all: f32 = self.bins.iter().sum();
        let mut above = all * (1.0 - PART as f32);
        let last = self.bins.iter().rposition(|minutes| {
            above -= minutes;
            above < 0.0
        });
        last.map_or(0.0, |bin| LEAST * ((bin + 1) as f64 / EACH).exp())
    }
}

/// Where a rate belongs.
fn bin(rate: f64) -> usize {
    (((rate / LEAST).max(1.0).ln() * EACH) as usize).min(BINS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_met_again_is_usual_and_what_is_rare_or_long_ago_is_not() {
        let mut bursts = Bursts::default();
        assert_eq!(bursts.usual(), 0.0);
        let hour = |bursts: &mut Bursts, often: f64, minutes: usize| {
            (0..360).for_each(|n| bursts.passes(if n < 6 * minutes { often } else { 1.0 } * 10.0, 10.0, false));
        };
        (0..12).for_each(|_| hour(&mut bursts, 8.0, 0));
        assert!((1.0..1.2).contains(&bursts.usual()), "{}", bursts.usual());
        hour(&mut bursts, 8.0, 5);
        assert!(bursts.usual() < 1.2, "five minutes of a day are rare: {}", bursts.usual());
        (0..11).for_each(|_| hour(&mut bursts, 8.0, 5));
        assert!((8.0..9.0).contains(&bursts.usual()), "{}", bursts.usual());
        (0..240).for_each(|_| hour(&mut bursts, 8.0, 0));
        assert!(bursts.usual() < 1.2, "ten days later: {}", bursts.usual());
        (0..12).for_each(|_| bursts.passes(30.0, 10.0, false));
        assert!((2.0..3.0).contains(&bursts.now()));
        bursts.passes(1e300, 10.0, false);
        assert!(bursts.now().is_finite());
    }
}
