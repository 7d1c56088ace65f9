//! An exporter's queue with the workers that empty it: how data enters, and how it all ends.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phoenix_pipeline::{Ack, BuildError, Delivery, Shipment, Site};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::gate::Gate;
use super::journal::Journal;
use super::queue::Queue;
use super::spool::Spool;
use super::worker::{Source, Worker};
use super::{Destination, QueueSettings, RetrySettings};

/// Of the time to end, what is kept for writing to the disk what is not there yet.
const TO_WRITE: Duration = Duration::from_secs(1);

/// A queue and the tasks that empty it. Dropping it ends the tasks; [`Sender::shutdown`] lets them finish first.
pub struct Sender {
    /// The queue, or the line in front of the one on disk.
    queue: Arc<Queue>,
    spool: Mutex<Option<Spool>>,
    durable: bool,
    journal: Arc<Journal>,
    gate: Arc<Gate>,
    wait_for_result: bool,
    stopping: watch::Sender<bool>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl Sender {
    /// Starts the tasks on the site's runtime. `timeout` bounds one attempt; zero = no bound.
    ///
    /// # Errors
    /// The storage is not there, or the host allows no further thread.
    pub fn start<D: Destination>(
        destination: D,
        site: &Site,
        queue: &QueueSettings,
        retry: &RetrySettings,
        timeout: Duration,
    ) -> Result<Self, BuildError> {
        let journal = Arc::new(Journal::new(site));
        let line = Arc::new(Queue::new(queue, Journal::queue_size(site)));
        Journal::show_capacity(site, if queue.enabled { queue.capacity() } else { queue.num_consumers as u64 });
        let spool = match queue.on_disk() {
            None => None,
            Some(id) => {
                let storage = site.storages.find(id)?;
                let spool = Spool::start(site, &storage, queue, Arc::clone(&line), Arc::clone(&journal));
                Some(spool.map_err(|error| format!("a thread for the queue on disk: {error}"))?)
            }
        };
        let (stopping, stop) = watch::channel(false);
        let durable = spool.is_some();
        let gate = Arc::new(Gate::new(queue.num_consumers, Journal::concurrency(site)));
        let destination = Arc::new(destination);
        let worker = |_| Worker {
            destination: Arc::clone(&destination),
            source: match &spool {
                Some(spool) => Source::Disk(spool.clone()),
                None => Source::Memory(Arc::clone(&line)),
            },
            journal: Arc::clone(&journal),
            gate: Arc::clone(&gate),
            retry: retry.clone(),
            budget: retry.budget(durable),
            max_size: queue.max_request_size,
            timeout,
            stopping: stop.clone(),
        };
        let start = |worker: Worker<D>| site.runtime.spawn(worker.run());
        let workers = Mutex::new((0..queue.num_consumers).map(worker).map(start).collect());
        // Ready to take data in; how it goes with the peer shows when something is sent.
        site.status.ok();
        let wait_for_result = queue.wait_for_result || !queue.enabled;
        Ok(Sender { queue: line, spool: Mutex::new(spool), durable, journal, gate, wait_for_result, stopping, workers })
    }

    /// Whether the queue is on disk.
    pub fn durable(&self) -> bool {
        self.durable
    }

    /// Hands a shipment over and returns at once. `delivery` resolves when the data is as safe as it asks for, or with the
    /// destination's answer if the settings say so; what does not fit is refused.
    pub fn export(&self, shipment: Shipment, mut delivery: Delivery) {
        let points = shipment.points();
        if points == 0 {
            return delivery.delivered();
        }
        // In front of a disk nothing is evicted, and nothing is safe yet.
        let evict = !self.durable && !delivery.is_awaited();
        // Where there is no disk, who asked for one is safe when the destination has the data.
        let queued = !self.durable && !self.wait_for_result;
        let early = if queued { delivery.up_to(Ack::OnQueue) } else { Delivery::none() };
        let (evicted, outcome) = self.queue.push(shipment, evict, &mut delivery);
        if evicted > 0 {
            self.journal.evicted(evicted, "evicted_size");
        }
        match outcome {
            Ok(()) => {
                if evicted == 0 && !self.durable {
                    self.journal.enqueued();
                }
                early.delivered();
            }
            Err(refusal) => {
                self.journal.refused(points, &refusal.to_string());
                early.refused(refusal.clone());
                delivery.refused(refusal);
            }
        }
    }

    /// Sends what waits until `deadline`, then gives up and counts the rest as lost. A queue on disk only ends what is under
    /// way: the rest is kept.
    pub async fn shutdown(&self, deadline: std::time::Instant) {
        self.queue.close();
        // Nobody listens any more if all workers are done.
        self.stopping.send_replace(true);
        self.gate.hurry();
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        let spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner).take();
        let deadline = Instant::from_std(deadline);
        let reserve = match spool {
            Some(_) => TO_WRITE.min(deadline.saturating_duration_since(Instant::now()) / 4),
            None => Duration::ZERO,
        };
        let mut late = Vec::new();
        for mut worker in workers {
            if tokio::time::timeout_at(deadline - reserve, &mut worker).await.is_err() {
                late.push(worker);
            }
        }
        let mut lost = self.queue.load().points();
        for worker in late {
            worker.abort();
            // It was aborted; how it ended is known.
            drop(worker.await);
        }
        if let Some(spool) = spool {
            // What could not be written by then is lost; it shows in what the line still holds.
            let _ = tokio::time::timeout_at(deadline, spool.ended()).await;
            lost = self.queue.load().points();
        }
        self.queue.clear();
        if lost > 0 {
            self.journal.dropped(lost, "shutdown", "the agent stopped before everything was sent");
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.queue.close();
        for worker in self.workers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            worker.abort();
        }
    }
}
