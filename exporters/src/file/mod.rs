//! The `file` exporter: batches in a file, as OTLP JSON lines or length-prefixed protobuf.
//!
//! A thread of its own writes; data counts as delivered when it has been written to the file, not when it is in memory.
//! A disk that is full or gone refuses the data with its cause, shows as a recoverable fault, and is tried again with
//! the next batch.

mod config;
mod sink;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_pipeline::config::Value;
use phoenix_pipeline::{
    BoxFuture, BuildError, Clock, Delivery, Exporter, ExporterFactory, Refusal, Shipment, Site, Stability, Status,
};

use crate::counts::Deliveries;
use crate::worker::{Work, Worker};
pub use config::{Compression, Config, Format, GroupBy, Rotation};
use sink::Sink;

/// The exporter's row in the table.
pub const FACTORY: ExporterFactory = ExporterFactory::new::<Config>(
    "file",
    "Writes batches to a file as OTLP JSON lines or length-prefixed protobuf",
    Stability::Beta,
    build,
);

/// Written to the file at the latest when so much waits in memory.
const MAX_BUFFER: usize = 1024 * 1024;

/// A batch as it stands in the file.
///
/// # Errors
/// A batch that is too large for a length of four bytes, or that zstd refuses.
fn encode(shipment: &Shipment, format: Format, compression: Compression) -> Result<Vec<u8>, String> {
    let mut message = Vec::new();
    match format {
        Format::Json => phoenix_telemetry::json::write(shipment.batch(), &mut message),
        Format::Proto => message.extend_from_slice(&shipment.bytes()),
    }
    if compression == Compression::Zstd {
        // Level 3, zstd's own default: a file is written once and kept.
        message = zstd::bulk::compress(&message, 3).map_err(|error| error.to_string())?;
    }
    if (format, compression) == (Format::Json, Compression::None) {
        message.push(b'\n');
        return Ok(message);
    }
    let length = u32::try_from(message.len()).map_err(|_| "the batch is larger than 4 GiB".to_owned())?;
    let mut out = Vec::with_capacity(message.len() + 4);
    out.extend_from_slice(&length.to_be_bytes());
    out.append(&mut message);
    Ok(out)
}

struct Writer {
    sink: Sink,
    format: Format,
    compression: Compression,
    flush_interval: Duration,
    buffer: Vec<u8>,
    /// What is in the buffer: its deliveries and its points.
    waiting: Vec<(Delivery, usize)>,
    since: Option<Instant>,
    failing: bool,
    clock: Clock,
    status: Status,
    deliveries: Deliveries,
}

impl Writer {
    /// Writes the buffer to the file and tells those who wait.
    fn flush(&mut self) {
        self.since = None;
        if self.buffer.is_empty() {
            return;
        }
        let written = self.sink.write(&self.buffer);
        self.buffer.clear();
        self.buffer.shrink_to(MAX_BUFFER);
        self.report(written.as_ref().err());
        for (delivery, points) in self.waiting.drain(..) {
            match &written {
                Ok(()) => {
                    self.deliveries.sent(points);
                    delivery.delivered();
                }
                Err(error) => {
                    self.deliveries.failed(points);
                    delivery.refused(Refusal::later(format!("cannot write to the file: {error}")));
                }
            }
        }
    }

    /// Says on the health page and in the log when writing begins to fail, and when it works again.
    fn report(&mut self, error: Option<&std::io::Error>) {
        match error {
            Some(error) => {
                self.status.recoverable(format!("cannot write to the file: {error}"));
                if !self.failing {
                    tracing::error!(%error, "cannot write to the file; every further batch tries again");
                }
            }
            None => {
                self.status.ok();
                if self.failing {
                    tracing::info!("the file can be written again");
                }
            }
        }
        self.failing = error.is_some();
    }

    /// Sets the file aside when `more` bytes would make it too large.
    fn make_room(&mut self, more: usize) {
        let needed = (self.buffer.len() + more) as u64;
        if self.sink.room().is_none_or(|room| needed <= room) {
            return;
        }
        self.flush();
        if self.sink.length() > 0
            && let Err(error) = self.sink.rotate(self.clock.unix_nanos())
        {
            // The file goes on to grow; what is in it is not lost for that.
            self.report(Some(&error));
        }
    }
}

impl Work for Writer {
    fn take(&mut self, shipment: Shipment, delivery: Delivery) {
        match encode(&shipment, self.format, self.compression) {
            Ok(message) => {
                self.make_room(message.len());
                self.buffer.extend_from_slice(&message);
                self.waiting.push((delivery, shipment.points()));
                self.since.get_or_insert_with(Instant::now);
                if self.buffer.len() >= MAX_BUFFER {
                    self.flush();
                }
            }
            Err(why) => {
                self.deliveries.failed(shipment.points());
                delivery.refused(Refusal::last(why));
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.since.map(|since| since + self.flush_interval)
    }

    fn tick(&mut self) {
        self.flush();
    }

    fn finish(&mut self) {
        self.flush();
    }
}

struct FileExporter {
    worker: Worker,
    deliveries: Deliveries,
    status: Status,
}

fn build(value: &Value, site: &Site) -> Result<Arc<dyn Exporter>, BuildError> {
    let config: Config = site.settings(value)?;
    let directory = if config.create_directory { Some(config.directory_mode()?) } else { None };
    let truncate = !config.append && config.rotation.is_none();
    let sink = Sink::new(config.path.clone(), config.rotation.clone(), truncate, directory).map_err(|error| {
        format!("cannot open {}: {error}; exporters::{}::path moves it", config.path.display(), site.id)
    })?;
    let deliveries = Deliveries::new(site);
    let writer = Writer {
        sink,
        format: config.format,
        compression: config.compression,
        flush_interval: config.flush_interval,
        buffer: Vec::new(),
        waiting: Vec::new(),
        since: None,
        failing: false,
        clock: site.clock.clone(),
        status: site.status.clone(),
        deliveries: deliveries.clone(),
    };
    let worker = Worker::start(site.id.as_str(), writer).map_err(|error| format!("cannot start a thread: {error}"))?;
    site.status.ok();
    Ok(Arc::new(FileExporter { worker, deliveries, status: site.status.clone() }))
}

impl Exporter for FileExporter {
    fn export(&self, shipment: Shipment, delivery: Delivery) {
        let points = shipment.points();
        if !self.worker.send(shipment, delivery) {
            self.deliveries.failed(points);
            self.status.recoverable("the writer is behind: its queue is full");
        }
    }

    fn shutdown(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if !self.worker.shutdown(deadline).await {
                tracing::warn!("the file did not take everything before the end");
            }
        })
    }
}
