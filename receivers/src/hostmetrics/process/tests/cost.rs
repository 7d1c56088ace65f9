//! What a scrape takes of the heap once all processes are known.

use std::time::{Duration, Instant};

use super::host::{Host, Spec};
use super::*;
use crate::hostmetrics::catalog::Naming;

/// Allocations of a scrape that reads so many known processes.
fn allocations(processes: u32) -> u64 {
    let host = Host::new();
    for pid in 1..=processes {
        host.process(&Spec { pid, ..Spec::default() });
    }
    let mut scraper = host.scraper("{}", Naming::V0);
    let begun = Instant::now();
    let mut scrape = |second| {
        let at = Moment { unix_nanos: (BOOT + 110 + second) * NANOS, now: begun + Duration::from_secs(second) };
        let mut out = BatchBuilder::new();
        let counted = allocation_counter::measure(|| {
            scraper.scrape(&at, &mut out);
        });
        assert_eq!(out.finish().points(), processes as usize * 7);
        counted.count_total
    };
    (0..5).map(|round| scrape(10 * round)).last().unwrap()
}

#[test]
fn a_known_process_allocates_nothing() {
    let (few, many) = (allocations(50), allocations(400));
    // The list of processes, the batch and the maps grow by doubling.
    assert!(many <= few + 30, "{few} for 50 processes, {many} for 400");
}
