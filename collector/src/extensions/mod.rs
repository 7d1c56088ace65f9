//! What stands beside the pipelines. `health_check`, `file_storage` and the authenticators are served; the others are accepted with the
//! Collector's keys, so that an existing file starts, and say in one log line that they do nothing yet.

mod accepted;
pub mod auth;
mod file_storage;
mod health_check;

use phoenix_pipeline::ExtensionFactory;

/// The table of extensions.
pub const EXTENSIONS: &[ExtensionFactory] = &[
    auth::BASIC,
    auth::BEARER,
    file_storage::FACTORY,
    auth::HEADERS,
    health_check::FACTORY,
    accepted::PPROF,
    accepted::ZPAGES,
];
