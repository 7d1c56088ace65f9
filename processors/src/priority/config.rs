//! Settings of `priority`.

use std::collections::BTreeMap;

use phoenix_pipeline::Class;
use phoenix_pipeline::config::{Report, Settings};
use serde::{Deserialize, Serialize};

use super::rules::Rules;
use crate::entity::check_max_entities;
use crate::flaws::Flaws;
use crate::{ConfigValue, MatchType};

/// Settings of `priority`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Rules in order; the first that fits counts. None by default: what matters differs from host to host.
    pub rules: Vec<Rule>,
    /// Ready rule sets, tried after all rules. None by default: each keeps what it names individual.
    pub presets: Vec<Preset>,
    /// Resources remembered, at some 70 bytes each. 100000: more than a gateway sees within minutes; beyond it the rules
    /// are tried again.
    pub max_entities: usize,
}

impl Default for Config {
    fn default() -> Self {
        Config { rules: Vec::new(), presets: Vec::new(), max_entities: 100_000 }
    }
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Rule {
    /// The class it gives; must be set.
    pub class: Option<ClassName>,
    /// Resource attributes: each key must have one of its values. Empty = every process.
    #[serde(rename = "match")]
    pub attributes: BTreeMap<String, Vec<ConfigValue>>,
    /// How values and names are compared; glob, because lists of executables are mostly plain names and a few stars.
    pub match_type: MatchType,
    /// Metric names, one of which must fit; the rule is then about those metrics only. Empty = the whole resource.
    pub metric_names: Vec<String>,
}

impl Default for Rule {
    fn default() -> Self {
        Rule { class: None, attributes: BTreeMap::new(), match_type: MatchType::Glob, metric_names: Vec::new() }
    }
}

/// How much an entity matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassName {
    /// Never folded.
    Critical,
    /// Wins ties.
    High,
    /// As if no rule fitted; ends the search.
    Normal,
    /// Folded unless something else keeps it.
    Low,
}

impl From<ClassName> for Class {
    fn from(name: ClassName) -> Class {
        match name {
            ClassName::Critical => Class::Critical,
            ClassName::High => Class::High,
            ClassName::Normal => Class::Normal,
            ClassName::Low => Class::Low,
        }
    }
}

/// A ready rule set; all are critical.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Preset {
    /// What a node cannot work without: kubelet, system daemons, remote access, time.
    NodeEssentials,
    /// The daemons that run containers, without their many shims.
    ContainerRuntimes,
    /// Servers of databases, caches and queues.
    Databases,
    /// Process 1.
    Init,
    /// The agent itself.
    #[serde(rename = "self")]
    Agent,
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if self.rules.is_empty() && self.presets.is_empty() {
            report.error("rules", "nothing to do; give rules or presets");
        }
        check_max_entities(self.max_entities, report);
        let mut flaws = Flaws::default();
        Rules::new(self, &mut flaws);
        flaws.report(report);
    }
}
