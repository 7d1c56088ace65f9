//! Where metrics go: OTLP, Prometheus, files, the terminal.
//!
//! A folder or file per exporter, each with its settings beside it. An exporter is handed a shipment on a lane and must
//! return at once: whatever takes time (a socket, a disk, a slow peer) happens on its own task or thread. Exporters never
//! change a batch and never import a receiver or a processor.

#![forbid(unsafe_code)]

pub mod counts;
pub mod debug;
pub mod file;
pub mod otlp;
pub mod prometheus;
pub mod sending;
#[cfg(test)]
mod testing;
mod time;
mod worker;

use phoenix_pipeline::ExporterFactory;

/// Every exporter of the agent, by name. Aliases are part of the factory.
pub const EXPORTERS: &[ExporterFactory] =
    &[debug::FACTORY, file::FACTORY, otlp::grpc::FACTORY, otlp::http::FACTORY, prometheus::FACTORY];
