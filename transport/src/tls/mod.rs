//! TLS for both sides of a connection, with the Collector's keys.
//!
//! A client ([`ClientTls`], used by the [`Connector`]) and a server ([`Acceptor`]) follow their certificate, key and CA
//! files while connections live on. Nothing here decides what is sent, and no key or certificate is ever printed.

mod client;
mod connector;
mod crypto;
mod material;
mod reload;
mod server;
mod settings;
#[cfg(test)]
mod tests;

pub use client::ClientTls;
pub use connector::{Connector, Route, Stream, server_name};
pub use crypto::Alpn;
pub use server::{Accepted, Acceptor, HandshakeError};
pub use settings::{ServerTlsSettings, TlsSettings, Tpm};
