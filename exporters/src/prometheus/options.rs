//! What a page may vary in: names, labels, timestamps. Settings become [`TextOptions`]; the store and the writer know
//! only these, so the agent's own page is written by the same code with other options.

use globset::{Glob, GlobSet, GlobSetBuilder};

/// How names are made of OTLP names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naming {
    /// Put before every metric name, with an underscore between; empty for none.
    pub namespace: String,
    /// Whether the unit's word is added to the name (and `_ratio` to gauges of unit 1).
    pub units: bool,
    /// Whether counters end in `_total`.
    pub type_suffix: bool,
    /// Whether characters outside the classic set stay as they are.
    pub utf8: bool,
}

impl Default for Naming {
    fn default() -> Self {
        Self { namespace: String::new(), units: true, type_suffix: true, utf8: false }
    }
}

/// What a page holds beside the values.
#[derive(Clone, Debug)]
pub struct TextOptions {
    /// How names are made.
    pub naming: Naming,
    /// Labels on every sample; they win over labels of the same name from elsewhere.
    pub const_labels: Vec<(String, String)>,
    /// Whether samples carry the time of their data point.
    pub send_timestamps: bool,
    /// Whether samples carry the labels `otel_scope_*`.
    pub scope_info: bool,
    /// Whether samples carry `job` and `instance` from `service.*`; without it those attributes stand in `target_info`
    /// under their own names, as the pages of OpenTelemetry SDKs have it.
    pub service_labels: bool,
    /// Whether the page has a `target_info`.
    pub target_info: bool,
    /// Which resource attributes become labels of every sample.
    pub resource_labels: ResourceLabels,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self {
            naming: Naming::default(),
            const_labels: Vec::new(),
            send_timestamps: false,
            scope_info: true,
            service_labels: true,
            target_info: true,
            resource_labels: ResourceLabels::identity(),
        }
    }
}

/// Resource attributes that tell processes apart, so that no two processes share a series on the page.
pub const IDENTITY: [&str; 5] =
    ["process.pid", "process.executable.name", "process.owner", "container.id", "k8s.pod.uid"];

/// Attributes that hold a whole command line: only a pattern that is the very key takes them in, no wildcard does.
const COMMAND_LINES: [&str; 2] = ["process.command_line", "process.command_args"];

/// Whether an attribute holds a command line.
pub(crate) fn is_command_line(key: &str) -> bool {
    COMMAND_LINES.contains(&key)
}

/// Which resource attributes become labels, by wildcard patterns on their keys.
#[derive(Clone, Debug)]
pub struct ResourceLabels {
    included: GlobSet,
    excluded: GlobSet,
    command_lines: Vec<String>,
}

impl ResourceLabels {
    /// Patterns with `*` and `?`. With nothing included and something excluded, everything else is included.
    ///
    /// # Errors
    /// The first pattern that is none, and why.
    pub fn new<S: AsRef<str>>(included: &[S], excluded: &[S]) -> Result<Self, String> {
        let everything = included.is_empty() && !excluded.is_empty();
        let all = everything.then_some("*");
        let set = |patterns: &mut dyn Iterator<Item = &str>| {
            let mut set = GlobSetBuilder::new();
            for pattern in patterns {
                set.add(
                    Glob::new(pattern)
                        .map_err(|error| format!("{pattern:?} is no wildcard pattern: {}", error.kind()))?,
                );
            }
            set.build().map_err(|error| error.to_string())
        };
        Ok(Self {
            included: set(&mut included.iter().map(AsRef::as_ref).chain(all))?,
            excluded: set(&mut excluded.iter().map(AsRef::as_ref))?,
            command_lines: included
                .iter()
                .map(AsRef::as_ref)
                .filter(|key| is_command_line(key))
                .map(str::to_owned)
                .collect(),
        })
    }

    /// Labels for [`IDENTITY`] only.
    pub fn identity() -> Self {
        Self::new(&IDENTITY, &[]).unwrap_or_else(|_| Self::none())
    }

    /// No labels.
    pub fn none() -> Self {
        Self { included: GlobSet::empty(), excluded: GlobSet::empty(), command_lines: Vec::new() }
    }

    /// Whether the attribute becomes a label.
    pub fn wants(&self, key: &str) -> bool {
        self.included.is_match(key)
            && !self.excluded.is_match(key)
            && (!is_command_line(key) || self.command_lines.iter().any(|listed| listed == key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identity_is_the_default_and_holds_no_command_line() {
        let labels = TextOptions::default().resource_labels;
        assert!(IDENTITY.iter().all(|key| labels.wants(key)));
        assert!(
            !labels.wants("process.command_line") && !labels.wants("host.name") && !labels.wants("process.command")
        );
    }

    #[test]
    fn wildcards_never_take_in_a_command_line() {
        let all = ResourceLabels::new(&["*"], &["service.*"]).unwrap();
        assert!(all.wants("host.name") && !all.wants("service.name") && !all.wants("process.command_line"));
        assert!(ResourceLabels::new(&["process.command_line"], &[]).unwrap().wants("process.command_line"));
        let rest = ResourceLabels::new(&[], &["k8s.*"]).unwrap();
        assert!(rest.wants("host.name") && !rest.wants("k8s.pod.uid"));
        assert!(ResourceLabels::new(&["[a"], &[]).unwrap_err().contains("[a"));
    }
}
