//! From a body to the pipelines and back: unpack, index, leave out what cannot be used, send, and wait for the promise.
//!
//! The room that the body was given goes with the data: it is adjusted at every step and given back when the data is as
//! safe as was promised. A batch is sent whole or not at all; a peer that goes away cancels nothing that was sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use phoenix_pipeline::admission::Held;
use phoenix_pipeline::{Ack, Delivery, Outlet, Refusal};
use phoenix_telemetry::{Batch, Limits, MetricKind, Temporality, json};
use phoenix_transport::answer::{Encoding, Partial};
use phoenix_transport::coding::{Coding, Undone, undo};
use tokio::sync::{Semaphore, oneshot};

use super::counts::Refused;

/// A body up to this size is worked on at once: 0.1 ms at 4 GB/s. A larger one goes to a thread, so that health and other
/// senders do not wait.
const AT_ONCE: usize = 512 << 10;
/// The same where nobody else waits for an answer: without the change of threads a request of 1.3 MB takes 5 % less CPU time.
const AT_ONCE_ALONE: usize = 2 << 20;
/// The same where a body is packed, which may make it a thousand times as large, or JSON.
const AT_ONCE_UNDONE: usize = 8 << 10;
/// Bytes of request per entry of the index at least. A point with a time and a value has 20, so that only requests made of
/// nearly empty messages meet it; an entry takes some hundred bytes of memory.
const BYTES_PER_ENTRY: usize = 16;
/// Entries that any request may have.
const ENTRIES: usize = 1024;

/// What a transport read.
pub(super) struct Body {
    pub(super) bytes: Bytes,
    pub(super) coding: Coding,
    pub(super) encoding: Encoding,
    /// The largest request, unpacked.
    pub(super) limit: usize,
    /// The room for `bytes`.
    pub(super) held: Held,
}

/// The way in. Clones are one.
#[derive(Clone)]
pub(super) struct Intake {
    outlet: Outlet,
    ack: Option<Ack>,
    /// Large bodies that are worked on at once: each takes a core.
    workers: Arc<Semaphore>,
    /// Requests that wait for their answers.
    waiting: Arc<AtomicUsize>,
}

/// A request that waits for its answer.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What became of a body: taken, all of it or in part, or refused.
type Outcome = Result<Option<Partial>, Refused>;

impl Intake {
    pub(super) fn new(outlet: Outlet, ack: Option<Ack>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Intake { outlet, ack, workers: Arc::new(Semaphore::new(cores)), waiting: Arc::default() }
    }

    /// Takes a body; resolves when the data is as safe as is promised.
    ///
    /// # Errors
    /// Why the data was not taken.
    pub(super) async fn take(&self, body: Body) -> Outcome {
        let (tell, hear) = oneshot::channel();
        let alone = self.waiting.fetch_add(1, Ordering::Relaxed) == 0;
        let _waiting = Waiting(Arc::clone(&self.waiting));
        let at_once = match (body.coding, body.encoding) {
            (Coding::Identity, Encoding::Proto) if alone => AT_ONCE_ALONE,
            (Coding::Identity, Encoding::Proto) => AT_ONCE,
            _ => AT_ONCE_UNDONE,
        };
        if body.bytes.len() <= at_once {
            self.send(body, tell);
        } else {
            let worker = Arc::clone(&self.workers).acquire_owned().await;
            let this = self.clone();
            // Nobody waits for the thread's end: that would be one more change of threads for every request.
            tokio::task::spawn_blocking(move || {
                this.send(body, tell);
                drop(worker);
            });
        }
        hear.await.unwrap_or_else(|_| Err(lost().into()))
    }

    /// Sends a body on. `tell` hears what became of it; when the peer has gone, nobody listens any more.
    fn send(&self, body: Body, tell: oneshot::Sender<Outcome>) {
        let (batch, partial, held) = match decode(body) {
            Ok((batch, partial, held)) if !batch.is_empty() => (batch, partial, held),
            Ok((_, partial, _)) => return drop(tell.send(Ok(partial))),
            Err(refused) => return drop(tell.send(Err(refused))),
        };
        let ack = self.ack.unwrap_or_else(|| self.outlet.usual_ack());
        let delivery = Delivery::until(ack, move |outcome| {
            drop(held);
            drop(tell.send(outcome.map(|()| partial).map_err(Refused::from)));
        });
        // The delivery hears the same.
        let _ = self.outlet.send(batch, delivery);
    }
}

fn lost() -> Refusal {
    Refusal::later("the agent is shutting down")
}

/// Unpacks and indexes a body and leaves out what cannot be used.
fn decode(body: Body) -> Result<(Batch, Option<Partial>, Held), Refused> {
    let Body { mut bytes, coding, encoding, limit, mut held } = body;
    if coding != Coding::Identity {
        let unpacked = undo(coding, &bytes, limit, |more| held.grow(more)).map_err(|error| match error {
            Undone::TooLarge(limit) => Refused::too_large(limit),
            Undone::NoRoom(full) => full.into(),
            Undone::Malformed(error) => Refused::malformed(format_args!("the body cannot be unpacked: {error}")),
        })?;
        let kept = unpacked.capacity();
        bytes = unpacked.into();
        held.shrink_to(kept);
    }
    let limits = Limits { max_bytes: limit, ..Limits::default() };
    if encoding == Encoding::Json {
        // The same request in protobuf is hardly ever larger; what it really takes is settled at the end.
        held.grow(bytes.len())?;
        bytes = json::read(&bytes, &limits).map_err(Refused::malformed)?.into();
    }
    // Room for the index, before it is built; it is usually about as large as the bytes.
    held.settle(bytes.len().saturating_mul(2))?;
    let max_points = limits.max_points.min(bytes.len() / BYTES_PER_ENTRY + ENTRIES);
    let mut batch = Batch::decode(bytes, &Limits { max_points, ..limits }).map_err(Refused::malformed)?;
    let partial = leave_out(&mut batch);
    held.settle(batch.retained_bytes())?;
    Ok((batch, partial, held))
}

/// Takes out points that have no identity or no meaning by OTLP's data model: of a metric without a name, and sums and
/// histograms that do not say what they count from ("UNSPECIFIED is the default AggregationTemporality, it MUST not be
/// used", metrics.proto).
fn leave_out(batch: &mut Batch) -> Option<Partial> {
    let flaw = |metric: phoenix_telemetry::Metric<'_>| {
        let counts =
            matches!(metric.kind(), MetricKind::Sum | MetricKind::Histogram | MetricKind::ExponentialHistogram);
        if metric.name().is_empty() {
            Some("a metric has no name")
        } else if counts && metric.temporality() == Temporality::Unspecified {
            Some("a sum or histogram has no aggregation temporality")
        } else {
            None
        }
    };
    // Scopes of one shape differ in nothing that is looked at here, so one of them tells for all. To look at all of them was
    // 9 % of the CPU time of passing on 9,000 points of 1,000 processes.
    let mut sound = None;
    let first = batch.resources().flat_map(|resource| resource.scopes()).find_map(|scope| {
        if sound.is_some() && scope.shape() == sound {
            return None;
        }
        sound = scope.shape();
        scope.metrics().find_map(|metric| {
            let why = flaw(metric).filter(|_| metric.points().next().is_some())?;
            Some(format!("{why} (the first: {:?})", metric.name()))
        })
    })?;
    let rejected = batch.drop_points(|point| flaw(point.metric()).is_some()) as u64;
    Some(Partial { rejected, message: first })
}
