//! `attributes`: actions on the attributes of data points, of all of them or of those that are selected.

use std::any::Any;

use phoenix_pipeline::config::{Report, Settings, Value};
use phoenix_pipeline::{BuildError, Context, Processor, ProcessorFactory, Site, Stability};
use phoenix_telemetry::{Batch, PointId};
use serde::{Deserialize, Serialize};

use crate::actions::Actions;
use crate::flaws::Flaws;
use crate::matching::{Lists, Remembered, Selector};
use crate::{ActionConfig, AttributeMatch, MatchType, RegexpOptions};

/// The row of the table of processors.
pub const FACTORY: ProcessorFactory =
    ProcessorFactory::new::<Config>("attributes", "changes the attributes of data points", Stability::Beta, build);

/// Settings of `attributes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is done, in this order; nothing by default, which is an error.
    pub actions: Vec<ActionConfig>,
    /// Only points that match all lists of the block are changed. Off by default: all are.
    pub include: Option<MatchBlock>,
    /// Points that match all lists of the block are left alone. Off by default: none are.
    pub exclude: Option<MatchBlock>,
}

/// A selection of data points.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MatchBlock {
    /// How the lists are compared; must be set, as in the Collector.
    pub match_type: Option<MatchType>,
    /// Accepted and without effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regexp: Option<RegexpOptions>,
    /// Metric names; one must match. Empty = names do not count.
    pub metric_names: Vec<String>,
    /// Attributes of the resource; all must match. Empty = the resource does not count.
    pub resources: Vec<AttributeMatch>,
    /// Attributes of the data point; all must match. Empty = they do not count.
    pub attributes: Vec<AttributeMatch>,
}

impl MatchBlock {
    fn lists(&self) -> Lists<'_> {
        Lists {
            match_type: self.match_type,
            names: ("metric_names", &self.metric_names),
            resource: ("resources", &self.resources),
            point: ("attributes", &self.attributes),
        }
    }
}

/// The compiled configuration.
struct Plan {
    actions: Actions,
    include: Option<Selector>,
    exclude: Option<Selector>,
}

impl Plan {
    fn new(config: &Config, flaws: &mut Flaws) -> Self {
        let actions = Actions::new("actions", &config.actions, flaws);
        let mut compile = |key: &str, block: &Option<MatchBlock>| {
            block.as_ref().map(|block| Selector::new(key, &block.lists(), flaws))
        };
        Plan { actions, include: compile("include", &config.include), exclude: compile("exclude", &config.exclude) }
    }

    /// What `include` and `exclude` say to one of the three things they look at; nothing asked for = included, and
    /// without a block nothing is excluded.
    fn ask(&self, matches: impl Fn(&Selector) -> bool) -> (bool, bool) {
        (self.include.as_ref().is_none_or(&matches), self.exclude.as_ref().is_some_and(&matches))
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        let mut flaws = Flaws::default();
        Plan::new(self, &mut flaws);
        flaws.report(report);
    }
}

fn build(value: &Value, site: &Site) -> Result<Box<dyn Processor>, BuildError> {
    let config: Config = site.settings(value)?;
    let mut flaws = Flaws::default();
    let plan = Plan::new(&config, &mut flaws);
    Ok(Box::new(PointEditor { plan: flaws.none_or(plan)?, names: Remembered::default(), ids: Vec::new() }))
}

/// The stage.
struct PointEditor {
    plan: Plan,
    names: Remembered<(bool, bool)>,
    ids: Vec<PointId>,
}

impl Processor for PointEditor {
    fn process(&mut self, batch: &mut Batch, _: &mut Context<'_>) {
        let PointEditor { plan, names, ids } = self;
        ids.clear();
        for resource in batch.resources() {
            let (resource_in, resource_out) = plan.ask(|selector| selector.resource(resource.attributes()));
            if !resource_in {
                continue;
            }
            for metric in resource.metrics() {
                let name = metric.name();
                let (name_in, name_out) = names.ask(name, || plan.ask(|selector| selector.name(name)));
                if !name_in {
                    continue;
                }
                let chosen = metric.points().filter(|point| {
                    let (point_in, point_out) = plan.ask(|selector| selector.point(point.attributes()));
                    point_in && !(resource_out && name_out && point_out)
                });
                ids.extend(chosen.map(|point| point.id()));
            }
        }
        for id in ids {
            batch.edit_point(*id, |edits| plan.actions.apply(edits));
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{self, run};
    use phoenix_telemetry::{AnyValue, BatchBuilder, Descriptor, Number, Shape};

    fn batch() -> Batch {
        let mut builder = BatchBuilder::new();
        for host in ["a", "b"] {
            let mut resource = builder.resource();
            resource.attribute("host.name", host);
            let mut scope = resource.scope("s", "");
            for name in ["cpu", "mem"] {
                let descriptor = Descriptor { name, unit: "1", description: "", shape: Shape::Gauge };
                let mut metric = scope.metric(&descriptor);
                metric.point(0, 1, Number::Int(1), &[("state", AnyValue::Str("user"))]);
                metric.point(0, 1, Number::Int(1), &[("state", AnyValue::Str("idle"))]);
            }
        }
        builder.finish()
    }

    /// Which points carry the mark, as host/metric/state.
    fn marked(selection: &str) -> Vec<String> {
        let text = format!("{{actions: [{{key: mark, action: upsert, value: true}}]{selection}}}");
        let mut stage = testing::build(&FACTORY, "attributes", &text);
        let mut batch = batch();
        run(stage.as_mut(), &mut batch);
        let marked = batch.series().filter(|point| point.attributes().get("mark").is_some());
        let place = |point: phoenix_telemetry::Point<'_>| {
            let host = point.metric().resource().attributes().get_str("host.name").unwrap();
            format!("{host}/{}/{}", point.metric().name(), point.attributes().get_str("state").unwrap())
        };
        marked.map(place).collect()
    }

    #[test]
    fn all_points_without_a_selection() {
        assert_eq!(marked("").len(), 8);
    }

    #[test]
    fn include_wants_all_its_lists_to_match() {
        let names = marked(", include: {match_type: regexp, metric_names: [^cp]}");
        assert_eq!(names, ["a/cpu/user", "a/cpu/idle", "b/cpu/user", "b/cpu/idle"]);
        let all = ", include: {match_type: strict, metric_names: [cpu], resources: [{key: host.name, value: b}], \
            attributes: [{key: state, value: idle}]}";
        assert_eq!(marked(all), ["b/cpu/idle"]);
    }

    #[test]
    fn exclude_leaves_alone_what_all_its_lists_match() {
        let some = ", exclude: {match_type: glob, metric_names: [\"c*\"], resources: [{key: host.name, value: a}]}";
        assert_eq!(marked(some).len(), 6);
        let both = ", include: {match_type: strict, metric_names: [cpu]}, exclude: {match_type: strict, attributes: [{key: state, value: idle}]}";
        assert_eq!(marked(both), ["a/cpu/user", "b/cpu/user"]);
    }

    #[test]
    fn mistakes_are_said() {
        let mistakes = |text: &str| testing::mistakes(&FACTORY, text);
        assert!(mistakes("{}").contains("at least one action"));
        let text = "{actions: [{key: a, action: delete}], include: {match_type: strict}}";
        assert!(mistakes(text).contains("selects nothing"), "{}", mistakes(text));
        let text = "{actions: [{key: a, action: delete}], include: {metric_names: [a]}}";
        assert!(mistakes(text).contains("must be set: strict, regexp or glob"), "{}", mistakes(text));
        let text = "{actions: [{key: a, action: delete}], exclude: {match_type: regexp, metric_names: [ok, \"(\"]}}";
        assert!(mistakes(text).contains("exclude::metric_names[1]"), "{}", mistakes(text));
    }
}
