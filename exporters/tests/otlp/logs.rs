//! What is logged: one line per change of condition, and never a secret.

use std::fmt::Write;
use std::sync::{Arc, Mutex};

use phoenix_exporters::otlp;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::support::*;

/// Keeps the events of this crate as lines.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("phoenix_exporters")
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(event.metadata().level().to_string());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        write!(self.0, " {}={value:?}", field.name()).unwrap();
    }
}

#[tokio::test]
async fn one_line_per_change_of_condition() {
    let lines = Lines::default();
    // For the whole process, as an agent has it; the other tests' lines carry another exporter.
    tracing::subscriber::set_global_default(lines.clone()).unwrap();
    let down = || Answer::status(503);
    let answers =
        [down(), down(), down(), Answer::status(502), Answer::status(502), Answer::status(200), Answer::status(400)];
    let backend = Backend::start(answers).await;
    let yaml = format!("endpoint: {}\nheaders: {{ api-key: hunter2 }}\nread_buffer_size: 1\n{EAGER}", backend.url());
    let subject = Subject::named("otlp/logs", &otlp::http::FACTORY, &yaml).unwrap();
    subject.send(batch(4)).await.unwrap();
    subject.send(batch(4)).await.unwrap_err();
    subject.send(batch(4)).await.unwrap_err();
    let mut lines = lines.0.lock().unwrap().clone();
    lines.retain(|line| line.contains("exporter=otlp/logs"));
    let starts = [
        "INFO message=accepted, without effect here: read_buffer_size",
        "WARN message=the peer answered 503 Service Unavailable; trying again in 0.0s",
        "WARN message=the peer answered 502 Bad Gateway; trying again in 0.0s",
        "INFO message=the destination takes data again after 0s",
        "WARN message=the peer answered 400 Bad Request; 4 data points are dropped",
    ];
    assert_eq!(lines.len(), starts.len(), "{lines:#?}");
    for (line, start) in lines.iter().zip(starts) {
        assert!(line.starts_with(start) && !line.contains("hunter2"), "{line}");
    }
    assert!(lines[3].contains("failed_attempts=5 dropped_points=0"), "{}", lines[3]);
}
