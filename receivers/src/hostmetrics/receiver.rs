//! The receiver itself: a thread that scrapes on schedule and sends one batch per scrape.
//!
//! A scraper that cannot read its files does not stop the others: its points are counted as errored, each cause is logged
//! when it appears and not again until it has gone, and the receiver's status says so. A batch that the pipeline refuses is
//! counted and logged and then forgotten: the next scrape has newer values of the same counters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use phoenix_pipeline::{
    BoxFuture, BuildError, Clock, Delivery, Histogram, Instrument, Level, Outlet, Receiver, Site, Status,
};
use phoenix_telemetry::{Batch, BatchBuilder};

use super::catalog::Naming;
use super::config::Config;
use super::schedule::Schedule;
use super::scraper::{HostScraper, Moment, Outcome, Scraper, Tally, scope_name};

static SCRAPED: Instrument = Instrument {
    name: "otelcol_scraper_scraped_metric_points",
    unit: "{datapoints}",
    description: "Number of metric points successfully scraped.",
    level: Level::Basic,
};
static ERRORED: Instrument = Instrument {
    name: "otelcol_scraper_errored_metric_points",
    unit: "{datapoints}",
    description: "Number of metric points that were unable to be scraped.",
    level: Level::Basic,
};
static DURATION: Instrument = Instrument {
    name: "phoenix_scrape_duration_seconds",
    unit: "s",
    description: "Time one scrape of the receiver took, all scrapers together.",
    level: Level::Normal,
};
static INTERVAL: Instrument = Instrument {
    name: "phoenix_scrape_interval_seconds",
    unit: "s",
    description: "Time from the beginning of one scrape of the receiver to that of the next: collection_interval.",
    level: Level::Normal,
};
static MISSED: Instrument = Instrument {
    name: "phoenix_scrape_missed_total",
    unit: "{scrape}",
    description: "Scrapes that were left out because the one before took longer than the interval.",
    level: Level::Normal,
};
/// From an idle small host to one with ten thousand processes.
const DURATION_BOUNDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// At most so many causes are kept, logged and shown per scraper and scrape; the points are counted all the same.
const MAX_CAUSES: usize = 20;

/// The receiver: idle until it is started.
pub(super) struct HostMetrics {
    round: Option<Round>,
    initial_delay: Duration,
    interval: Duration,
    site: Site,
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl HostMetrics {
    pub(super) fn new(
        config: &Config,
        site: &Site,
        host: Vec<Box<dyn HostScraper>>,
        others: Vec<Box<dyn Scraper>>,
    ) -> Self {
        Self {
            round: Some(Round::new(config.naming, site, host, others)),
            initial_delay: config.initial_delay,
            interval: config.collection_interval,
            site: site.clone(),
            stop: Arc::default(),
            thread: None,
        }
    }
}

impl Receiver for HostMetrics {
    fn start(&mut self, outlet: Outlet) -> Result<(), BuildError> {
        let round = self.round.take().ok_or("the receiver was started before")?;
        let labels = [("receiver", self.site.id.as_str())];
        let missed = self.site.metrics.counter(&MISSED, &labels);
        let duration = self.site.metrics.histogram(&DURATION, &labels, DURATION_BOUNDS);
        self.site.metrics.gauge(&INTERVAL, &labels).set(self.interval.as_secs_f64());
        let schedule = Schedule::new(self.site.clock.now() + self.initial_delay, self.interval);
        let (stop, clock, status) = (Arc::clone(&self.stop), self.site.clock.clone(), self.site.status.clone());
        let receiver = self.site.id.to_string();
        let worker = Worker { round, schedule, outlet, stop, clock, status, receiver, missed, duration };
        let thread = std::thread::Builder::new().name("hostmetrics".into()).spawn(move || worker.run());
        self.thread = Some(thread.map_err(|error| format!("cannot start the scraping thread: {error}"))?);
        Ok(())
    }

    fn shutdown(&mut self) -> BoxFuture<'_, ()> {
        self.stop.set();
        let thread = self.thread.take();
        Box::pin(async move {
            if let Some(thread) = thread {
                // Joining blocks for as long as a scrape takes, so it is not done on the runtime's own threads. A panic of the
                // thread has been reported by the thread itself.
                let _ = self.site.runtime.spawn_blocking(move || thread.join()).await;
            }
        })
    }
}

impl Drop for HostMetrics {
    fn drop(&mut self) {
        self.stop.set();
    }
}

/// A flag that can be waited for.
#[derive(Debug, Default)]
struct Stop {
    flag: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    fn set(&self) {
        *self.flag.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Waits at most `time`; true if it is time to stop.
    fn wait(&self, time: Duration) -> bool {
        let flag = self.flag.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(flag, time, |stop| !*stop);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// What lives on the thread.
struct Worker {
    round: Round,
    schedule: Schedule,
    outlet: Outlet,
    stop: Arc<Stop>,
    clock: Clock,
    status: Status,
    receiver: String,
    missed: metrics::Counter,
    duration: Histogram,
}

impl Worker {
    fn run(mut self) {
        while !self.stop.wait(self.schedule.next().saturating_duration_since(self.clock.now())) {
            if self.clock.now() < self.schedule.next() {
                continue;
            }
            let started = Instant::now();
            let at = Moment { unix_nanos: self.clock.unix_nanos(), now: self.clock.now() };
            let batch = self.round.scrape(&at);
            self.duration.record(started.elapsed().as_secs_f64());
            self.round.ask(&at, self.outlet.pipelines());
            if !batch.is_empty()
                && let Err(refusal) = self.outlet.send(batch, Delivery::none())
            {
                tracing::warn!(receiver = self.receiver, %refusal, "a scrape was refused by the pipeline and is lost");
            }
            let missed = self.schedule.advance(self.clock.now());
            if missed > 0 {
                self.missed.increment(missed);
                tracing::warn!(
                    receiver = self.receiver,
                    missed,
                    "a scrape took longer than collection_interval; scrapes were left out"
                );
            }
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.status.permanent("the scraping thread ended by a fault of the program; restart the agent");
        }
    }
}

/// All scrapers of a receiver and what is known of their failures.
pub(super) struct Round {
    naming: Naming,
    version: &'static str,
    receiver: String,
    host: Vec<(Box<dyn HostScraper>, String, Counters)>,
    others: Vec<(Box<dyn Scraper>, Counters)>,
    causes: BTreeMap<&'static str, BTreeSet<String>>,
    /// Written after the first scrape, then when anything changes.
    status: Status,
    scraped: bool,
    last_bytes: usize,
}

struct Counters {
    scraped: metrics::Counter,
    errored: metrics::Counter,
}

impl Counters {
    fn new(site: &Site, scraper: &str) -> Self {
        let labels = [("receiver", site.id.as_str()), ("scraper", scraper)];
        Self { scraped: site.metrics.counter(&SCRAPED, &labels), errored: site.metrics.counter(&ERRORED, &labels) }
    }

    fn add(&self, outcome: Outcome) {
        self.scraped.increment(outcome.points as u64);
        self.errored.increment(outcome.errored as u64);
    }
}

impl Round {
    pub(super) fn new(
        naming: Naming,
        site: &Site,
        host: Vec<Box<dyn HostScraper>>,
        others: Vec<Box<dyn Scraper>>,
    ) -> Self {
        let host = host.into_iter().map(|scraper| {
            let (scope, counters) = (scope_name(scraper.name()), Counters::new(site, scraper.name()));
            (scraper, scope, counters)
        });
        let others = others.into_iter().map(|scraper| {
            let counters = Counters::new(site, scraper.name());
            (scraper, counters)
        });
        Self {
            naming,
            version: site.version,
            receiver: site.id.to_string(),
            host: host.collect(),
            others: others.collect(),
            causes: BTreeMap::new(),
            status: site.status.clone(),
            scraped: false,
            last_bytes: 0,
        }
    }

    /// One scrape of everything, all of it at the same moment.
    pub(super) fn scrape(&mut self, at: &Moment) -> Batch {
        // A little more than last time: processes come and go.
        let mut builder = BatchBuilder::with_capacity(self.last_bytes + self.last_bytes / 8);
        // Before the host's, which are told what was counted in passing.
        for (scraper, counters) in &mut self.others {
            counters.add(scraper.scrape(at, &mut builder));
        }
        let mut failures = Vec::new();
        {
            let mut resource = builder.resource();
            if !self.naming.schema_url().is_empty() {
                resource.schema_url(self.naming.schema_url());
            }
            for (scraper, scope, counters) in &mut self.host {
                let mut scope = resource.scope(scope, self.version);
                let mut tally = Tally::default();
                scraper.scrape(at, &mut scope, &mut tally);
                counters.add(tally.outcome);
                failures.push((scraper.name(), tally.causes));
            }
        }
        self.report(failures);
        self.last_bytes = builder.len();
        builder.finish()
    }

    /// Asks the pipelines, so many, what becomes of the scrape that is about to be sent.
    fn ask(&mut self, at: &Moment, pipelines: usize) {
        for rotation in self.others.iter_mut().filter_map(|(scraper, _)| scraper.rotation()) {
            rotation.ask(at.unix_nanos, pipelines);
        }
    }

    /// Logs causes that are new, forgets those that are gone, and sets the status when anything changed.
    fn report(&mut self, failures: Vec<(&'static str, Vec<String>)>) {
        let mut changed = !std::mem::replace(&mut self.scraped, true);
        for (scraper, causes) in failures {
            let causes: BTreeSet<String> = causes.into_iter().take(MAX_CAUSES).collect();
            let before = self.causes.entry(scraper).or_default();
            if *before == causes {
                continue;
            }
            changed = true;
            for cause in causes.difference(before) {
                tracing::warn!(
                    receiver = self.receiver,
                    scraper,
                    cause,
                    "some metrics cannot be read; the others are sent"
                );
            }
            if causes.is_empty() {
                tracing::info!(receiver = self.receiver, scraper, "all metrics can be read again");
            }
            *before = causes;
        }
        if changed {
            let all: Vec<String> = self
                .causes
                .iter()
                .flat_map(|(scraper, causes)| causes.iter().map(move |cause| format!("{scraper}: {cause}")))
                .collect();
            if all.is_empty() { self.status.ok() } else { self.status.recoverable(all.join("; ")) }
        }
    }
}
