//! Settings of `topk`.

use std::collections::BTreeMap;
use std::time::Duration;

use phoenix_pipeline::config::{Report, Settings};
use serde::{Deserialize, Serialize};

use crate::entity::{EntityBy, ScopeBy, check_max_entities};

/// Settings of `topk`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many entities stay individual in each scope, by each measure or by the score. 50: with the usual measures some
    /// hundred processes, which hold nearly all of what a host does.
    pub k: usize,
    /// The measures: names of metrics. CPU and resident memory, which every process has.
    pub rank_by: Vec<String>,
    /// Among whom is ranked: a host, because a busy host must not push the others out.
    pub scope: ScopeBy,
    /// Who is ranked: every process.
    pub entity: EntityBy,
    /// How several measures go together: union, because who leads in one is worth seeing whatever the others say.
    pub combine: Combine,
    /// Weight of each measure in the score of `weighted`; 1 where not said. Empty by default: all count the same.
    pub weights: BTreeMap<String, f64>,
    /// After so long what an entity did counts half as much as what it does; 0 ranks by the newest interval alone. 5m, as
    /// long as a series counts as active at most backends: what leads in one interval only would be as many series again.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub half_life: Duration,
    /// Whose newest value is so many times what the one in the last place did of late (1 to 1e6) enters at once. 4: a hog,
    /// and beyond what noise does.
    pub surge: f64,
    /// Part of `k` that may enter by rank alone within `half_life` while all places are taken (0 to 1). 0.2: ranks that
    /// have changed for good are followed within the half hour.
    pub turnover: f64,
    /// Part of `k` within which an entity enters (above 0, at most 1). 1: there are k places.
    pub enter: f64,
    /// Multiple of `k` within which one that is in stays (1 to 2). 1.25: ranks near the edge change.
    pub leave: f64,
    /// Time of points for which one that came in stays whatever its rank, unless twice `k` are in. 1m: some scrapes.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub min_stay: Duration,
    /// Entities remembered in all scopes, at some 900 bytes each; one that finds no room is folded. 100000: a gateway's.
    pub max_entities: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            k: 50,
            rank_by: vec!["process.cpu.time".into(), "process.memory.usage".into()],
            scope: ScopeBy::Host,
            entity: EntityBy::Resource,
            combine: Combine::Union,
            weights: BTreeMap::new(),
            half_life: Duration::from_secs(300),
            surge: 4.0,
            turnover: 0.2,
            enter: 1.0,
            leave: 1.25,
            min_stay: Duration::from_secs(60),
            max_entities: 100_000,
        }
    }
}

/// How several measures go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Combine {
    /// The first k of each measure.
    Union,
    /// The first k by a score: the sum of an entity's shares of each measure, by weight.
    Weighted,
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if self.k == 0 || self.k > self.max_entities {
            report.error("k", "must be at least 1 and at most max_entities");
        }
        if self.rank_by.is_empty() {
            report.error("rank_by", "must name at least one metric");
        }
        for (i, name) in self.rank_by.iter().enumerate() {
            if name.is_empty() || self.rank_by.iter().take(i).any(|before| before == name) {
                report.error(&format!("rank_by[{i}]"), "must be the name of a metric, each once");
            }
        }
        self.scope.check(report);
        self.entity.check(report);
        for (name, weight) in &self.weights {
            let path = format!("weights::{name}");
            if !self.rank_by.contains(name) {
                report.unknown(&path, name, self.rank_by.iter().map(String::as_str));
            }
            if !(weight.is_finite() && *weight >= 0.0) {
                report.error(&path, "must be a number from 0 on");
            }
        }
        if !self.weights.is_empty() && self.combine == Combine::Union {
            report.error("weights", "has no effect with combine: union; write combine: weighted");
        }
        if !(1.0..=1e6).contains(&self.surge) {
            report.error("surge", "must be from 1 to 1e6");
        }
        if !(0.0..=1.0).contains(&self.turnover) {
            report.error("turnover", "must be from 0 to 1");
        }
        if !(self.enter > 0.0 && self.enter <= 1.0) {
            report.error("enter", "must be above 0 and at most 1");
        }
        if !(1.0..=2.0).contains(&self.leave) {
            report.error("leave", "must be from 1 to 2");
        }
        check_max_entities(self.max_entities, report);
    }
}
