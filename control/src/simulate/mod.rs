//! Runs a decider against a model of a host for simulated hours, and says how well it held the budget.
//!
//! The controller that runs here is the one that runs in the agent; what it is held against are two plain switches that
//! read the same numbers. The host is a model ([`Host`] says of what), or a recording of real estimates. No clock, no I/O.

mod baselines;
mod host;
mod noise;
mod plot;
mod report;
mod scenario;

pub use baselines::{Ewma, Thresholds};
pub use host::Host;
pub use plot::svg;
pub use report::Report;
pub use scenario::Scenario;

use std::time::Duration;

use crate::{Controller, Observation, Shadow};
pub(crate) use noise::Noise;
use report::Tally;

/// Seconds from one decision to the next.
pub const CYCLE: u64 = 10;
/// Relative standard error of a count of 2^14 registers.
const SKETCH_ERROR: f64 = 0.0081;
/// Counts of a sliding window share most of their registers from one cycle to the next, and so their error.
const ALIKE: f64 = 0.9;

/// Decides on a profile and a pressure.
pub trait Decider {
    /// Its name.
    fn name(&self) -> &'static str;
    /// The profile and the pressure to be at work from now on.
    fn decide(&mut self, now: Duration, seen: &Observation) -> (usize, f64);
}

impl Decider for Controller {
    fn name(&self) -> &'static str {
        "controller"
    }

    fn decide(&mut self, now: Duration, seen: &Observation) -> (usize, f64) {
        let decision = self.step(now, seen);
        (decision.after, decision.pressure)
    }
}

/// What is true at one moment: series that each profile lets out, counted over the window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Truth {
    /// Series in.
    pub input: f64,
    /// Series out and attribution, a profile each.
    pub profiles: Vec<(f64, f64)>,
    /// Whether the counts can be read.
    pub readable: bool,
}

/// Where truth comes from.
pub trait Source {
    /// What is true one cycle later, under this pressure; `None` at the end.
    fn next(&mut self, pressure: f64) -> Option<Truth>;
}

/// Estimates that were recorded, one entry a cycle; pressure changes nothing in them.
#[derive(Clone, Debug, Default)]
pub struct Recording(std::vec::IntoIter<Truth>);

impl Recording {
    /// A recording of these moments.
    pub fn new(moments: Vec<Truth>) -> Self {
        Recording(moments.into_iter())
    }
}

impl Source for Recording {
    fn next(&mut self, _: f64) -> Option<Truth> {
        self.0.next()
    }
}

/// One point of a plot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Seconds since the start.
    pub at: u64,
    /// Series out of the profile at work.
    pub output: f64,
    /// The profile at work.
    pub profile: usize,
}

/// Runs a decider until the source ends. The seed is that of the sketch's noise.
pub fn run(decider: &mut dyn Decider, source: &mut dyn Source, budget: f64, seed: u64) -> (Report, Vec<Sample>) {
    let (mut noise, mut errors) = (Noise::new(seed), Vec::new());
    let (mut active, mut pressure, mut at) = (0, 0.0, 0);
    let (mut tally, mut samples) = (Tally::new(budget), Vec::new());
    while let Some(truth) = source.next(pressure) {
        errors.resize(truth.profiles.len(), 0.0);
        let profiles = truth.profiles.iter().zip(&mut errors).map(|((series, attribution), error)| {
            noise.drift(error, SKETCH_ERROR, ALIKE);
            Shadow { series: truth.readable.then_some(series * (1.0 + *error)), attribution: Some(*attribution) }
        });
        let seen = Observation {
            error: SKETCH_ERROR,
            input: truth.readable.then_some(truth.input),
            active,
            profiles: profiles.collect(),
            ..Observation::default()
        };
        let (output, attribution) = truth.profiles.get(active).copied().unwrap_or_default();
        samples.push(Sample { at, output, profile: active });
        let (next, new_pressure) = decider.decide(Duration::from_secs(at), &seen);
        tally.add(output, attribution, active, next);
        (active, pressure) = (next, new_pressure);
        at += CYCLE;
    }
    (tally.report(), samples)
}

#[cfg(test)]
mod tests;
