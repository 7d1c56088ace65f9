//! Loads over time. Each is a pure function of the seconds since the start.

/// What a host carries.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Load {
    /// Living processes.
    pub processes: f64,
    /// Processes replaced a second.
    pub births: f64,
    /// Whether the counts can be read.
    pub readable: bool,
}

/// A load over time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Always the same, as near below the budget as can be: noise alone crosses it.
    Constant,
    /// Three times as many processes for four of every eight hours.
    Step,
    /// Up to four times as many over six hours, and down again.
    Ramp,
    /// Four times as many for three minutes of every hour.
    Burst,
    /// One process more every 20 seconds for four hours, then a restart.
    Leak,
    /// Every process replaced within five minutes, every three hours.
    Deploy,
    /// As `Ramp`, but the counts cannot be read for one hour of the rise.
    DeadSensor,
    /// Day and night, between 0.6 and 2.2 times.
    Diurnal,
}

/// Nine series each, with what a window adds: three quarters of the default budget.
const USUAL: f64 = 150.0;

impl Scenario {
    /// All of them, in the order of a table.
    pub const ALL: [Scenario; 8] = [
        Scenario::Constant,
        Scenario::Step,
        Scenario::Ramp,
        Scenario::Burst,
        Scenario::Leak,
        Scenario::Deploy,
        Scenario::DeadSensor,
        Scenario::Diurnal,
    ];

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Scenario::Constant => "constant",
            Scenario::Step => "step",
            Scenario::Ramp => "ramp",
            Scenario::Burst => "burst",
            Scenario::Leak => "leak",
            Scenario::Deploy => "deploy",
            Scenario::DeadSensor => "dead-sensor",
            Scenario::Diurnal => "diurnal",
        }
    }

    pub(crate) fn load(self, at: u64) -> Load {
        let hours = |cycle: u64| (at % (cycle * 3600)) as f64 / 3600.0;
        let ramp = || 1.0 + 3.0 * (1.0 - (hours(12) / 6.0 - 1.0).abs());
        let mut load = Load { processes: USUAL, births: 0.05, readable: true };
        match self {
            Scenario::Constant => load.processes = 205.0,
            Scenario::Step if (2.0..6.0).contains(&hours(8)) => load.processes *= 3.0,
            Scenario::Burst if (0.5..0.55).contains(&hours(1)) => load.processes *= 4.0,
            Scenario::Step | Scenario::Burst => {}
            Scenario::Ramp => load.processes *= ramp(),
            Scenario::Leak => load.processes += hours(4) * 3600.0 / 20.0,
            Scenario::Deploy if hours(3) < 1.0 / 12.0 && at >= 3600 => load.births += USUAL / 300.0,
            Scenario::Deploy => {}
            Scenario::DeadSensor => {
                load.processes *= ramp();
                load.readable = !(3.0..4.0).contains(&hours(12));
            }
            Scenario::Diurnal => {
                load.processes *= 1.4 - 0.8 * (hours(24) / 24.0 * std::f64::consts::TAU).cos();
            }
        }
        load
    }
}
