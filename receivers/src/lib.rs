//! Where metrics come from.
//!
//! One folder per receiver. A receiver reads a source, writes each reading straight into the bytes of a
//! [`phoenix_telemetry::Batch`] and hands it to its outlet. Receivers never import processors, exporters or the collector.
#![deny(unsafe_code)]

pub mod hostmetrics;
pub mod otlp;
pub mod scrub;

use phoenix_pipeline::ReceiverFactory;

/// Every receiver of this crate, in the order in which they are listed for people.
pub const RECEIVERS: &[ReceiverFactory] = &[hostmetrics::FACTORY, otlp::FACTORY];
