//! The tasks that carry requests to a destination, again and again if need be, until they are sent or given up.

use std::borrow::Cow;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use phoenix_pipeline::{Refusal, Shipment};
use tokio::sync::watch;
use tokio::time::Instant;

use super::gate::Gate;
use super::journal::Journal;
use super::pace::Outcome;
use super::queue::{Parcel, Queue};
use super::spool::{Spool, Stored};
use super::{Accepted, Backoff, Destination, Failure, Retry, RetrySettings, Verdict};

/// Shipments above this are made ready on a thread of their own: compressing them, or copying them, would hold up the
/// agent's other tasks for more than some ten milliseconds.
const LARGE_TO_TRANSFORM: usize = 1 << 20;
const LARGE_TO_COPY: usize = 16 << 20;

/// The longest rest a peer is given that asks for one: a wrong date in a header must not silence an agent for a year.
const LONGEST_REST: Duration = Duration::from_secs(3600);

/// Where work comes from.
pub(super) enum Source {
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

/// One of the tasks that empty a queue. All of them share everything but what they carry.
pub(super) struct Worker<D: Destination> {
    pub destination: Arc<D>,
    pub source: Source,
    pub journal: Arc<Journal>,
    pub gate: Arc<Gate>,
    pub retry: RetrySettings,
    /// How long one request is tried; zero = without end.
    pub budget: Duration,
    /// Bytes of the largest request; zero = no limit.
    pub max_size: u64,
    /// Of one attempt; zero = without end.
    pub timeout: Duration,
    /// True when the agent ends.
    pub stopping: watch::Receiver<bool>,
}

impl<D: Destination> Worker<D> {
    /// Works until the source has ended.
    pub async fn run(self) {
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
                Err(Undelivered::Failed(failure))
                    if failure.retry == Retry::Smaller && points > 1 && piece.batch().points() == points =>
                {
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

    /// One request, from its first attempt to its end. Its time counts from the first attempt on: what was never tried because
    /// nothing may be sent to the destination is not given up.
    async fn deliver(&self, shipment: &Shipment) -> Result<Accepted, Undelivered> {
        let request = self.prepare(shipment).await.map_err(Undelivered::Failed)?;
        let mut backoff = Backoff::new(&self.retry, self.budget);
        let on_disk = matches!(self.source, Source::Disk(_));
        let mut tried: Option<(Instant, Failure)> = None;
        loop {
            let pass = tokio::select! {
                biased;
                () = self.stopped(), if on_disk => return Err(Undelivered::Left),
                pass = self.gate.enter() => pass,
                failure = self.given_up(&tried) => return Err(Undelivered::Failed(failure)),
            };
            let started = tried.take().map_or_else(Instant::now, |(started, _)| started);
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
            let Verdict::Wait(wait) = verdict else {
                let final_for_it = matches!(failure.retry, Retry::Never | Retry::Smaller) || !self.retry.enabled;
                return Err(Undelivered::Failed(if final_for_it { failure } else { self.out_of_time(failure) }));
            };
            self.journal.retried(&failure, wait);
            // A shutdown ends a wait of our own choice once; one the peer asked for is kept.
            let hurry = failure.retry == Retry::Backoff && !*self.stopping.borrow();
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.gate.back(), if failure.retry == Retry::Backoff => {}
                () = self.stopped(), if hurry || on_disk => {}
            }
            tried = Some((started, failure));
        }
    }

    /// Resolves with the last failure of a request when its time is over; never, if it was not tried yet.
    async fn given_up(&self, tried: &Option<(Instant, Failure)>) -> Failure {
        let end = tried.as_ref().and_then(|(started, failure)| Some((started.checked_add(self.budget)?, failure)));
        match end.filter(|_| !self.budget.is_zero()) {
            Some((end, failure)) => {
                tokio::time::sleep_until(end).await;
                self.out_of_time(failure.clone())
            }
            None => std::future::pending().await,
        }
    }

    fn out_of_time(&self, failure: Failure) -> Failure {
        let budget = self.budget;
        let reason =
            format!("{}; given up: the next attempt would come after max_elapsed_time ({budget:?})", failure.reason);
        Failure { reason, ..failure }
    }

    async fn prepare(&self, shipment: &Shipment) -> Result<D::Request, Failure> {
        let large = if self.destination.transforms() { LARGE_TO_TRANSFORM } else { LARGE_TO_COPY };
        let prepared = if shipment.encoded_len() > large {
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
