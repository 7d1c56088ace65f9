//! `resource`: actions on the attributes of every resource.

use std::any::Any;

use phoenix_pipeline::config::{Report, Settings, Value};
use phoenix_pipeline::{BuildError, Context, Processor, ProcessorFactory, Site, Stability};
use phoenix_telemetry::{Batch, ResourceId};
use serde::{Deserialize, Serialize};

use crate::ActionConfig;
use crate::actions::Actions;
use crate::flaws::Flaws;

/// The row of the table of processors.
pub const FACTORY: ProcessorFactory =
    ProcessorFactory::new::<Config>("resource", "changes the attributes of every resource", Stability::Beta, build);

/// Settings of `resource`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What is done, in this order; nothing by default, which is an error.
    pub attributes: Vec<ActionConfig>,
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        let mut flaws = Flaws::default();
        Actions::new("attributes", &self.attributes, &mut flaws);
        flaws.report(report);
    }
}

fn build(value: &Value, site: &Site) -> Result<Box<dyn Processor>, BuildError> {
    let config: Config = site.settings(value)?;
    let mut flaws = Flaws::default();
    let actions = Actions::new("attributes", &config.attributes, &mut flaws);
    let actions = flaws.none_or(actions)?;
    Ok(Box::new(ResourceEditor { actions, ids: Vec::new() }))
}

/// The stage.
struct ResourceEditor {
    actions: Actions,
    ids: Vec<ResourceId>,
}

impl Processor for ResourceEditor {
    fn process(&mut self, batch: &mut Batch, _: &mut Context<'_>) {
        self.ids.clear();
        self.ids.extend(batch.resources().map(|resource| resource.id()));
        for id in &self.ids {
            batch.edit_resource(*id, |edits| self.actions.apply(edits));
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
            resource.attribute("host.name", host).attribute("old", 1);
            let descriptor = Descriptor { name: "m", unit: "1", description: "", shape: Shape::Gauge };
            resource.scope("s", "").metric(&descriptor).point(0, 1, Number::Int(1), &[("old", AnyValue::Int(2))]);
        }
        builder.finish()
    }

    #[test]
    fn every_resource_is_changed_and_no_point() {
        let text = "{attributes: [{key: env, action: insert, value: prod}, {key: old, action: delete}, \
            {key: node, action: insert, from_attribute: host.name}]}";
        let mut stage = testing::build(&FACTORY, "resource", text);
        let mut batch = batch();
        run(stage.as_mut(), &mut batch);
        let nodes: Vec<_> =
            batch.resources().map(|resource| resource.attributes().get_str("node").unwrap().to_owned()).collect();
        assert_eq!(nodes, ["a", "b"]);
        for point in batch.series() {
            let resource = point.metric().resource().attributes();
            assert_eq!((resource.get_str("env"), resource.get("old")), (Some("prod"), None));
            assert_eq!(point.attributes().get("old"), Some(AnyValue::Int(2)));
        }
    }

    #[test]
    fn what_changes_nothing_leaves_the_bytes_alone() {
        let text = "{attributes: [{key: host.name, action: insert, value: x}, {key: none, action: update, value: x}]}";
        let mut stage = testing::build(&FACTORY, "resource", text);
        let (mut batch, before) = (batch(), batch().encode());
        run(stage.as_mut(), &mut batch);
        assert_eq!(batch.encode(), before);
    }

    #[test]
    fn nothing_to_do_is_a_mistake() {
        assert!(testing::mistakes(&FACTORY, "{}").contains("at least one action"));
    }
}
