//! The contract between the receiver's loop and the scrapers.
//!
//! A scraper reads its part of the host and writes points; it keeps no clock of its own, decides nothing about delivery and
//! never fails as a whole: what could not be read is counted, said once per cause, and the rest is written.

use std::time::Instant;

use phoenix_telemetry::{BatchBuilder, ScopeBuilder};

use super::catalog::Naming;
use super::census::CensusDesk;
use super::process::Rotation;
use super::root::Root;

/// The one moment that all points of a scrape carry.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Wall clock, nanoseconds since the Unix epoch: the time stamp of every point.
    pub unix_nanos: u64,
    /// Monotonic clock: what rates and ages are computed from.
    pub now: Instant,
}

/// What a scrape did, for `otelcol_scraper_scraped_metric_points` and `otelcol_scraper_errored_metric_points`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Points written.
    pub points: usize,
    /// Points that should have been there but could not be read.
    pub errored: usize,
}

/// The scope of a scraper's metrics: the Collector's own, because backends and dashboards recognise host metrics by it.
pub(crate) fn scope_name(scraper: &str) -> String {
    format!(
        "github.com/open-telemetry/opentelemetry-collector-contrib/receiver/hostmetricsreceiver/internal/scraper/{scraper}scraper"
    )
}

/// What one scrape of a host scraper came to.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Points written and missed.
    pub outcome: Outcome,
    /// Why points are missing, one line per cause, each naming the file and what to do.
    pub causes: Vec<String>,
}

impl Tally {
    /// Counts written points.
    pub(crate) fn wrote(&mut self, points: usize) {
        self.outcome.points += points;
    }

    /// Notes that `points` are missing and why.
    pub(crate) fn missed(&mut self, points: usize, cause: impl std::fmt::Display) {
        self.outcome.errored += points;
        self.causes.push(cause.to_string());
    }
}

/// A scraper of the host itself: all of them share one resource, each has a scope.
pub(crate) trait HostScraper: Send {
    /// The scraper's key in the config.
    fn name(&self) -> &'static str;
    /// Reads once and writes into its scope. Never panics, never blocks without bound.
    fn scrape(&mut self, at: &Moment, scope: &mut ScopeBuilder<'_>, tally: &mut Tally);
}

/// A scraper that writes its own resources.
pub(crate) trait Scraper: Send {
    /// The scraper's key in the config, for labels and logs.
    fn name(&self) -> &'static str;
    /// Reads once and appends to `out`. Never panics, never blocks without bound.
    fn scrape(&mut self, at: &Moment, out: &mut BatchBuilder) -> Outcome;
    /// What wants to know which processes of a scrape the pipelines fold.
    fn rotation(&mut self) -> Option<&mut Rotation> {
        None
    }
}

/// What a scraper is built from, beside its own settings.
pub(crate) struct Setup<'a> {
    /// Where the host's files are.
    pub root: &'a Root,
    /// Which conventions the names follow.
    pub naming: Naming,
    /// Boot time of the host, nanoseconds since the Unix epoch, read once: the start time of every cumulative point of the host.
    pub boot_unix_nanos: u64,
    /// Where the states of the processes are counted once for all scrapers.
    pub census: CensusDesk,
}
