//! `resource_detection`: adds what is known of the host to every resource.
//!
//! The detectors run once, when the stage is built, and again every `refresh_interval`; they read environment variables
//! and small files of the host, never the network. On the path a resource that already says the same is not touched. The
//! Collector's other detectors, nearly all of which ask a metadata service or a daemon, are known by name and passed over
//! with one warning.

mod addresses;
mod config;
mod cpu;
mod env;
mod findings;
mod host;
mod kubernetes;
mod os;
mod system;

use std::any::Any;
use std::time::Instant;

use phoenix_pipeline::config::Value;
use phoenix_pipeline::{BuildError, Context, Processor, ProcessorFactory, Site, Stability};
use phoenix_telemetry::{Attributes, Batch, ResourceId};

pub use config::{
    Config, Detector, HostnameSource, K8s, K8sAttributes, K8sNode, NodeAttributes, Retry, System, SystemAttributes,
    Toggle,
};

use findings::{Detected, Findings};
use host::Host;

/// The row of the table of processors.
pub const FACTORY: ProcessorFactory = ProcessorFactory::new::<Config>(
    "resource_detection",
    "adds what is known of the host to every resource",
    Stability::Beta,
    build,
)
.alias(&["resourcedetection"]);

fn build(value: &Value, site: &Site) -> Result<Box<dyn Processor>, BuildError> {
    let config: Config = site.settings(value)?;
    if site.id.kind() == "resourcedetection" {
        tracing::info!(processor = %site.id, "resourcedetection is the older name of resource_detection; both work");
    }
    let unserved: Vec<&str> =
        config.detectors.iter().filter(|detector| !detector.is_served()).map(|detector| detector.name()).collect();
    if !unserved.is_empty() {
        tracing::warn!(processor = %site.id, detectors = unserved.join(", "), "these detectors are known and not served: they add nothing");
    }
    let system = config.detectors.contains(&Detector::System);
    if system && config.system.hostname_sources.contains(&HostnameSource::Lookup) {
        tracing::warn!(processor = %site.id, "the hostname source \"lookup\" asks the network and is not served");
    }
    let host = Host::new(&config.root_path);
    let stage = Detection::new(config, host, site)?;
    Ok(Box::new(stage))
}

/// Runs the detectors in order.
fn detect(config: &Config, host: &Host) -> Findings {
    let mut findings = Findings::default();
    for detector in &config.detectors {
        match detector {
            Detector::Env => env::detect(host, &mut findings),
            Detector::System => system::detect(host, &config.system, &mut findings),
            Detector::K8sNode => kubernetes::detect_node(host, &config.k8snode, &mut findings),
            Detector::K8s => kubernetes::detect_pod(host, &config.k8s, &mut findings),
            _ => {}
        }
    }
    if !config.attributes.is_empty() {
        findings.keep_only(&config.attributes);
    }
    findings
}

/// The stage.
struct Detection {
    config: Config,
    host: Host,
    id: String,
    detected: Detected,
    next_refresh: Option<Instant>,
    touched: Vec<ResourceId>,
}

impl Detection {
    fn new(config: Config, host: Host, site: &Site) -> Result<Self, BuildError> {
        let id = site.id.to_string();
        let findings = detect(&config, &host);
        for problem in findings.problems() {
            tracing::warn!(processor = %id, "{problem}");
        }
        tracing::info!(processor = %id, attributes = findings.keys().join(", "), "resource detected");
        let detected = findings.into_detected().map_err(|error| error.to_string())?;
        let next_refresh = (!config.refresh_interval.is_zero()).then(|| site.clock.now() + config.refresh_interval);
        Ok(Detection { config, host, id, detected, next_refresh, touched: Vec::new() })
    }

    /// Detects again if it is time to. What was known stays when something cannot be had any more.
    fn refresh(&mut self, now: Instant) {
        if self.next_refresh.is_none_or(|next| now < next) {
            return;
        }
        self.next_refresh = Some(now + self.config.refresh_interval);
        let findings = detect(&self.config, &self.host);
        if let Some(problem) = findings.problems().first() {
            tracing::warn!(processor = %self.id, "the resource stays as it was detected before: {problem}");
            return;
        }
        match findings.into_detected() {
            Ok(detected) => self.detected = detected,
            Err(error) => tracing::warn!(processor = %self.id, "the resource stays as it was detected before: {error}"),
        }
    }
}

/// Whether a resource lacks something of what was detected.
fn differs(detected: Attributes<'_>, resource: Attributes<'_>, replace: bool) -> bool {
    detected.iter().any(|(key, value)| match resource.get(key) {
        None => true,
        Some(present) => replace && present != value,
    })
}

impl Processor for Detection {
    fn process(&mut self, batch: &mut Batch, cx: &mut Context<'_>) {
        self.refresh(cx.now);
        let (detected, replace) = (self.detected.attributes(), self.config.replace);
        self.touched.clear();
        let touched = batch.resources().filter(|resource| differs(detected, resource.attributes(), replace));
        self.touched.extend(touched.map(|resource| resource.id()));
        for id in &self.touched {
            batch.edit_resource(*id, |edits| {
                for (key, value) in detected.iter() {
                    if replace {
                        edits.upsert(key, value);
                    } else {
                        edits.insert(key, value);
                    }
                }
            });
        }
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

#[cfg(test)]
mod tests;
