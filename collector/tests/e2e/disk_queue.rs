//! The sending queue on disk in a real agent that is killed while its backend is away.

use super::harness::{PATIENCE, Room, free_port, get, until};
use super::sink::{Sink, python};

#[test]
fn what_was_queued_before_a_kill_is_sent_by_the_next_run() {
    if !python() {
        return;
    }
    let (room, own) = (Room::new(), free_port());
    let sink = Sink::start(&room);
    let config = |port: u16| {
        format!(
            "receivers: {{hostmetrics: {{collection_interval: 100ms, initial_delay: 0s, scrapers: {{memory: }}}}}}
extensions: {{file_storage: {{directory: {}, create_directory: true}}}}
exporters:
  otlp_http/disk:
    endpoint: \"http://127.0.0.1:{port}\"
    headers: {{x-road: disk}}
    sending_queue: {{storage: file_storage, sizer: requests, queue_size: 100000}}
service:
  extensions: [file_storage]
  telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {own}}}}}}}}}]}}}}
  pipelines: {{metrics: {{receivers: [hostmetrics], exporters: [otlp_http/disk]}}}}
",
            room.path("queue").display()
        )
    };
    // Nobody listens there.
    let dead = config(free_port());
    let mut waiting = 0;
    for round in 1..=3 {
        let mut phoenix = room.phoenix(&dead);
        waiting = until("three more scrapes on the disk", PATIENCE, || {
            let page = get(own, "/metrics", "").ok()?.body;
            let size = page.lines().find(|line| line.starts_with("otelcol_exporter_queue_size"))?;
            let size: f64 = size.rsplit(' ').next()?.parse().ok()?;
            (size >= f64::from(waiting + 3)).then_some(size as u32)
        });
        phoenix.kill();
        assert!(waiting >= 3 * round, "what earlier runs left is still there: {waiting}");
    }
    let mut phoenix = room.phoenix(&config(sink.http));
    until("all that was queued", PATIENCE, || (sink.requests("disk").len() >= waiting as usize).then_some(()));
    phoenix.end();
}

#[test]
fn a_queue_that_a_renamed_exporter_left_is_named_at_start_and_kept() {
    let (room, own) = (Room::new(), free_port());
    // Nobody listens there.
    let dead = free_port();
    let config = |exporter: &str| {
        format!(
            "receivers: {{hostmetrics: {{collection_interval: 100ms, initial_delay: 0s, scrapers: {{memory: }}}}}}
extensions: {{file_storage: {{directory: {}, create_directory: true}}}}
exporters: {{{exporter}: {{endpoint: \"http://127.0.0.1:{dead}\", sending_queue: {{storage: file_storage}}}}}}
service:
  extensions: [file_storage]
  telemetry: {{metrics: {{readers: [{{pull: {{exporter: {{prometheus: {{host: 127.0.0.1, port: {own}}}}}}}}}]}}}}
  pipelines: {{metrics: {{receivers: [hostmetrics], exporters: [{exporter}]}}}}
",
            room.path("queue").display()
        )
    };
    let mut phoenix = room.phoenix(&config("otlp_http/old"));
    until("something is queued", PATIENCE, || {
        let page = get(own, "/metrics", "").ok()?.body;
        let size = page.lines().find(|line| line.starts_with("otelcol_exporter_queue_size"))?;
        (!size.ends_with(" 0")).then_some(())
    });
    phoenix.end();
    for _ in 0..2 {
        let mut phoenix = room.phoenix(&config("otlp_http/new"));
        let line = until("the queue is named", PATIENCE, || {
            let log = phoenix.stderr();
            log.lines().find(|line| line.contains("otlp_http/old is gone")).map(str::to_owned)
        });
        assert!(line.contains("exporter_otlp_http%2Fold") && line.contains("points"), "{line}");
        phoenix.end();
        assert_eq!(phoenix.stderr().matches("is gone and has left data").count(), 1);
    }
}
