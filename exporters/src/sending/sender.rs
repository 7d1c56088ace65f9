//! The tasks that carry parcels to a destination, again and again if need be, until they are sent or given up.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phoenix_pipeline::{Delivery, Refusal, Shipment, Site};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::journal::Journal;
use super::queue::{Parcel, Queue};
use super::{Accepted, Backoff, Destination, Failure, QueueSettings, Retry, RetrySettings, Verdict};

/// Shipments above this are made ready on a thread of their own: compressing them would hold up the agent's other
/// tasks for more than some ten milliseconds.
const LARGE_SHIPMENT: usize = 1 << 20;

/// A queue and the tasks that empty it. Dropping it ends the tasks; [`Sender::shutdown`] lets them finish first.
pub struct Sender {
    queue: Arc<Queue>,
    journal: Arc<Journal>,
    wait_for_result: bool,
    stopping: watch::Sender<bool>,
    workers: Mutex<Vec<JoinHandle<()>>>,
}

impl Sender {
    /// Starts the tasks on the site's runtime. `timeout` bounds one attempt; zero = no bound.
    pub fn start<D: Destination>(
        destination: D,
        site: &Site,
        queue: &QueueSettings,
        retry: &RetrySettings,
        timeout: Duration,
    ) -> Self {
        let journal = Arc::new(Journal::new(site));
        let line = Arc::new(Queue::new(queue, Journal::queue_size(site)));
        Journal::show_capacity(site, line.capacity());
        let (stopping, stop) = watch::channel(false);
        let worker = Arc::new(Worker {
            destination: Arc::new(destination),
            queue: Arc::clone(&line),
            journal: Arc::clone(&journal),
            retry: retry.clone(),
            timeout,
        });
        let start = |_| site.runtime.spawn(Arc::clone(&worker).run(stop.clone()));
        let workers = Mutex::new((0..queue.num_consumers).map(start).collect());
        // Ready to take data in; how it goes with the peer shows when something is sent.
        site.status.ok();
        Sender { queue: line, journal, wait_for_result: queue.wait_for_result || !queue.enabled, stopping, workers }
    }

    /// Hands a shipment over and returns at once. `delivery` resolves now, or with the destination's answer if the
    /// settings say so; what does not fit is refused.
    pub fn export(&self, shipment: Shipment, mut delivery: Delivery) {
        let points = shipment.points();
        if points == 0 {
            return delivery.delivered();
        }
        let promise = || if self.wait_for_result { delivery.take() } else { Delivery::none() };
        match self.queue.push(shipment, promise) {
            Ok(()) => {
                self.journal.enqueued();
                if !self.wait_for_result {
                    delivery.delivered();
                }
            }
            Err(refusal) => {
                self.journal.refused(points, &refusal.to_string());
                delivery.refused(refusal);
            }
        }
    }

    /// Sends what waits until `deadline`, then gives up and counts the rest as lost.
    pub async fn shutdown(&self, deadline: std::time::Instant) {
        self.queue.close();
        // Nobody listens any more if all workers are done.
        self.stopping.send_replace(true);
        let workers = std::mem::take(&mut *self.workers.lock().unwrap_or_else(PoisonError::into_inner));
        let deadline = Instant::from_std(deadline);
        let mut late = Vec::new();
        for mut worker in workers {
            if tokio::time::timeout_at(deadline, &mut worker).await.is_err() {
                late.push(worker);
            }
        }
        let lost = self.queue.load().points();
        for worker in late {
            worker.abort();
            // It was aborted; how it ended is known.
            drop(worker.await);
        }
        self.queue.clear();
        if lost > 0 {
            self.journal.dropped(lost, "shutdown", "the agent stopped before everything was sent");
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        for worker in self.workers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            worker.abort();
        }
    }
}

struct Worker<D: Destination> {
    destination: Arc<D>,
    queue: Arc<Queue>,
    journal: Arc<Journal>,
    retry: RetrySettings,
    timeout: Duration,
}

impl<D: Destination> Worker<D> {
    async fn run(self: Arc<Self>, mut stopping: watch::Receiver<bool>) {
        while let Some(parcel) = self.queue.pop().await {
            self.carry(parcel, &mut stopping).await;
        }
    }

    /// Carries one parcel to its end.
    async fn carry(&self, parcel: Parcel, stopping: &mut watch::Receiver<bool>) {
        let points = parcel.shipment.points();
        match self.deliver(&parcel.shipment, stopping).await {
            Ok(accepted) => {
                self.journal.sent(points, accepted);
                parcel.delivery.delivered();
            }
            Err(failure) => {
                self.journal.dropped(points as u64, &failure.cause, &failure.reason);
                parcel.delivery.refused(match failure.retry {
                    Retry::Never => Refusal::last(failure.reason),
                    Retry::Backoff => Refusal::later(failure.reason),
                    Retry::After(wait) => Refusal::Later { reason: failure.reason, after: Some(wait) },
                });
            }
        }
    }

    async fn deliver(&self, shipment: &Shipment, stopping: &mut watch::Receiver<bool>) -> Result<Accepted, Failure> {
        let request = self.prepare(shipment).await?;
        let started = Instant::now();
        let mut backoff = Backoff::new(&self.retry);
        loop {
            let mut failure = match self.attempt(request.clone()).await {
                Ok(accepted) => return Ok(accepted),
                Err(failure) => failure,
            };
            match backoff.after(failure.retry, started.elapsed(), random()) {
                Verdict::Wait(wait) => {
                    self.journal.retried(&failure, wait);
                    // A shutdown ends a wait of our own choice once; one the peer asked for is kept.
                    let hurry = failure.retry == Retry::Backoff && !*stopping.borrow();
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        _ = stopping.wait_for(|stop| *stop), if hurry => {}
                    }
                }
                Verdict::GiveUp => {
                    if self.retry.enabled && failure.retry != Retry::Never {
                        let budget = self.retry.max_elapsed_time;
                        failure.reason = format!(
                            "{}; given up: the next attempt would come after max_elapsed_time ({budget:?})",
                            failure.reason
                        );
                    }
                    return Err(failure);
                }
            }
        }
    }

    async fn prepare(&self, shipment: &Shipment) -> Result<D::Request, Failure> {
        let prepared = if shipment.batch().encoded_len() > LARGE_SHIPMENT {
            let (destination, shipment) = (Arc::clone(&self.destination), shipment.clone());
            let task = tokio::task::spawn_blocking(move || destination.prepare(&shipment));
            task.await.unwrap_or_else(|error| Err(format!("preparing the request failed: {error}")))
        } else {
            self.destination.prepare(shipment)
        };
        prepared.map_err(|reason| Failure { cause: Cow::Borrowed("encoding"), reason, retry: Retry::Never })
    }

    async fn attempt(&self, request: D::Request) -> Result<Accepted, Failure> {
        let _in_flight = self.journal.in_flight();
        let attempt = self.destination.attempt(request);
        if self.timeout.is_zero() {
            return attempt.await;
        }
        tokio::time::timeout(self.timeout, attempt).await.unwrap_or_else(|_| {
            let reason = format!("no answer within the timeout of {:?}", self.timeout);
            Err(Failure { cause: Cow::Borrowed("timeout"), reason, retry: Retry::Backoff })
        })
    }
}

/// A number in 0..1 to spread waits with; nothing secret hangs on it.
fn random() -> f64 {
    // The standard library seeds every state anew, from the system's randomness.
    (RandomState::new().hash_one(()) >> 11) as f64 / (1u64 << 53) as f64
}
