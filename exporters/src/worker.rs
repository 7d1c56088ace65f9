//! A thread of its own for exporters that write to something which may block: a disk, a terminal, a pipe.
//!
//! The lane hands a shipment over a bounded queue and goes on; a full queue refuses with a cause, so a slow disk is
//! back-pressure and never a stalled lane. The queue is bounded by what its shipments hold, not by their number.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use phoenix_pipeline::{Delivery, Refusal, Shipment};
use tokio::sync::watch;

/// Most bytes of OTLP that wait for the thread: some hundred scrapes of a large host.
const MAX_WAITING: usize = 32 * 1024 * 1024;
/// What a waiting shipment costs at least, so that a flood of tiny ones is bounded too.
const LEAST: usize = 1024;

/// What the thread does with shipments.
pub(crate) trait Work: Send + 'static {
    /// Takes a shipment over, with the duty to resolve its delivery.
    fn take(&mut self, shipment: Shipment, delivery: Delivery);

    /// When [`Work::tick`] is to be called, if nothing comes before.
    fn deadline(&self) -> Option<Instant> {
        None
    }

    /// The deadline has passed.
    fn tick(&mut self) {}

    /// Nothing comes any more: finish what is open.
    fn finish(&mut self) {}
}

struct Parcel {
    shipment: Shipment,
    delivery: Delivery,
    weight: usize,
}

/// The lane's end of the thread.
pub(crate) struct Worker {
    sender: Mutex<Option<Sender<Parcel>>>,
    waiting: Arc<AtomicUsize>,
    done: watch::Receiver<bool>,
}

impl Worker {
    /// Starts the thread.
    ///
    /// # Errors
    /// The host's, when it allows no further thread.
    pub(crate) fn start(name: &str, mut work: impl Work) -> std::io::Result<Self> {
        let (sender, receiver) = channel();
        let (done, finished) = watch::channel(false);
        let waiting = Arc::new(AtomicUsize::new(0));
        let left = Arc::clone(&waiting);
        // The kernel shows 15 characters of a thread's name.
        std::thread::Builder::new().name(name.chars().take(15).collect()).spawn(move || {
            run(&mut work, &receiver, &left);
            let _ = done.send(true);
        })?;
        Ok(Self { sender: Mutex::new(Some(sender)), waiting, done: finished })
    }

    /// Hands a shipment over, or refuses it at once. Returns whether it was taken.
    pub(crate) fn send(&self, shipment: Shipment, delivery: Delivery) -> bool {
        let weight = shipment.batch().encoded_len().max(LEAST);
        // A single shipment may be larger than the bound; it then waits alone.
        let before = self.waiting.fetch_add(weight, Ordering::AcqRel);
        if before > 0 && before + weight > MAX_WAITING {
            self.waiting.fetch_sub(weight, Ordering::AcqRel);
            delivery.refused(Refusal::later("the writer is behind: its queue is full"));
            return false;
        }
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        match sender.as_ref().map(|sender| sender.send(Parcel { shipment, delivery, weight })) {
            Some(Ok(())) => true,
            Some(Err(back)) => {
                back.0.delivery.refused(Refusal::later("the writer has ended"));
                false
            }
            None => false,
        }
    }

    /// Ends the thread after what waits, or stops waiting for it at `deadline`. Returns whether all was done.
    pub(crate) async fn shutdown(&self, deadline: Instant) -> bool {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut done = self.done.clone();
        tokio::time::timeout_at(deadline.into(), async move { done.wait_for(|done| *done).await.is_ok() })
            .await
            .unwrap_or(false)
    }
}

fn run(work: &mut impl Work, receiver: &Receiver<Parcel>, waiting: &AtomicUsize) {
    loop {
        let next = match work.deadline() {
            Some(deadline) => receiver.recv_timeout(deadline.saturating_duration_since(Instant::now())),
            None => receiver.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match next {
            Ok(Parcel { shipment, delivery, weight }) => {
                work.take(shipment, delivery);
                waiting.fetch_sub(weight, Ordering::AcqRel);
            }
            Err(RecvTimeoutError::Timeout) => work.tick(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    work.finish();
}

#[cfg(test)]
mod tests {
    use super::*;
    use phoenix_telemetry::Batch;
    use std::time::Duration;

    struct Slow(std::sync::mpsc::Receiver<()>, Arc<AtomicUsize>);

    impl Work for Slow {
        fn take(&mut self, _: Shipment, delivery: Delivery) {
            let _ = self.0.recv();
            self.1.fetch_add(1, Ordering::SeqCst);
            delivery.delivered();
        }
        fn finish(&mut self) {
            self.1.fetch_add(100, Ordering::SeqCst);
        }
    }

    #[tokio::test]
    async fn a_full_queue_refuses_and_shutdown_finishes_what_waits() {
        let (go, gate) = channel();
        let taken = Arc::new(AtomicUsize::new(0));
        let worker = Worker::start("test", Slow(gate, Arc::clone(&taken))).unwrap();
        let mut accepted = 0;
        while worker.send(Shipment::new(Batch::default()), Delivery::none()) {
            accepted += 1;
        }
        let fit = MAX_WAITING / LEAST;
        assert!((fit..=fit + 1).contains(&accepted), "{accepted}");
        assert!(!worker.shutdown(Instant::now() + Duration::from_millis(20)).await, "the work is not done");
        drop(go);
        assert!(worker.shutdown(Instant::now() + Duration::from_secs(20)).await);
        assert_eq!(taken.load(Ordering::SeqCst), accepted + 100);
    }
}
