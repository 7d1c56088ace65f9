//! `filter`: keeps or drops metrics by name, and data points by the attributes of their resource or their own.
//!
//! The include/exclude form of the Collector's filter. A resource and a metric are decided once each, whatever the number
//! of their points; what the patterns say about a metric name is remembered. Every drop is counted with its reason. The
//! Collector's OTTL conditions are not served, and a configuration that has them is refused with the words to write.

mod config;

use std::any::Any;

use phoenix_pipeline::config::Value;
use phoenix_pipeline::{BuildError, Context, Instrument, Level, Processor, ProcessorFactory, Site, Stability};
use phoenix_telemetry::{Attributes, Batch, PointId, Verdict};

pub use config::{Config, ErrorMode, MatchBlock, MetricFilters};

use crate::flaws::Flaws;
use crate::matching::{Remembered, Selector};

/// The row of the table of processors.
pub const FACTORY: ProcessorFactory =
    ProcessorFactory::new::<Config>("filter", "keeps or drops metrics by name and attributes", Stability::Beta, build);

static FILTERED: Instrument = Instrument {
    name: "otelcol_processor_filter_datapoints.filtered",
    unit: "1",
    description: "Number of metric data points dropped by the filter processor.",
    level: Level::Normal,
};
static DROPPED: Instrument = Instrument {
    name: "phoenix_filter_dropped_points_total",
    unit: "{datapoint}",
    description: "Data points dropped by a filter, by reason.",
    level: Level::Normal,
};

fn build(value: &Value, site: &Site) -> Result<Box<dyn Processor>, BuildError> {
    let config: Config = site.settings(value)?;
    let mut flaws = Flaws::default();
    let rules = Rules::new(&config, &mut flaws);
    let rules = flaws.none_or(rules)?;
    let ignored = config.other_signals();
    if !ignored.is_empty() {
        tracing::info!(processor = %site.id, keys = ignored.join(", "), "only metrics are filtered here: these keys have no effect");
    }
    Ok(Box::new(Filter::new(rules, site)))
}

/// The compiled configuration.
#[derive(Debug, Default)]
struct Rules {
    include: Selector,
    exclude: Selector,
}

impl Rules {
    fn new(config: &Config, flaws: &mut Flaws) -> Self {
        let mut compile = |key: &str, block: &Option<MatchBlock>| {
            block.as_ref().map(|block| Selector::new(key, &block.lists(), flaws)).unwrap_or_default()
        };
        Rules {
            include: compile("metrics.include", &config.metrics.include),
            exclude: compile("metrics.exclude", &config.metrics.exclude),
        }
    }

    fn drops_name(&self, name: &str) -> bool {
        self.include.names.as_ref().is_some_and(|names| !names.matches(name))
            || self.exclude.names.as_ref().is_some_and(|names| names.matches(name))
    }

    fn drops_resource(&self, attributes: Attributes<'_>) -> bool {
        self.include.resource.as_ref().is_some_and(|tests| !tests.match_all(attributes))
            || self.exclude.resource.as_ref().is_some_and(|tests| tests.match_all(attributes))
    }

    fn drops_point(&self, attributes: Attributes<'_>) -> bool {
        self.include.point.as_ref().is_some_and(|tests| !tests.match_all(attributes))
            || self.exclude.point.as_ref().is_some_and(|tests| tests.match_all(attributes))
    }

    fn looks_at_points(&self) -> bool {
        self.include.point.is_some() || self.exclude.point.is_some()
    }
}

/// The stage.
struct Filter {
    rules: Rules,
    names: Remembered<bool>,
    doomed: Vec<PointId>,
    filtered: metrics::Counter,
    by_resource: metrics::Counter,
    by_name: metrics::Counter,
    by_attributes: metrics::Counter,
}

impl Filter {
    fn new(rules: Rules, site: &Site) -> Self {
        let id = site.id.as_str();
        let reason = |reason| site.metrics.counter(&DROPPED, &[("processor", id), ("reason", reason)]);
        Filter {
            rules,
            names: Remembered::default(),
            doomed: Vec::new(),
            filtered: site.metrics.counter(&FILTERED, &[("filter", id)]),
            by_resource: reason("resource_attributes"),
            by_name: reason("metric_name"),
            by_attributes: reason("attributes"),
        }
    }
}

impl Processor for Filter {
    fn process(&mut self, batch: &mut Batch, _: &mut Context<'_>) {
        let Filter { rules, names, doomed, .. } = self;
        doomed.clear();
        let (mut by_resource, mut by_name, mut by_attributes) = (0, 0, 0);
        let looks_at_points = rules.looks_at_points();
        for resource in batch.resources() {
            let whole_resource = rules.drops_resource(resource.attributes());
            for metric in resource.metrics() {
                let before = doomed.len();
                if whole_resource {
                    doomed.extend(metric.points().map(|point| point.id()));
                    by_resource += doomed.len() - before;
                } else if names.ask(metric.name(), || rules.drops_name(metric.name())) {
                    doomed.extend(metric.points().map(|point| point.id()));
                    by_name += doomed.len() - before;
                } else if looks_at_points {
                    let points = metric.points().filter(|point| rules.drops_point(point.attributes()));
                    doomed.extend(points.map(|point| point.id()));
                    by_attributes += doomed.len() - before;
                }
            }
        }
        for id in doomed.iter() {
            batch.set_verdict(*id, Verdict::Drop);
        }
        self.filtered.increment(self.doomed.len() as u64);
        self.by_resource.increment(by_resource as u64);
        self.by_name.increment(by_name as u64);
        self.by_attributes.increment(by_attributes as u64);
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests;
