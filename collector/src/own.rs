//! The agent looked at by itself: CPU, memory, uptime, and the page its own metrics are served on.
//!
//! Values are read from `/proc/self` when somebody looks, never on a timer. The names are the Collector's, so that its
//! dashboards work unchanged; what belongs to Go's runtime has the nearest meaning a native program can give.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use phoenix_exporters::prometheus::{Naming, ResourceLabels, TextOptions, respond};
use phoenix_pipeline::{BuildError, Clock, Instrument, Level, Metrics, Observed, PageServer, Site, serve};
use phoenix_telemetry::Number;
use phoenix_transport::tls::{Acceptor, ServerTlsSettings};

use crate::logs::Valve;

static UPTIME: Instrument = Instrument {
    name: "otelcol_process_uptime",
    unit: "s",
    description: "Uptime of the process.",
    level: Level::Basic,
};
static CPU: Instrument = Instrument {
    name: "otelcol_process_cpu_seconds",
    unit: "s",
    description: "Total CPU user and system time in seconds.",
    level: Level::Basic,
};
static RSS: Instrument = Instrument {
    name: "otelcol_process_memory_rss",
    unit: "By",
    description: "Total physical memory (resident set size).",
    level: Level::Basic,
};
static HEAP: Instrument = Instrument {
    name: "otelcol_process_runtime_heap_alloc_bytes",
    unit: "By",
    description: "Resident anonymous memory: heap and stacks.",
    level: Level::Basic,
};
static SYSTEM: Instrument = Instrument {
    name: "otelcol_process_runtime_total_sys_memory_bytes",
    unit: "By",
    description: "Private writable memory the process has asked the system for, resident or not.",
    level: Level::Basic,
};
static SUPPRESSED: Instrument = Instrument {
    name: "phoenix_log_suppressed_total",
    unit: "{line}",
    description: "Log lines held back because the same line had been written often.",
    level: Level::Basic,
};
static BUILD: Instrument = Instrument {
    name: "phoenix_build_info",
    unit: "",
    description: "Always 1; the label says which version runs.",
    level: Level::Basic,
};

/// What the kernel says about this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// User and system time, seconds.
    pub cpu_seconds: f64,
    /// Resident memory, bytes.
    pub resident: u64,
    /// Resident anonymous memory, bytes.
    pub anonymous: u64,
    /// Size of the data segments, bytes.
    pub data: u64,
}

impl Usage {
    /// Reads `/proc/self`; what cannot be read is 0.
    pub fn read() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
        Self::parse(&status, &stat)
    }

    fn parse(status: &str, stat: &str) -> Self {
        let bytes = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            line.split_whitespace().next()?.parse::<u64>().ok()?.checked_mul(1024)
        };
        // Fields 14 and 15, counted from behind the last ')' where field 3 begins. The unit is 1/100 s on every
        // architecture Linux exports to user space.
        let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let ticks: u64 = after.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Usage {
            cpu_seconds: ticks as f64 / 100.0,
            resident: bytes("VmRSS:").unwrap_or(0),
            anonymous: bytes("RssAnon:").unwrap_or(0),
            data: bytes("VmData:").unwrap_or(0),
        }
    }
}

/// Registers what the agent says about its own process.
pub fn register(metrics: &Metrics, clock: &Clock, valve: &Valve, version: &str) {
    let bytes = |value: u64| Number::Int(i64::try_from(value).unwrap_or(i64::MAX));
    let (start, uptime_clock) = (clock.now(), clock.clone());
    let uptime = move || Number::Double(uptime_clock.now().duration_since(start).as_secs_f64());
    metrics.observe(&UPTIME, &[], Observed::Counter, uptime);
    metrics.observe(&CPU, &[], Observed::Counter, || Number::Double(Usage::read().cpu_seconds));
    metrics.observe(&RSS, &[], Observed::Gauge, move || bytes(Usage::read().resident));
    metrics.observe(&HEAP, &[], Observed::Gauge, move || bytes(Usage::read().anonymous));
    metrics.observe(&SYSTEM, &[], Observed::Gauge, move || bytes(Usage::read().data));
    let valve = valve.clone();
    metrics.observe(&SUPPRESSED, &[], Observed::Counter, move || bytes(valve.suppressed()));
    metrics.observe(&BUILD, &[("version", version)], Observed::Gauge, || Number::Int(1));
}

/// Where and how the agent's own metrics are served.
#[derive(Clone, Debug, PartialEq)]
pub struct PageSettings {
    /// `host:port`.
    pub address: String,
    /// TLS; plain text where it is not set.
    pub tls: Option<ServerTlsSettings>,
    /// From which level on instruments are shown.
    pub level: Level,
    /// How names are made.
    pub naming: Naming,
    /// Whether samples carry the labels of the instrumentation scope.
    pub scope_info: bool,
}

impl PageSettings {
    /// As the Collector's page: who the agent is stands on every sample.
    fn text(&self) -> Result<TextOptions, String> {
        let resource_labels = ResourceLabels::new(&["*"], &[])?;
        let (naming, scope_info) = (self.naming.clone(), self.scope_info);
        Ok(TextOptions { naming, scope_info, service_labels: false, resource_labels, ..TextOptions::default() })
    }
}

/// The configuration key that moves the page.
const KEY: &str = "service::telemetry::metrics::readers";

/// Serves the agent's own metrics at `/metrics`.
///
/// # Errors
/// The address is taken or cannot be listened on, or the TLS files cannot be used.
pub fn serve_page(settings: PageSettings, site: &Site) -> Result<PageServer, BuildError> {
    let listener = site.listeners.bind(&settings.address, KEY)?;
    let secured = Acceptor::of_page(settings.tls.as_ref(), "readers.pull.exporter.prometheus.tls", site)?;
    let text = settings.text()?;
    let (metrics, clock) = (site.metrics.clone(), site.clock.clone());
    let page = move |head: &http::request::Parts| {
        if head.uri.path() != "/metrics" {
            let mut response = Response::new(Bytes::from_static(b"the agent's own metrics are at /metrics\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
        respond(&metrics.gather(clock.unix_nanos(), settings.level), &text, head)
    };
    serve(&site.runtime, &listener, secured, Arc::new(page)).map_err(|error| BuildError::Failed(error.to_string()))
}

/// The live line: what came in, what went out, what the agent itself costs. Counts are taken from the agent's own
/// metrics, so the line cannot say anything else than the page.
pub struct Summary {
    metrics: Metrics,
    last: Option<Seen>,
}

#[derive(Clone, Copy)]
struct Seen {
    at: std::time::Instant,
    cpu_seconds: f64,
    points: u64,
    batches: u64,
}

/// How often the live line is drawn: the default scrape interval.
pub const SUMMARY_EVERY: Duration = Duration::from_secs(10);

impl Summary {
    /// A summary of this registry.
    pub fn new(metrics: Metrics) -> Self {
        Summary { metrics, last: None }
    }

    /// The line for the time since the last call.
    pub fn line(&mut self, clock: &Clock) -> String {
        let batch = self.metrics.gather(clock.unix_nanos(), Level::Basic);
        let total = |name: &str| -> u64 {
            let points = batch.series().filter(|point| point.metric().name() == name);
            points.filter_map(|point| point.value()).map(|value| value.as_f64() as u64).sum()
        };
        let usage = Usage::read();
        let now = Seen {
            at: clock.now(),
            cpu_seconds: usage.cpu_seconds,
            points: total("otelcol_receiver_accepted_metric_points"),
            batches: total("phoenix_receiver_batches_total"),
        };
        let series_in = total("phoenix_pipeline_series_in");
        let series_out = total("phoenix_pipeline_series_out");
        let cost = match self.last.replace(now) {
            None => String::new(),
            Some(last) => {
                let seconds = now.at.duration_since(last.at).as_secs_f64().max(0.001);
                let cpu = (now.cpu_seconds - last.cpu_seconds) / seconds * 100.0;
                let (points, batches) =
                    (now.points.saturating_sub(last.points), now.batches.saturating_sub(last.batches));
                format!(" | {} points a scrape | cpu {cpu:.2} %", points / batches.max(1))
            }
        };
        format!("series {series_in} in, {series_out} out{cost} | memory {:.1} MB", usage.resident as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usage_is_read_from_the_right_fields() {
        let status = "Name:\tx\nVmRSS:\t    9000 kB\nRssAnon:\t    3000 kB\nVmData:\t   40000 kB\n";
        let stat = "1 (a) b) S 0 1 1 0 -1 4194560 1 2 3 4 250 150 9 9 20 0 1 0 5";
        let usage = Usage::parse(status, stat);
        let expected = Usage { cpu_seconds: 4.0, resident: 9_216_000, anonymous: 3_072_000, data: 40_960_000 };
        assert_eq!(usage, expected);
    }

    #[test]
    fn this_process_is_seen() {
        assert!(Usage::read().resident > 100_000);
    }
}
