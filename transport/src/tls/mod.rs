//! How an exporter reaches its peer: TLS settings with the Collector's keys, and one connector for every transport.
//!
//! The connector opens TCP (or a Unix socket), speaks TLS where the settings say so and tells the HTTP client which
//! version was agreed on. It never decides what is sent, and never prints a key.

mod connector;
mod settings;
mod trust;

pub use connector::{Connector, Route, Stream, server_name};
pub use settings::TlsSettings;
pub use trust::{Alpn, client_config};
