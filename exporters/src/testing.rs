//! What the unit tests of the exporters share.

use phoenix_pipeline::config::{self, Settings};

/// Settings as an agent would read them; every mistake on its own line.
pub fn read<S: Settings>(yaml: &str) -> Result<S, String> {
    let value = config::parse("test.yaml", yaml).unwrap();
    config::read(&value).map_err(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
}
