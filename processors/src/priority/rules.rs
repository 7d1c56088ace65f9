//! The compiled rules, and what they say of a resource.

use phoenix_pipeline::Class;
use phoenix_telemetry::Attributes;

use super::config::{Config, Preset, Rule};
use crate::entity::is_process;
use crate::flaws::Flaws;
use crate::matching::{Texts, as_text};
use crate::{ConfigValue, MatchType};

/// What one attribute may be.
#[derive(Debug)]
enum Values {
    Equal(Vec<ConfigValue>),
    Text(Texts),
}

#[derive(Debug)]
struct Compiled {
    class: Class,
    attributes: Vec<(String, Values)>,
    names: Option<Texts>,
}

/// What the rules say of a resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The class of the resource, if a rule fits.
    pub(super) class: Option<Class>,
    /// The rules before that one which are about some of its metrics.
    pub(super) by_metric: Box<[u16]>,
}

/// All rules in order.
#[derive(Debug, Default)]
pub(super) struct Rules(Vec<Compiled>);

impl Rules {
    /// Compiles the rules and behind them the presets; writes what is wrong into `flaws`.
    pub(super) fn new(config: &Config, flaws: &mut Flaws) -> Self {
        if config.rules.len() > usize::from(u16::MAX) - 16 {
            flaws.add("rules", "more than 65000 rules");
        }
        let mut rules = Vec::new();
        for (i, rule) in config.rules.iter().enumerate() {
            rules.extend(Compiled::new(&format!("rules[{i}]"), rule, flaws));
        }
        rules.extend(config.presets.iter().filter_map(|preset| Compiled::preset(*preset)));
        Rules(rules)
    }

    /// What the rules say of a resource with these attributes.
    pub(super) fn judge(&self, resource: Attributes<'_>) -> Verdict {
        let mut by_metric = Vec::new();
        for (i, rule) in (0u16..).zip(&self.0) {
            if !rule.fits(resource) {
                continue;
            }
            if rule.names.is_none() {
                return Verdict { class: Some(rule.class), by_metric: by_metric.into() };
            }
            by_metric.push(i);
        }
        Verdict { class: None, by_metric: by_metric.into() }
    }

    /// The class of a metric by those of the rules that are about metrics; the first that fits.
    pub(super) fn of_metric(&self, rules: &[u16], name: &str) -> Option<Class> {
        let mut rules = rules.iter().filter_map(|i| self.0.get(usize::from(*i)));
        let fits = |rule: &&Compiled| rule.names.as_ref().is_some_and(|names| names.matches(name));
        rules.find(fits).map(|rule| rule.class)
    }
}

impl Compiled {
    fn new(path: &str, rule: &Rule, flaws: &mut Flaws) -> Option<Self> {
        let Some(class) = rule.class else {
            flaws.add(format!("{path}.class"), "must be set: critical, high, normal or low");
            return None;
        };
        let mut attributes = Vec::new();
        for (key, values) in &rule.attributes {
            let at = format!("{path}.match::{key}");
            if key.is_empty() || values.is_empty() {
                flaws.add(at, "must be the name of an attribute and a list of at least one value");
                continue;
            }
            if rule.match_type == MatchType::Strict {
                attributes.push((key.clone(), Values::Equal(values.clone())));
                continue;
            }
            let texts: Vec<String> =
                values.iter().map(|value| as_text(value.as_any()).unwrap_or_default().into_owned()).collect();
            match Texts::new(rule.match_type, texts.iter().map(String::as_str)) {
                Ok(texts) => attributes.push((key.clone(), Values::Text(texts))),
                Err((i, why)) => flaws.add(format!("{at}[{i}]"), why),
            }
        }
        let names = rule.metric_names.iter().map(String::as_str);
        let names = match Texts::new(rule.match_type, names) {
            Ok(names) => (!rule.metric_names.is_empty()).then_some(names),
            Err((i, why)) => {
                flaws.add(format!("{path}.metric_names[{i}]"), why);
                None
            }
        };
        Some(Compiled { class: class.into(), attributes, names })
    }

    /// A preset's patterns are part of the program and compile.
    fn preset(preset: Preset) -> Option<Self> {
        let listed = preset.listed();
        let texts = Texts::new(MatchType::Glob, listed.values.iter().copied()).ok()?;
        let attributes = vec![(listed.key.to_owned(), Values::Text(texts))];
        Some(Compiled { class: Class::Critical, attributes, names: None })
    }

    fn fits(&self, resource: Attributes<'_>) -> bool {
        if self.attributes.is_empty() && self.names.is_none() {
            // A rule without conditions names nobody: it is about processes.
            return is_process(resource);
        }
        self.attributes.iter().all(|(key, values)| {
            resource.get(key).is_some_and(|value| match values {
                Values::Equal(wanted) => wanted.iter().any(|wanted| wanted.as_any() == value),
                Values::Text(texts) => as_text(value).is_some_and(|text| texts.matches(&text)),
            })
        })
    }
}
