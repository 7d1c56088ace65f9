//! The queue on the machine's own files, in processes of their own: killed at random times, on a full and a read-only disk,
//! out of descriptors.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use phoenix_storage::{AppendError, Fsync, OnFull, Queue, Settings};

/// Names the directory to the test that is a child.
const DIRECTORY: &str = "PHOENIX_QUEUE_DIRECTORY";
/// Where the numbering of a child's records begins.
const BEGIN: &str = "PHOENIX_QUEUE_BEGIN";

fn settings() -> Settings {
    Settings { max_bytes: 64 << 20, max_age: None, segment_bytes: 64 << 10, fsync: Fsync::Never }
}

fn payload(number: u64) -> Vec<u8> {
    (0..number * 7919 % 9000).map(|byte| (byte + number) as u8).collect()
}

/// One test of this file, as a program.
fn child(test: &str) -> Vec<String> {
    let program = std::env::current_exe().unwrap().display().to_string();
    [program.as_str(), "--exact", test, "--nocapture"].map(str::to_owned).to_vec()
}

fn directory() -> Option<PathBuf> {
    std::env::var_os(DIRECTORY).map(PathBuf::from)
}

/// Appends, hands out and finishes until it is killed, and says so before and after.
#[test]
fn child_that_is_killed() {
    let Some(dir) = directory() else { return };
    let mut queue = Queue::open(&dir, settings()).unwrap();
    let begin: u64 = std::env::var(BEGIN).unwrap().parse().unwrap();
    let mut out = io::stdout();
    for number in begin.. {
        queue.append(&[&payload(number)], number, 0, OnFull::Refuse).unwrap();
        writeln!(out, "appended {number}").unwrap();
        // One of each, on average.
        for _ in 0..number % 3 {
            let Some(record) = queue.next(0).unwrap() else { break };
            writeln!(out, "finishing {}", record.points).unwrap();
            queue.finish(record.id);
            writeln!(out, "finished {}", record.points).unwrap();
        }
    }
}

#[test]
fn kill_9_at_random_times_loses_and_repeats_nothing() {
    let rounds = if std::env::var_os("PHOENIX_LONG").is_some() { 1000 } else { 25 };
    let room = tempfile::tempdir().unwrap();
    let mut outstanding: BTreeSet<u64> = BTreeSet::new();
    let (mut begin, mut appended_in_all) = (0, 0);
    for round in 0..rounds {
        let line = child("child_that_is_killed");
        let mut process = Command::new(&line[0])
            .args(&line[1..])
            .env(DIRECTORY, room.path())
            .env(BEGIN, begin.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let killer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(10 + round * 7919 % 50));
            process.kill().unwrap();
            process.wait().unwrap();
        });
        let mut said: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for line in lines {
            // The last line may be cut.
            let line = line.unwrap();
            if let Some((what, number)) = line.split_once(' ').and_then(|(what, n)| Some((what, n.parse().ok()?))) {
                said.entry(what.to_owned()).or_default().insert(number);
            }
        }
        killer.join().unwrap();
        let mut take = |what: &str| said.remove(what).unwrap_or_default();
        let (appended, finishing, finished) = (take("appended"), take("finishing"), take("finished"));
        appended_in_all += appended.len();
        outstanding.extend(&appended);

        let mut queue = Queue::open(room.path(), settings()).unwrap();
        let mut found = BTreeSet::new();
        while let Some(record) = queue.next(0).unwrap() {
            assert_eq!(record.payload, payload(record.points), "delivered altered");
            assert!(found.insert(record.points), "{} comes twice", record.points);
        }
        for number in &outstanding {
            assert!(found.contains(number) || finishing.contains(number), "{number} is lost in round {round}");
        }
        assert!(found.is_disjoint(&finished), "what was finished comes again in round {round}");
        // The record that was being appended when the kill came may be there, though nobody was told.
        let last = found.union(&appended).max().copied();
        begin = last.map_or(begin, |last| begin.max(last + 1));
        outstanding = found;
    }
    assert!(appended_in_all > 10 * rounds as usize, "{appended_in_all}");
    eprintln!("{rounds} kills, {appended_in_all} records appended");
}

/// Runs where it is root of a mount namespace, on a file system of 256 KiB of its own.
#[test]
fn child_on_a_small_disk() {
    let Some(dir) = directory() else { return };
    let append = |queue: &mut Queue, number, on_full| queue.append(&[&[7; 20_000]], number, 0, on_full).map(drop);
    let mut queue = Queue::open(&dir.join("queue"), settings()).unwrap();
    let mut appended = 0;
    let error = loop {
        match append(&mut queue, appended, OnFull::Refuse) {
            Ok(()) => appended += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, AppendError::NoSpace(_)), "{error}");
    assert!(appended > 6, "{appended}");
    // Eviction makes room, and is counted.
    append(&mut queue, appended, OnFull::EvictOldest).unwrap();
    let stats = queue.stats();
    assert!(stats.evicted_size.records > 0, "{stats:?}");
    assert_eq!(stats.evicted_size.records + stats.records, appended + 1);
    // So does what is finished, by itself.
    while append(&mut queue, 100, OnFull::Refuse).is_ok() {}
    while let Some(record) = queue.next(0).unwrap() {
        assert_eq!(record.payload, [7; 20_000]);
        assert!(queue.finish(record.id));
    }
    append(&mut queue, 200, OnFull::Refuse).unwrap();
    queue.sync().unwrap();

    // Read-only: appends fail, what is there is handed out; then it is writable again. Nothing may be open for writing
    // when a file system becomes read-only.
    drop(queue);
    let remount = |option| assert!(Command::new("mount").args(["-o", option]).arg(&dir).status().unwrap().success());
    remount("remount,ro");
    let mut queue = Queue::open(&dir.join("queue"), settings()).unwrap();
    let error = append(&mut queue, 201, OnFull::EvictOldest).unwrap_err();
    assert!(
        matches!(&error, AppendError::Io(error) if error.source.kind() == ErrorKind::ReadOnlyFilesystem),
        "{error}"
    );
    let record = queue.next(0).unwrap().unwrap();
    assert_eq!((record.points, record.payload), (200, vec![7; 20_000]));
    assert!(queue.finish(record.id));
    assert_eq!(queue.stats().unnoted, 1, "it will come again");
    remount("remount,rw");
    append(&mut queue, 202, OnFull::Refuse).unwrap();
    println!("the small disk is done");
}

#[test]
fn a_full_disk_and_a_read_only_disk_are_back_pressure() {
    let room = tempfile::tempdir().unwrap();
    let line = child("child_on_a_small_disk");
    let script = r#"mount -t tmpfs -o size=256k none "$0" || exit 77; exec "$@""#;
    let own_namespace = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script])
        .arg(room.path())
        .args(&line)
        .env(DIRECTORY, room.path())
        .output();
    match own_namespace {
        Ok(output) if output.status.success() => {
            assert!(String::from_utf8_lossy(&output.stdout).contains("the small disk is done"));
        }
        // Where nothing may be mounted, the simulated disk alone is full (sim/histories.rs).
        Ok(output) if output.status.code() != Some(101) => {
            eprintln!("not run: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(error) => eprintln!("not run: unshare: {error}"),
    }
}

/// Runs with 32 descriptors.
#[test]
fn child_out_of_descriptors() {
    let Some(dir) = directory() else { return };
    let append = |queue: &mut Queue, number| queue.append(&[&[7; 40_000]], number, 0, OnFull::Refuse).map(drop);
    let take_all = || -> Vec<File> { std::iter::from_fn(|| File::open("/dev/null").ok()).collect() };
    let mut queue = Queue::open(&dir, settings()).unwrap();
    append(&mut queue, 0).unwrap();
    let taken = take_all();
    assert!(taken.len() < 32, "the limit holds");
    // A new segment cannot be made, and the first cannot be read.
    let error = append(&mut queue, 1).unwrap_err();
    assert!(matches!(&error, AppendError::Io(error) if error.source.raw_os_error() == Some(24)), "{error}");
    assert!(error.to_string().contains(dir.to_str().unwrap()), "{error}");
    (0..10).for_each(|_| assert_eq!(queue.next(0).unwrap_err().source.raw_os_error(), Some(24)));
    drop(taken);
    append(&mut queue, 1).unwrap();
    for number in 0..2 {
        assert_eq!(queue.next(0).unwrap().unwrap().points, number);
    }
    // It does not open either; that is not damage.
    drop(queue);
    let taken = take_all();
    assert!(Queue::open(&dir, settings()).is_err());
    drop(taken);
    assert_eq!(Queue::open(&dir, settings()).unwrap().stats().records, 2);
    println!("out of descriptors is done");
}

#[test]
fn no_descriptors_is_an_error_that_passes() {
    let room = tempfile::tempdir().unwrap();
    let output = Command::new("sh")
        .args(["-c", r#"ulimit -n 32; exec "$@""#, "sh"])
        .args(child("child_out_of_descriptors"))
        .env(DIRECTORY, room.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains("out of descriptors is done"));
}

#[test]
fn a_queue_is_its_owners_alone_and_held_by_one() {
    use std::os::unix::fs::PermissionsExt;
    let room = tempfile::tempdir().unwrap();
    let dir = room.path().join("deep/queue");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let mut queue = Queue::open(&dir, settings()).unwrap();
    for number in 0..3 {
        queue.append(&[b"one"], number, 0, OnFull::Refuse).unwrap();
    }
    let id = queue.next(0).unwrap().unwrap().id;
    queue.finish(id);
    assert_eq!(mode(&dir), 0o700);
    let files: Vec<PathBuf> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 3, "lock, records, notes: {files:?}");
    files.iter().for_each(|file| assert_eq!(mode(file), 0o600, "{}", file.display()));
    let error = Queue::open(&dir, settings()).unwrap_err();
    assert!(matches!(error, phoenix_storage::OpenError::Held(_)), "{error}");
    drop(queue);
    assert_eq!(Queue::open(&dir, settings()).unwrap().stats().records, 2);
}
