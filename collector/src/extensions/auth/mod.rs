//! Authenticators: credentials that exporters send and receivers ask for, kept in one place and reread when they rotate.
//!
//! `bearertokenauth` serves both sides, `basicauth` and `headers_setter` only exporters. No credential is ever printed, and
//! where one is compared it takes as long for a wrong one as for a right one.

mod basic;
mod bearer;
mod headers;
mod rotating;
#[cfg(test)]
mod tests;

pub use basic::FACTORY as BASIC;
pub use bearer::FACTORY as BEARER;
pub use headers::FACTORY as HEADERS;

use std::sync::Arc;

use http::HeaderValue;
use phoenix_pipeline::auth::{Authenticator, ClientAuth};
use phoenix_pipeline::{BoxFuture, Extension};

/// Types of extensions that exporters may name in `auth.authenticator`.
pub const FOR_EXPORTERS: &[&str] = &["basicauth", "bearertokenauth", "headers_setter"];
/// Types of extensions that receivers may name there.
pub const FOR_RECEIVERS: &[&str] = &["bearertokenauth"];

/// An extension that is nothing but its authenticator.
struct Offer(Authenticator);

impl Offer {
    fn client(client: impl ClientAuth + 'static) -> Box<dyn Extension> {
        Box::new(Offer(Authenticator { client: Some(Arc::new(client)), server: None }))
    }
}

impl Extension for Offer {
    fn authenticator(&self) -> Option<Authenticator> {
        Some(self.0.clone())
    }

    fn shutdown(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// A secret as it goes over the wire. The error says nothing of the value.
fn header_value(text: &str) -> Result<HeaderValue, String> {
    let value = HeaderValue::try_from(text);
    let mut value =
        value.map_err(|_| "holds a character that is not allowed in a header (a line break?)".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}
