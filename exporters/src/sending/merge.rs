//! Merging before and splitting after waiting: the arithmetic of `sending_queue.batch`. Who waits for a part waits for the
//! whole it has become a part of.

use std::sync::Arc;
use std::time::Duration;

use phoenix_pipeline::{Delivery, Shipment};
use phoenix_telemetry::Batch;
use tokio::time::Instant;

use super::load::{Charge, Held};
use super::queue::Parcel;
use super::{BatchSettings, BatchSizer};

/// How requests are merged and split.
pub(super) struct Batching {
    flush_timeout: Duration,
    min_size: u64,
    max_size: u64,
    sizer: BatchSizer,
}

impl Batching {
    /// As the settings say.
    pub fn new(settings: &BatchSettings, sizer: BatchSizer) -> Self {
        let BatchSettings { flush_timeout, min_size, max_size, .. } = *settings;
        Batching { flush_timeout, min_size, max_size, sizer }
    }

    fn size(&self, batch: &Batch) -> u64 {
        match self.sizer {
            BatchSizer::Items => batch.points() as u64,
            BatchSizer::Bytes => batch.encoded_len() as u64,
        }
    }

    fn too_large(&self, batch: &Batch) -> bool {
        self.max_size > 0 && batch.points() > 1 && self.size(batch) > self.max_size
    }

    /// Whether it is sent without waiting for more.
    pub fn is_full(&self, pending: &Pending) -> bool {
        self.size(&pending.batch) >= self.min_size
    }

    /// Adds a parcel to what is being merged, or begins with it.
    pub fn merge(&self, pending: Option<Pending>, parcel: Parcel) -> Pending {
        let Parcel { shipment, delivery, held, charges } = parcel;
        let batch = shipment.batch().clone();
        let Some(mut pending) = pending else {
            return Pending { batch, delivery, held, charges, due: Instant::now() + self.flush_timeout };
        };
        let left = pending.batch.append(batch);
        debug_assert!(left.is_none(), "a queue holds at most MAX_MEMORY_MIB, which one batch can address");
        pending.delivery.join(delivery);
        pending.held.join(held);
        pending.charges.extend(charges);
        pending
    }

    /// Cuts a parcel down to the largest allowed size; returns the rest.
    pub fn cut(&self, parcel: &mut Parcel) -> Option<Parcel> {
        if !self.too_large(parcel.shipment.batch()) {
            return None;
        }
        let mut head = parcel.shipment.batch().clone();
        let mut tail = Batch::default();
        while self.too_large(&head) {
            let points = head.points() as u64;
            // Resources are repeated in both parts, so bytes do not fall in proportion: at least one point goes.
            let keep = points.saturating_mul(self.max_size) / self.size(&head);
            let keep = usize::try_from(keep.clamp(1, points - 1)).unwrap_or(usize::MAX);
            let mut cut = head.split_off(keep);
            let left = cut.append(tail);
            debug_assert!(left.is_none(), "both are parts of one batch");
            tail = cut;
        }
        let rest = Parcel {
            held: parcel.held.split_off(tail.points() as u64),
            shipment: Shipment::new(tail),
            delivery: parcel.delivery.fork(),
            charges: parcel.charges.clone(),
        };
        parcel.shipment = Shipment::new(head);
        Some(rest)
    }
}

/// What is being merged.
pub(super) struct Pending {
    batch: Batch,
    delivery: Delivery,
    held: Held,
    charges: Vec<Arc<Charge>>,
    pub due: Instant,
}

impl Pending {
    /// Nothing more is added to it.
    pub fn seal(self) -> Parcel {
        Parcel { shipment: Shipment::new(self.batch), delivery: self.delivery, held: self.held, charges: self.charges }
    }
}
