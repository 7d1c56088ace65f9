//! The real controller on the real chain, in a closed loop: the synthetic host through `adaptive` with its shadows, under
//! the loads of the simulator. It says how far the simulator, which goes by a table of responses, is from the chain.

use phoenix_control::simulate::{CYCLE, Host as Load, Scenario, Source, Truth};
use phoenix_pipeline::BuildError;

use crate::adaptive::{Adaptive, PROFILES};

/// The chain as a source of truth; the counts are its own estimates, with their errors.
pub struct Chain {
    load: Load,
    stage: Adaptive,
    active: usize,
    /// Parts of a process that are still to be replaced.
    owed: f64,
}

impl Chain {
    /// A host under a scenario's load for some hours, the same as the simulator's of that seed.
    ///
    /// # Errors
    /// The stage cannot be built.
    pub fn new(scenario: Scenario, hours: u64, seed: u64) -> Result<Self, BuildError> {
        let first = Load::new(scenario, hours, seed).load().map_or(0.0, |load| load.processes);
        let stage = Adaptive::new(first as usize, seed)?;
        Ok(Chain { load: Load::new(scenario, hours, seed), stage, active: 0, owed: 0.0 })
    }
}

impl Source for Chain {
    /// Also ends where a profile cannot be put to work.
    fn next(&mut self, active: usize, pressure: f64) -> Option<Truth> {
        let load = self.load.load()?;
        if active != self.active {
            self.stage.put(PROFILES.get(active)?).ok()?;
            self.active = active;
        }
        self.owed += load.births * CYCLE as f64;
        let replaced = self.owed.floor();
        self.owed -= replaced;
        let seen = self.stage.next(load.processes as usize, replaced as usize, pressure)?;
        Some(Truth {
            input: seen.input.series,
            output: seen.output.series,
            profiles: seen.profiles.iter().map(|one| (one.output.series, one.attribution.cpu.unwrap_or(1.0))).collect(),
            readable: load.readable,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use phoenix_control::{Controller, Settings, simulate};

    /// A host above the budget from the start: the loop switches the chain itself.
    #[test]
    fn the_controller_steers_the_chain() {
        let settings =
            Settings { budget: 1000.0, relax_dwell: std::time::Duration::from_secs(300), ..Settings::default() };
        let mut controller = Controller::new(settings);
        let mut chain = Chain::new(Scenario::Constant, 1, 3).unwrap();
        let (_, samples) = simulate::run(&mut controller, &mut Few(&mut chain, 30), 1000.0, None);
        assert_eq!(samples.len(), 30);
        // More series than the budget from the first scrape on: a tighter profile is at work within two cycles.
        assert!(samples[0].output > 1000.0, "{samples:?}");
        assert!(samples[3..].iter().all(|sample| sample.profile > 0), "{samples:?}");
    }

    /// So many cycles of another source.
    struct Few<'a>(&'a mut Chain, usize);

    impl Source for Few<'_> {
        fn next(&mut self, active: usize, pressure: f64) -> Option<Truth> {
            self.1 = self.1.checked_sub(1)?;
            self.0.next(active, pressure)
        }
    }
}
