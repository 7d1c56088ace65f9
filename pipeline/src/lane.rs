//! A lane: one OS thread that owns chains and runs batches through them, one at a time.
//!
//! Everything of one host goes through one lane, so order and the single-writer rule hold without locks. A swap happens
//! between two batches: new chains are built elsewhere, published through an [`ArcSwapOption`], and taken up here. A
//! stage that panics ends the lane and with it the agent, loudly: half-processed state is worth nothing.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use phoenix_telemetry::Batch;

use crate::{Chain, Clock, Delivery, Metrics, Refusal, swap};

/// Batches that may wait in front of a lane. A scrape every few seconds needs two; a burst of senders gets back-pressure
/// after this many, long before memory is at stake.
const WAITING: usize = 64;

#[expect(clippy::large_enum_variant, reason = "nearly every message is a batch")]
enum Message {
    Batch(Arc<str>, Batch, Delivery),
    /// Look at the slot, or for the end.
    Wake,
    Stop,
}

/// New chains on their way to a lane; taken out once.
type Published = Mutex<Option<(Vec<Chain>, Sender<()>)>>;

/// The way to a lane from any thread.
#[derive(Clone)]
pub struct LaneHandle {
    queue: Sender<Message>,
    slot: Arc<ArcSwapOption<Published>>,
}

impl LaneHandle {
    /// Puts a batch in front of the lane; never waits.
    ///
    /// # Errors
    /// [`Refusal::Later`] if the lane is full or gone; `delivery` is told the same.
    pub fn send(&self, pipeline: &Arc<str>, batch: Batch, delivery: Delivery) -> Result<(), Refusal> {
        let (message, refusal) = match self.queue.try_send(Message::Batch(Arc::clone(pipeline), batch, delivery)) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Full(message)) => {
                (message, Refusal::later("the pipeline is busy: too many batches are waiting"))
            }
            Err(TrySendError::Disconnected(message)) => (message, Refusal::later("the agent is shutting down")),
        };
        if let Message::Batch(_, _, delivery) = message {
            delivery.refused(refusal.clone());
        }
        Err(refusal)
    }

    /// Publishes new chains and waits until the lane has taken them up between two batches.
    ///
    /// Returns whether it did within `patience`; if not, it still will, at its next batch.
    pub fn swap(&self, chains: Vec<Chain>, patience: Duration) -> bool {
        let (done, taken) = bounded(1);
        self.slot.store(Some(Arc::new(Mutex::new(Some((chains, done))))));
        // A full queue needs no waking: the lane is at work and looks at the slot before its next batch.
        let _ = self.queue.try_send(Message::Wake);
        taken.recv_timeout(patience).is_ok()
    }

    /// Has the lane look at the deadlines of its stages again; never waits.
    pub fn wake(&self) {
        // A full queue needs no waking: the lane is at work and looks at the deadlines after every batch.
        let _ = self.queue.try_send(Message::Wake);
    }
}

/// A running lane.
pub struct Lane {
    handle: LaneHandle,
    thread: JoinHandle<()>,
}

impl Lane {
    /// Starts the thread. `on_panic` is called with the message if a stage panics.
    ///
    /// # Errors
    /// If the host gives no thread.
    pub fn start(
        name: &str,
        chains: Vec<Chain>,
        clock: Clock,
        metrics: Metrics,
        on_panic: impl FnOnce(String) + Send + 'static,
    ) -> std::io::Result<Lane> {
        let (queue, inbox) = bounded(WAITING);
        let slot = Arc::new(ArcSwapOption::empty());
        let mut worker = Worker { inbox, slot: Arc::clone(&slot), chains, clock, metrics };
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(|| worker.run())) {
                let text = panic
                    .downcast_ref::<String>()
                    .cloned()
                    .or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
                on_panic(text.unwrap_or_else(|| "unknown panic".to_owned()));
            }
        })?;
        Ok(Lane { handle: LaneHandle { queue, slot }, thread })
    }

    /// The way to this lane.
    pub fn handle(&self) -> LaneHandle {
        self.handle.clone()
    }

    /// Works off what waits, empties every stage towards the exporters, and ends. Blocks; the receivers have stopped.
    pub fn stop(self) {
        // A blocking send: the end must not be refused because the queue is full.
        let _ = self.handle.queue.send(Message::Stop);
        let _ = self.thread.join();
    }
}

struct Worker {
    inbox: Receiver<Message>,
    slot: Arc<ArcSwapOption<Published>>,
    chains: Vec<Chain>,
    clock: Clock,
    metrics: Metrics,
}

impl Worker {
    fn run(&mut self) {
        loop {
            let message = match self.chains.iter().filter_map(Chain::deadline).min() {
                None => self.inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(deadline) => self.inbox.recv_timeout(deadline.saturating_duration_since(self.clock.now())),
            };
            self.take_up();
            match message {
                Ok(Message::Batch(pipeline, batch, delivery)) => self.push(&pipeline, batch, delivery),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(Message::Wake) | Err(RecvTimeoutError::Timeout) => {}
            }
            let now = self.clock.now();
            self.chains.iter_mut().for_each(|chain| chain.tick(now));
        }
        let now = self.clock.now();
        self.chains.iter_mut().for_each(|chain| chain.flush(now));
    }

    fn push(&mut self, pipeline: &str, batch: Batch, delivery: Delivery) {
        let now = self.clock.now();
        match self.chains.iter_mut().find(|chain| chain.pipeline() == pipeline) {
            Some(chain) => chain.push(batch, delivery, now),
            None => delivery.refused(Refusal::later(format!("pipeline {pipeline} was removed by a reload"))),
        }
    }

    /// Takes up published chains, if there are any.
    fn take_up(&mut self) {
        let Some(published) = self.slot.swap(None) else { return };
        let Some((chains, done)) = published.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let now = self.clock.now();
        let mut old = std::mem::replace(&mut self.chains, chains);
        for chain in &mut self.chains {
            let Some(previous) = old.iter().position(|previous| previous.pipeline() == chain.pipeline()) else {
                continue;
            };
            for (id, handover) in chain.replace(old.swap_remove(previous), now) {
                swap::pieces(&self.metrics, &id, handover);
                tracing::debug!(pipeline = chain.pipeline(), processor = %id, ?handover, "processor state at the swap");
            }
        }
        old.iter_mut().for_each(|chain| chain.flush(now));
        swap::taken_up(&self.metrics);
        let _ = done.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{BoxFuture, ComponentId, Context, Exporter, Outlet, Processor, Shipment, Stage, Target};
    use phoenix_telemetry::{BatchBuilder, Descriptor, Number, Shape};
    use std::time::Instant;

    fn batch(points: usize) -> Batch {
        let mut builder = BatchBuilder::new();
        let mut resource = builder.resource();
        let mut scope = resource.scope("test", "");
        let mut metric = scope.metric(&Descriptor { name: "m", unit: "1", description: "", shape: Shape::Gauge });
        for i in 0..points {
            metric.point(0, 1, Number::Int(i as i64), &[]);
        }
        drop(metric);
        drop(scope);
        drop(resource);
        builder.finish()
    }

    #[derive(Default)]
    struct Sink(Mutex<Vec<usize>>);

    impl Exporter for Sink {
        fn export(&self, shipment: Shipment, delivery: Delivery) {
            self.0.lock().unwrap().push(shipment.points());
            delivery.delivered();
        }
        fn shutdown(&self, _: Instant) -> BoxFuture<'_, ()> {
            Box::pin(async {})
        }
    }

    /// Holds the first batch it sees until it is flushed.
    #[derive(Default)]
    struct Hold(Batch, Delivery);

    impl Processor for Hold {
        fn process(&mut self, batch: &mut Batch, cx: &mut Context<'_>) {
            if self.0.is_empty() {
                self.0 = std::mem::take(batch);
                self.1 = cx.delivery.take();
            }
        }
        fn flush(&mut self, batch: &mut Batch, cx: &mut Context<'_>, all: bool) {
            if all {
                *batch = std::mem::take(&mut self.0);
                *cx.delivery = self.1.take();
            }
        }
        fn as_any(&mut self) -> &mut dyn std::any::Any {
            self
        }
    }

    struct Panics;
    impl Processor for Panics {
        fn process(&mut self, _: &mut Batch, _: &mut Context<'_>) {
            panic!("stage broke")
        }
        fn as_any(&mut self) -> &mut dyn std::any::Any {
            self
        }
    }

    fn lane(stages: Vec<Stage>, sink: &Arc<Sink>, metrics: &Metrics) -> (Lane, std::sync::mpsc::Receiver<String>) {
        let (tx, rx) = std::sync::mpsc::channel();
        let chain = Chain::new("metrics", stages, vec![sink.clone()], metrics);
        (
            Lane::start("lane-0", vec![chain], Clock::system(), metrics.clone(), move |why| tx.send(why).unwrap())
                .unwrap(),
            rx,
        )
    }

    fn outlet(lane: &Lane, metrics: &Metrics) -> Outlet {
        Outlet::new(
            metrics,
            "test",
            "",
            vec![Target { lane: lane.handle(), pipeline: "metrics".into(), durable: false }],
        )
    }

    #[test]
    fn a_held_batch_leaves_through_the_old_chain_at_a_swap_and_is_delivered() {
        let (sink, metrics) = (Arc::new(Sink::default()), Metrics::new(&Clock::system(), vec![]));
        let hold = Stage::new(ComponentId::new("hold"), Box::<Hold>::default(), &metrics);
        let (lane, _panics) = lane(vec![hold], &sink, &metrics);
        let (tx, rx) = std::sync::mpsc::channel();
        outlet(&lane, &metrics).send(batch(3), Delivery::new(move |outcome| tx.send(outcome).unwrap())).unwrap();
        assert!(rx.recv_timeout(Duration::from_millis(50)).is_err(), "held");
        assert!(
            lane.handle()
                .swap(vec![Chain::new("metrics", vec![], vec![sink.clone()], &metrics)], Duration::from_secs(5))
        );
        assert_eq!(rx.recv_timeout(Duration::from_secs(5)).unwrap(), Ok(()));
        outlet(&lane, &metrics).send(batch(2), Delivery::none()).unwrap();
        lane.stop();
        assert_eq!(*sink.0.lock().unwrap(), [3, 2]);
    }

    #[test]
    fn the_end_works_off_the_queue_and_empties_the_stages() {
        let (sink, metrics) = (Arc::new(Sink::default()), Metrics::new(&Clock::system(), vec![]));
        let hold = Stage::new(ComponentId::new("hold"), Box::<Hold>::default(), &metrics);
        let (lane, _panics) = lane(vec![hold], &sink, &metrics);
        for points in 1..=5 {
            outlet(&lane, &metrics).send(batch(points), Delivery::none()).unwrap();
        }
        lane.stop();
        let mut seen = sink.0.lock().unwrap().clone();
        seen.sort_unstable();
        assert_eq!(seen, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_panic_is_reported_and_later_data_is_refused() {
        let (sink, metrics) = (Arc::new(Sink::default()), Metrics::new(&Clock::system(), vec![]));
        let (lane, panics) =
            lane(vec![Stage::new(ComponentId::new("panics"), Box::new(Panics), &metrics)], &sink, &metrics);
        let outlet = outlet(&lane, &metrics);
        let _ = outlet.send(batch(1), Delivery::none());
        assert!(panics.recv_timeout(Duration::from_secs(5)).unwrap().contains("stage broke"));
        let later = (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(10));
            outlet.send(batch(1), Delivery::none()).is_err()
        });
        assert!(later, "a dead lane refuses");
    }
}
