//! One pipeline's stages in order, and the exporters behind them. Synchronous, owned by one lane.

use std::ops::Range;
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

    /// The id of its processor.
    pub fn id(&self) -> &ComponentId {
        &self.id
    }
}

/// Stages in order, without an end: what a chain is made of, and what a stage that is made of others holds.
#[derive(Default)]
pub struct Stages(Vec<Stage>);

impl Stages {
    /// Stages in this order.
    pub fn new(stages: Vec<Stage>) -> Self {
        Stages(stages)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs a batch through the stages from the `from`th on. An empty batch afterwards was filtered away, refused (the
    /// delivery knows), or is held by a stage together with its delivery.
    pub fn process(&mut self, from: usize, batch: &mut Batch, cx: &mut Context<'_>) {
        self.process_some(from..self.0.len(), batch, cx);
    }

    /// The same for the stages in a range of places.
    pub fn process_some(&mut self, places: Range<usize>, batch: &mut Batch, cx: &mut Context<'_>) {
        for stage in self.0.iter_mut().take(places.end).skip(places.start) {
            stage.incoming.increment(batch.points() as u64);
            stage.processor.process(batch, cx);
            if batch.is_empty() {
                return;
            }
            stage.outgoing.increment(batch.points() as u64);
        }
    }

    /// The place of the first stage of a kind; the end if there is none.
    pub fn place_of(&self, kind: &str) -> usize {
        self.0.iter().position(|stage| stage.id.kind() == kind).unwrap_or(self.0.len())
    }

    /// The processors in order.
    pub fn processors(&mut self) -> impl Iterator<Item = &mut dyn Processor> {
        self.0.iter_mut().map(|stage| stage.processor.as_mut() as &mut dyn Processor)
    }

    /// When the next stage wants to speak by itself.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.iter().filter_map(|stage| stage.processor.deadline()).min()
    }

    /// Lets the `at`th stage speak, if its time has come or `all` is to be heard, and runs what it says through the
    /// stages behind it. Returns whether it said anything.
    pub fn speak(&mut self, at: usize, batch: &mut Batch, cx: &mut Context<'_>, all: bool) -> bool {
        let Some(stage) = self.0.get_mut(at) else { return false };
        if !all && stage.processor.deadline().is_none_or(|deadline| deadline > cx.now) {
            return false;
        }
        cx.marks.clear();
        stage.processor.flush(batch, cx, all);
        if batch.is_empty() {
            cx.delivery.take().delivered();
            return false;
        }
        stage.outgoing.increment(batch.points() as u64);
        self.process(at + 1, batch, cx);
        true
    }

    /// Lets all stages speak in order until there is a batch for whoever comes after them; with nothing more to be
    /// said the batch stays empty.
    pub fn flush(&mut self, batch: &mut Batch, cx: &mut Context<'_>, all: bool) {
        for at in 0..self.0.len() {
            for _ in 0..FLUSHES_IN_A_ROW {
                if !self.speak(at, batch, cx, all) {
                    break;
                }
                if !batch.is_empty() {
                    return;
                }
                cx.delivery.take().delivered();
            }
        }
    }

    /// Takes over from the stages these replace, by id, and says of every stage of both what became of its state. What
    /// the old ones still hold is to be flushed through them afterwards.
    pub fn adopt(&mut self, old: &mut Stages) -> Vec<(ComponentId, Handover)> {
        let mut report = Vec::new();
        for previous in &mut old.0 {
            let handover = match self.0.iter_mut().find(|stage| stage.id == previous.id) {
                Some(stage) => stage.processor.adopt(previous.processor.as_mut()),
                None => Handover { discarded: previous.processor.pieces(), ..Handover::default() },
            };
            report.push((previous.id.clone(), handover));
        }
        report
    }

    /// Takes over the state of those of the same id that hold any, and says so of each; what these stages knew is
    /// forgotten, and no others are touched.
    pub fn inherit(&mut self, old: &mut Stages) -> Vec<(ComponentId, Handover)> {
        let mut report = Vec::new();
        for previous in old.0.iter_mut().filter(|previous| previous.processor.pieces() > 0) {
            if let Some(stage) = self.0.iter_mut().find(|stage| stage.id == previous.id) {
                report.push((previous.id.clone(), stage.processor.adopt(previous.processor.as_mut())));
            }
        }
        report
    }

    /// How many pieces of state all stages hold.
    pub fn pieces(&self) -> usize {
        self.0.iter().map(|stage| stage.processor.pieces()).sum()
    }
}

/// A pipeline's stages and exporters.
pub struct Chain {
    pipeline: Arc<str>,
    stages: Stages,
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
        let stages = Stages::new(stages);
        Chain { pipeline: pipeline.into(), stages, exporters, marks: Marks::default(), series_in, series_out }
    }

    /// The pipeline's name.
    pub fn pipeline(&self) -> &str {
        &self.pipeline
    }

    /// Runs a batch through all stages and hands it to the exporters.
    pub fn push(&mut self, mut batch: Batch, mut delivery: Delivery, now: Instant) {
        self.series_in.set(batch.points() as f64);
        self.marks.clear();
        self.stages.process(0, &mut batch, &mut Context { now, delivery: &mut delivery, marks: &mut self.marks });
        self.hand_over(batch, delivery);
    }

    /// Gives what the stages left to the exporters.
    fn hand_over(&mut self, batch: Batch, mut delivery: Delivery) {
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
        self.stages.deadline()
    }

    /// Lets every stage speak whose time has come.
    pub fn tick(&mut self, now: Instant) {
        self.speak(now, false);
    }

    /// Empties every stage in order, towards the exporters.
    pub fn flush(&mut self, now: Instant) {
        self.speak(now, true);
    }

    fn speak(&mut self, now: Instant, all: bool) {
        for at in 0..self.stages.len() {
            for _ in 0..FLUSHES_IN_A_ROW {
                let (mut batch, mut delivery) = (Batch::default(), Delivery::none());
                let mut cx = Context { now, delivery: &mut delivery, marks: &mut self.marks };
                if !self.stages.speak(at, &mut batch, &mut cx, all) {
                    break;
                }
                self.hand_over(batch, delivery);
            }
        }
    }

    /// Takes over from the chain it replaces, stage by stage of the same id, then sends what the old one still holds.
    pub fn replace(&mut self, mut old: Chain, now: Instant) -> Vec<(ComponentId, Handover)> {
        let report = self.stages.adopt(&mut old.stages);
        old.flush(now);
        report
    }
}
