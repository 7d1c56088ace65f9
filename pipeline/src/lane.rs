//! A lane: chains with one owner at a time, and a thread that runs batches through them, one after the other.
//!
//! Everything of one host goes through one lane, so order and the single-writer rule hold without locks inside. A swap happens
//! between two batches: new chains are built elsewhere, published through an [`ArcSwapOption`], and taken up here. A
//! stage that panics ends the lane and with it the agent, loudly: half-processed state is worth nothing.
//!
//! The thread sleeps when nothing waits, and is woken once. A batch that finds the lane idle does not wake it if it is
//! quickly done: its sender runs it through the chains at once. Stages that speak by themselves do so on the thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, Sender, TryRecvError, TrySendError, bounded};
use phoenix_telemetry::Batch;

use crate::{Chain, Clock, Delivery, Metrics, Refusal, swap};

/// Batches that may wait in front of a lane. A scrape every few seconds needs two; a burst of senders gets back-pressure
/// after this many, long before memory is at stake.
const WAITING: usize = 64;
/// How long a batch may take, at the pace of the one before it, to be run by its sender: what takes longer than two changes of
/// threads may as well have a thread to itself.
const QUICK: Duration = Duration::from_micros(100);
/// Points that every batch is reckoned to have at least, for its time by the point: some of it is the batch's own.
const SMALL: usize = 64;

#[expect(clippy::large_enum_variant, reason = "nearly every message is a batch")]
enum Message {
    Batch(Arc<str>, Batch, Delivery),
    /// Look at the slot and the deadlines.
    Wake,
    Stop,
}

/// New chains on their way to a lane; taken out once.
type Published = Mutex<Option<(Vec<Chain>, Sender<()>)>>;

/// What the lane's thread and its senders share.
struct Shared {
    slot: ArcSwapOption<Published>,
    /// None when the lane has ended. Whoever holds the lock runs batches; only they take messages out of the queue.
    worker: Mutex<Option<Worker>>,
}

impl Shared {
    fn worker(&self) -> MutexGuard<'_, Option<Worker>> {
        self.worker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Wakes the lane's thread when it is dropped.
#[derive(Clone)]
struct Alarm(Thread);

impl Drop for Alarm {
    fn drop(&mut self) {
        self.0.unpark();
    }
}

/// The way to a lane from any thread.
#[derive(Clone)]
pub struct LaneHandle {
    shared: Arc<Shared>,
    // Dropped before the alarm, so that the thread, woken by it, sees that the last sender has gone.
    queue: Sender<Message>,
    alarm: Alarm,
}

impl LaneHandle {
    /// Hands a batch to the lane: runs it through the chains if the lane is idle and it is quickly done, or else puts it in
    /// front of the lane. Never waits.
    ///
    /// # Errors
    /// [`Refusal::Later`] if the lane is full or gone; `delivery` is told the same.
    pub fn send(&self, pipeline: &Arc<str>, batch: Batch, delivery: Delivery) -> Result<(), Refusal> {
        // Two changes of threads cost a request of 90 points that is only passed on a quarter of its CPU time.
        if let Ok(mut worker) = self.shared.worker.try_lock()
            && let Some(idle) = worker.as_mut().filter(|worker| worker.is_idle_for(batch.points()))
            && self.shared.slot.load().is_none()
        {
            let run = catch_unwind(AssertUnwindSafe(|| idle.push(pipeline, batch, delivery)));
            return match run {
                Ok(()) => {
                    // Now somebody may want to speak sooner than the thread is going to look.
                    let earlier = idle.deadline().filter(|next| idle.sleeps_until.is_none_or(|until| *next < until));
                    if earlier.is_some() {
                        idle.sleeps_until = earlier;
                        self.alarm.0.unpark();
                    }
                    Ok(())
                }
                Err(panic) => {
                    end(worker, panic.as_ref());
                    self.alarm.0.unpark();
                    // The delivery heard of it when it was dropped.
                    Err(Refusal::later("the agent is shutting down"))
                }
            };
        }
        let (message, refusal) = match self.put(Message::Batch(Arc::clone(pipeline), batch, delivery)) {
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

    /// Puts a message in front of the lane and wakes it.
    #[expect(clippy::result_large_err, reason = "the batch comes back")]
    fn put(&self, message: Message) -> Result<(), TrySendError<Message>> {
        self.queue.try_send(message)?;
        self.alarm.0.unpark();
        Ok(())
    }

    /// Publishes new chains and waits until the lane has taken them up between two batches.
    ///
    /// Returns whether it did within `patience`; if not, it still will, at its next batch.
    pub fn swap(&self, chains: Vec<Chain>, patience: Duration) -> bool {
        let (done, taken) = bounded(1);
        self.shared.slot.store(Some(Arc::new(Mutex::new(Some((chains, done))))));
        self.wake();
        taken.recv_timeout(patience).is_ok()
    }

    /// Has the lane look at the deadlines of its stages again; never waits.
    pub fn wake(&self) {
        // A full queue needs no waking: the lane is at work and looks at slot and deadlines after every batch.
        let _ = self.put(Message::Wake);
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
        let on_panic = Box::new(on_panic);
        let worker = Worker { inbox, chains, clock, metrics, quick: SMALL, sleeps_until: None, on_panic };
        let shared = Arc::new(Shared { slot: ArcSwapOption::empty(), worker: Mutex::new(Some(worker)) });
        let own = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(move || run(&own))?;
        let alarm = Alarm(thread.thread().clone());
        Ok(Lane { handle: LaneHandle { shared, queue, alarm }, thread })
    }

    /// The way to this lane.
    pub fn handle(&self) -> LaneHandle {
        self.handle.clone()
    }

    /// Works off what waits, empties every stage towards the exporters, and ends. Blocks; the receivers have stopped.
    pub fn stop(self) {
        // A blocking send: the end must not be refused because the queue is full.
        let _ = self.handle.queue.send(Message::Stop);
        self.handle.alarm.0.unpark();
        let _ = self.thread.join();
    }
}

/// The lane's thread.
fn run(shared: &Shared) {
    loop {
        let mut worker = shared.worker();
        let Some(working) = worker.as_mut() else { return };
        match catch_unwind(AssertUnwindSafe(|| working.work_off(&shared.slot))) {
            Ok(After::Sleep(until)) => {
                let now = working.clock.now();
                drop(worker);
                match until {
                    None => std::thread::park(),
                    Some(until) => std::thread::park_timeout(until.saturating_duration_since(now)),
                }
            }
            Ok(After::End) => {
                let ended = worker.take();
                // Its chains hold handles of this lane.
                drop(worker);
                return drop(ended);
            }
            Err(panic) => return end(worker, panic.as_ref()),
        }
    }
}

/// Ends a lane that panicked: what comes later is refused.
fn end(mut worker: MutexGuard<'_, Option<Worker>>, panic: &(dyn std::any::Any + Send)) {
    let ended = worker.take();
    drop(worker);
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    if let Some(Worker { on_panic, .. }) = ended {
        on_panic(text.unwrap_or_else(|| "unknown panic".to_owned()));
    }
}

/// What the thread does next.
enum After {
    /// Sleeps, not longer than until then.
    Sleep(Option<Instant>),
    End,
}

struct Worker {
    inbox: Receiver<Message>,
    chains: Vec<Chain>,
    clock: Clock,
    metrics: Metrics,
    /// Points that take [`QUICK`] at the pace of the last batch.
    quick: usize,
    /// When the thread looks at the deadlines again by itself.
    sleeps_until: Option<Instant>,
    on_panic: Box<dyn FnOnce(String) + Send>,
}

impl Worker {
    /// Works off what waits and lets the stages speak whose time has come.
    fn work_off(&mut self, slot: &ArcSwapOption<Published>) -> After {
        loop {
            let message = self.inbox.try_recv();
            self.take_up(slot);
            let empty = matches!(message, Err(TryRecvError::Empty));
            match message {
                Ok(Message::Batch(pipeline, batch, delivery)) => self.push(&pipeline, batch, delivery),
                Ok(Message::Stop) | Err(TryRecvError::Disconnected) => break,
                Ok(Message::Wake) | Err(TryRecvError::Empty) => {}
            }
            let now = self.clock.now();
            self.chains.iter_mut().for_each(|chain| chain.tick(now));
            if empty {
                self.sleeps_until = self.deadline();
                return After::Sleep(self.sleeps_until);
            }
        }
        let now = self.clock.now();
        self.chains.iter_mut().for_each(|chain| chain.flush(now));
        After::End
    }

    /// Whether nothing waits, and so many points take no longer than they may in their sender's hands.
    fn is_idle_for(&self, points: usize) -> bool {
        points <= self.quick && self.inbox.is_empty()
    }

    fn deadline(&self) -> Option<Instant> {
        self.chains.iter().filter_map(Chain::deadline).min()
    }

    fn push(&mut self, pipeline: &str, batch: Batch, delivery: Delivery) {
        let (now, points) = (self.clock.now(), batch.points().max(SMALL));
        match self.chains.iter_mut().find(|chain| chain.pipeline() == pipeline) {
            Some(chain) => chain.push(batch, delivery, now),
            None => delivery.refused(Refusal::later(format!("pipeline {pipeline} was removed by a reload"))),
        }
        let took = self.clock.now().saturating_duration_since(now).as_nanos().max(1);
        self.quick = usize::try_from(QUICK.as_nanos() * points as u128 / took).unwrap_or(usize::MAX);
    }

    /// Takes up published chains, if there are any.
    fn take_up(&mut self, slot: &ArcSwapOption<Published>) {
        let Some(published) = slot.swap(None) else { return };
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

    /// Says which thread runs it, and speaks by itself a while after the first batch.
    struct Watch(std::sync::mpsc::Sender<Option<String>>, Option<Instant>, Duration);

    impl Processor for Watch {
        fn process(&mut self, _: &mut Batch, cx: &mut Context<'_>) {
            self.0.send(std::thread::current().name().map(str::to_owned)).unwrap();
            self.1 = cx.now.checked_add(Duration::from_millis(20));
            std::thread::sleep(self.2);
        }
        fn deadline(&self) -> Option<Instant> {
            self.1
        }
        fn flush(&mut self, batch: &mut Batch, _: &mut Context<'_>, _: bool) {
            self.1 = None;
            *batch = super::tests::batch(7);
        }
        fn as_any(&mut self) -> &mut dyn std::any::Any {
            self
        }
    }

    fn watched(takes: Duration) -> (Lane, Outlet, Arc<Sink>, std::sync::mpsc::Receiver<Option<String>>) {
        let (sink, metrics) = (Arc::new(Sink::default()), Metrics::new(&Clock::system(), vec![]));
        let (tx, ran) = std::sync::mpsc::channel();
        let watch = Stage::new(ComponentId::new("watch"), Box::new(Watch(tx, None, takes)), &metrics);
        let (lane, _) = lane(vec![watch], &sink, &metrics);
        let outlet = outlet(&lane, &metrics);
        (lane, outlet, sink, ran)
    }

    fn until(happened: impl Fn() -> bool) {
        let began = Instant::now();
        while !happened() {
            assert!(began.elapsed() < Duration::from_secs(5), "it did not happen");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_small_batch_is_run_by_its_sender_and_wakes_the_thread_for_what_is_to_be_said_later() {
        let (lane, outlet, sink, ran) = watched(Duration::ZERO);
        let own = std::thread::current().name().map(str::to_owned);
        // At first the thread may still be on its way to sleep.
        until(|| {
            sink.0.lock().unwrap().clear();
            outlet.send(batch(1), Delivery::none()).unwrap();
            sink.0.lock().unwrap().contains(&1) && ran.recv_timeout(Duration::from_secs(5)).unwrap() == own
        });
        until(|| sink.0.lock().unwrap().contains(&7));
        lane.stop();
    }

    #[test]
    fn a_large_batch_and_what_is_slow_are_run_by_the_thread_and_nothing_overtakes() {
        let (lane, outlet, sink, ran) = watched(Duration::from_millis(5));
        for points in [SMALL + 1, 1, 2, 3, SMALL + 2, 4] {
            outlet.send(batch(points), Delivery::none()).unwrap();
        }
        lane.stop();
        let batches: Vec<usize> = sink.0.lock().unwrap().iter().copied().filter(|points| *points != 7).collect();
        assert_eq!(batches, [SMALL + 1, 1, 2, 3, SMALL + 2, 4]);
        assert!(ran.iter().filter(|thread| thread.as_deref() == Some("lane-0")).count() >= 4);
    }

    #[test]
    fn a_panic_in_a_senders_hands_ends_the_lane_too() {
        let (sink, metrics) = (Arc::new(Sink::default()), Metrics::new(&Clock::system(), vec![]));
        let (lane, panics) =
            lane(vec![Stage::new(ComponentId::new("panics"), Box::new(Panics), &metrics)], &sink, &metrics);
        // At first the thread may still be on its way to sleep.
        until(|| lane.handle.shared.worker.try_lock().is_ok());
        let outlet = outlet(&lane, &metrics);
        let (tx, rx) = std::sync::mpsc::channel();
        let _ = outlet.send(batch(1), Delivery::new(move |outcome| tx.send(outcome).unwrap()));
        assert!(rx.recv_timeout(Duration::from_secs(5)).unwrap().is_err());
        assert!(panics.recv_timeout(Duration::from_secs(5)).unwrap().contains("stage broke"));
        lane.thread.join().unwrap();
    }

    #[test]
    fn the_thread_ends_with_the_last_handle() {
        let (lane, outlet, ..) = watched(Duration::ZERO);
        let Lane { handle, thread } = lane;
        drop(outlet);
        assert!(!thread.is_finished());
        drop(handle);
        thread.join().unwrap();
    }
}
