//! The agent ends or is killed in the midst of everything, and begins again over what it left.

use std::path::{Path, PathBuf};

use super::*;
use crate::readers::{CUMULATIVE, DELTA};
use crate::temporality::without_the_first;

pub(crate) fn site(directory: &Path) -> Site {
    Site { state: Some(directory.into()), ..Site::for_test("aggregate") }
}

impl Bench {
    /// The agent ends, or with `killed` just stops; another one begins.
    pub(crate) fn restart(&mut self, killed: bool) {
        if !killed {
            while !self.flush(true).is_empty() {}
        }
        let directory = self.site.state.clone().unwrap();
        by_another_process(&directory);
        self.site = site(&directory);
        self.stage = build(&self.site, self.config);
    }

    /// A scrape with a restart before it, and one between the parts in which it comes.
    pub(crate) fn run_and_restart(&mut self, world: &mut World, scrape: &Scrape) {
        if scrape.swap {
            self.restart(scrape.wire);
        }
        let mut sent = world.scrape(scrape);
        self.now += Duration::from_secs(scrape.gap);
        if scrape.wire && sent.len() > 1 {
            let rest = sent.split_off(sent.len() / 2);
            self.send(sent, true);
            if scrape.gap.is_multiple_of(3) {
                self.restart(true);
            }
            self.send(rest, true);
            if scrape.gap.is_multiple_of(2) {
                self.now += Duration::from_millis(200);
                self.flush(false);
            }
        } else {
            self.send(sent, scrape.wire);
        }
    }
}

/// What the state is called on the disk.
fn file(directory: &Path) -> PathBuf {
    directory.join("state")
}

/// Flips bits in the middle of the state, if there is one.
pub(crate) fn damage(directory: &Path, bits: u8) {
    let Ok(mut bytes) = std::fs::read(file(directory)) else { return };
    let middle = bytes.len() / 2;
    bytes[middle] ^= bits;
    std::fs::write(file(directory), bytes).unwrap();
}

/// The state as another process would have written it: the agent takes none of its own for one of a restart. A damaged one
/// stays as it is.
fn by_another_process(directory: &Path) {
    let Ok(mut bytes) = std::fs::read(file(directory)) else { return };
    // The body stands between 16 bytes of version and 8 of checksum.
    let end = bytes.len() - 8;
    let sum = |bytes: &[u8]| rapidhash::v3::rapidhash_v3(&bytes[16..end]).to_le_bytes();
    if bytes[end..] != sum(&bytes) {
        return;
    }
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let boot = boot.trim().as_bytes();
    let place = bytes.windows(boot.len()).position(|window| window == boot).unwrap() + boot.len();
    bytes[place + 7] = 1;
    let sum = sum(&bytes);
    bytes[end..].copy_from_slice(&sum);
    std::fs::write(file(directory), bytes).unwrap();
}

const NO_END: &[Event] = &[Event::Counts, Event::Counts, Event::Resets, Event::Drifts, Event::Missed, Event::Reborn];

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn restarts_over_a_whole_state_lose_nothing(script in scripts(ALL, 5, 20), temporality in 0usize..3) {
        let directory = tempfile::tempdir().unwrap();
        let (config, wanted) = [
            ("state: {interval: 0s}", None),
            ("state: {interval: 0s}\ntemporality: delta", Some(DELTA)),
            ("state: {interval: 0s}\ntemporality: cumulative", Some(CUMULATIVE)),
        ][temporality];
        let mut bench = Bench::at(site(directory.path()), config);
        bench.out.wanted = wanted;
        let mut world = World::new(5);
        for scrape in &script {
            // In one piece, or the group has spoken before the last first delta comes.
            let wire = scrape.wire && (wanted != Some(CUMULATIVE) || world.now > BEGIN);
            bench.run_and_restart(&mut world, &Scrape { wire, ..scrape.clone() });
            prop_assert!(bench.own("phoenix_conservation_error", "") < 1e-9);
            prop_assert_eq!(bench.own("phoenix_aggregate_state_found_total", "damaged"), 0.0);
            prop_assert_eq!(bench.own("phoenix_aggregate_state_found_total", "outdated"), 0.0);
        }
        bench.flush(true);
        if wanted == Some(CUMULATIVE) {
            without_the_first(&mut world);
        }
        bench.balanced(&world)?;
    }

    #[test]
    fn restarts_over_an_old_or_damaged_state_invent_nothing(
        (script, broken) in (scripts(NO_END, 5, 20), prop::collection::vec(0u8..3, 20)), temporality in 0usize..3
    ) {
        let directory = tempfile::tempdir().unwrap();
        // Every scrape but the first of a run leaves unwritten.
        let config = ["state: {interval: 1h}", "state: {interval: 1h}\ntemporality: delta", "state: {interval: 1h}\ntemporality: cumulative"];
        let mut bench = Bench::at(site(directory.path()), config[temporality]);
        let mut world = World::new(5);
        for (scrape, broken) in script.iter().zip(broken) {
            if scrape.swap {
                damage(directory.path(), broken);
                bench.restart(true);
            }
            bench.run(&mut world, &Scrape { swap: false, ..scrape.clone() });
        }
        bench.flush(true);
        for (account, total) in &bench.out.r1 {
            let truth = world.truth.get(account).copied().unwrap_or_default();
            prop_assert!(total.sum() <= truth.sum() + 1e-6, "{:?}: {} > {}", account, total.sum(), truth.sum());
        }
        prop_assert!(bench.own("phoenix_conservation_error", "") < 1e-9);
    }
}
