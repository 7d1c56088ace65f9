//! `phoenix print-config`: the config after merging and expanding, secrets hidden unless asked for.

use super::args::{Format, PrintMode, PrintOptions};
use crate::config::{Request, Tables, redacted, report};
use phoenix_pipeline::config::Mistake;

/// The config as text.
///
/// # Errors
/// The mistakes of a config that cannot be read, or, unless `--validate=false`, of any kind.
pub(super) fn text(request: &Request, options: &PrintOptions) -> Result<String, String> {
    let wrong = |mistakes: Vec<Mistake>| report(&mistakes).to_string();
    let loaded = request.read().map_err(wrong)?;
    if options.validate {
        loaded.clone().check(&Tables::agent()).map_err(wrong)?;
    } else if !loaded.mistakes.is_empty() {
        return Err(wrong(loaded.mistakes));
    }
    let value = match options.mode {
        PrintMode::Redacted => redacted(&loaded.value),
        PrintMode::Unredacted => loaded.value,
    };
    let value = value.to_yaml();
    match options.format {
        Format::Yaml => serde_yaml::to_string(&value).map_err(|error| error.to_string()),
        Format::Json => serde_json::to_string_pretty(&value).map(|text| text + "\n").map_err(|error| error.to_string()),
    }
}
