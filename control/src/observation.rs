//! What the controller is told at each step. Any number may be missing or no number; none is believed unseen.

use std::time::Duration;

/// What a profile lets out, or would.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Shadow {
    /// Distinct series within the window, as if it had been at work all the time; `None` where it is not measured.
    pub series: Option<f64>,
    /// Share of use that stays individually attributed, 0 to 1.
    pub attribution: Option<f64>,
}

/// A person's choice.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Manual {
    /// The profile's place.
    pub profile: usize,
    /// When it ends, on the clock of `now`; `None` for never.
    pub until: Option<Duration>,
}

/// What was measured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observation {
    /// How long ago it was measured.
    pub age: Duration,
    /// Distinct series let out within the window, by whichever profiles were at work: it falls only when the window has
    /// passed. Steered by where the shadow of the profile at work is not known.
    pub output: Option<f64>,
    /// Relative standard error of the counts, 0.0081 for a sketch of 2^14 registers.
    pub error: f64,
    /// Distinct series that came in; shown, not steered by.
    pub input: Option<f64>,
    /// The place of the profile at work.
    pub active: usize,
    /// From the least to the most thinning.
    pub profiles: Vec<Shadow>,
    /// Use of the memory limit, 0 to 1.
    pub memory: Option<f64>,
    /// Whether a detector says that series explode.
    pub explosion: bool,
    /// A person's choice.
    pub manual: Option<Manual>,
}

/// A count that can be reckoned with.
pub(crate) fn count(value: Option<f64>) -> Option<f64> {
    value.filter(|value| value.is_finite() && *value >= 0.0)
}

impl Observation {
    /// What is steered: the steady output of the profile at work.
    pub(crate) fn steered(&self) -> Option<f64> {
        self.profiles.get(self.active).and_then(|shadow| count(shadow.series)).or_else(|| count(self.output))
    }

    /// What a profile would let out, at most: two standard errors above its count.
    pub(crate) fn at_most(&self, profile: usize) -> Option<f64> {
        let error = if self.error.is_finite() { self.error.clamp(0.0, 1.0) } else { 1.0 };
        self.profiles.get(profile).and_then(|shadow| count(shadow.series)).map(|series| series * (1.0 + 2.0 * error))
    }

    /// What a profile attributes.
    pub(crate) fn attribution(&self, profile: usize) -> Option<f64> {
        self.profiles.get(profile).and_then(|shadow| count(shadow.attribution))
    }
}
