//! Runs a decider against a model of a host for simulated hours, and says how well it held the budget.
//!
//! The controller that runs here is the one that runs in the agent; what it is held against are two plain switches that
//! read the same numbers. The host is a model over figures of the real chain ([`Host`] says what is modelled), or a
//! recording of real estimates. No clock, no I/O.

mod baselines;
mod host;
mod measured;
mod noise;
mod plot;
mod report;
pub mod response;
mod scenario;

pub use baselines::Switch;
pub use host::Host;
pub use plot::svg;
pub use report::{Report, TABLE};
pub use scenario::{Load, Scenario};

use std::collections::VecDeque;
use std::time::Duration;

use crate::{Controller, Observation, Shadow};
pub(crate) use noise::Noise;
use report::Tally;

/// Seconds from one decision to the next.
pub const CYCLE: u64 = 10;
/// Cycles of the window within which a series counts after its last point.
const WINDOW: usize = 300 / CYCLE as usize;
/// Relative standard error of a count of 2^14 registers.
const SKETCH_ERROR: f64 = 0.0081;
/// Counts of a sliding window share most of their registers from one cycle to the next, and so their error.
const ALIKE: f64 = 0.9;

/// Seeds that parameters were chosen with.
pub const TRAINING: std::ops::Range<u64> = 0..5;
/// Seeds that were looked at for results only, after the last parameter was chosen.
pub const HELD_OUT: std::ops::Range<u64> = 1000..1010;

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
    /// Series that left within the window, by whichever profiles were at work: what a backend counts as active.
    pub output: f64,
    /// Series out, as if the profile had been at work all the time, and attribution; a profile each.
    pub profiles: Vec<(f64, f64)>,
    /// Whether the counts can be read.
    pub readable: bool,
}

/// Where truth comes from.
pub trait Source {
    /// What is true one cycle later, with this profile at work under this pressure; `None` at the end.
    fn next(&mut self, active: usize, pressure: f64) -> Option<Truth>;
}

/// Estimates that were recorded, one entry a cycle; pressure changes nothing in them. What has left within the window is
/// not in them: the highest count of those at work in it stands for that.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    moments: std::vec::IntoIter<Truth>,
    outputs: VecDeque<f64>,
}

impl Recording {
    /// A recording of these moments.
    pub fn new(moments: Vec<Truth>) -> Self {
        Recording { moments: moments.into_iter(), outputs: VecDeque::new() }
    }
}

impl Source for Recording {
    fn next(&mut self, active: usize, _: f64) -> Option<Truth> {
        let truth = self.moments.next()?;
        self.outputs.push_back(truth.profiles.get(active).map_or(0.0, |(series, _)| *series));
        if self.outputs.len() > WINDOW {
            self.outputs.pop_front();
        }
        Some(Truth { output: self.outputs.iter().copied().fold(0.0, f64::max), ..truth })
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

/// Runs a decider until the source ends. With a seed the counts are read with the noise of a sketch; without one they are
/// estimates already.
pub fn run(
    decider: &mut dyn Decider,
    source: &mut dyn Source,
    budget: f64,
    seed: Option<u64>,
) -> (Report, Vec<Sample>) {
    let (mut noise, mut errors) = (seed.map(Noise::new), Vec::new());
    let (mut active, mut pressure, mut at) = (0, 0.0, 0);
    let (mut tally, mut samples) = (Tally::new(budget), Vec::new());
    while let Some(truth) = source.next(active, pressure) {
        errors.resize(truth.profiles.len(), 0.0);
        let profiles = truth.profiles.iter().zip(&mut errors).map(|((series, attribution), error)| {
            noise.iter_mut().for_each(|noise| noise.drift(error, SKETCH_ERROR, ALIKE));
            Shadow { series: truth.readable.then_some(series * (1.0 + *error)), attribution: Some(*attribution) }
        });
        let seen = Observation {
            error: SKETCH_ERROR,
            output: truth.readable.then_some(truth.output),
            input: truth.readable.then_some(truth.input),
            active,
            profiles: profiles.collect(),
            ..Observation::default()
        };
        let (output, attribution) = truth.profiles.get(active).copied().unwrap_or_default();
        samples.push(Sample { at, output, profile: active });
        let (next, new_pressure) = decider.decide(Duration::from_secs(at), &seen);
        tally.add(output, truth.output, attribution, active, next);
        (active, pressure) = (next, new_pressure);
        at += CYCLE;
    }
    (tally.report(), samples)
}

#[cfg(test)]
mod tests;
