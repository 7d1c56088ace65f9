//! The tasks that carry parcels to a destination, again and again if need be, until they are sent or given up.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use phoenix_pipeline::{Ack, BuildError, Delivery, Refusal, Shipment, Site};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::gate::Gate;
use super::journal::Journal;
use super::pace::Outcome;
use super::queue::{Parcel, Queue};
use super::spool::{Spool, Stored};
use super::{Accepted, Backoff, Destination, Failure, QueueSettings, Retry, RetrySettings, Verdict};

/// Shipments above this are made ready on a thread of their own: compressing them would hold up the agent's other
/// tasks for more than some ten milliseconds.
const LARGE_SHIPMENT: usize = 1 << 20;

/// The longest rest a peer is given that asks for one: a wrong date in a header must not silence an agent for a year.
const LONGEST_REST: Duration = Duration::from_secs(3600);

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
        let promise = || {
            let mut promise = delivery.take();
            if !self.durable && !self.wait_for_result {
                // There is no disk: who asked for one is safe when the destination has the data.
                promise.reached(Ack::OnQueue);
            }
            promise
        };
        match self.queue.push(shipment, evict, promise) {
            Ok(evicted) => {
                if evicted > 0 {
                    self.journal.evicted(evicted, "evicted_size");
                } else if !self.durable {
                    self.journal.enqueued();
                }
            }
            Err(refusal) => {
                self.journal.refused(points, &refusal.to_string());
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

/// Where work comes from.
enum Source {
    Memory(Arc<Queue>),
    Disk(Spool),
}

/// One request to be, and where it came from.
enum Job {
    Memory(Parcel),
    Disk(Stored),
}

impl Job {
    fn shipment(&self) -> &Shipment {
        match self {
            Job::Memory(parcel) => &parcel.shipment,
            Job::Disk(stored) => &stored.shipment,
        }
    }
}

/// Why a shipment was not delivered.
enum Undelivered {
    /// It never will be, or was tried for long enough.
    Failed(Failure),
    /// The agent ends, and the data is on disk.
    Left,
}

struct Worker<D: Destination> {
    destination: Arc<D>,
    source: Source,
    journal: Arc<Journal>,
    gate: Arc<Gate>,
    retry: RetrySettings,
    budget: Duration,
    max_size: u64,
    timeout: Duration,
    stopping: watch::Receiver<bool>,
}

impl<D: Destination> Worker<D> {
    async fn run(self) {
        while let Some(job) = self.next().await {
            self.carry(job).await;
        }
    }

    async fn next(&self) -> Option<Job> {
        match &self.source {
            Source::Memory(queue) => queue.pop().await.map(Job::Memory),
            Source::Disk(spool) => tokio::select! {
                biased;
                () = self.stopped() => None,
                stored = spool.next() => stored.map(Job::Disk),
            },
        }
    }

    /// Resolves when the agent ends.
    async fn stopped(&self) {
        // An error says that the sender is gone, which ends the agent's interest as well.
        let _ = self.stopping.clone().wait_for(|stop| *stop).await;
    }

    /// Carries one piece of work to its end, in as many requests as it takes.
    async fn carry(&self, mut job: Job) {
        let mut pieces = vec![job.shipment().clone()];
        let mut outcome = Ok(());
        while let Some(piece) = pieces.pop() {
            let points = piece.points();
            match self.deliver(&piece).await {
                Ok(accepted) => self.journal.sent(points, accepted),
                Err(Undelivered::Failed(failure)) if failure.retry == Retry::Smaller && points > 1 => {
                    self.journal.split();
                    let mut head = piece.batch().clone();
                    let tail = head.split_off(points / 2);
                    pieces.extend([Shipment::new(tail), Shipment::new(head)]);
                    continue;
                }
                Err(Undelivered::Failed(failure)) => {
                    self.journal.dropped(points as u64, &failure.cause, &failure.reason);
                    outcome = Err(match failure.retry {
                        Retry::Never | Retry::Smaller => Refusal::last(failure.reason),
                        Retry::Backoff => Refusal::later(failure.reason),
                        Retry::After(wait) => Refusal::Later { reason: failure.reason, after: Some(wait) },
                    });
                }
                // Pieces that were sent are sent again with the rest: at least once.
                Err(Undelivered::Left) => return,
            }
            if let Job::Memory(parcel) = &mut job {
                parcel.ended(points);
            }
        }
        match (job, &self.source) {
            (Job::Disk(stored), Source::Disk(spool)) => spool.end(&stored, outcome),
            (Job::Memory(Parcel { delivery, .. }), _) => match outcome {
                Ok(()) => delivery.delivered(),
                Err(refusal) => delivery.refused(refusal),
            },
            (Job::Disk(_), Source::Memory(_)) => {}
        }
    }

    async fn deliver(&self, shipment: &Shipment) -> Result<Accepted, Undelivered> {
        let request = self.prepare(shipment).await.map_err(Undelivered::Failed)?;
        let started = Instant::now();
        let mut backoff = Backoff::new(&self.retry, self.budget);
        let on_disk = matches!(self.source, Source::Disk(_));
        loop {
            let pass = tokio::select! {
                biased;
                () = self.stopped(), if on_disk => return Err(Undelivered::Left),
                pass = self.gate.enter() => pass,
            };
            let mut failure = match self.attempt(request.clone()).await {
                Ok(accepted) => {
                    pass.end(Outcome::Answered);
                    return Ok(accepted);
                }
                Err(failure) => failure,
            };
            if let Retry::After(rest) = &mut failure.retry {
                *rest = LONGEST_REST.min(*rest);
            }
            let verdict = backoff.after(failure.retry, started.elapsed(), random());
            pass.end(match (failure.retry, verdict) {
                (Retry::Never | Retry::Smaller, _) => Outcome::Answered,
                (Retry::After(rest), _) => Outcome::Throttled(rest),
                (Retry::Backoff, Verdict::Wait(wait)) => Outcome::Failed(wait),
                (Retry::Backoff, Verdict::GiveUp) => Outcome::Failed(self.retry.max_interval),
            });
            match verdict {
                Verdict::Wait(wait) => {
                    self.journal.retried(&failure, wait);
                    // A shutdown ends a wait of our own choice once; one the peer asked for is kept.
                    let hurry = failure.retry == Retry::Backoff && !*self.stopping.borrow();
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        () = self.stopped(), if hurry || on_disk => {}
                    }
                }
                Verdict::GiveUp => {
                    if self.retry.enabled && !matches!(failure.retry, Retry::Never | Retry::Smaller) {
                        let budget = self.budget;
                        failure.reason = format!(
                            "{}; given up: the next attempt would come after max_elapsed_time ({budget:?})",
                            failure.reason
                        );
                    }
                    return Err(Undelivered::Failed(failure));
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
        let request =
            prepared.map_err(|reason| Failure { cause: Cow::Borrowed("encoding"), reason, retry: Retry::Never })?;
        let size = self.destination.size(&request) as u64;
        // A single point goes as it is: the peer may still take it.
        if self.max_size > 0 && size > self.max_size && shipment.points() > 1 {
            let reason = format!("a request of {size} bytes is over max_request_size ({})", self.max_size);
            return Err(Failure { cause: Cow::Borrowed("too large"), reason, retry: Retry::Smaller });
        }
        Ok(request)
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
