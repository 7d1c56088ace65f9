//! The `otlp` receiver on the wire: against tonic's client and against peers that mean no good.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod docs;
mod grpc;
mod hostile;
mod http;
mod lifecycle;
mod sdk;
mod support;
mod tls;
