//! What stands beside the pipelines. `health_check` is served; the others are accepted with the Collector's keys, so
//! that an existing file starts, and say in one log line that they do nothing yet.

mod accepted;
mod health_check;

use phoenix_pipeline::ExtensionFactory;

/// The table of extensions.
pub const EXTENSIONS: &[ExtensionFactory] =
    &[accepted::FILE_STORAGE, health_check::FACTORY, accepted::PPROF, accepted::ZPAGES];
