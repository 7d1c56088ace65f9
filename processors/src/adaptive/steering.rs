//! The settings of whoever steers the stage: the control law's own, read from a configuration, and what may be done
//! against explosions by itself.
//!
//! The law's settings are described and have their defaults where the law is, in `phoenix-control`; here they only get
//! their form in a configuration. Nothing here acts.

use std::time::Duration;

use phoenix_control::detect::DetectorSettings;
use phoenix_pipeline::config::{Report, duration};
use serde::{Deserialize, Serialize};

/// The form of [`phoenix_control::Gains`] in a configuration.
#[derive(Serialize, Deserialize)]
#[serde(remote = "phoenix_control::Gains", default = "phoenix_control::Gains::default", deny_unknown_fields)]
struct Gains {
    proportional: f64,
    #[serde(with = "duration")]
    integral_time: Duration,
    #[serde(with = "duration")]
    derivative_time: Duration,
    #[serde(with = "duration")]
    derivative_filter: Duration,
    #[serde(with = "duration")]
    tracking_time: Duration,
}

/// The form of [`phoenix_control::Wins`] in a configuration.
#[derive(Serialize, Deserialize)]
#[serde(remote = "phoenix_control::Wins", rename_all = "snake_case")]
enum Wins {
    Budget,
    Attribution,
}

/// The form of [`phoenix_control::detect::DetectorSettings`] in a configuration.
#[derive(Serialize, Deserialize)]
#[serde(remote = "DetectorSettings", default = "DetectorSettings::default", deny_unknown_fields)]
struct Detect {
    history: usize,
    warm_up: usize,
    jump: f64,
    leak: f64,
    deploy: f64,
    #[serde(with = "duration")]
    deploy_time: Duration,
    least: f64,
    burst: f64,
    ceiling: f64,
}

/// The form of [`phoenix_control::Settings`] in a configuration; the budget stands in a block of its own.
#[derive(Serialize, Deserialize)]
#[serde(remote = "phoenix_control::Settings", default = "phoenix_control::Settings::default", deny_unknown_fields)]
pub(super) struct Law {
    #[serde(skip)]
    budget: f64,
    #[serde(with = "Gains")]
    gains: phoenix_control::Gains,
    band_high: f64,
    band_low: f64,
    confirmations: u32,
    #[serde(with = "duration")]
    tighten_dwell: Duration,
    #[serde(with = "duration")]
    relax_dwell: Duration,
    max_relaxes: usize,
    #[serde(with = "duration")]
    switch_window: Duration,
    max_reversals: usize,
    #[serde(with = "duration")]
    oscillation_lockout: Duration,
    hard_ceiling: f64,
    memory_ceiling: f64,
    #[serde(with = "duration")]
    emergency_lockout: Duration,
    #[serde(with = "duration")]
    stale_after: Duration,
    #[serde(with = "duration")]
    max_step: Duration,
    attribution_floor: Option<f64>,
    #[serde(with = "Wins")]
    wins: phoenix_control::Wins,
    #[serde(with = "Detect")]
    detect: DetectorSettings,
}

/// What may be done by itself against an explosion of series, each action by its own consent.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Remediation {
    /// Sum over the attribute of points that makes the series of one metric many. False: what is folded is for the user to
    /// say.
    pub fold_attribute: bool,
    /// Fold the executable that makes most of the new series. False, as above.
    pub fold_executable: bool,
    /// Put the next tighter profile to work, and none looser. False, as above.
    pub tighten_profile: bool,
    /// Put the tightest profile to work at once. False, as above.
    pub emergency_profile: bool,
    /// For how long an action holds; then it is taken back. 30m: time for a person to look.
    #[serde(with = "duration")]
    pub expires_after: Duration,
    /// Actions begun within an hour at most. 4: one of each kind.
    pub max_per_hour: usize,
}

impl Default for Remediation {
    fn default() -> Self {
        Remediation {
            fold_attribute: false,
            fold_executable: false,
            tighten_profile: false,
            emergency_profile: false,
            expires_after: Duration::from_secs(30 * 60),
            max_per_hour: 4,
        }
    }
}

impl Remediation {
    pub(super) fn check(&self, report: &mut Report<'_>) {
        if !(Duration::from_secs(10)..=Duration::from_secs(7 * 24 * 3600)).contains(&self.expires_after) {
            report.error("expires_after", "must be from 10s to 168h");
        }
        if !(1..=100).contains(&self.max_per_hour) {
            report.error("max_per_hour", "must be from 1 to 100");
        }
    }
}
