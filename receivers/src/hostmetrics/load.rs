//! The `load` scraper: `/proc/loadavg`.

use phoenix_telemetry::{Number, ScopeBuilder};
use serde::{Deserialize, Serialize};

use super::catalog::{Form, GAUGE, MetricsSettings, Plan, Row, ValueType};
use super::cpu;
use super::reading::{ReadError, Reading};
use super::scraper::{HostScraper, Moment, Setup, Tally};

const NAME: &str = "load";

/// Settings of the scraper.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Divide by the number of logical CPUs. Default false: the numbers `uptime` shows.
    pub cpu_average: bool,
    /// Switches per metric.
    pub metrics: MetricsSettings,
}

const fn row(name: &'static str, description: &'static str) -> Row {
    Row {
        scraper: NAME,
        v0: Some(Form { name, unit: "{thread}" }),
        v1: Form { name, unit: "{thread}" },
        description,
        shape: GAUGE,
        value: ValueType::Double,
        enabled: true,
        attributes: &[],
    }
}

/// The metrics of this scraper, in the order of the columns of `/proc/loadavg`.
pub const ROWS: &[Row] = &[
    row("system.cpu.load_average.1m", "Average CPU Load over 1 minute."),
    row("system.cpu.load_average.5m", "Average CPU Load over 5 minutes."),
    row("system.cpu.load_average.15m", "Average CPU Load over 15 minutes."),
];

pub(crate) struct Load {
    loadavg: Reading,
    /// Read to count CPUs; `None`: no average per CPU is wanted.
    stat: Option<Reading>,
    boot: u64,
    plans: Vec<Option<Plan>>,
}

impl Load {
    pub(crate) fn new(config: &Config, setup: &Setup<'_>) -> Self {
        Self {
            loadavg: Reading::new(setup.root.proc.join("loadavg")),
            stat: config.cpu_average.then(|| Reading::new(setup.root.proc.join("stat"))),
            boot: setup.boot_unix_nanos,
            plans: ROWS.iter().map(|row| row.plan(setup.naming, &config.metrics)).collect(),
        }
    }

    fn averages(&mut self) -> Result<[f64; 3], ReadError> {
        let text = self.loadavg.text()?;
        let mut words = text.as_str().split_ascii_whitespace();
        let mut averages = [0.0; 3];
        for slot in &mut averages {
            let word = words.next().and_then(|word| word.parse().ok());
            *slot = word.ok_or_else(|| text.malformed("expected three load averages"))?;
        }
        if let Some(stat) = &mut self.stat {
            let cpus = cpu::count(stat.text()?)? as f64;
            averages = averages.map(|average| average / cpus);
        }
        Ok(averages)
    }
}

impl HostScraper for Load {
    fn name(&self) -> &'static str {
        NAME
    }

    fn scrape(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally) {
        match self.averages() {
            Ok(averages) => {
                for (plan, average) in self.plans.iter().zip(averages) {
                    let Some(plan) = plan else { continue };
                    let mut metric = plan.open(scope);
                    metric.point(self.boot, at.unix_nanos, Number::Double(average), &[]);
                    tally.wrote(metric.finish());
                }
            }
            Err(error) => tally.missed(self.plans.iter().flatten().count(), error),
        }
    }
}
