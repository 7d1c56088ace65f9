//! A medium that fails to be read: for a while, and for good.

use std::path::Path;

use phoenix_storage::{Fsync, OnFull, Queue, Settings};

use crate::disk::{EIO, ENOMEM, SimDisk};

const SETTINGS: Settings = Settings { max_bytes: 1 << 20, max_age: None, segment_bytes: 200, fsync: Fsync::Never };

fn filled(disk: &SimDisk) -> Queue {
    let mut queue = Queue::open_on(disk.files(), Path::new("/queue"), SETTINGS).unwrap();
    for number in 0..6 {
        queue.append(&[&[number; 30]], u64::from(number), 0, OnFull::Refuse).unwrap();
    }
    queue
}

#[test]
fn a_failure_that_passes_costs_nothing() {
    let disk = SimDisk::default();
    let mut queue = filled(&disk);
    disk.fail(Some(("read", EIO)));
    for _ in 0..2 {
        let error = queue.next(0).unwrap_err();
        assert_eq!(error.operation, "read");
    }
    disk.fail(None);
    for number in 0..6 {
        assert_eq!(queue.next(0).unwrap().unwrap().points, number);
    }
    assert_eq!(queue.stats().damaged, Default::default());
}

#[test]
fn a_medium_that_fails_for_good_holds_nobody_up_and_is_tried_again_after_a_restart() {
    let disk = SimDisk::default();
    let mut queue = filled(&disk);
    disk.fail(Some(("read", EIO)));
    let mut errors = 0;
    while !matches!(queue.next(0), Ok(None)) {
        errors += 1;
        assert!(errors < 20);
    }
    let stats = queue.stats();
    assert_eq!((stats.damaged.unreadable.records, stats.damaged.unreadable.points, stats.records), (6, 15, 0));
    disk.fail(None);
    queue.append(&[b"more"], 9, 0, OnFull::Refuse).unwrap();
    assert_eq!(queue.next(0).unwrap().unwrap().payload, b"more");
    drop(queue);
    let mut queue = Queue::open_on(disk.files(), Path::new("/queue"), SETTINGS).unwrap();
    for number in [0, 1, 2, 3, 4, 5, 9] {
        assert_eq!(queue.next(0).unwrap().unwrap().points, number);
    }
}

#[test]
fn a_failure_that_says_nothing_about_the_medium_never_costs_a_record() {
    let disk = SimDisk::default();
    let mut queue = filled(&disk);
    disk.fail(Some(("read", ENOMEM)));
    for _ in 0..100 {
        queue.next(0).unwrap_err();
    }
    drop(queue);
    // Nor does a walk at the start take it for damage; the queue is opened when it has passed.
    let error = Queue::open_on(disk.files(), Path::new("/queue"), SETTINGS).unwrap_err();
    assert!(error.to_string().contains("read"), "{error}");
    disk.fail(None);
    let mut queue = Queue::open_on(disk.files(), Path::new("/queue"), SETTINGS).unwrap();
    for number in 0..6 {
        assert_eq!(queue.next(0).unwrap().unwrap().points, number);
    }
    assert_eq!(queue.stats().damaged, Default::default());
}

#[test]
fn it_opens_on_a_medium_that_cannot_be_read() {
    let disk = SimDisk::default();
    drop(filled(&disk));
    disk.fail(Some(("read", EIO)));
    let queue = Queue::open_on(disk.files(), Path::new("/queue"), SETTINGS).unwrap();
    let stats = queue.stats();
    assert_eq!((stats.records, stats.damaged.unreadable.records > 0), (0, true));
    drop(queue);
    disk.fail(None);
    let queue = Queue::open_on(disk.files(), Path::new("/queue"), SETTINGS).unwrap();
    assert_eq!(queue.stats().records, 6);
}

#[test]
fn what_the_caller_still_has_is_handed_out_unread_in_its_turn_only() {
    let disk = SimDisk::default();
    let settings = Settings { max_age: Some(std::time::Duration::from_nanos(50)), ..SETTINGS };
    let mut queue = Queue::open_on(disk.files(), Path::new("/queue"), settings.clone()).unwrap();
    let append =
        |queue: &mut Queue, number: u8| queue.append(&[&[number; 30]], u64::from(number), 100, OnFull::Refuse).unwrap();
    let ids: Vec<_> = (1..=4).map(|number| append(&mut queue, number)).collect();
    disk.fail(Some(("read", EIO)));
    assert!(!queue.take(ids[1], 30, 2, 100, 100), "the first comes first");
    assert!(!queue.take(ids[0], 30, 1, 100, 151), "too old: next() evicts it");
    assert!(queue.take(ids[0], 30, 1, 100, 100));
    assert!(!queue.take(ids[0], 30, 1, 100, 100), "it is handed out");
    assert!(queue.take(ids[1], 30, 2, 100, 100));
    disk.fail(None);
    assert!(queue.finish(ids[0]));
    assert!(queue.give_back(ids[1]));
    for number in 2..=3 {
        assert_eq!(queue.next(100).unwrap().unwrap().payload, [number; 30]);
    }
    assert_eq!(queue.stats().points, 9);
    drop(queue);
    let mut queue = Queue::open_on(disk.files(), Path::new("/queue"), settings).unwrap();
    assert_eq!(queue.next(100).unwrap().unwrap().points, 2, "the first is finished");
}
