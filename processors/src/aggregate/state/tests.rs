use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::*;
use crate::aggregate::{Aggregate, Config, Interner};
use phoenix_pipeline::{Context, Decision, Delivery, Entity, Marks, Processor, Site};
use phoenix_telemetry::{AnyValue, Batch, BatchBuilder, Descriptor, Number, Shape, Temporality};

const SECOND: u64 = 1_000_000_000;

/// A stage over a directory, under a boot.
struct Run {
    stage: Aggregate,
    site: Site,
    now: Instant,
}

impl Run {
    /// In a process of its own.
    fn new(directory: &Path, boot: &str, interval: Duration) -> Run {
        static PROCESSES: AtomicU64 = AtomicU64::new(1);
        Run::of((boot, (PROCESSES.fetch_add(1, Relaxed), 1)), directory, interval)
    }

    fn of(writer: (&str, Process), directory: &Path, interval: Duration) -> Run {
        let site = Site::for_test("aggregate");
        let store = Store::new(&directory.into(), writer, interval);
        Run { stage: Aggregate::new(Config::default(), &site, Some(store)), site, now: Instant::now() }
    }

    /// A scrape of processes by id, start and value, the first folded; lines of what leaves: process, start, value.
    fn scrape(&mut self, time: u64, processes: &[(i64, u64, i64)]) -> Vec<(Option<i64>, u64, i64)> {
        let mut builder = BatchBuilder::new();
        let shape = Shape::Sum { temporality: Temporality::Cumulative, monotonic: true };
        let cpu = Descriptor { name: "cpu", unit: "s", description: "", shape };
        for (pid, start, value) in processes {
            let mut resource = builder.resource();
            resource.attribute("host.name", "h");
            resource.attribute("process.pid", *pid);
            resource.attribute("process.executable.name", AnyValue::Str("exe"));
            let mut scope = resource.scope("s", "");
            scope.metric(&cpu).point(start * SECOND, time * SECOND, Number::Int(*value), &[]);
        }
        let mut batch = builder.finish();
        let mut marks = Marks::default();
        let first = batch.resources().next().unwrap().id();
        marks.mark(Entity::Resource(first), Decision::Fold, "test");
        let mut delivery = Delivery::none();
        self.stage.process(&mut batch, &mut Context { now: self.now, delivery: &mut delivery, marks: &mut marks });
        lines(&batch)
    }

    fn found(&self, reason: &str) -> bool {
        let own = self.site.metrics.gather(1, phoenix_pipeline::Level::Detailed);
        own.series().any(|point| {
            point.metric().name() == "phoenix_aggregate_state_found_total"
                && point.attributes().iter().any(|(_, value)| value.as_str() == Some(reason))
        })
    }
}

fn lines(batch: &Batch) -> Vec<(Option<i64>, u64, i64)> {
    let mut lines: Vec<_> = batch
        .series()
        .filter(|point| point.metric().name() == "cpu")
        .map(|point| {
            let pid = match point.metric().resource().attributes().get("process.pid") {
                Some(AnyValue::Int(pid)) => Some(pid),
                _ => None,
            };
            let value = point.value().map_or(-1, |value| value.as_f64() as i64);
            (pid, point.start_time() / SECOND, value)
        })
        .collect();
    lines.sort_unstable();
    lines
}

/// A run that was killed after two scrapes.
fn killed(directory: &Path, interval: Duration) {
    let mut run = Run::new(directory, "b", interval);
    assert_eq!(run.scrape(10, &[(1, 1, 100), (2, 2, 50)]), [(None, 10, 0), (Some(2), 2, 50)]);
    assert_eq!(run.scrape(20, &[(1, 1, 103), (2, 2, 51)]), [(None, 10, 3), (Some(2), 2, 51)]);
}

fn files(directory: &Path) -> Vec<String> {
    let mut files: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    files
}

#[test]
fn a_state_as_new_as_the_last_report_goes_on() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    killed(directory.path(), Duration::ZERO);
    assert_eq!(files(directory.path()), [FILE]);
    assert_eq!(fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
    let mut run = Run::new(directory.path(), "b", Duration::ZERO);
    // The third was created while nobody looked: it counts whole.
    assert_eq!(
        run.scrape(30, &[(1, 1, 110), (2, 2, 60), (3, 25, 7)]),
        [(None, 10, 10), (Some(2), 2, 60), (Some(3), 25, 7)]
    );
    assert!(run.found("restored"));
}

#[test]
fn a_state_older_than_the_last_report_is_not_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    killed(directory.path(), Duration::from_secs(1));
    assert_eq!(files(directory.path()).len(), 2, "the second scrape left a marker");
    for _ in 0..2 {
        let mut run = Run::new(directory.path(), "b", Duration::from_secs(1));
        assert_eq!(
            run.scrape(30, &[(1, 1, 110), (2, 2, 60), (3, 25, 7)]),
            [(None, 30, 0), (Some(2), 30, 0), (Some(3), 30, 0)],
            "what began before the first scrape opens there"
        );
        assert!(run.found("outdated"));
        assert_eq!(files(directory.path()), [FILE], "the first batch was written, its marker is gone");
        run.now += Duration::from_millis(999);
        run.scrape(40, &[(1, 1, 111), (2, 2, 65), (3, 25, 8), (4, 35, 3)]);
        assert_eq!(files(directory.path()).len(), 2);
        assert_eq!(run.stage.deadline(), Some(run.now + Duration::from_millis(1)), "written even if nothing comes");
    }
    let mut run = Run::new(directory.path(), "b", Duration::from_secs(1));
    run.scrape(50, &[(1, 1, 112), (2, 2, 70)]);
    let later = run.scrape(60, &[(1, 1, 115), (2, 2, 71), (3, 25, 9), (4, 55, 3)]);
    assert_eq!(later, [(None, 50, 3), (Some(2), 50, 1), (Some(3), 60, 0), (Some(4), 55, 3)]);
}

#[test]
fn a_late_write_removes_the_marker_and_shutdown_writes_at_once() {
    let directory = tempfile::tempdir().unwrap();
    for (wait, all) in [(Duration::from_secs(1), false), (Duration::ZERO, true)] {
        let mut run = Run::new(directory.path(), "b", Duration::from_secs(1));
        run.scrape(10, &[(1, 1, 100)]);
        run.scrape(20, &[(1, 1, 103)]);
        assert_eq!(files(directory.path()).len(), 2);
        let (mut batch, mut delivery, mut marks) = (Batch::default(), Delivery::none(), Marks::default());
        let mut context = Context { now: run.now + wait, delivery: &mut delivery, marks: &mut marks };
        run.stage.flush(&mut batch, &mut context, all);
        assert_eq!(files(directory.path()), [FILE]);
        assert_eq!(run.stage.deadline(), None);
        fs::remove_file(directory.path().join(FILE)).unwrap();
    }
}

#[test]
fn another_boot_opens_anew_only_what_is_older_than_the_state() {
    let directory = tempfile::tempdir().unwrap();
    killed(directory.path(), Duration::ZERO);
    let mut run = Run::new(directory.path(), "another", Duration::ZERO);
    assert_eq!(
        run.scrape(90, &[(1, 1, 110), (2, 2, 60), (3, 70, 7)]),
        [(None, 90, 0), (Some(2), 90, 0), (Some(3), 70, 7)]
    );
    assert!(run.found("other_boot"));
}

#[test]
fn a_host_without_state_is_a_fresh_one() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(directory.path(), "b", Duration::ZERO);
    assert_eq!(run.scrape(30, &[(1, 1, 110), (2, 2, 60)]), [(None, 30, 0), (Some(2), 2, 60)]);
}

#[test]
fn killed_between_writing_and_renaming() {
    let directory = tempfile::tempdir().unwrap();
    killed(directory.path(), Duration::ZERO);
    let whole = fs::read(directory.path().join(FILE)).unwrap();
    // The next one was half there; what it was to hold never left.
    fs::write(directory.path().join(NEXT), &whole[..whole.len() / 2]).unwrap();
    let mut run = Run::new(directory.path(), "b", Duration::ZERO);
    assert_eq!(run.scrape(30, &[(1, 1, 110), (2, 2, 60)]), [(None, 10, 10), (Some(2), 2, 60)]);
    assert_eq!(files(directory.path()), [FILE]);
    // Renamed, and killed before the marker of the one before was removed.
    fs::write(directory.path().join("behind.0000000000000001"), "").unwrap();
    let mut run = Run::new(directory.path(), "b", Duration::ZERO);
    assert_eq!(run.scrape(40, &[(1, 1, 111), (2, 2, 61)]), [(None, 10, 11), (Some(2), 2, 61)]);
    assert_eq!(files(directory.path()), [FILE]);
}

#[test]
fn every_cut_and_every_changed_byte_is_found_and_set_aside() {
    let directory = tempfile::tempdir().unwrap();
    killed(directory.path(), Duration::ZERO);
    let whole = fs::read(directory.path().join(FILE)).unwrap();
    let cuts = (0..whole.len()).map(|length| whole[..length].to_vec());
    let flips = (0..whole.len()).flat_map(|place| {
        [1, 0x80, 0xff].map(|flip| {
            let mut bytes = whole.clone();
            bytes[place] ^= flip;
            bytes
        })
    });
    let longer = [&whole[..], &[0]].concat();
    for bytes in cuts.chain(flips).chain([longer]) {
        fs::write(directory.path().join(FILE), &bytes).unwrap();
        let (mut books, mut store) =
            (Books::default(), Store::new(&directory.path().into(), ("b", (0, 0)), Duration::ZERO));
        let mut counts = Counts::new(&Site::for_test("aggregate"));
        store.restore(&mut books, Instant::now(), &mut counts);
        assert!(books.hosts.is_empty() && matches!(books.lost, Lost::All));
        assert_eq!(fs::read(directory.path().join(DAMAGED)).unwrap(), bytes);
        assert_eq!(files(directory.path()), [DAMAGED]);
    }
    fs::write(directory.path().join(FILE), "no state").unwrap();
    let mut run = Run::new(directory.path(), "b", Duration::ZERO);
    assert_eq!(run.scrape(30, &[(1, 1, 110), (2, 2, 60)]), [(None, 30, 0), (Some(2), 30, 0)]);
    assert!(run.found("damaged"));
}

/// Bytes that are not ours under a right checksum: no panic, no matter what.
#[test]
fn what_no_state_holds_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    killed(directory.path(), Duration::ZERO);
    let whole = fs::read(directory.path().join(FILE)).unwrap();
    let body = sealed::open(&whole).unwrap();
    let mut counts = Counts::new(&Site::for_test("aggregate"));
    assert!(books::load(body, Instant::now(), &mut counts).is_ok());
    for length in 0..body.len() {
        assert!(books::load(&body[..length], Instant::now(), &mut counts).is_err(), "cut at {length}");
    }
}

/// A description that leaves as another one that leaves as another one, and so on.
#[test]
fn what_leaves_as_another_ends_there() {
    fn endless(depth: usize) -> Vec<u8> {
        // New; no name; a gauge; no scope, schema or head; it leaves as:
        let one = [&[0xff; 4][..], &[0; 8], &[1, 0, 0], &[0; 24], &[1]].concat();
        let mut bytes = one.repeat(depth);
        bytes.extend(&one[..one.len() - 1]);
        bytes.push(0);
        bytes
    }
    let read = |depth| code::Reader::new(&endless(depth), &mut Interner::default()).desc().is_ok();
    assert_eq!([0, 1, 2, 1_000_000].map(read), [true, true, false, false]);
    // By its place: the first leaves as nothing else, the second leaves as the first.
    let second = |place: u32| {
        let (mut bytes, next) = (endless(1), endless(0));
        bytes.extend(&next[..next.len() - 1]);
        bytes.push(1);
        bytes.extend(place.to_le_bytes());
        let mut interner = Interner::default();
        let mut from = code::Reader::new(&bytes, &mut interner);
        from.desc().is_ok() && from.desc().is_ok()
    };
    assert_eq!([0, 1, 2].map(second), [true, false, false]);
}

/// Takes what is written, in calls of no more than a piece.
#[derive(Default)]
struct Pieces(Vec<u8>, usize);

impl io::Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        assert!(bytes.len() <= sealed::PIECE, "{} bytes were held", bytes.len());
        self.0.extend_from_slice(bytes);
        self.1 += 1;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pieces(books: &Books) -> Pieces {
    let mut pieces = Pieces::default();
    let mut out = Writer::new(Sealing::begin(&mut pieces, LARGEST).unwrap());
    books::save(books, &books::Name { number: 1, boot: "b".to_owned(), process: (1, 1) }, &mut out);
    out.finish().unwrap();
    pieces
}

#[test]
fn a_large_state_is_written_piece_by_piece_and_read_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(directory.path(), "b", Duration::ZERO);
    let processes: Vec<_> = (1..2_000).map(|pid| (pid, 1, 10 * pid)).collect();
    run.scrape(10, &processes);
    let Pieces(bytes, calls) = pieces(&run.stage.books);
    assert!(bytes.len() > 4 * sealed::PIECE && calls > 5, "{} bytes in {calls} calls", bytes.len());
    assert_eq!(bytes.len(), fs::read(directory.path().join(FILE)).unwrap().len());
    // Any piece that is not the one that was written is found.
    for place in (0..bytes.len()).step_by(sealed::PIECE / 3) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1;
        assert!(sealed::open(&damaged).is_err(), "at {place}");
        assert!(sealed::open(&bytes[..place]).is_err(), "cut at {place}");
    }
    let mut swapped = bytes.clone();
    swapped[16..].rotate_left(sealed::PIECE);
    assert!(sealed::open(&swapped).is_err());
    // What is read and written again is the same but for the order of things, and leaves as what it was.
    let body = sealed::open(&bytes).unwrap();
    let (_, books) = books::load(body, Instant::now(), &mut Counts::new(&Site::for_test("aggregate"))).unwrap();
    assert_eq!(pieces(&books).0.len(), bytes.len());
    let mut next = Run::new(directory.path(), "b", Duration::ZERO);
    let later: Vec<_> = processes.iter().map(|(pid, start, value)| (*pid, *start, value + 1)).collect();
    assert_eq!(next.scrape(20, &later), run.scrape(20, &later));
}

#[test]
fn a_state_that_is_too_large_leaves_the_one_before() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(directory.path(), "b", Duration::ZERO);
    run.scrape(10, &(1..1_000).map(|pid| (pid, 1, pid)).collect::<Vec<_>>());
    let whole = fs::read(directory.path().join(FILE)).unwrap();
    let store = run.stage.store.as_mut().unwrap();
    let number = store.number;
    for largest in [0, 100, whole.len() as u64 - 1] {
        let error = store.write(&run.stage.books, largest).unwrap_err();
        assert_eq!(error.to_string(), format!("it takes more than the {largest} bytes it may have"));
        assert_eq!((fs::read(directory.path().join(FILE)).unwrap() == whole, store.number), (true, number));
        assert_eq!(files(directory.path()), [FILE], "nothing is left of it");
    }
    store.write(&run.stage.books, whole.len() as u64).unwrap();
}

#[test]
fn a_stage_that_cannot_write_says_so_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    // A link that leads nowhere: there is no state, and no directory can be made.
    let (gone, target) = (directory.path().join("gone"), directory.path().join("target"));
    std::os::unix::fs::symlink(&target, &gone).unwrap();
    let mut run = Run::new(&gone, "b", Duration::ZERO);
    assert_eq!(run.scrape(10, &[(1, 1, 110), (2, 2, 60)]), [(None, 10, 0), (Some(2), 2, 60)]);
    assert_eq!(crate::testing::counted(&run.site, "phoenix_aggregate_state_failures_total"), 1);
    assert_eq!(run.stage.deadline(), Some(run.now + RETRY));
    // There is room again.
    fs::create_dir(&target).unwrap();
    run.scrape(20, &[(1, 1, 111)]);
    assert_eq!((files(&gone), run.stage.deadline()), (vec![FILE.to_owned()], None));
}

#[test]
fn a_write_that_fails_leaves_no_file_that_is_taken_for_new() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(directory.path(), "b", Duration::ZERO);
    run.scrape(10, &[(1, 1, 100), (2, 2, 50)]);
    // What stands in the way of the next file cannot be removed as a file.
    fs::create_dir(directory.path().join(NEXT)).unwrap();
    assert_eq!(run.scrape(20, &[(1, 1, 101), (2, 2, 51)]), [(None, 10, 1), (Some(2), 2, 51)]);
    fs::remove_dir(directory.path().join(NEXT)).unwrap();
    let mut next = Run::new(directory.path(), "b", Duration::ZERO);
    assert_eq!(next.scrape(30, &[(1, 1, 102), (2, 2, 52)]), [(None, 30, 0), (Some(2), 30, 0)]);
    assert!(next.found("outdated"));
}

#[test]
fn a_swap_goes_on_and_a_stage_without_state_leaves_none_that_is_taken_for_new() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::new(directory.path(), "b", Duration::ZERO);
    run.scrape(10, &[(1, 1, 100), (2, 2, 50)]);
    let mut next = Run::new(directory.path(), "b", Duration::ZERO);
    next.stage.adopt(&mut run.stage);
    let mut delivery = Delivery::none();
    let mut context = Context { now: run.now, delivery: &mut delivery, marks: &mut Marks::default() };
    run.stage.flush(&mut Batch::default(), &mut context, true);
    assert_eq!(next.scrape(20, &[(1, 1, 103), (2, 2, 51)]), [(None, 10, 3), (Some(2), 2, 51)]);
    let mut without = Aggregate::new(Config::default(), &next.site, None);
    without.adopt(&mut next.stage);
    let mut last = Run::new(directory.path(), "b", Duration::ZERO);
    assert_eq!(last.scrape(30, &[(1, 1, 104), (2, 2, 52)]), [(None, 30, 0), (Some(2), 30, 0)]);
}

#[test]
fn a_state_of_the_same_process_is_never_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut run = Run::of(("b", (7, 1)), directory.path(), Duration::ZERO);
    run.scrape(10, &[(1, 1, 100), (2, 2, 50)]);
    // Swapped out without a successor; what others reported until it came back is not known.
    drop(run);
    let mut next = Store::new(&directory.path().into(), ("b", (7, 1)), Duration::ZERO);
    let (mut books, mut counts) = (Books::default(), Counts::new(&Site::for_test("aggregate")));
    next.restore(&mut books, Instant::now(), &mut counts);
    assert!(books.hosts.is_empty() && matches!(books.lost, Lost::All));
    // Killed before its first write.
    let mut later = Run::of(("b", (7, 2)), directory.path(), Duration::ZERO);
    assert_eq!(later.scrape(40, &[(1, 1, 105), (2, 2, 53)]), [(None, 40, 0), (Some(2), 40, 0)]);
    assert!(later.found("outdated"));
    // Of another process with the same id it is one.
    let mut last = Run::of(("b", (7, 3)), directory.path(), Duration::ZERO);
    assert_eq!(last.scrape(50, &[(1, 1, 106), (2, 2, 54)]), [(None, 40, 1), (Some(2), 40, 1)]);
    assert!(last.found("restored"));
}

#[test]
fn this_process_has_an_id_and_a_start() {
    let (id, started) = this_process().unwrap();
    assert!(id == u64::from(std::process::id()) && started > 0);
}
