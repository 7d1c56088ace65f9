//! The stage with made-up memory.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use phoenix_pipeline::{Delivery, Marks};

use super::*;
use crate::testing::{batch_of, counted};

/// A memory whose size the test sets; giving back frees `freeable` of it.
#[derive(Clone, Default)]
struct Fake {
    resident: Arc<AtomicU64>,
    freeable: Arc<AtomicU64>,
    readings: Arc<AtomicU64>,
}

impl Memory for Fake {
    fn resident(&mut self) -> io::Result<u64> {
        self.readings.fetch_add(1, Ordering::Relaxed);
        Ok(self.resident.load(Ordering::Relaxed))
    }

    fn give_back(&mut self) {
        self.resident.fetch_sub(self.freeable.swap(0, Ordering::Relaxed), Ordering::Relaxed);
    }
}

fn limiter(site: &Site) -> (MemoryLimiter, Fake) {
    let config = Config { check_interval: Duration::from_secs(1), limit_mib: 100, ..Config::default() };
    let limits = config.limits(|| unreachable!("limit_mib needs no total")).unwrap();
    let fake = Fake::default();
    (MemoryLimiter::new(&config, limits, Box::new(fake.clone()), site), fake)
}

fn run(stage: &mut MemoryLimiter, now: Instant) -> Result<(), Refusal> {
    let (told, heard) = mpsc::channel();
    let mut delivery = Delivery::new(move |outcome| told.send(outcome).unwrap());
    let mut batch = batch_of(3);
    stage.process(&mut batch, &mut Context { now, delivery: &mut delivery, marks: &mut Marks::default() });
    let refused = batch.is_empty();
    delivery.delivered();
    let outcome = heard.recv().unwrap();
    assert_eq!(refused, outcome.is_err());
    outcome
}

#[test]
fn above_the_soft_limit_data_is_refused_and_counted() {
    let site = Site::for_test("memory_limiter/a");
    let (mut stage, memory) = limiter(&site);
    let start = Instant::now();
    assert_eq!(run(&mut stage, start), Ok(()));
    memory.resident.store(80 * MIB, Ordering::Relaxed);
    assert_eq!(
        run(&mut stage, start + Duration::from_millis(999)),
        Ok(()),
        "not read again before the interval is over"
    );
    assert_eq!(memory.readings.load(Ordering::Relaxed), 1);
    assert_eq!(run(&mut stage, start + Duration::from_secs(1)), Err(Refusal::later(REASON)));
    memory.resident.store(79 * MIB, Ordering::Relaxed);
    assert_eq!(run(&mut stage, start + Duration::from_secs(2)), Ok(()));
    assert_eq!(counted(&site, ACCEPTED.name), 9);
    assert_eq!(counted(&site, REFUSED.name), 3);
    assert_eq!(counted(&site, USED.name), 79 * MIB as i64);
    assert_eq!(counted(&site, LIMIT.name), (80 + 100) * MIB as i64, "the soft and the hard one");
}

#[test]
fn memory_that_the_allocator_keeps_is_given_back_before_data_is_refused() {
    let (mut stage, memory) = limiter(&Site::for_test("memory_limiter"));
    memory.resident.store(120 * MIB, Ordering::Relaxed);
    memory.freeable.store(60 * MIB, Ordering::Relaxed);
    assert_eq!(run(&mut stage, Instant::now()), Ok(()));
    assert_eq!(memory.resident.load(Ordering::Relaxed), 60 * MIB);
}

#[test]
fn a_percentage_is_of_what_the_process_may_use() {
    let config = Config { limit_percentage: 80, spike_limit_percentage: 25, ..Config::default() };
    let limits = config.limits(|| Ok(1000)).unwrap();
    assert_eq!((limits.hard(), limits.soft()), (800, 550));
    let unset = Config::default().limits(|| Ok(1000)).unwrap();
    assert_eq!((unset.hard(), unset.soft()), (800, 640), "neither limit set: 80 % of it");
}

#[test]
fn mistakes_are_said() {
    let mistakes = |text: &str| crate::testing::mistakes(&FACTORY, text);
    assert_eq!(mistakes("{check_interval: 1s, limit_mib: 400, spike_limit_mib: 100}"), "");
    assert_eq!(mistakes("{check_interval: 5s, limit_percentage: 80, spike_limit_percentage: 25}"), "");
    let none = mistakes("{}");
    assert!(none.contains("check_interval"), "{none}");
    assert!(mistakes("{check_interval: 1s, limit_mib: 10, spike_limit_mib: 10}").contains("less than limit_mib"));
    assert!(mistakes("{check_interval: 1s, limit_mib: 10, spike_limit_percentage: 10}").contains("no effect"));
    assert!(mistakes("{check_interval: 1s, limit_percentage: 101}").contains("from 0 to 100"));
    assert!(
        mistakes("{check_interval: 1s, limit_mib: 10, min_gc_interval_when_hard_limited: 11s}").contains("shorter")
    );
    assert!(mistakes("{chek_interval: 1s, limit_mib: 10}").contains("chek_interval"));
}

#[test]
fn the_factory_builds_on_this_machine() {
    let value = crate::testing::value("{check_interval: 1s, limit_percentage: 90}");
    assert!((FACTORY.build)(&value, &Site::for_test("memory_limiter")).is_ok());
}
