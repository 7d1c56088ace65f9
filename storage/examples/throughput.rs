//! What the queue costs: records of three sizes, appended, synced as the settings ask, read back and finished.
//!
//! `cargo run --release -p phoenix-storage --example throughput [DIRECTORY]` (else a temporary one, which is often in memory).

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use phoenix_storage::{Fsync, OnFull, Queue, Settings};

fn main() -> Result<(), Box<dyn Error>> {
    let room = match std::env::args_os().nth(1) {
        Some(directory) => tempfile::tempdir_in(PathBuf::from(directory))?,
        None => tempfile::tempdir()?,
    };
    println!("| record | fsync | group | append MB/s | append records/s | read and finish MB/s | open, ms |");
    println!("|---|---|---|---|---|---|---|");
    let windows =
        [("each group", Fsync::Within(Duration::ZERO)), ("100 ms", Fsync::Within(Duration::from_millis(100)))];
    for (name, size, most) in [("1 KB", 1_000, 50_000), ("100 KB", 100_000, 2_000), ("1.3 MB", 1_300_000, 200)] {
        for (window, fsync) in windows.into_iter().chain([("never", Fsync::Never)]) {
            for group in if window == "each group" { vec![1, 16] } else { vec![1] } {
                let count = if group == 1 && window == "each group" { most.min(500) } else { most };
                let payload: Vec<u8> = (0..size).map(|byte: usize| (byte * 31 % 251) as u8).collect();
                let dir = room.path().join(format!("{size}-{window}-{group}"));
                let settings = Settings { fsync, ..Settings::default() };
                let mut queue = Queue::open(&dir, settings.clone())?;
                let began = Instant::now();
                for number in 0..count {
                    queue.append(&[&payload], 1, 0, OnFull::Refuse)?;
                    if number % group == group - 1 {
                        queue.sync_if_due(Instant::now())?;
                    }
                }
                let appended = began.elapsed().as_secs_f64();
                drop(queue);
                let began = Instant::now();
                let mut queue = Queue::open(&dir, settings)?;
                let opened = began.elapsed().as_secs_f64();
                let began = Instant::now();
                while let Some(record) = queue.next(0)? {
                    queue.finish(record.id);
                }
                let read = began.elapsed().as_secs_f64();
                let megabytes = (count * size) as f64 / 1e6;
                println!(
                    "| {name} | {window} | {group} | {:.0} | {:.0} | {:.0} | {:.1} |",
                    megabytes / appended,
                    count as f64 / appended,
                    megabytes / read,
                    opened * 1e3,
                );
            }
        }
    }
    Ok(())
}
