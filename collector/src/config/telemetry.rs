//! `service.telemetry`: what the agent says about itself. The Collector's keys, checked like a component's.
//!
//! What the Collector accepts and Phoenix does not serve yet gives a notice; what the Collector itself ignores is a
//! mistake that says what to write instead.

use super::Notice;
use crate::logs;
use crate::own::PageSettings;
use phoenix_exporters::prometheus::Naming;
use phoenix_pipeline::Level;
use phoenix_pipeline::config::{Report, Settings};
use phoenix_transport::tls::ServerTlsSettings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;
use tracing::level_filters::LevelFilter;

/// Settings of `service.telemetry`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// The agent's log.
    pub logs: TelemetryLogs,
    /// The agent's own metrics.
    pub metrics: TelemetryMetrics,
    /// The agent's own traces: none are made.
    pub traces: TelemetryTraces,
    /// Resource attributes of the agent's own metrics; null takes an automatic one away.
    pub resource: BTreeMap<String, Option<String>>,
}

/// Settings of `service.telemetry.logs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryLogs {
    /// The least important lines that are written: debug, info, warn or error, in any case.
    pub level: String,
    /// `console` for people, `json` for machines.
    pub encoding: TelemetryEncoding,
    /// `stderr`, `stdout` or paths of files.
    pub output_paths: Vec<String>,
    /// Where the Collector's logger complains about itself; without effect here.
    pub error_output_paths: Vec<String>,
    /// Holds repeated lines back.
    pub sampling: TelemetrySampling,
    /// Without effect: no line names its place in the code.
    pub disable_caller: bool,
    /// Without effect: no line has a stack trace.
    pub disable_stacktrace: bool,
    /// Without effect: there is no development mode.
    pub development: bool,
    /// Fields of every line; not served yet.
    pub initial_fields: BTreeMap<String, serde_yaml::Value>,
    /// Where log records are sent over OTLP; not served yet.
    pub processors: Vec<serde_yaml::Value>,
}

impl Default for TelemetryLogs {
    fn default() -> Self {
        // The Collector's values.
        Self {
            level: "INFO".into(),
            encoding: TelemetryEncoding::Console,
            output_paths: vec!["stderr".into()],
            error_output_paths: vec!["stderr".into()],
            sampling: TelemetrySampling::default(),
            disable_caller: false,
            disable_stacktrace: false,
            development: false,
            initial_fields: BTreeMap::new(),
            processors: Vec::new(),
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TelemetryEncoding {
    /// For people.
    Console,
    /// One JSON object a line.
    Json,
}

/// Settings of `service.telemetry.logs.sampling`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetrySampling {
    /// On, so that a fault that repeats on every scrape does not fill a disk.
    pub enabled: bool,
    /// The period that is counted in.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub tick: Duration,
    /// So many equal lines pass in a period,
    pub initial: u64,
    /// then every so many-th; 0 = none.
    pub thereafter: u64,
}

impl Default for TelemetrySampling {
    fn default() -> Self {
        // The Collector's values.
        Self { enabled: true, tick: Duration::from_secs(10), initial: 10, thereafter: 100 }
    }
}

impl TelemetryLogs {
    /// The level as `tracing` knows it; `None` for an unknown name, which [`Settings::check`] reports.
    fn named_level(&self) -> Option<LevelFilter> {
        match self.level.to_ascii_lowercase().as_str() {
            "debug" => Some(LevelFilter::DEBUG),
            "info" => Some(LevelFilter::INFO),
            "warn" => Some(LevelFilter::WARN),
            "error" => Some(LevelFilter::ERROR),
            _ => None,
        }
    }

    /// The least important lines that are written.
    pub fn level(&self) -> LevelFilter {
        self.named_level().unwrap_or(LevelFilter::INFO)
    }

    /// How lines look.
    pub fn encoding(&self) -> logs::Encoding {
        match self.encoding {
            TelemetryEncoding::Console => logs::Encoding::Console,
            TelemetryEncoding::Json => logs::Encoding::Json,
        }
    }

    /// How repeats are held back; `None` = not at all.
    pub fn sampling(&self) -> Option<logs::Sampling> {
        let TelemetrySampling { enabled, tick, initial, thereafter } = self.sampling;
        enabled.then_some(logs::Sampling { tick, initial, thereafter })
    }
}

/// Settings of `service.telemetry.metrics`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryMetrics {
    /// How much is shown.
    pub level: TelemetryLevel,
    /// Who gets the metrics. Not written = a Prometheus page on localhost:8888.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readers: Option<Vec<Reader>>,
    /// The Collector ignores this key since v0.123; here it is a mistake that names the new one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// Changes of single instruments; not served yet.
    pub views: Vec<serde_yaml::Value>,
}

/// `service.telemetry.metrics.level`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TelemetryLevel {
    /// No own metrics.
    None,
    /// What must not be missing.
    Basic,
    /// What dashboards use; the Collector's default.
    #[default]
    Normal,
    /// Everything.
    Detailed,
}

/// One of `service.telemetry.metrics.readers`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reader {
    /// A page that is scraped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<Pull>,
    /// Sent from time to time; not served yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub periodic: Option<serde_yaml::Value>,
}

/// A reader that is scraped.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Pull {
    /// In which form.
    pub exporter: PullExporter,
}

/// The form of a scraped page.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PullExporter {
    /// Prometheus text or OpenMetrics, as the scraper asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prometheus: Option<PrometheusPage>,
}

/// The page of the agent's own metrics, written by hand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PrometheusPage {
    /// The address to listen on.
    pub host: String,
    /// The port to listen on.
    pub port: u16,
    /// TLS, a key of our own; plain text where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTlsSettings>,
    /// Leaves the labels of the instrumentation scope away.
    pub without_scope_info: bool,
    /// Leaves the unit out of names.
    pub without_units: bool,
    /// Leaves `_total` off the names of counters.
    pub without_type_suffix: bool,
}

impl Default for PrometheusPage {
    fn default() -> Self {
        // The Collector's page; a reader that is written by hand has the suffixes, as there.
        Self {
            host: "localhost".into(),
            port: 8888,
            tls: None,
            without_scope_info: false,
            without_units: false,
            without_type_suffix: false,
        }
    }
}

impl PrometheusPage {
    /// The page without any `readers`: plain names, as the Collector's.
    fn unwritten() -> Self {
        Self { without_scope_info: true, without_units: true, without_type_suffix: true, ..Self::default() }
    }
}

/// Settings of `service.telemetry.traces`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryTraces {
    /// How much; without effect.
    pub level: TelemetryLevel,
    /// Context formats; without effect.
    pub propagators: Vec<String>,
    /// Where spans are sent; not served.
    pub processors: Vec<serde_yaml::Value>,
}

impl Telemetry {
    /// The page of the agent's own metrics; `None` if there is to be none.
    pub fn page(&self) -> Option<PageSettings> {
        let level = match self.metrics.level {
            TelemetryLevel::None => return None,
            TelemetryLevel::Basic => Level::Basic,
            TelemetryLevel::Normal => Level::Normal,
            TelemetryLevel::Detailed => Level::Detailed,
        };
        let page = match &self.metrics.readers {
            None => PrometheusPage::unwritten(),
            Some(readers) => readers.iter().find_map(|reader| reader.pull.as_ref()?.exporter.prometheus.clone())?,
        };
        let address = if page.host.contains(':') && !page.host.starts_with('[') {
            format!("[{}]:{}", page.host, page.port)
        } else {
            format!("{}:{}", page.host, page.port)
        };
        let naming = Naming { units: !page.without_units, type_suffix: !page.without_type_suffix, ..Naming::default() };
        Some(PageSettings { address, tls: page.tls, level, naming, scope_info: !page.without_scope_info })
    }

    /// What is accepted and does nothing yet.
    pub(super) fn notices(&self) -> Vec<Notice> {
        let periodic = self.metrics.readers.iter().flatten().any(|reader| reader.periodic.is_some());
        [
            (
                periodic,
                "metrics::readers: a periodic reader is not served yet; the agent's own metrics are not sent by it",
            ),
            (!self.metrics.views.is_empty(), "metrics::views: not served yet; own metrics stay as they are"),
            (!self.logs.processors.is_empty(), "logs::processors: not served; the log goes to output_paths only"),
            (!self.logs.initial_fields.is_empty(), "logs::initial_fields: not served yet; log lines lack these fields"),
            (!self.traces.processors.is_empty(), "traces::processors: not served; the agent makes no traces of itself"),
        ]
        .into_iter()
        .filter(|(applies, _)| *applies)
        .map(|(_, text)| Notice::warning(format!("service::telemetry::{text}")))
        .collect()
    }
}

impl Settings for Telemetry {
    fn check(&self, report: &mut Report<'_>) {
        if self.logs.named_level().is_none() {
            report.unknown("logs.level", &self.logs.level, ["debug", "info", "warn", "error"]);
        }
        if self.logs.output_paths.is_empty() {
            report.error("logs.output_paths", "the list is empty; write stderr, stdout or paths of files");
        }
        if self.logs.sampling.enabled && self.logs.sampling.tick.is_zero() {
            report.error("logs.sampling.tick", "must be over 0; sampling: {enabled: false} lets every line pass");
        }
        if self.metrics.address.is_some() {
            report.error(
                "metrics.address",
                "the Collector ignores this key since v0.123; write readers: [{pull: {exporter: {prometheus: {host: localhost, port: 8888}}}}]",
            );
        }
        let off = self.metrics.level == TelemetryLevel::None;
        let readers = self.metrics.readers.as_deref();
        match readers {
            Some([]) if !off => report.error("metrics.readers", "the list is empty; level: none turns own metrics off"),
            Some([_, ..]) if off => report
                .error("metrics.readers", "level: none allows no reader; take the readers out or choose another level"),
            _ => {}
        }
        let mut pages = 0;
        for (index, reader) in readers.unwrap_or_default().iter().enumerate() {
            let path = format!("metrics.readers[{index}]");
            match (&reader.pull, &reader.periodic) {
                (None, None) => report.error(&path, "a reader is either pull or periodic"),
                (Some(_), Some(_)) => report.error(&path, "a reader is either pull or periodic, not both"),
                (Some(pull), None) if pull.exporter.prometheus.is_none() => {
                    report.error(
                        &format!("{path}.pull"),
                        "a pull reader needs exporter: {prometheus: {host: localhost, port: 8888}}",
                    );
                }
                (Some(pull), None) => {
                    if let Some(tls) = pull.exporter.prometheus.as_ref().and_then(|page| page.tls.as_ref()) {
                        let path = format!("{path}.pull.exporter.prometheus.tls");
                        report.within(&path, |report| tls.check(report));
                    }
                    pages += 1;
                    if pages == 2 {
                        report.error(&path, "own metrics are served on one page; take the second pull reader out");
                    }
                }
                (None, Some(_)) => {}
            }
        }
    }
}
