//! The waiting line of an exporter: bounded in units of its sizer and in memory, optionally merging and splitting.
//!
//! What is on its way still counts (a [`Charge`] is given back when its parcel ends), so the line's limits bound
//! everything the exporter holds. It never waits for room: what does not fit is refused at once, with a reason.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use metrics::Gauge;
use phoenix_pipeline::{Delivery, Refusal, Shipment};
use phoenix_storage::{Id, Queue as Disk};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::load::{Charge, Held, Load};
use super::merge::{Batching, Pending};
use super::recent::{RECENT, Recent};
use super::spool::Stored;
use super::{OnFull, QueueSettings, Sizer};

/// One request to be: what is sent together, and whom to tell.
pub(super) struct Parcel {
    pub shipment: Shipment,
    pub delivery: Delivery,
    pub held: Held,
    pub charges: Vec<Arc<Charge>>,
}

impl Parcel {
    /// That many of its points have come to their end.
    pub fn ended(&mut self, points: usize) {
        drop(self.held.split_off(points as u64));
    }
}

#[derive(Default)]
struct State {
    ready: VecDeque<Parcel>,
    pending: Option<Pending>,
    recent: Recent,
    closed: bool,
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
        let batching = settings.batching().map(|batch| Batching::new(batch, settings.batch_sizer(batch)));
        Queue {
            state: Mutex::default(),
            wake: Notify::new(),
            load: Load::new(size),
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

    /// Takes a shipment in with its delivery, or says why not and leaves the delivery. With `evict` (or where the settings say
    /// so) what waits the longest makes room; also returns how many data points did. No delivery resolves under the line's
    /// lock: who waits for one may call back here.
    pub fn push(&self, shipment: Shipment, evict: bool, delivery: &mut Delivery) -> (u64, Result<(), Refusal>) {
        let mut evicted = Vec::new();
        let outcome = self.admit(shipment, evict || self.evict, delivery, &mut evicted);
        let mut points = 0;
        for parcel in evicted {
            points += parcel.shipment.points() as u64;
            parcel.delivery.refused(Refusal::later("younger data took its place in the sending queue"));
        }
        (points, outcome)
    }

    fn admit(
        &self,
        shipment: Shipment,
        evict: bool,
        delivery: &mut Delivery,
        evicted: &mut Vec<Parcel>,
    ) -> Result<(), Refusal> {
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
        // What is on the disk as well is not what anybody is refused for.
        let fits_alone = memory <= self.max_memory;
        while fits_alone && self.load.memory() + memory > self.max_memory && state.recent.give_way() {}
        loop {
            let admitted = fits(self.load.units(), units, self.capacity, "sending_queue.queue_size")
                .and_then(|()| fits(self.load.memory(), memory, self.max_memory, "sending_queue.max_memory_mib"));
            let Err(refusal) = admitted else { break };
            let oldest = match &refusal {
                Refusal::Later { .. } if evict => state.ready.pop_front(),
                _ => None,
            };
            // What is on its way cannot be taken back.
            let Some(mut oldest) = oldest else { return Err(refusal) };
            oldest.charges.clear();
            evicted.push(oldest);
        }
        let charge = Arc::new(Charge::new(&self.load, units, memory));
        let held = Held::new(&self.load, shipment.points() as u64);
        let parcel = Parcel { shipment, delivery: delivery.take(), held, charges: vec![charge] };
        match &self.batching {
            None => state.ready.push_back(parcel),
            Some(batching) => {
                let pending = batching.merge(state.pending.take(), parcel);
                if batching.is_full(&pending) {
                    state.ready.push_back(pending.seal());
                } else {
                    state.pending = Some(pending);
                }
            }
        }
        drop(state);
        self.wake.notify_one();
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

    /// Keeps a request that was written to the disk at that time in memory as well, if there is room.
    pub fn keep(&self, id: Id, shipment: &Shipment, written: u64) {
        let bytes = shipment.encoded_len() as u64;
        // Under the lock, as what enters.
        let mut state = self.state();
        if state.recent.bytes() + bytes <= RECENT && self.load.memory() + bytes <= self.max_memory {
            state.recent.keep(id, shipment, written, Charge::new(&self.load, 0, bytes));
        }
    }

    /// The next request of the disk's, if it was kept.
    pub fn recall(&self, disk: &mut Disk, now: u64) -> Option<Stored> {
        self.state().recent.next(disk, now)
    }

    /// Cuts a parcel down to the largest allowed size; the rest goes back to the head of the line.
    fn cut(&self, mut parcel: Parcel) -> Parcel {
        if let Some(rest) = self.batching.as_ref().and_then(|batching| batching.cut(&mut parcel)) {
            self.state().ready.push_front(rest);
            self.wake.notify_one();
        }
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

/// Whether so much more fits, and whether it ever can.
fn fits(used: u64, more: u64, capacity: u64, key: &str) -> Result<(), Refusal> {
    if more > capacity {
        return Err(Refusal::last(format!("one request of {more} is larger than the whole queue ({key}, {capacity})")));
    }
    if used.saturating_add(more) > capacity {
        return Err(Refusal::later(format!("sending queue is full ({key}, {capacity})")));
    }
    Ok(())
}
