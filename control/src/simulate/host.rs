//! A host as the budget sees it: processes that live and are replaced, each with nine series, and three profiles.
//!
//! Modelled: a window of five minutes over distinct series, so that what ended is counted on until it has left the
//! window; births that add to it; the noise of the count; a population that wanders by 3 % within half an hour or so. The three profiles keep all
//! processes, 60 %, or 15 % of them one by one, the latter two less by up to half under full pressure, and write nine
//! series for each executable. Attribution is that of a Zipf distribution of use, ln(1 + kept) / ln(1 + all).
//! Not modelled: which process is kept, and the switch's own cost.

use std::collections::VecDeque;

use super::noise::Noise;
use super::{CYCLE, Scenario, Source, Truth};

const SERIES: f64 = 9.0;
const WINDOW: usize = 300 / CYCLE as usize;
/// Part of the processes that each profile keeps.
const KEEPS: [f64; 3] = [1.0, 0.6, 0.15];

/// One profile's series over the window.
#[derive(Clone, Debug, Default)]
struct Kept {
    /// Kept processes, and those that became so, cycle by cycle, oldest first.
    window: VecDeque<(f64, f64)>,
}

impl Kept {
    /// Distinct kept processes over the window.
    fn add(&mut self, kept: f64, births: f64) -> f64 {
        let before = self.window.back().map_or(kept, |(before, _)| *before);
        self.window.push_back((kept, births.max(kept - before)));
        if self.window.len() > WINDOW {
            self.window.pop_front();
        }
        let first = self.window.front().map_or(0.0, |(first, _)| *first);
        first + self.window.iter().skip(1).map(|(_, new)| new).sum::<f64>()
    }
}

/// A model of a host under a load.
#[derive(Clone, Debug)]
pub struct Host {
    scenario: Scenario,
    noise: Noise,
    wander: f64,
    at: u64,
    end: u64,
    kept: [Kept; 3],
}

impl Host {
    /// A host under a scenario's load for some hours.
    pub fn new(scenario: Scenario, hours: u64, seed: u64) -> Self {
        let end = hours.saturating_mul(3600);
        Host { scenario, noise: Noise::new(seed), wander: 0.0, at: 0, end, kept: Default::default() }
    }
}

impl Source for Host {
    fn next(&mut self, pressure: f64) -> Option<Truth> {
        if self.at >= self.end {
            return None;
        }
        let load = self.scenario.load(self.at);
        self.at += CYCLE;
        self.noise.drift(&mut self.wander, 0.03, 0.995);
        let alive = load.processes * (1.0 + self.wander);
        let births = load.births * CYCLE as f64 * (1.0 + 0.3 * self.noise.normal()).max(0.0);
        let mut input = 0.0;
        let profiles = self.kept.iter_mut().zip(KEEPS).enumerate().map(|(place, (window, keeps))| {
            let part = if place == 0 { keeps } else { keeps * (1.0 - 0.5 * pressure) };
            let distinct = window.add(alive * part, births * part);
            let groups = if place == 0 { 0.0 } else { 20.0 + 0.05 * alive };
            if place == 0 {
                input = distinct * SERIES;
            }
            ((distinct + groups) * SERIES, (1.0 + alive * part).ln() / (1.0 + alive).ln())
        });
        let profiles = profiles.collect();
        Some(Truth { input, profiles, readable: load.readable })
    }
}
