//! The table form of every metric: names, units, attributes and defaults in both namings, and what the config makes of them.
//!
//! Scrapers hold their rows as constants and ask for a plan of each when they are built; a disabled metric has no plan. The
//! documentation is checked against these rows. This file reads nothing of the host.

use std::collections::BTreeMap;

use phoenix_pipeline::config::Report;
use phoenix_telemetry::{Shape, Temporality};
use serde::{Deserialize, Serialize};

pub(crate) use super::plan::{Label, Plan, int};

/// Which names the metrics and attributes carry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Naming {
    /// The names the Collector's hostmetrics receiver emits by default.
    #[default]
    V0,
    /// The names of the newer semantic conventions.
    V1,
}

impl Naming {
    /// The schema URL of the resources: what the Collector's receiver states for v0; the newer names have no single release
    /// whose schema they are, so v1 states none.
    pub(crate) fn schema_url(self) -> &'static str {
        match self {
            Naming::V0 => "https://opentelemetry.io/schemas/1.9.0",
            Naming::V1 => "",
        }
    }
}

/// A metric's name and unit in one naming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Metric name.
    pub name: &'static str,
    /// UCUM unit.
    pub unit: &'static str,
}

/// Whether values are whole numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueType {
    /// 64-bit signed integer.
    Int,
    /// 64-bit float.
    Double,
}

/// One value of a closed set, in both namings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Value in v0 naming; `None`: the point exists in v1 only.
    pub v0: Option<&'static str>,
    /// Value in v1 naming; `None`: the point exists in v0 only.
    pub v1: Option<&'static str>,
}

impl Member {
    /// The same word in both namings.
    pub const fn same(word: &'static str) -> Self {
        Self { v0: Some(word), v1: Some(word) }
    }

    /// The word under `naming`; `None`: there is no such point there.
    pub const fn word(&self, naming: Naming) -> Option<&'static str> {
        match naming {
            Naming::V0 => self.v0,
            Naming::V1 => self.v1,
        }
    }

    /// A word that changed.
    pub const fn renamed(v0: &'static str, v1: &'static str) -> Self {
        Self { v0: Some(v0), v1: Some(v1) }
    }

    /// A word of the v0 naming alone.
    pub const fn v0_only(word: &'static str) -> Self {
        Self { v0: Some(word), v1: None }
    }
}

/// One attribute of a metric's points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attribute {
    /// Key in v0 naming; `None`: v0 points do not carry it.
    pub v0: Option<&'static str>,
    /// Key in v1 naming.
    pub v1: Option<&'static str>,
    /// The closed set of values; empty: any text.
    pub members: &'static [Member],
}

impl Attribute {
    /// The key under `naming`; `None`: points do not carry it there.
    pub const fn key(&self, naming: Naming) -> Option<&'static str> {
        match naming {
            Naming::V0 => self.v0,
            Naming::V1 => self.v1,
        }
    }
}

/// One metric of the receiver.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Key of the scraper in the config.
    pub scraper: &'static str,
    /// Name and unit in v0 naming; `None`: the metric exists in v1 only.
    pub v0: Option<Form>,
    /// Name and unit in v1 naming; equal to v0 where the conventions have no other.
    pub v1: Form,
    /// What the value says.
    pub description: &'static str,
    /// Gauge or sum.
    pub shape: Shape,
    /// Type of the value.
    pub value: ValueType,
    /// Emitted unless the config says otherwise.
    pub enabled: bool,
    /// The points' attributes, in the order in which scrapers give their labels.
    pub attributes: &'static [Attribute],
}

/// A cumulative sum that only grows.
pub const COUNTER: Shape = Shape::Sum { monotonic: true, temporality: Temporality::Cumulative };
/// A cumulative sum that may fall.
pub const UP_DOWN: Shape = Shape::Sum { monotonic: false, temporality: Temporality::Cumulative };
/// A value that is not summed.
pub const GAUGE: Shape = Shape::Gauge;

impl Row {
    /// Name and unit under `naming`; `None` if the metric is not part of it.
    pub fn form(&self, naming: Naming) -> Option<Form> {
        match naming {
            Naming::V0 => self.v0,
            Naming::V1 => Some(self.v1),
        }
    }

    /// Whether a config key (`NAME`, or `NAME@v1` for the newer naming) means this metric. Both the old and the new name are known.
    pub(super) fn is_called(&self, key: &str) -> bool {
        let name = key.strip_suffix("@v1").unwrap_or(key);
        self.v1.name == name || self.v0.is_some_and(|form| form.name == name)
    }
}

/// How points that differ only in attributes that are not kept become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// Added up: the default for sums.
    Sum,
    /// The mean: the default for gauges.
    Avg,
    /// The smallest.
    Min,
    /// The largest.
    Max,
}

/// The switches of one metric under `metrics:`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricSettings {
    /// On or off; absent: the metric's own default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
    /// The attributes to keep; absent: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attributes: Option<Vec<String>>,
    /// How points that become equal are joined; absent: `sum` for sums, `avg` for gauges.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregation_strategy: Option<Strategy>,
}

/// The `metrics:` map of one scraper: metric name (old or new, `@v1` for the newer naming alone) to its switches.
pub type MetricsSettings = BTreeMap<String, MetricSettings>;

/// Reports unknown metrics and attributes of a scraper's `metrics:` map; `path` is the map's place, `scrapers.cpu.metrics`.
pub(crate) fn check(rows: &[Row], settings: &MetricsSettings, path: &str, report: &mut Report<'_>) {
    for (name, switches) in settings {
        let Some(row) = rows.iter().find(|row| row.is_called(name)) else {
            report.unknown(&format!("{path}.{name}"), name, rows.iter().map(|row| row.v0.unwrap_or(row.v1).name));
            continue;
        };
        for attribute in switches.attributes.iter().flatten() {
            let known = || row.attributes.iter().flat_map(|a| [a.v0, a.v1]).flatten();
            if !known().any(|key| key == attribute) {
                report.unknown(&format!("{path}.{name}.attributes"), attribute, known());
            }
        }
    }
}
