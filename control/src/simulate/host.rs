//! A host as the budget sees it: processes that live and are replaced, and what the profiles would let out of them.
//!
//! What a profile lets out at some population, churn and pressure is read from a table that was measured by running the
//! real `adaptive` stage ([`Response`](super::Response) says how). Modelled around it: a window of five minutes, so that
//! what ended is counted on until it has left the window; a population that wanders by 3 % within half an hour or so;
//! births that scatter by 30 % from cycle to cycle. Each seed is a host of another size, 0.85 to 1.15 times the
//! scenario's, but for the constant load.
//! Not modelled: the scatter of attribution and of ranks from scrape to scrape beyond their means, and the switch's own
//! cost. Processes that end and are followed by as many others within the window count as replaced only by the births.

use std::collections::VecDeque;

use super::noise::Noise;
use super::response::{PROFILES, at};
use super::{CYCLE, Load, Scenario, Source, Truth, WINDOW};

/// Distinct series over the window: the most there were at a time, and those that took the place of others since.
#[derive(Clone, Debug, Default)]
struct Window {
    /// Series at the time, and those that replaced others, cycle by cycle, oldest first.
    cycles: VecDeque<(f64, f64)>,
}

impl Window {
    /// Adds a cycle; answers how many distinct series the window holds.
    fn add(&mut self, now: f64, new: f64) -> f64 {
        self.cycles.push_back((now, new));
        if self.cycles.len() > WINDOW {
            self.cycles.pop_front();
        }
        let most = self.cycles.iter().fold(0.0, |most: f64, (now, _)| most.max(*now));
        most + self.cycles.iter().skip(1).map(|(_, new)| new).sum::<f64>()
    }
}

/// A model of a host under a load.
#[derive(Clone, Debug)]
pub struct Host {
    scenario: Scenario,
    noise: Noise,
    scale: f64,
    wander: f64,
    at: u64,
    end: u64,
    shadows: [Window; PROFILES],
    /// What left, one by one and grouped, by whichever profiles were at work.
    output: [Window; 2],
}

impl Host {
    /// A host under a scenario's load for some hours.
    pub fn new(scenario: Scenario, hours: u64, seed: u64) -> Self {
        let mut noise = Noise::new(seed);
        let scale = if scenario == Scenario::Constant { 1.0 } else { 0.85 + 0.3 * noise.even() };
        let end = hours.saturating_mul(3600);
        let (shadows, output) = Default::default();
        Host { scenario, noise, scale, wander: 0.0, at: 0, end, shadows, output }
    }

    /// The load of the next cycle; `None` at the end.
    pub fn load(&mut self) -> Option<Load> {
        if self.at >= self.end {
            return None;
        }
        let load = self.scenario.load(self.at);
        self.at += CYCLE;
        self.noise.drift(&mut self.wander, 0.03, 0.995);
        let births = load.births * self.scale * (1.0 + 0.3 * self.noise.normal()).max(0.0);
        Some(Load { processes: load.processes * self.scale * (1.0 + self.wander), births, ..load })
    }
}

impl Source for Host {
    fn next(&mut self, active: usize, pressure: f64) -> Option<Truth> {
        let load = self.load()?;
        let responses = at(load.processes, load.births * CYCLE as f64, pressure);
        let mut truth = Truth { readable: load.readable, ..Truth::default() };
        for (place, (response, shadow)) in responses.iter().zip(&mut self.shadows).enumerate() {
            let now = response.individual + response.grouped;
            // Of a steady window all but the first cycle's series are new ones.
            let new = (response.window - now).max(0.0) / (WINDOW - 1) as f64;
            truth.profiles.push((shadow.add(now, new), response.attribution));
            if place == active {
                let [individual, grouped] = &mut self.output;
                truth.output = individual.add(response.individual, new) + grouped.add(response.grouped, 0.0);
            }
        }
        truth.input = truth.profiles.first().map_or(0.0, |(series, _)| *series);
        Some(truth)
    }
}
