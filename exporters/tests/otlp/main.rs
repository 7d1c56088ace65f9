//! The OTLP exporters against servers on the loopback: what is sent, what is understood of the answers, what is counted.
//! The peer's side is independent code: `opentelemetry-proto`'s messages, tonic's gRPC server.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests, outside of test functions

mod auth;
mod disk;
mod grpc;
mod http;
mod logs;
mod pressure;
mod queue;
mod support;
mod tls;
mod trouble;
