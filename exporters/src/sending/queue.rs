//! The waiting line of an exporter: bounded in units of its sizer and in memory, optionally merging and splitting.
//!
//! What is on its way still counts (a [`Charge`] is given back when its parcel ends), so the line's limits bound
//! everything the exporter holds. It never waits for room: what does not fit is refused at once, with a reason.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::Gauge;
use phoenix_pipeline::{Delivery, Refusal, Shipment};
use phoenix_telemetry::Batch;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::{BatchSizer, OnFull, QueueSettings, Sizer};

/// One request to be: what is sent together, and whom to tell.
pub(super) struct Parcel {
    pub shipment: Shipment,
    pub delivery: Delivery,
    held: Held,
    charges: Vec<Arc<Charge>>,
}

/// What all parcels of a line hold together.
pub(super) struct Load {
    units: AtomicU64,
    points: AtomicU64,
    memory: AtomicU64,
    size: Gauge,
}

impl Load {
    /// Data points that have entered and not yet ended.
    pub fn points(&self) -> u64 {
        self.points.load(Ordering::Relaxed)
    }
}

/// One shipment's part of the line's limits, until the last parcel that carries some of it ends.
struct Charge {
    load: Arc<Load>,
    units: u64,
    memory: u64,
}

impl Charge {
    fn new(load: &Arc<Load>, units: u64, memory: u64) -> Self {
        load.units.fetch_add(units, Ordering::Relaxed);
        load.memory.fetch_add(memory, Ordering::Relaxed);
        load.size.increment(units as f64);
        Charge { load: Arc::clone(load), units, memory }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.load.units.fetch_sub(self.units, Ordering::Relaxed);
        self.load.memory.fetch_sub(self.memory, Ordering::Relaxed);
        self.load.size.decrement(self.units as f64);
    }
}

impl Parcel {
    /// That many of its points have come to their end.
    pub fn ended(&mut self, points: usize) {
        drop(self.held.split_off(points as u64));
    }
}

/// The data points of one parcel, until it ends.
struct Held {
    load: Arc<Load>,
    points: u64,
}

impl Held {
    fn new(load: &Arc<Load>, points: u64) -> Self {
        load.points.fetch_add(points, Ordering::Relaxed);
        Held { load: Arc::clone(load), points }
    }

    fn join(&mut self, mut other: Held) {
        self.points += std::mem::take(&mut other.points);
    }

    fn split_off(&mut self, points: u64) -> Held {
        let points = points.min(self.points);
        self.points -= points;
        Held { load: Arc::clone(&self.load), points }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.load.points.fetch_sub(self.points, Ordering::Relaxed);
    }
}

/// What is being merged.
struct Pending {
    batch: Batch,
    delivery: Delivery,
    held: Held,
    charges: Vec<Arc<Charge>>,
    due: Instant,
}

impl Pending {
    fn seal(self) -> Parcel {
        Parcel { shipment: Shipment::new(self.batch), delivery: self.delivery, held: self.held, charges: self.charges }
    }
}

#[derive(Default)]
struct State {
    ready: VecDeque<Parcel>,
    pending: Option<Pending>,
    closed: bool,
}

struct Batching {
    flush_timeout: Duration,
    min_size: u64,
    max_size: u64,
    sizer: BatchSizer,
}

impl Batching {
    fn size(&self, batch: &Batch) -> u64 {
        match self.sizer {
            BatchSizer::Items => batch.points() as u64,
            BatchSizer::Bytes => batch.encoded_len() as u64,
        }
    }

    fn too_large(&self, batch: &Batch) -> bool {
        self.max_size > 0 && batch.points() > 1 && self.size(batch) > self.max_size
    }
}

/// The waiting line.
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Notify,
    load: Arc<Load>,
    sizer: Sizer,
    capacity: u64,
    max_memory: u64,
    evict: bool,
    batching: Option<Batching>,
}

impl Queue {
    /// A line as the settings say; `size` shows its load. Without a queue, only what is on its way has room.
    pub fn new(settings: &QueueSettings, size: Gauge) -> Self {
        let (sizer, capacity) = match settings.enabled {
            // In front of a disk only memory is the limit: what the disk may hold, the disk says.
            true if settings.on_disk().is_some() => (settings.sizer(), u64::MAX),
            true => (settings.sizer(), settings.capacity()),
            false => (Sizer::Requests, settings.num_consumers as u64),
        };
        let batching = settings.batching().map(|batch| Batching {
            flush_timeout: batch.flush_timeout,
            min_size: batch.min_size,
            max_size: batch.max_size,
            sizer: settings.batch_sizer(batch),
        });
        let load = Load { units: AtomicU64::new(0), points: AtomicU64::new(0), memory: AtomicU64::new(0), size };
        Queue {
            state: Mutex::default(),
            wake: Notify::new(),
            load: Arc::new(load),
            sizer,
            capacity,
            max_memory: settings.max_memory_mib.saturating_mul(1 << 20),
            evict: settings.on_full == OnFull::EvictOldest,
            batching,
        }
    }

    /// What the line holds, what is on its way included.
    pub fn load(&self) -> &Load {
        &self.load
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a shipment in, or says why not. `delivery` is what resolves when the shipment ends. With `evict` (or where the
    /// settings say so) what waits the longest makes room; returns how many data points did.
    pub fn push(&self, shipment: Shipment, evict: bool, delivery: impl FnOnce() -> Delivery) -> Result<u64, Refusal> {
        let batch = shipment.batch();
        let units = match self.sizer {
            Sizer::Requests => 1,
            Sizer::Items => batch.points() as u64,
            Sizer::Bytes => batch.encoded_len() as u64,
        };
        let memory = batch.retained_bytes() as u64;
        // Parcels that end meanwhile only make room; parcels that enter do so under this lock.
        let mut state = self.state();
        if state.closed {
            return Err(Refusal::later("the exporter is shutting down"));
        }
        let mut evicted = Vec::new();
        loop {
            let admitted = self
                .admit(&self.load.units, units, self.capacity, "sending_queue.queue_size")
                .and_then(|()| self.admit(&self.load.memory, memory, self.max_memory, "sending_queue.max_memory_mib"));
            let Err(refusal) = admitted else { break };
            let oldest = match &refusal {
                Refusal::Later { .. } if evict || self.evict => state.ready.pop_front(),
                _ => None,
            };
            // What is on its way cannot be taken back.
            let Some(mut oldest) = oldest else { return Err(refusal) };
            evicted.push((oldest.delivery.take(), oldest.shipment.points() as u64));
        }
        let charge = Arc::new(Charge::new(&self.load, units, memory));
        let held = Held::new(&self.load, shipment.points() as u64);
        match &self.batching {
            None => state.ready.push_back(Parcel { shipment, delivery: delivery(), held, charges: vec![charge] }),
            Some(batching) => {
                let batch = shipment.batch().clone();
                let pending = match state.pending.take() {
                    None => {
                        let due = Instant::now() + batching.flush_timeout;
                        Pending { batch, delivery: delivery(), held, charges: vec![charge], due }
                    }
                    Some(mut pending) => {
                        let left = pending.batch.append(batch);
                        debug_assert!(
                            left.is_none(),
                            "a queue holds at most MAX_MEMORY_MIB, which one batch can address"
                        );
                        pending.delivery.join(delivery());
                        pending.held.join(held);
                        pending.charges.push(charge);
                        pending
                    }
                };
                if batching.size(&pending.batch) >= batching.min_size {
                    state.ready.push_back(pending.seal());
                } else {
                    state.pending = Some(pending);
                }
            }
        }
        drop(state);
        self.wake.notify_one();
        let mut points = 0;
        for (delivery, gone) in evicted {
            delivery.refused(Refusal::later("younger data took its place in the sending queue"));
            points += gone;
        }
        Ok(points)
    }

    fn admit(&self, used: &AtomicU64, more: u64, capacity: u64, key: &str) -> Result<(), Refusal> {
        if more > capacity {
            return Err(Refusal::last(format!(
                "one request of {more} is larger than the whole queue ({key}, {capacity})"
            )));
        }
        if used.load(Ordering::Relaxed).saturating_add(more) > capacity {
            return Err(Refusal::later(format!("sending queue is full ({key}, {capacity})")));
        }
        Ok(())
    }

    /// The next parcel, waiting for one; `None` when the line is closed and empty.
    pub async fn pop(&self) -> Option<Parcel> {
        loop {
            let due = {
                let mut state = self.state();
                if let Some(pending) = state.pending.take_if(|pending| pending.due <= Instant::now()) {
                    state.ready.push_back(pending.seal());
                }
                if let Some(parcel) = state.ready.pop_front() {
                    // This consumer is busy from now on: another one watches over what is left.
                    if !state.ready.is_empty() || state.pending.is_some() {
                        self.wake.notify_one();
                    }
                    drop(state);
                    return Some(self.cut(parcel));
                }
                if state.closed {
                    self.wake.notify_one();
                    return None;
                }
                state.pending.as_ref().map(|pending| pending.due)
            };
            match due {
                None => self.wake.notified().await,
                // Either way the state is looked at again.
                Some(due) => drop(tokio::time::timeout_at(due, self.wake.notified()).await),
            }
        }
    }

    /// The next parcel, if there is one now.
    pub fn pop_now(&self) -> Option<Parcel> {
        let parcel = self.state().ready.pop_front()?;
        Some(self.cut(parcel))
    }

    /// Cuts a parcel down to the largest allowed size; the rest goes back to the head of the line.
    fn cut(&self, mut parcel: Parcel) -> Parcel {
        let Some(batching) = self.batching.as_ref().filter(|batching| batching.too_large(parcel.shipment.batch()))
        else {
            return parcel;
        };
        let mut head = parcel.shipment.batch().clone();
        let mut tail = Batch::default();
        while batching.too_large(&head) {
            let points = head.points() as u64;
            // Resources are repeated in both parts, so bytes do not fall in proportion: at least one point goes.
            let keep = points.saturating_mul(batching.max_size) / batching.size(&head);
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
        self.state().ready.push_front(rest);
        self.wake.notify_one();
        parcel.shipment = Shipment::new(head);
        parcel
    }

    /// Takes nothing in any more. What waits is still handed out, what is being merged at once.
    pub fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        if let Some(pending) = state.pending.take() {
            state.ready.push_back(pending.seal());
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Throws away what waits and refuses it.
    pub fn clear(&self) {
        let parcels = std::mem::take(&mut self.state().ready);
        for parcel in parcels {
            parcel.delivery.refused(Refusal::later("the exporter was shut down before this data could be sent"));
        }
    }
}
