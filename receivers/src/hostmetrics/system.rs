//! The `system` scraper: `/proc/uptime`.

use phoenix_telemetry::{Number, ScopeBuilder};
use procfs::{FromRead, Uptime};

use super::catalog::{Form, GAUGE, MetricsSettings, Plan, Row, ValueType};
use super::reading::{ReadError, Reading};
use super::scraper::{HostScraper, Moment, Setup, Tally};

const NAME: &str = "system";

const UPTIME: Row = Row {
    scraper: NAME,
    v0: Some(Form { name: "system.uptime", unit: "s" }),
    v1: Form { name: "system.uptime", unit: "s" },
    description: "The time the system has been running",
    shape: GAUGE,
    value: ValueType::Double,
    enabled: true,
    attributes: &[],
};

/// The metrics of this scraper.
pub const ROWS: &[Row] = &[UPTIME];

pub(crate) struct System {
    file: Reading,
    boot: u64,
    uptime: Option<Plan>,
}

impl System {
    pub(crate) fn new(settings: &MetricsSettings, setup: &Setup<'_>) -> Self {
        let file = Reading::new(setup.root.proc.join("uptime"));
        Self { file, boot: setup.boot_unix_nanos, uptime: UPTIME.plan(setup.naming, settings) }
    }

    fn seconds(&mut self) -> Result<f64, ReadError> {
        let text = self.file.text()?;
        let uptime = Uptime::from_read(text.as_str().as_bytes());
        uptime.map(|uptime| uptime.uptime).map_err(|_| text.malformed("expected seconds of uptime and of idle time"))
    }
}

impl HostScraper for System {
    fn name(&self) -> &'static str {
        NAME
    }

    fn scrape(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) {
        if self.uptime.is_none() {
            return;
        }
        match self.seconds() {
            Ok(seconds) => {
                if let Some(plan) = &self.uptime {
                    let mut metric = plan.open(scope);
                    metric.point(self.boot, at.unix_nanos, Number::Double(seconds), &[]);
                    tally.wrote(metric.finish());
                }
            }
            Err(error) => tally.missed(1, error),
        }
    }
}
