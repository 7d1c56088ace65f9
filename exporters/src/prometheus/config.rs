//! The settings of the `prometheus` exporter: the Collector's keys, each default with its reason.

use std::collections::BTreeMap;
use std::time::Duration;

use phoenix_pipeline::config::{Report, Settings};
use phoenix_transport::tls::ServerTlsSettings;
use serde::{Deserialize, Serialize};

use super::names;
use super::options::{Naming, ResourceLabels, TextOptions};

/// Settings of the `prometheus` exporter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// `host:port` the page is served on, under `/metrics`. Required: the port is for the user to give away.
    pub endpoint: String,
    /// TLS; plain text where it is not set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<ServerTlsSettings>,
    /// Put before every metric name. Empty, as with the Collector.
    pub namespace: String,
    /// Labels on every sample. None, as with the Collector.
    pub const_labels: BTreeMap<String, String>,
    /// Whether samples carry the time of their data point. Off: Prometheus advises against it, since it turns off its
    /// own staleness marks.
    pub send_timestamps: bool,
    /// How long a series stays on the page without a new value. 5m, as with the Collector and Prometheus' look-back.
    #[serde(with = "phoenix_pipeline::config::duration")]
    pub metric_expiration: Duration,
    /// Whether OpenMetrics is served to clients that ask for it. On, where the Collector has it off: the client decides
    /// by its `Accept` header, and only OpenMetrics carries exemplars.
    pub enable_open_metrics: bool,
    /// Leaves out the labels `otel_scope_*`. Off, as with the Collector.
    pub without_scope_info: bool,
    /// Whether names get unit and type suffixes, where `translation_strategy` does not say. On, as with the Collector.
    pub add_metric_suffixes: bool,
    /// How names are translated; wins over `add_metric_suffixes`. Not set, which means `UnderscoreEscapingWithSuffixes`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translation_strategy: Option<Strategy>,
    /// Which resource attributes become labels; replaces the default, which is the identity of processes
    /// ([`IDENTITY`](super::options::IDENTITY)).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_constant_labels: Option<Patterns>,
    /// The older way to make labels of resource attributes.
    pub resource_to_telemetry_conversion: Conversion,
    /// Most series held for the page, every bucket of a histogram counted; further ones are left out and counted.
    /// 100,000: every metric of some 5,000 processes, at about 1 kB each.
    pub max_series: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            tls: None,
            namespace: String::new(),
            const_labels: BTreeMap::new(),
            send_timestamps: false,
            metric_expiration: Duration::from_secs(300),
            enable_open_metrics: true,
            without_scope_info: false,
            add_metric_suffixes: true,
            translation_strategy: None,
            resource_constant_labels: None,
            resource_to_telemetry_conversion: Conversion::default(),
            max_series: 100_000,
        }
    }
}

/// How OTLP names become Prometheus names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Strategy {
    /// Classic characters, unit and type suffixes.
    UnderscoreEscapingWithSuffixes,
    /// Classic characters, no suffixes.
    UnderscoreEscapingWithoutSuffixes,
    /// Characters as they are where the client takes them, unit and type suffixes.
    NoUTF8EscapingWithSuffixes,
    /// Names as they are where the client takes them.
    NoTranslation,
}

/// Wildcard patterns on the keys of resource attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Patterns {
    /// Keys that become labels. None: all but the excluded, if any are.
    pub included: Vec<String>,
    /// Keys that never do.
    pub excluded: Vec<String>,
}

/// Every resource attribute as a label, the Collector's older switch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Conversion {
    /// Whether every resource attribute but command lines becomes a label. Off, as with the Collector.
    pub enabled: bool,
    /// Leaves out `service.name`, `service.namespace` and `service.instance.id`, which are in `job` and `instance`
    /// already. Off, as with the Collector.
    pub exclude_service_attributes: bool,
}

impl Config {
    /// Whether names keep characters outside the classic set where a client takes them.
    pub(crate) fn utf8(&self) -> bool {
        matches!(self.translation_strategy, Some(Strategy::NoUTF8EscapingWithSuffixes | Strategy::NoTranslation))
    }

    /// What the page looks like, with classic names.
    ///
    /// # Errors
    /// A pattern that is none, with the key it stands under.
    pub(crate) fn text_options(&self) -> Result<TextOptions, String> {
        let suffixes = match self.translation_strategy {
            Some(Strategy::UnderscoreEscapingWithSuffixes | Strategy::NoUTF8EscapingWithSuffixes) => true,
            Some(Strategy::UnderscoreEscapingWithoutSuffixes | Strategy::NoTranslation) => false,
            None => self.add_metric_suffixes,
        };
        Ok(TextOptions {
            naming: Naming { namespace: self.namespace.clone(), units: suffixes, type_suffix: suffixes, utf8: false },
            const_labels: self.const_labels.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            send_timestamps: self.send_timestamps,
            scope_info: !self.without_scope_info,
            service_labels: true,
            target_info: true,
            resource_labels: self.resource_labels()?,
        })
    }

    fn resource_labels(&self) -> Result<ResourceLabels, String> {
        let service = ["service.name", "service.namespace", "service.instance.id"];
        match (&self.resource_constant_labels, &self.resource_to_telemetry_conversion) {
            (Some(patterns), _) => ResourceLabels::new(&patterns.included, &patterns.excluded),
            (None, Conversion { enabled: true, exclude_service_attributes: true }) => {
                ResourceLabels::new(&["*"], &service)
            }
            (None, Conversion { enabled: true, .. }) => ResourceLabels::new(&["*"], &[]),
            (None, _) => Ok(ResourceLabels::identity()),
        }
    }
}

impl Settings for Config {
    fn check(&self, report: &mut Report<'_>) {
        if self.endpoint.is_empty() {
            report.error("endpoint", "is required: the host:port to serve /metrics on, for example \"localhost:8889\"");
        } else if self.endpoint.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok()).is_none() {
            report.error("endpoint", format!("{:?} is no host:port, for example \"localhost:8889\"", self.endpoint));
        }
        if let Some(tls) = &self.tls {
            report.within("tls", |report| tls.check(report));
        }
        if self.metric_expiration.is_zero() {
            report.error("metric_expiration", "must be more than 0s, or nothing would ever be on the page");
        }
        if self.max_series == 0 {
            report.error("max_series", "must be more than 0");
        }
        let mut seen = BTreeMap::new();
        for name in self.const_labels.keys() {
            let path = format!("const_labels.{name}");
            if name.is_empty() {
                report.error("const_labels", "a label needs a name");
            } else if let Some(other) = seen.insert(names::label(name, false), name) {
                report.error(&path, format!("becomes the same label as {other:?}"));
            }
        }
        if let Err(why) = self.resource_labels() {
            report.error("resource_constant_labels", why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> Result<Config, String> {
        crate::testing::read(yaml)
    }

    #[test]
    fn the_collectors_example_is_read() {
        let yaml = "endpoint: \"1.2.3.4:1234\"\nnamespace: test-space\nconst_labels: {label1: value1, \"another label\": spaced value}\nsend_timestamps: true\nmetric_expiration: 180m\nenable_open_metrics: true\nadd_metric_suffixes: false\ntranslation_strategy: UnderscoreEscapingWithoutSuffixes\nresource_to_telemetry_conversion: {enabled: true}\n";
        let config = read(yaml).unwrap();
        assert_eq!(config.metric_expiration, Duration::from_secs(180 * 60));
        let options = config.text_options().unwrap();
        assert!(!options.naming.units && options.send_timestamps && options.resource_labels.wants("host.name"));
        let tls = |block: &str| read(&format!("{yaml}tls: {block}\n"));
        assert!(tls("{cert_file: /c, key_file: /k, client_ca_file: /ca}").unwrap().tls.is_some());
        assert!(tls("{ca_file: /x}").unwrap_err().contains("a server needs a certificate"));
    }

    #[test]
    fn every_mistake_is_named_at_once() {
        let mistakes = read("metric_expiration: 0s\nmax_series: 0\nconst_labels: {a.b: x, a_b: y}\nresource_constant_labels: {included: [\"[\"]}\n").unwrap_err();
        for word in ["endpoint", "metric_expiration", "max_series", "const_labels", "resource_constant_labels"] {
            assert!(mistakes.contains(word), "{word}: {mistakes}");
        }
        assert!(read("endpoint: nowhere\n").unwrap_err().contains("host:port"));
        assert!(read("endpoint: \":8889\"\n").is_ok());
    }

    #[test]
    fn the_documented_defaults_are_the_defaults() {
        let yaml = "endpoint: \"\"\nnamespace: \"\"\nconst_labels: {}\nsend_timestamps: false\nmetric_expiration: 5m\nenable_open_metrics: true\nwithout_scope_info: false\nadd_metric_suffixes: true\nresource_to_telemetry_conversion: {enabled: false, exclude_service_attributes: false}\nmax_series: 100000\n";
        assert_eq!(serde_yaml::from_str::<Config>(yaml).unwrap(), Config::default());
    }
}
