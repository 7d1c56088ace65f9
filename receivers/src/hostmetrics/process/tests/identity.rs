//! Who a process is from scrape to scrape, and how its series end.

use super::host::{BOOT, Host, NANOS, Spec};
use super::*;

#[test]
fn a_process_that_is_gone_is_closed_once() {
    let host = Host::new();
    host.process(&Spec::default());
    host.process(&Spec { pid: 43, ..Spec::default() });
    let mut scraper = host.scraper("{}", Naming::V0);
    let (first, _) = host.scrape(&mut scraper, 0);
    host.remove(42);
    let (second, outcome) = host.scrape(&mut scraper, 10);
    assert_eq!((outcome.points, outcome.errored), (14, 0));
    let series = |batch: &Batch, closed: bool| {
        let of_pid =
            batch.series().filter(|p| p.metric().resource().attributes().get("process.pid") == Some(AnyValue::Int(42)));
        of_pid.filter(|p| p.no_recorded_value() == closed).map(|p| (p.series(), p.start_time())).collect::<Vec<_>>()
    };
    assert_eq!(series(&first, false).len(), 7);
    assert_eq!(series(&second, true), series(&first, false), "the same series with the same start");
    assert!(
        second
            .series()
            .filter(|p| p.no_recorded_value())
            .all(|p| p.value().is_none() && p.time() == (BOOT + 120) * NANOS)
    );
    let (third, outcome) = host.scrape(&mut scraper, 20);
    assert_eq!((outcome.points, third.resources().count(), scraper.table.len()), (7, 1, 1));
}

#[test]
fn a_pid_that_comes_back_is_a_new_life() {
    let host = Host::new();
    host.process(&Spec::default());
    let mut scraper = host.scraper("{}", Naming::V0);
    let (first, _) = host.scrape(&mut scraper, 0);
    host.process(&Spec { start: 5000, user: 1, ..Spec::default() });
    let (same, outcome) = host.scrape(&mut scraper, 10);
    assert_eq!(outcome.points, 7, "the same resource: a new start time on the same series, nothing is closed");
    assert!(
        same.series().all(|p| !p.no_recorded_value() && p.start_time() > first.series().next().unwrap().start_time())
    );
    host.process(&Spec { start: 9000, comm: b"other", ..Spec::default() });
    let (other, outcome) = host.scrape(&mut scraper, 20);
    assert_eq!(outcome.points, 14);
    let closed: Vec<_> = other.series().map(|p| p.no_recorded_value()).collect();
    assert_eq!(closed, [[true; 7], [false; 7]].concat(), "the old resource is closed before the new one is written");
}

#[test]
fn a_program_that_becomes_another_closes_its_old_name() {
    let host = Host::new();
    host.process(&Spec { comm: b"sh", cmdline: b"sh\0", exe: Some("/bin/sh"), ..Spec::default() });
    let mut scraper = host.scraper("{}", Naming::V0);
    host.scrape(&mut scraper, 0);
    host.process(&Spec { parent: 7, ..Spec::default() });
    let (batch, outcome) = host.scrape(&mut scraper, 10);
    assert_eq!(outcome.points, 14);
    let names: Vec<_> = batch.resources().map(|r| r.attributes().get_str("process.executable.name").unwrap()).collect();
    assert_eq!(names, ["sh", "app"]);
    let (_, outcome) = host.scrape(&mut scraper, 20);
    assert_eq!(outcome.points, 7);
}

#[test]
fn what_is_not_shown_makes_no_other_resource() {
    let host = Host::new();
    host.process(&Spec { comm: b"sh", cmdline: b"sh\0", ..Spec::default() });
    let off = "{enabled: false}";
    let mut scraper = host.scraper(
        &format!(
            "{{resource_attributes: {{process.parent_pid: {off}, process.executable.name: {off}, process.command: {off}, process.command_line: {off}}}}}"
        ),
        Naming::V0,
    );
    host.scrape(&mut scraper, 0);
    host.process(&Spec { parent: 7, ..Spec::default() });
    let (batch, outcome) = host.scrape(&mut scraper, 10);
    assert_eq!(outcome.points, 7, "two resources of the same attributes would be two writers of one series");
    assert!(batch.series().all(|point| !point.no_recorded_value()));
}

#[test]
fn a_zombie_stays_who_it_was() {
    let host = Host::new();
    host.process(&Spec::default());
    let mut scraper = host.scraper("{}", Naming::V0);
    host.scrape(&mut scraper, 0);
    host.process(&Spec { state: 'Z', cmdline: b"", exe: None, ..Spec::default() });
    let (batch, outcome) = host.scrape(&mut scraper, 10);
    assert_eq!(outcome.points, 7);
    let resource = batch.resources().next().unwrap();
    assert_eq!(resource.attributes().get_str("process.executable.path"), Some("/usr/bin/app"));
}

#[test]
fn titles_are_kept_and_users_are_looked_at_again() {
    let host = Host::new();
    host.process(&Spec { uid: 0, cmdline: b"postgres\0", ..Spec::default() });
    let mut scraper = host.scraper("{}", Naming::V0);
    host.scrape(&mut scraper, 0);
    host.process(&Spec { cmdline: b"postgres: starting\0\0\0", ..Spec::default() });
    let (second, _) = host.scrape(&mut scraper, 10);
    let command =
        |batch: &Batch| batch.resources().last().unwrap().attributes().get_str("process.command").unwrap().to_owned();
    assert_eq!(command(&second), "postgres: starting", "what a program makes of itself at the start");
    host.process(&Spec { uid: 0, cmdline: b"postgres: idle\0\0\0", ..Spec::default() });
    let (third, outcome) = host.scrape(&mut scraper, 20);
    assert_eq!((command(&third).as_str(), outcome.points), ("postgres: starting", 7));
    let (late, outcome) = host.scrape(&mut scraper, 10 + 300 + 60);
    assert_eq!(
        (command(&late).as_str(), outcome.points),
        ("postgres: starting", 14),
        "the user changed, so the old series are closed"
    );
    assert_eq!(late.resources().last().unwrap().attributes().get_str("process.owner"), Some("root"));
}
