//! One pipeline's stages in order, and the exporters behind them. Synchronous, owned by one lane.

use std::sync::Arc;
use std::time::Instant;

use phoenix_telemetry::Batch;

use crate::{
    ComponentId, Context, Delivery, Exporter, Handover, Instrument, Level, Marks, Metrics, Processor, Shipment,
};

static INCOMING: Instrument = Instrument {
    name: "otelcol_processor_incoming_items",
    unit: "{items}",
    description: "Number of items passed to the processor.",
    level: Level::Basic,
};
static OUTGOING: Instrument = Instrument {
    name: "otelcol_processor_outgoing_items",
    unit: "{items}",
    description: "Number of items emitted from the processor.",
    level: Level::Basic,
};

static SERIES_IN: Instrument = Instrument {
    name: "phoenix_pipeline_series_in",
    unit: "{series}",
    description: "Points in the newest batch that entered the pipeline; a scrape has one point a series.",
    level: Level::Basic,
};
static SERIES_OUT: Instrument = Instrument {
    name: "phoenix_pipeline_series_out",
    unit: "{series}",
    description: "Points in the newest batch that left the pipeline.",
    level: Level::Basic,
};

/// How often one stage may speak in a row before the lane looks after its other work: a stage whose deadline never
/// moves on must not hold everything up.
const FLUSHES_IN_A_ROW: usize = 1_000;

/// A processor at its place in a chain.
pub struct Stage {
    id: ComponentId,
    processor: Box<dyn Processor>,
    incoming: metrics::Counter,
    outgoing: metrics::Counter,
}

impl Stage {
    /// Puts a processor at its place and makes its counters.
    pub fn new(id: ComponentId, processor: Box<dyn Processor>, metrics: &Metrics) -> Self {
        let labels = [("processor", id.as_str()), ("otel.signal", "metrics")];
        let (incoming, outgoing) = (metrics.counter(&INCOMING, &labels), metrics.counter(&OUTGOING, &labels));
        Stage { id, processor, incoming, outgoing }
    }
}

/// A pipeline's stages and exporters.
pub struct Chain {
    pipeline: Arc<str>,
    stages: Vec<Stage>,
    exporters: Vec<Arc<dyn Exporter>>,
    marks: Marks,
    series_in: metrics::Gauge,
    series_out: metrics::Gauge,
}

impl Chain {
    /// A chain for the pipeline of this name.
    pub fn new(pipeline: &str, stages: Vec<Stage>, exporters: Vec<Arc<dyn Exporter>>, metrics: &Metrics) -> Self {
        let labels = [("pipeline", pipeline)];
        let (series_in, series_out) = (metrics.gauge(&SERIES_IN, &labels), metrics.gauge(&SERIES_OUT, &labels));
        Chain { pipeline: pipeline.into(), stages, exporters, marks: Marks::default(), series_in, series_out }
    }

    /// The pipeline's name.
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// Runs a batch through all stages and hands it to the exporters.
    pub fn push(&mut self, batch: Batch, delivery: Delivery, now: Instant) {
        self.series_in.set(batch.points() as f64);
        self.run(0, batch, delivery, now);
    }

    fn run(&mut self, from: usize, mut batch: Batch, mut delivery: Delivery, now: Instant) {
        let marks = &mut self.marks;
        marks.clear();
        for stage in self.stages.iter_mut().skip(from) {
            stage.incoming.increment(batch.points() as u64);
            stage.processor.process(&mut batch, &mut Context { now, delivery: &mut delivery, marks });
            if batch.is_empty() {
                // Filtered away, refused (the delivery knows), or held by the stage together with its delivery.
                return delivery.delivered();
            }
            stage.outgoing.increment(batch.points() as u64);
        }
        if batch.is_empty() {
            return delivery.delivered();
        }
        self.series_out.set(batch.points() as f64);
        let shipment = Shipment::new(batch);
        for exporter in &self.exporters {
            exporter.export(shipment.clone(), delivery.fork());
        }
        delivery.delivered();
    }

    /// When the next stage wants to speak by itself.
    pub fn deadline(&self) -> Option<Instant> {
        self.stages.iter().filter_map(|stage| stage.processor.deadline()).min()
    }

    /// Lets every stage speak whose time has come.
    pub fn tick(&mut self, now: Instant) {
        for i in 0..self.stages.len() {
            self.flush_stage(i, now, false);
        }
    }

    /// Empties every stage in order, towards the exporters.
    pub fn flush(&mut self, now: Instant) {
        for i in 0..self.stages.len() {
            self.flush_stage(i, now, true);
        }
    }

    fn flush_stage(&mut self, i: usize, now: Instant, all: bool) {
        for _ in 0..FLUSHES_IN_A_ROW {
            let Some(stage) = self.stages.get_mut(i) else { return };
            if !all && stage.processor.deadline().is_none_or(|deadline| deadline > now) {
                return;
            }
            let (mut batch, mut delivery) = (Batch::default(), Delivery::none());
            self.marks.clear();
            stage.processor.flush(
                &mut batch,
                &mut Context { now, delivery: &mut delivery, marks: &mut self.marks },
                all,
            );
            if batch.is_empty() {
                return delivery.delivered();
            }
            stage.outgoing.increment(batch.points() as u64);
            self.run(i + 1, batch, delivery, now);
        }
    }

    /// Takes over from the chain it replaces, stage by stage of the same id, then sends what the old one still holds.
    pub fn replace(&mut self, mut old: Chain, now: Instant) -> Vec<(ComponentId, Handover)> {
        let mut report = Vec::new();
        for stage in &mut self.stages {
            if let Some(previous) = old.stages.iter_mut().find(|previous| previous.id == stage.id) {
                report.push((stage.id.clone(), stage.processor.adopt(previous.processor.as_mut())));
            }
        }
        old.flush(now);
        report
    }
}
