//! The settings of `aggregate`. Nothing here acts.

use std::collections::BTreeMap;
use std::time::Duration;

use phoenix_pipeline::config::{Report, Settings};
use phoenix_telemetry::{Metric, MetricKind, Temporality};
use serde::{Deserialize, Serialize};

/// What is folded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fold {
    /// What an earlier stage marked to be folded, and nothing else.
    #[default]
    Marked,
    /// That, and every process that no stage marked to be kept.
    All,
}

/// How the gauges of a group become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GaugeFunction {
    /// The smallest value.
    Min,
    /// The largest value.
    Max,
    /// The arithmetic mean.
    Mean,
    /// The newest value; of several with one time, the largest.
    Last,
}

/// What the sums and histograms that leave count from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// What their senders' count from, per metric.
    #[default]
    Follow,
    /// Their start.
    Cumulative,
    /// The point before.
    Delta,
}

impl Output {
    /// The temporality a metric is to be written in, where that is not its own. Sums that may fall keep theirs: a level is
    /// no sum of deltas.
    pub(crate) fn converts(self, metric: Metric<'_>) -> Option<Temporality> {
        let wanted = match self {
            Output::Follow => return None,
            Output::Cumulative => Temporality::Cumulative,
            Output::Delta => Temporality::Delta,
        };
        let own = metric.temporality();
        let counts = match metric.kind() {
            MetricKind::Sum => metric.is_monotonic(),
            kind => matches!(kind, MetricKind::Histogram | MetricKind::ExponentialHistogram),
        };
        (counts && own != Temporality::Unspecified && own != wanted).then_some(wanted)
    }
}

/// Settings of `aggregate`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Resource attributes whose values name a group; empty = one group `other`. The executable's name: what people call
    /// a process by, and few on any host.
    pub group_by: Vec<String>,
    /// What is folded: `marked` or `all`. Marked: nothing disappears that no rule named.
    pub fold: Fold,
    /// Groups per host; further ones fold into `other`. 2000: more executables than a host runs.
    pub max_groups: usize,
    /// Entities per host whose series are remembered; further ones pass untouched. 100000: a large host ten times over.
    pub max_entities: usize,
    /// Gauges that may be folded, by metric name: `min`, `max`, `mean` or `last`. None: no function suits all gauges.
    pub gauges: BTreeMap<String, GaugeFunction>,
    /// What monotonic sums and histograms leave as, groups and individual series alike: `follow`, `cumulative` or `delta`. Follow: what a
    /// sender chose suits its backend, and nothing individual is touched.
    pub temporality: Output,
    /// Time of points after which a silent series is gone. 5m: what Prometheus takes for stale.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub member_expiry: Duration,
    /// Time of points after which a group without members is closed. 1h: jobs that run again the next minute or hour keep
    /// their group.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub group_expiry: Duration,
    /// Least time of points between two points of a group that many hosts feed. 10s: a scrape's usual interval.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub emit_interval: Duration,
    /// What survives a restart, where the agent keeps state.
    pub state: State,
}

/// How often the state is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct State {
    /// Least time between two writes; 0 = with every batch. 1s: a scrape has its own write, a relay under load one for
    /// many requests.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub interval: Duration,
}

impl Default for State {
    fn default() -> Self {
        State { interval: Duration::from_secs(1) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            group_by: vec!["process.executable.name".into()],
            fold: Fold::Marked,
            max_groups: 2_000,
            max_entities: 100_000,
            gauges: BTreeMap::new(),
            temporality: Output::Follow,
            member_expiry: Duration::from_secs(300),
            group_expiry: Duration::from_secs(3_600),
            emit_interval: Duration::from_secs(10),
            state: State::default(),
        }
    }
}

/// Entities a host may have at most: beyond it the tables of one host alone take gigabytes.
const MOST_ENTITIES: usize = 10_000_000;
/// Groups a host may have at most: beyond it groups save nothing.
const MOST_GROUPS: usize = 1_000_000;

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        for (key, value, most) in
            [("max_groups", self.max_groups, MOST_GROUPS), ("max_entities", self.max_entities, MOST_ENTITIES)]
        {
            if value == 0 || value > most {
                report.error(key, format!("must be between 1 and {most}"));
            }
        }
        for (key, value) in [("member_expiry", self.member_expiry), ("group_expiry", self.group_expiry)] {
            if value.is_zero() {
                report.error(key, "must be more than 0".to_owned());
            }
        }
        for (i, key) in self.group_by.iter().enumerate() {
            if key.is_empty() {
                report.error("group_by", "an attribute's key is empty; name one, or leave it out".to_owned());
            } else if self.group_by[..i].contains(key) {
                report.error("group_by", format!("{key} is named twice"));
            }
        }
    }
}
