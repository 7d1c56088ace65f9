//! What both sides of a network connection share, so that receivers and exporters need not know each other: TLS for servers
//! and clients, codings that cannot be made to explode, and OTLP's answers.
#![forbid(unsafe_code)]

pub mod answer;
pub mod coding;
pub mod tls;
