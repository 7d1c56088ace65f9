//! `otlp_grpc` and `otlp_http`: metrics to any backend that speaks OTLP.
//!
//! Both write the shipment's bytes as they are, compress them once and hand them to the shared [`Sender`]. What differs is
//! how a request is framed and how an answer is read: see the two transports. Neither ever looks inside a batch, and no
//! header value or key reaches a log line.

mod client;
mod compression;
mod endpoint;
mod environment;
pub mod grpc;
pub mod http;
mod message;
mod status;

pub use compression::{Compression, CompressionParams};
pub use environment::exporter_from_environment;

use std::time::Instant;

use ::http::HeaderMap;
use phoenix_pipeline::config::{Headers, Report};
use phoenix_pipeline::{BoxFuture, Delivery, Exporter, Shipment, Site};
use serde::{Deserialize, Serialize};
use tracing::info;

use crate::sending::{QueueSettings, Sender};

/// The exporter: what is special about a transport is in the sender's destination.
struct Otlp(Sender);

impl Exporter for Otlp {
    fn export(&self, shipment: Shipment, delivery: Delivery) {
        self.0.export(shipment, delivery);
    }

    fn durable(&self) -> bool {
        self.0.durable()
    }

    fn shutdown(&self, deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(self.0.shutdown(deadline))
    }
}

/// `auth`: an authenticator extension that adds its credentials to every request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// The extension's id.
    pub authenticator: String,
}

/// Refuses what would change every request if it were served.
fn check_middlewares(middlewares: &[String], report: &mut Report<'_>) {
    if !middlewares.is_empty() {
        report.error("middlewares", "middleware extensions are not served: leave the list empty");
    }
}

/// The configured headers; what is wrong with them was reported, each at its place, when the settings were checked.
fn configured_headers(headers: &Headers, grpc: bool) -> Result<HeaderMap, String> {
    let sentence = |wrong: Vec<(String, String)>| {
        wrong.into_iter().map(|(name, message)| format!("headers.{name}: {message}")).collect::<Vec<_>>().join("; ")
    };
    client::header_map(headers, grpc).map_err(sentence)
}

/// One line for all keys that are accepted and do nothing.
fn say_without_effect(site: &Site, mut keys: Vec<&'static str>, queue: &QueueSettings) {
    if queue.enabled && queue.block_on_overflow {
        keys.push("sending_queue.block_on_overflow (what does not fit is refused as retryable)");
    }
    if !keys.is_empty() {
        info!(exporter = %site.id, "accepted, without effect here: {}", keys.join(", "));
    }
}

/// Undoes percent-encoding; a `%` that begins no code stays as it is.
pub(crate) fn percent_decode(text: &[u8]) -> Vec<u8> {
    let digit = |at: usize| text.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                out.push(*byte);
                at += 1;
            }
        }
    }
    out
}
