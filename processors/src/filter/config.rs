//! Settings of `filter`, with the Collector's keys.

use phoenix_pipeline::config::{Report, Settings};
use serde::{Deserialize, Serialize};

use super::Rules;
use crate::flaws::Flaws;
use crate::matching::Lists;
use crate::{AttributeMatch, MatchType, RegexpOptions};

/// What to write instead of OTTL.
const NO_OTTL: &str = "OTTL conditions are not served; write metrics.include or metrics.exclude with match_type \
    (strict, regexp or glob) and metric_names, resource_attributes or attributes";

/// Settings of `filter`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Accepted and without effect: what a failing OTTL condition leads to. `ignore` is the Collector's default.
    pub error_mode: ErrorMode,
    /// What to keep and what to drop; nothing by default, so an empty configuration is an error.
    pub metrics: MetricFilters,
    /// Refused: OTTL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metric_conditions: Option<serde_yaml::Value>,
    /// Ignored: another signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub spans: Option<serde_yaml::Value>,
    /// Ignored: another signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traces: Option<serde_yaml::Value>,
    /// Ignored: another signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_conditions: Option<serde_yaml::Value>,
    /// Ignored: another signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub logs: Option<serde_yaml::Value>,
    /// Ignored: another signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_conditions: Option<serde_yaml::Value>,
    /// Ignored: another signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profiles: Option<serde_yaml::Value>,
    /// Ignored: another signal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile_conditions: Option<serde_yaml::Value>,
}

/// What a failing OTTL condition leads to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorMode {
    /// It is logged.
    #[default]
    Ignore,
    /// Nothing.
    Silent,
    /// The data is refused.
    Propagate,
}

/// What to keep and what to drop.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricFilters {
    /// Only what matches is kept. Off by default.
    pub include: Option<MatchBlock>,
    /// What matches is dropped. Off by default.
    pub exclude: Option<MatchBlock>,
    /// Accepted and without effect: what is said of a name is always remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regexp: Option<RegexpOptions>,
    /// Refused: OTTL.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub resource: Vec<String>,
    /// Refused: OTTL.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metric: Vec<String>,
    /// Refused: OTTL.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub datapoint: Vec<String>,
}

/// One side of the filter.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MatchBlock {
    /// How the lists are compared; must be set, as in the Collector.
    pub match_type: Option<MatchType>,
    /// Accepted and without effect, as in [`MetricFilters`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regexp: Option<RegexpOptions>,
    /// Metric names; one must match. Empty = names do not count.
    pub metric_names: Vec<String>,
    /// Attributes of the resource; all must match. Empty = the resource does not count.
    pub resource_attributes: Vec<AttributeMatch>,
    /// Attributes of the data point; all must match. Empty = they do not count. Not in the Collector.
    pub attributes: Vec<AttributeMatch>,
    /// Refused: expr, the Collector's older language.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expressions: Vec<String>,
}

impl MatchBlock {
    pub(super) fn lists(&self) -> Lists<'_> {
        Lists {
            match_type: self.match_type,
            names: ("metric_names", &self.metric_names),
            resource: ("resource_attributes", &self.resource_attributes),
            point: ("attributes", &self.attributes),
        }
    }
}

impl Config {
    /// The keys that are there and mean other signals than metrics.
    pub(super) fn other_signals(&self) -> Vec<&'static str> {
        let keys = [
            ("spans", &self.spans),
            ("traces", &self.traces),
            ("trace_conditions", &self.trace_conditions),
            ("logs", &self.logs),
            ("log_conditions", &self.log_conditions),
            ("profiles", &self.profiles),
            ("profile_conditions", &self.profile_conditions),
        ];
        keys.into_iter().filter(|(_, value)| value.is_some()).map(|(key, _)| key).collect()
    }

    /// Refuses the Collector's two languages; says whether one was there.
    fn refuse_languages(&self, report: &mut Report<'_>) -> bool {
        let metrics = &self.metrics;
        let ottl = [
            ("metrics.resource", !metrics.resource.is_empty()),
            ("metrics.metric", !metrics.metric.is_empty()),
            ("metrics.datapoint", !metrics.datapoint.is_empty()),
            ("metric_conditions", self.metric_conditions.is_some()),
        ];
        let mut found = false;
        for (key, there) in ottl {
            if there {
                report.error(key, NO_OTTL);
                found = true;
            }
        }
        for (key, block) in
            [("metrics.include.expressions", &metrics.include), ("metrics.exclude.expressions", &metrics.exclude)]
        {
            if block.as_ref().is_some_and(|block| !block.expressions.is_empty()) {
                report.error(
                    key,
                    "expr expressions are not served; write metric_names, resource_attributes or attributes",
                );
                found = true;
            }
        }
        found
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        let languages = self.refuse_languages(report);
        if self.metrics.include.is_none() && self.metrics.exclude.is_none() && !languages {
            report.error("metrics", "nothing to filter; give metrics.include or metrics.exclude");
        }
        let mut flaws = Flaws::default();
        Rules::new(self, &mut flaws);
        flaws.report(report);
    }
}
