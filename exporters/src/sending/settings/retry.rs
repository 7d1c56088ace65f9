//! `retry_on_failure`: the Collector's keys and defaults, and what they may be.

use std::time::Duration;

use phoenix_pipeline::config::{self, Report};
use serde::{Deserialize, Serialize};

/// `retry_on_failure`: how a failed request is repeated.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetrySettings {
    /// Whether failed requests are repeated at all. Default true: most failures of a backend pass.
    pub enabled: bool,
    /// The first wait. Default 5s: long enough for a restart of the peer to get under way.
    #[serde(with = "config::duration")]
    pub initial_interval: Duration,
    /// The jitter: a wait is spread by this part of itself to both sides. Default 0.5: agents that failed together do
    /// not come back together.
    pub randomization_factor: f64,
    /// The growth of the wait. Default 1.5.
    pub multiplier: f64,
    /// The longest wait. Default 30s: a peer that is back is found within half a minute.
    #[serde(with = "config::duration")]
    pub max_interval: Duration,
    /// How long one request is tried, from its first attempt on, before it is dropped; 0s = without end. Default 5m where the queue is in memory:
    /// older points are of little use and hold memory; 0s where it is on disk: that is what a disk is for.
    #[serde(with = "config::duration::option")]
    pub max_elapsed_time: Option<Duration>,
}

/// The Collector's `max_elapsed_time`.
const MEMORY_BUDGET: Duration = Duration::from_secs(300);

impl Default for RetrySettings {
    fn default() -> Self {
        RetrySettings {
            enabled: true,
            initial_interval: Duration::from_secs(5),
            randomization_factor: 0.5,
            multiplier: 1.5,
            max_interval: Duration::from_secs(30),
            max_elapsed_time: None,
        }
    }
}

impl RetrySettings {
    /// How long one request is tried; zero = without end.
    pub fn budget(&self, on_disk: bool) -> Duration {
        self.max_elapsed_time.unwrap_or(if on_disk { Duration::ZERO } else { MEMORY_BUDGET })
    }

    /// Checks what the types cannot. Paths are relative to this block.
    pub fn check(&self, report: &mut Report<'_>) {
        if !(0.0..=1.0).contains(&self.randomization_factor) {
            report.error(
                "randomization_factor",
                format!("{} is not a jitter: a number from 0 to 1 is", self.randomization_factor),
            );
        }
        if !(self.multiplier >= 1.0 && self.multiplier.is_finite()) {
            report.error(
                "multiplier",
                format!("{} would make the waits shrink: a number of at least 1 is allowed", self.multiplier),
            );
        }
        // A default is long enough; only what was written down can be too short.
        let budget = self.max_elapsed_time.unwrap_or_default();
        if self.enabled && !budget.is_zero() {
            for (name, value) in [("initial_interval", self.initial_interval), ("max_interval", self.max_interval)] {
                if value > budget {
                    report.error(
                        name,
                        format!("must not be longer than max_elapsed_time ({budget:?}), or nothing is ever repeated"),
                    );
                }
            }
        }
    }
}
