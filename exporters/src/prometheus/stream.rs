//! What is worked out once per metric and scope: the family's name, how points become samples, the scope's labels.

use std::sync::Arc;

use phoenix_telemetry::{Metric, MetricKind};

use super::labels::{self, Label};
use super::names::{self, Suffix};
use super::options::TextOptions;
use super::value::{Kind, Reason, Treatment};

/// Most characters of a description that are shown.
const MAX_HELP: usize = 1024;

/// A metric within a scope.
#[derive(Debug)]
pub(crate) struct Stream {
    /// The family its samples stand in, or why there is none.
    pub(crate) family: Result<Arc<str>, Reason>,
    pub(crate) treatment: Treatment,
    pub(crate) scope_labels: Vec<Label>,
    pub(crate) help: String,
    pub(crate) unit: String,
}

impl Stream {
    /// What a metric is on a page with these options.
    pub(crate) fn of(metric: Metric<'_>, options: &TextOptions) -> Self {
        let treatment = Treatment::of(metric);
        let suffix = match treatment {
            Ok(Treatment { kind: Kind::Counter, .. }) => Suffix::Total,
            Ok(Treatment { kind: Kind::Gauge, .. }) if metric.kind() == MetricKind::Gauge => Suffix::Ratio,
            _ => Suffix::None,
        };
        let name = names::metric(metric.name(), metric.unit(), suffix, &options.naming).ok_or(Reason::Malformed);
        Self {
            family: treatment.and(name).map(Arc::from),
            treatment: treatment.unwrap_or(Treatment::UNKNOWN),
            scope_labels: labels::of_scope(metric.scope(), options),
            help: metric.description().chars().take(MAX_HELP).collect(),
            unit: if options.naming.units { names::unit_word(metric.unit()) } else { String::new() },
        }
    }
}
