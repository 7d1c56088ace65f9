//! The settings of `cardinality`. Nothing here acts.

use std::time::Duration;

use phoenix_pipeline::config::{Report, Settings};
use serde::{Deserialize, Serialize};

/// Settings of `cardinality`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// A series counts for so long after its last point, by the agent's clock. 5m: as in `adaptive`.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub window: Duration,
    /// Series that are remembered one by one, for the rates and the metrics; of more, a fair part is. 20000: a large host,
    /// at some 60 bytes each.
    pub max_series: usize,
    /// Metrics that are counted by themselves; further ones are counted together, as `other`. As many attributes of single
    /// metrics are counted, and values of these as `max_series`. 500: more than a host has.
    pub max_metrics: usize,
    /// Attribute keys whose values are counted; further keys are left out. 50: two conventions' worth.
    pub max_attributes: usize,
    /// Values that are named of each key, those that most series have. 10: what a person reads.
    pub leading: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            window: Duration::from_secs(300),
            max_series: 20_000,
            max_metrics: 500,
            max_attributes: 50,
            leading: 10,
        }
    }
}

/// Bounds beyond which a number is a typing error.
const MOST: [(&str, usize); 4] =
    [("max_series", 10_000_000), ("max_metrics", 100_000), ("max_attributes", 10_000), ("leading", 1_000)];

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        let values = [self.max_series, self.max_metrics, self.max_attributes, self.leading];
        for ((key, most), value) in MOST.into_iter().zip(values) {
            if !(1..=most).contains(&value) {
                report.error(key, format!("must be from 1 to {most}"));
            }
        }
        if !crate::adaptive::WINDOWS.contains(&self.window) {
            report.error("window", "must be from 1s to 24h");
        }
    }
}
