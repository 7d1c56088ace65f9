//! What goes in comes out: all of it, once, in order, in the sizes and times that are set.

use std::sync::{Arc, Mutex};

use phoenix_pipeline::{Marks, Refusal};
use proptest::prelude::*;

use super::*;
use crate::testing::{self, counted, numbered};

/// What the sender of one input was told, if anything yet.
type Answer = Option<Result<(), Refusal>>;

fn values(batch: &Batch) -> Vec<i64> {
    batch.series().map(|point| point.value().unwrap().as_f64() as i64).collect()
}

/// A stage and what came out of it.
struct Run {
    stage: Batcher,
    now: Instant,
    out: Vec<(Duration, Vec<i64>, Delivery)>,
    start: Instant,
    site: Site,
}

impl Run {
    fn new(text: &str) -> Self {
        let site = Site::for_test("batch");
        let config: Config = site.settings(&testing::value(text)).unwrap();
        let start = Instant::now();
        Run { stage: Batcher::new(&config, &site), now: start, out: Vec::new(), start, site }
    }

    fn take(&mut self, batch: Batch, delivery: Delivery) {
        if batch.is_empty() {
            delivery.delivered();
        } else {
            self.out.push((self.now - self.start, values(&batch), delivery));
        }
    }

    fn push(&mut self, batch: Batch, delivery: Delivery) {
        let (mut batch, mut delivery) = (batch, delivery);
        self.stage
            .process(&mut batch, &mut Context { now: self.now, delivery: &mut delivery, marks: &mut Marks::default() });
        self.take(batch, delivery);
        self.tick();
    }

    /// What a lane does: flushes while the deadline has come.
    fn tick(&mut self) {
        while self.stage.deadline().is_some_and(|deadline| deadline <= self.now) {
            let before = self.out.len();
            self.flush(false);
            assert!(self.out.len() > before, "a deadline that has come yields a batch");
        }
    }

    fn flush(&mut self, all: bool) {
        let (mut batch, mut delivery) = (Batch::default(), Delivery::none());
        self.stage.flush(
            &mut batch,
            &mut Context { now: self.now, delivery: &mut delivery, marks: &mut Marks::default() },
            all,
        );
        self.take(batch, delivery);
    }

    /// Lets time pass, as a lane does: never beyond a deadline without calling.
    fn wait(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(deadline) = self.stage.deadline().filter(|deadline| *deadline <= until) {
            self.now = self.now.max(deadline);
            self.tick();
        }
        self.now = until;
    }

    fn finish(&mut self) {
        loop {
            let before = self.out.len();
            self.flush(true);
            if self.out.len() == before {
                break;
            }
        }
        assert!(self.stage.held.is_empty());
    }

    fn sent(&self) -> Vec<Vec<i64>> {
        self.out.iter().map(|(_, values, _)| values.clone()).collect()
    }
}

#[test]
fn small_batches_are_joined_until_the_size_or_the_time_is_reached() {
    let mut run = Run::new("{send_batch_size: 5, timeout: 1s}");
    run.push(numbered(0..2), Delivery::none());
    run.push(numbered(2..4), Delivery::none());
    assert_eq!(run.sent(), Vec::<Vec<i64>>::new());
    run.push(numbered(4..7), Delivery::none());
    assert_eq!(run.sent(), [vec![0, 1, 2, 3, 4, 5, 6]]);
    run.push(numbered(7..8), Delivery::none());
    run.wait(Duration::from_millis(999));
    assert_eq!(run.out.len(), 1);
    run.wait(Duration::from_millis(1));
    assert_eq!(run.sent()[1], [7]);
    assert_eq!(run.stage.deadline(), None);
    let counted = |instrument: &Instrument| counted(&run.site, instrument.name);
    assert_eq!((counted(&SIZE_TRIGGER), counted(&TIMEOUT_TRIGGER), counted(&CARDINALITY)), (1, 1, 1));
    let own = run.site.metrics.gather(1, Level::Detailed);
    let sizes = own.series().find(|point| point.metric().name() == SEND_SIZE.name).unwrap();
    let sizes = sizes.histogram().unwrap();
    assert_eq!((sizes.count, sizes.sum), (2, Some(8.0)));
}

#[test]
fn large_batches_are_split_and_the_rest_waits_only_if_it_is_small() {
    let mut run = Run::new("{send_batch_size: 4, send_batch_max_size: 4, timeout: 1s}");
    run.push(numbered(0..10), Delivery::none());
    assert_eq!(run.sent(), [vec![0, 1, 2, 3], vec![4, 5, 6, 7]]);
    run.wait(Duration::from_secs(1));
    assert_eq!(run.sent()[2], [8, 9]);
}

#[test]
fn without_a_timeout_or_a_size_nothing_waits() {
    for text in ["{timeout: 0s}", "{send_batch_size: 0}", "{timeout: 0s, send_batch_size: 2, send_batch_max_size: 2}"] {
        let mut run = Run::new(text);
        run.push(numbered(0..3), Delivery::none());
        assert_eq!(run.sent().concat(), [0, 1, 2], "{text}");
        assert!(run.stage.held.is_empty());
    }
}

#[test]
fn a_batch_that_nobody_touched_goes_out_as_it_came() {
    let mut run = Run::new("{}");
    let bytes = numbered(0..9).encode();
    let mut batch = Batch::decode(bytes.clone(), &Default::default()).unwrap();
    run.stage.process(
        &mut batch,
        &mut Context { now: run.now, delivery: &mut Delivery::none(), marks: &mut Marks::default() },
    );
    assert!(batch.is_empty());
    run.stage.flush(
        &mut batch,
        &mut Context { now: run.now, delivery: &mut Delivery::none(), marks: &mut Marks::default() },
        true,
    );
    assert_eq!(batch.encode().as_ptr(), bytes.as_ptr(), "not even copied");
}

#[test]
fn a_swap_carries_what_is_held() {
    let mut old = Run::new("{}");
    old.push(numbered(0..2), Delivery::none());
    let deadline = old.stage.deadline();
    let mut new = Run::new("{send_batch_size: 100}");
    let handover = new.stage.adopt(&mut old.stage);
    assert_eq!(handover, Handover { carried: 2, ..Handover::default() });
    assert_eq!((new.stage.deadline(), old.stage.deadline()), (deadline, None));
    old.finish();
    new.finish();
    assert_eq!((old.sent().concat(), new.sent().concat()), (vec![], vec![0, 1]));
}

#[test]
fn mistakes_are_said() {
    let mistakes = |text: &str| testing::mistakes(&FACTORY, text);
    assert_eq!(mistakes("{send_batch_size: 1000, send_batch_max_size: 1000, timeout: 10s}"), "");
    assert!(mistakes("{send_batch_max_size: 100}").contains("at least send_batch_size, which is 8192"));
    assert!(mistakes("{metadata_keys: [tenant]}").contains("must be empty"));
    assert!(mistakes("{timeout: 200}").contains("timeout"));
}

proptest! {
    #[test]
    fn nothing_is_lost_or_doubled_and_order_and_limits_hold(
        size in 0usize..12, spare in prop::option::of(0usize..6), timeout in 0u64..50,
        inputs in prop::collection::vec((0i64..30, 0u64..40), 1..20),
        refused in prop::collection::vec(any::<bool>(), 60),
    ) {
        let max_size = spare.map_or(0, |spare| size + spare);
        let mut run = Run::new(&format!("{{send_batch_size: {size}, send_batch_max_size: {max_size}, timeout: {timeout}ms}}"));
        // What became of each input, and which numbers it had.
        let told: Arc<Mutex<Vec<Answer>>> = Arc::new(Mutex::new(vec![None; inputs.len()]));
        let (mut next, mut ranges, mut arrived) = (0, Vec::new(), Vec::new());
        for (i, (points, pause)) in inputs.iter().enumerate() {
            let told = Arc::clone(&told);
            let delivery = Delivery::new(move |outcome| told.lock().unwrap()[i] = Some(outcome));
            ranges.push(next..next + points);
            arrived.extend((0..*points).map(|_| run.now - run.start));
            run.push(numbered(next..next + points), delivery);
            next += points;
            run.wait(Duration::from_millis(*pause));
        }
        run.finish();
        prop_assert_eq!(run.sent().concat(), (0..next).collect::<Vec<_>>());
        for (at, values, _) in &run.out {
            prop_assert!(max_size == 0 || values.len() <= max_size);
            for value in values {
                let waited = *at - arrived[*value as usize];
                prop_assert!(waited <= Duration::from_millis(timeout), "{value} waited {waited:?}");
            }
        }
        // Nobody has answered yet: only inputs without a point may be settled.
        for (range, told) in ranges.iter().zip(told.lock().unwrap().iter()) {
            prop_assert_eq!(told.is_some(), range.is_empty());
        }
        let mut failed = Vec::new();
        for ((_, values, delivery), refuse) in run.out.drain(..).zip(refused.iter().cycle()) {
            if *refuse {
                failed.extend(values);
                delivery.refused(Refusal::later("no"));
            } else {
                delivery.delivered();
            }
        }
        for (range, told) in ranges.into_iter().zip(told.lock().unwrap().iter()) {
            let told = told.as_ref().expect("every promise is settled");
            let mut parts = range.clone();
            // A batch is refused as a whole, so an input may be refused for its neighbour's sake, never delivered in part.
            if parts.any(|value| failed.contains(&value)) {
                prop_assert!(told.is_err());
            }
            if failed.is_empty() {
                prop_assert!(told.is_ok());
            }
        }
    }
}
