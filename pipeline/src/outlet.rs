//! The way from a receiver into the lanes.
//!
//! An outlet never blocks: a lane that cannot take more refuses, and the receiver says so to whoever sent the data. Its
//! targets can be changed while it is in use, so a receiver lives on while the pipelines behind it are rebuilt.

use std::sync::Arc;

use arc_swap::ArcSwap;
use phoenix_telemetry::Batch;

use crate::lane::LaneHandle;
use crate::{Ack, Delivery, Instrument, Level, Metrics, Refusal};

static ACCEPTED: Instrument = Instrument {
    name: "otelcol_receiver_accepted_metric_points",
    unit: "{datapoints}",
    description: "Number of metric points successfully pushed into the pipeline.",
    level: Level::Basic,
};
static REFUSED: Instrument = Instrument {
    name: "otelcol_receiver_refused_metric_points",
    unit: "{datapoints}",
    description: "Number of metric points that could not be pushed into the pipeline.",
    level: Level::Basic,
};
static BATCHES: Instrument = Instrument {
    name: "phoenix_receiver_batches_total",
    unit: "{batch}",
    description: "Batches (scrapes, requests) that a receiver pushed into its pipelines.",
    level: Level::Basic,
};

/// One pipeline behind an outlet.
#[derive(Clone)]
pub struct Target {
    /// The lane that runs it.
    pub lane: LaneHandle,
    /// The pipeline's name.
    pub pipeline: Arc<str>,
    /// Whether every exporter of it keeps its queue on disk ([`crate::Exporter::durable`]).
    pub durable: bool,
}

/// A receiver's way out. Clones share their targets.
#[derive(Clone)]
pub struct Outlet {
    targets: Arc<ArcSwap<Vec<Target>>>,
    accepted: metrics::Counter,
    refused: metrics::Counter,
    batches: metrics::Counter,
}

impl Outlet {
    /// An outlet of the receiver `receiver` that takes data in by `transport` ("http", "grpc", "" for a scrape).
    pub fn new(metrics: &Metrics, receiver: &str, transport: &str, targets: Vec<Target>) -> Self {
        let labels = [("receiver", receiver), ("transport", transport)];
        Outlet {
            targets: Arc::new(ArcSwap::from_pointee(targets)),
            accepted: metrics.counter(&ACCEPTED, &labels),
            refused: metrics.counter(&REFUSED, &labels),
            batches: metrics.counter(&BATCHES, &labels),
        }
    }

    /// The same targets, counted under another transport.
    pub fn for_transport(&self, metrics: &Metrics, receiver: &str, transport: &str) -> Self {
        Outlet { targets: Arc::clone(&self.targets), ..Outlet::new(metrics, receiver, transport, Vec::new()) }
    }

    /// Sends to other pipelines from now on.
    pub fn retarget(&self, targets: Vec<Target>) {
        self.targets.store(Arc::new(targets));
    }

    /// How many pipelines are behind it.
    pub fn pipelines(&self) -> usize {
        self.targets.load().len()
    }

    /// How safe data is to be before its sender hears of it, where the configuration does not say: on disk where every
    /// exporter behind this outlet has one, else in the queues.
    pub fn usual_ack(&self) -> Ack {
        let targets = self.targets.load();
        let durable = !targets.is_empty() && targets.iter().all(|target| target.durable);
        if durable { Ack::OnDisk } else { Ack::OnQueue }
    }

    /// Sends a batch to every pipeline behind the outlet.
    ///
    /// # Errors
    /// The refusal, if one of them could not take it; `delivery` is told the same. A pipeline that could take it has
    /// it all the same, so a sender that sends again delivers to that one twice ("at least once").
    pub fn send(&self, batch: Batch, mut delivery: Delivery) -> Result<(), Refusal> {
        let targets = self.targets.load();
        let points = batch.points() as u64;
        let mut outcome = Ok(());
        let last = targets.len().saturating_sub(1);
        let mut batch = Some(batch);
        for (i, target) in targets.iter().enumerate() {
            // The last one takes the batch itself; for the others the bytes are shared and the index is copied.
            let (copy, leg) =
                if i == last { (batch.take(), delivery.take()) } else { (batch.clone(), delivery.fork()) };
            let Some(copy) = copy else { break };
            if let Err(refusal) = target.lane.send(&target.pipeline, copy, leg) {
                outcome = Err(refusal);
            }
        }
        if targets.is_empty() {
            let refusal = Refusal::later("no pipeline takes this receiver's data at the moment");
            delivery.refused(refusal.clone());
            outcome = Err(refusal);
        }
        match outcome {
            Ok(()) => self.accepted.increment(points),
            Err(_) => self.refused.increment(points),
        }
        self.batches.increment(1);
        outcome
    }
}
