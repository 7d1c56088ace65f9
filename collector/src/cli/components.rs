//! `phoenix components`: what a config can name, as YAML in the Collector's shape.

use phoenix_pipeline::Factory;
use serde::Serialize;

use crate::config::SCHEMES;

/// The whole answer.
#[derive(Serialize)]
struct Answer {
    buildinfo: BuildInfo,
    receivers: Vec<Row>,
    processors: Vec<Row>,
    exporters: Vec<Row>,
    extensions: Vec<Row>,
    connectors: Vec<Row>,
    providers: Vec<Provider>,
}

#[derive(Serialize)]
struct BuildInfo {
    command: &'static str,
    description: &'static str,
    version: String,
}

/// One component.
#[derive(Serialize)]
pub(super) struct Row {
    name: &'static str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    aliases: &'static [&'static str],
    description: &'static str,
    stability: Stability,
}

#[derive(Serialize)]
struct Stability {
    metrics: String,
}

#[derive(Serialize)]
struct Provider {
    scheme: &'static str,
}

/// The rows of one table, by name.
pub(super) fn rows<C>(table: &'static [Factory<C>]) -> Vec<Row> {
    let row = |factory: &'static Factory<C>| Row {
        name: factory.name,
        aliases: factory.aliases,
        description: factory.about,
        stability: Stability { metrics: factory.stability.to_string() },
    };
    let mut rows: Vec<Row> = table.iter().map(row).collect();
    rows.sort_by_key(|row| row.name);
    rows
}

/// The answer as YAML.
///
/// # Errors
/// The printer's own; none is known.
pub(super) fn text(
    version: &str,
    receivers: Vec<Row>,
    processors: Vec<Row>,
    exporters: Vec<Row>,
    extensions: Vec<Row>,
) -> Result<String, String> {
    let answer = Answer {
        buildinfo: BuildInfo {
            command: "phoenix",
            description: env!("CARGO_PKG_DESCRIPTION"),
            version: version.to_owned(),
        },
        receivers,
        processors,
        exporters,
        extensions,
        connectors: Vec::new(),
        providers: SCHEMES.iter().map(|scheme| Provider { scheme }).collect(),
    };
    serde_yaml::to_string(&answer).map_err(|error| error.to_string())
}
