//! What the receiver's tests share: a lane that ends in an exporter which keeps what it is given.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use phoenix_pipeline::{BoxFuture, Chain, Delivery, Exporter, Lane, Outlet, Shipment, Site, Target};
use phoenix_telemetry::Batch;

/// Keeps what it is given.
#[derive(Default)]
pub struct Capture(Mutex<Vec<Batch>>);

impl Capture {
    /// A capture at the end of a lane, and the way in.
    pub fn behind_a_lane(site: &Site) -> (Arc<Self>, Lane, Outlet) {
        let capture = Arc::new(Self::default());
        let chain = Chain::new("metrics", Vec::new(), vec![Arc::clone(&capture) as Arc<dyn Exporter>], &site.metrics);
        let lane =
            Lane::start("lane", vec![chain], site.clock.clone(), site.metrics.clone(), |panic| panic!("{panic}"));
        let lane = lane.unwrap();
        let targets = vec![Target { lane: lane.handle(), pipeline: "metrics".into(), durable: false }];
        (capture, lane, Outlet::new(&site.metrics, site.id.as_str(), "", targets))
    }

    /// What came until now.
    pub fn batches(&self) -> Vec<Batch> {
        self.0.lock().unwrap().clone()
    }
}

impl Exporter for Capture {
    fn export(&self, shipment: Shipment, delivery: Delivery) {
        self.0.lock().unwrap().push(shipment.batch().clone());
        delivery.delivered();
    }

    fn shutdown(&self, _deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}
