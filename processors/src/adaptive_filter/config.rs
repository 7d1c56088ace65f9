//! Settings of `adaptive_filter`.

use std::collections::BTreeMap;
use std::time::Duration;

use phoenix_pipeline::config::{Report, Settings};
use serde::{Deserialize, Serialize};

use crate::entity::{EntityBy, ScopeBy, check_max_entities};

/// Settings of `adaptive_filter`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The measures by name of metric, each with the bounds of its threshold. CPU, resident memory and disk I/O: what a
    /// process takes from others.
    pub measures: BTreeMap<String, Bounds>,
    /// Whose data moves a threshold: a host's, because hosts differ.
    pub scope: ScopeBy,
    /// Who is measured: every process.
    pub entity: EntityBy,
    /// How the threshold follows from the data: quantile, which says directly what part is folded.
    pub method: Method,
    /// The quantile at pressure 0 and at pressure 1; between them what is above it shrinks by the same factor with every
    /// step. Half, because half of all processes do next to nothing; 0.99 leaves ten of a thousand by each measure.
    pub quantile: Span,
    /// The distance from the median in median absolute deviations at pressure 0 and at pressure 1, for method mad; straight
    /// between them. 6 is far out of anything usual.
    pub deviations: Span,
    /// How hard to thin, from 0 to 1, until something turns it. 0.2: folds three of four by each measure.
    pub pressure: f64,
    /// Time of points over which the threshold is formed. 5m: slower than a spike, faster than a working day.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub window: Duration,
    /// Part of the threshold below which one that was above it goes (above 0, at most 1). 0.8: a value wanders.
    pub leave: f64,
    /// Time of points for which one that came above stays. 1m: some scrapes.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub min_stay: Duration,
    /// What is kept though it is small.
    pub unusual: Unusual,
    /// Entities remembered in all scopes, at some 900 bytes each; one that finds no room is folded. 100000: a gateway's.
    pub max_entities: usize,
}

impl Default for Config {
    fn default() -> Self {
        let measures = ["process.cpu.time", "process.disk.io", "process.memory.usage"];
        Config {
            measures: measures.into_iter().map(|name| (name.to_owned(), Bounds::default())).collect(),
            scope: ScopeBy::Host,
            entity: EntityBy::Resource,
            method: Method::Quantile,
            quantile: Span { from: 0.5, to: 0.99 },
            deviations: Span { from: 0.0, to: 6.0 },
            pressure: 0.2,
            window: Duration::from_secs(300),
            leave: 0.8,
            min_stay: Duration::from_secs(60),
            unusual: Unusual::default(),
            max_entities: 100_000,
        }
    }
}

/// Bounds of a threshold, in the metric's unit, by second for what counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// Never below. None by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    /// Never above. None by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
}

/// How the threshold follows from the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// A quantile.
    Quantile,
    /// The median and a number of median absolute deviations.
    Mad,
}

/// A value at pressure 0 and one at pressure 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Span {
    /// At pressure 0.
    pub from: f64,
    /// At pressure 1.
    pub to: f64,
}

/// What counts as unusual for itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Unusual {
    /// Distance from its own moving average in its own mean deviations from which a jump or fall is unusual; 0 = nothing
    /// is. 8: rarer than once a day among a thousand noisy processes.
    pub factor: f64,
    /// Time of points for which it is kept. 5m: long enough to be seen on a dashboard.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub hold: Duration,
    /// How many are kept at once in each scope, the most unusual first. 20: when a whole host jumps, that is no news about
    /// any one process.
    pub max: usize,
}

impl Default for Unusual {
    fn default() -> Self {
        Unusual { factor: 8.0, hold: Duration::from_secs(300), max: 20 }
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if self.measures.is_empty() {
            report.error("measures", "must name at least one metric");
        }
        for (name, Bounds { min, max }) in &self.measures {
            if name.is_empty() {
                report.error("measures", "every key must be the name of a metric");
            }
            for (key, bound) in [("min", min), ("max", max)] {
                if bound.is_some_and(|bound| !bound.is_finite()) {
                    report.error(&format!("measures::{name}::{key}"), "must be a finite number");
                }
            }
            if min.zip(*max).is_some_and(|(min, max)| min > max) {
                report.error(&format!("measures::{name}::min"), "must not be above max");
            }
        }
        self.scope.check(report);
        self.entity.check(report);
        let within = |value: f64, low: f64, high: f64| (low..=high).contains(&value);
        if !within(self.quantile.from, 0.0, 1.0) || !within(self.quantile.to, self.quantile.from, 1.0) {
            report.error("quantile", "must be from 0 to 1, and to not below from");
        }
        if !within(self.deviations.from, -1e6, 1e6) || !within(self.deviations.to, self.deviations.from, 1e6) {
            report.error("deviations", "must be numbers, and to not below from");
        }
        if !within(self.pressure, 0.0, 1.0) {
            report.error("pressure", "must be from 0 to 1");
        }
        if self.window.is_zero() {
            report.error("window", "must be above 0");
        }
        if !(self.leave > 0.0 && self.leave <= 1.0) {
            report.error("leave", "must be above 0 and at most 1");
        }
        if !(self.unusual.factor == 0.0 || within(self.unusual.factor, 1.0, 1e6)) {
            report.error("unusual.factor", "must be 0, or 1 or more");
        }
        check_max_entities(self.max_entities, report);
    }
}
