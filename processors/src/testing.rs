//! What the tests of several components need: batches, a built stage, counted numbers.

use std::time::Instant;

use phoenix_pipeline::config::{Value, parse};
use phoenix_pipeline::{Context, Delivery, Level, Marks, Processor, ProcessorFactory, Site};
use phoenix_telemetry::{AnyValue, Batch, BatchBuilder, Descriptor, Number, Shape};

/// A configuration block.
pub(crate) fn value(text: &str) -> Value {
    parse("test.yaml", text).unwrap()
}

/// All mistakes of a block, a line each.
pub(crate) fn mistakes(factory: &ProcessorFactory, text: &str) -> String {
    (factory.validate)(&value(text)).iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// A stage at a site of its own.
pub(crate) fn build(factory: &ProcessorFactory, id: &str, text: &str) -> Box<dyn Processor> {
    (factory.build)(&value(text), &Site::for_test(id)).unwrap()
}

/// Runs a batch nobody waits for through a stage.
pub(crate) fn run(stage: &mut dyn Processor, batch: &mut Batch) {
    let mut delivery = Delivery::none();
    stage.process(batch, &mut Context { now: Instant::now(), delivery: &mut delivery, marks: &mut Marks::default() });
}

/// A batch of `points` gauge points, numbered from 0.
pub(crate) fn batch_of(points: i64) -> Batch {
    numbered(0..points)
}

/// A batch with one gauge point for each number, which is its value; a new resource every third.
pub(crate) fn numbered(numbers: impl IntoIterator<Item = i64>) -> Batch {
    let mut builder = BatchBuilder::new();
    let descriptor = Descriptor { name: "m", unit: "1", description: "", shape: Shape::Gauge };
    let numbers: Vec<i64> = numbers.into_iter().collect();
    for group in numbers.chunks(3) {
        let mut resource = builder.resource();
        resource.attribute("group", group[0] / 3);
        let mut scope = resource.scope("s", "");
        let mut metric = scope.metric(&descriptor);
        for number in group {
            metric.point(0, 1, Number::Int(*number), &[("n", AnyValue::Int(*number))]);
        }
    }
    builder.finish()
}

/// The sum of an own metric over all its labels.
pub(crate) fn counted(site: &Site, name: &str) -> i64 {
    let own = site.metrics.gather(1, Level::Detailed);
    let points = own.series().filter(|point| point.metric().name() == name);
    points.map(|point| point.value().map_or(0, |value| value.as_f64() as i64)).sum()
}
