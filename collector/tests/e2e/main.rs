//! The built agent from outside: started as a user starts it, looked at by programs that are not its own.
//!
//! One test binary, so that the harness is linked once. Nothing here reads the agent's code: what is expected comes from
//! the documentation, from `/proc`, or from another program. A tool that is missing skips its test with a word; in CI
//! (`CI=true`) Python's packages and Prometheus must be there.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic, reason = "tests fail by panicking")]

mod admin;
mod budget;
mod compare;
mod configs;
mod disk_queue;
mod explosion;
mod harness;
mod lifecycle;
mod memory;
mod migration;
mod otlp;
mod otlp_in;
mod otlp_json;
mod page_tls;
mod peer;
mod prometheus;
mod reload;
mod secrets;
mod service;
mod sink;
mod swaps;
mod synthetic;
mod watch;
