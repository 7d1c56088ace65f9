//! The `prometheus` exporter: the last value of every series, on a page that a Prometheus scrapes.
//!
//! An export updates values in place under a lock; a scrape copies texts that are there already. Label texts are made
//! once per series and names once per metric, so neither grows with how often the other happens. The exporter never
//! writes a series twice on one page, never writes a command line into a label unless its attribute is named by the very
//! key, and forgets what has no new value for `metric_expiration` whether somebody scrapes or not.

mod config;
mod exponential;
mod identity;
mod interner;
mod labels;
mod names;
mod negotiate;
mod number;
mod options;
mod store;
mod stream;
mod target;
mod text;
mod value;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::request::Parts;
use http::{HeaderValue, Response, StatusCode, header};
use metrics::Counter;
use phoenix_pipeline::config::Value as ConfigValue;
use phoenix_pipeline::{
    BoxFuture, BuildError, Clock, Delivery, Exporter, ExporterFactory, Instrument, Level, Observed, PageServer,
    Shipment, Site, Stability, serve,
};
use phoenix_telemetry::{Batch, Number};
use phoenix_transport::tls::Acceptor;

use crate::counts::Deliveries;
pub use config::{Config, Conversion, Patterns, Strategy};
pub use options::{IDENTITY, Naming, ResourceLabels, TextOptions};
use store::{Absorbed, Bounds, Store};
pub use text::Format;
use value::Reason;

/// The exporter's row in the table.
pub const FACTORY: ExporterFactory = ExporterFactory::new::<Config>(
    "prometheus",
    "Serves the last value of every series on a page that a Prometheus scrapes",
    Stability::Beta,
    build,
);

static SERIES: Instrument = Instrument {
    name: "phoenix_prometheus_series",
    unit: "{series}",
    description: "Series on the page of a prometheus exporter, every bucket counted.",
    level: Level::Basic,
};
static DROPPED: Instrument = Instrument {
    name: "phoenix_prometheus_dropped_points_total",
    unit: "{datapoint}",
    description: "Data points a prometheus exporter left off its page, by reason.",
    level: Level::Basic,
};
static REPLACED: Instrument = Instrument {
    name: "phoenix_prometheus_replaced_series_total",
    unit: "{series}",
    description: "Series that made way for a newer one with the same labels on the page.",
    level: Level::Normal,
};
static SCRAPES: Instrument = Instrument {
    name: "phoenix_prometheus_scrapes_total",
    unit: "{scrape}",
    description: "Times the page of a prometheus exporter was read.",
    level: Level::Normal,
};

/// The page of one batch, for whoever has a batch and no exporter: the agent's own metrics.
pub fn render(batch: &Batch, options: &TextOptions, format: Format) -> String {
    let bounds = Bounds { series: usize::MAX / 2, expiration: Duration::MAX, exemplars: format == Format::OpenMetrics };
    let mut store = Store::new(options.clone(), bounds);
    store.absorb(batch, Instant::now());
    text::page(&store, format)
}

/// A page of one batch as the answer to a request: format and encoding as the client wishes.
pub fn respond(batch: &Batch, options: &TextOptions, request: &Parts) -> Response<Bytes> {
    let answer = negotiate::negotiate(&request.headers, true, false);
    encoded(render(batch, options, answer.format), &answer.content_type(), negotiate::gzip(&request.headers))
}

/// What export and scrape share.
struct Shelf {
    /// The page with classic names, and the one with UTF-8 names where the strategy has such.
    classic: Mutex<Store>,
    utf8: Option<Mutex<Store>>,
    open_metrics: bool,
    clock: Clock,
}

fn lock(store: &Mutex<Store>) -> MutexGuard<'_, Store> {
    store.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shelf {
    fn absorb(&self, batch: &Batch) -> Absorbed {
        let now = self.clock.now();
        if let Some(utf8) = &self.utf8 {
            lock(utf8).absorb(batch, now);
        }
        lock(&self.classic).absorb(batch, now)
    }

    fn sweep(&self) {
        let now = self.clock.now();
        for store in [Some(&self.classic), self.utf8.as_ref()].into_iter().flatten() {
            lock(store).sweep(now);
        }
    }

    fn answer(&self, request: &Parts) -> Response<Bytes> {
        if request.uri.path() != "/metrics" {
            let mut response = Response::new(Bytes::from_static(b"the page is at /metrics\n"));
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
        let answer = negotiate::negotiate(&request.headers, self.open_metrics, self.utf8.is_some());
        let store = self.utf8.as_ref().filter(|_| answer.utf8).unwrap_or(&self.classic);
        self.sweep();
        let page = text::page(&lock(store), answer.format);
        encoded(page, &answer.content_type(), negotiate::gzip(&request.headers))
    }
}

fn encoded(page: String, content_type: &str, gzip: bool) -> Response<Bytes> {
    // Level 1: a page is read once, on a fast network; level 6 costs four times as much for a tenth less.
    let squeezed = gzip.then(|| {
        let mut encoder = GzEncoder::new(Vec::with_capacity(page.len() / 8), Compression::fast());
        encoder.write_all(page.as_bytes()).and_then(|()| encoder.finish())
    });
    let (body, is_gzip) = match squeezed {
        Some(Ok(body)) => (Bytes::from(body), true),
        _ => (Bytes::from(page), false),
    };
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(content_type) {
        headers.insert(header::CONTENT_TYPE, value);
    }
    headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
    if is_gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

struct Prometheus {
    shelf: Arc<Shelf>,
    server: Mutex<Option<PageServer>>,
    deliveries: Deliveries,
    dropped: HashMap<Reason, Counter>,
    replaced: Counter,
}

fn build(value: &ConfigValue, site: &Site) -> Result<Arc<dyn Exporter>, BuildError> {
    let config: Config = site.settings(value)?;
    let options = config.text_options()?;
    let bounds = Bounds {
        series: config.max_series,
        expiration: config.metric_expiration,
        exemplars: config.enable_open_metrics,
    };
    let utf8 = config.utf8().then(|| {
        let naming = Naming { utf8: true, ..options.naming.clone() };
        Mutex::new(Store::new(TextOptions { naming, ..options.clone() }, bounds))
    });
    let shelf = Arc::new(Shelf {
        classic: Mutex::new(Store::new(options, bounds)),
        utf8,
        open_metrics: config.enable_open_metrics,
        clock: site.clock.clone(),
    });

    let listener = site.listeners.bind(&config.endpoint, &format!("exporters::{}::endpoint", site.id))?;
    let secured = Acceptor::of_page(config.tls.as_ref(), "tls", site)?;
    let id = site.id.to_string();
    let label = ("exporter", id.as_str());
    let scrapes = site.metrics.counter(&SCRAPES, &[label]);
    let page = {
        let shelf = Arc::clone(&shelf);
        Arc::new(move |request: &Parts| {
            scrapes.increment(1);
            shelf.answer(request)
        })
    };
    let server = serve(&site.runtime, &listener, secured, page)
        .map_err(|error| format!("cannot serve the page on {}: {error}", config.endpoint))?;
    let held = Arc::downgrade(&shelf);
    site.metrics.observe(&SERIES, &[label], Observed::Gauge, move || {
        Number::Int(held.upgrade().map_or(0, |shelf| lock(&shelf.classic).len() as i64))
    });
    sweep_in_time(site, &shelf, config.metric_expiration);
    site.status.ok();
    tracing::info!(exporter = %site.id, address = %listener.address(), "metrics are served under /metrics");
    let dropped =
        Reason::ALL.map(|(reason, word)| (reason, site.metrics.counter(&DROPPED, &[label, ("reason", word)])));
    Ok(Arc::new(Prometheus {
        shelf,
        server: Mutex::new(Some(server)),
        deliveries: Deliveries::new(site),
        dropped: HashMap::from(dropped),
        replaced: site.metrics.counter(&REPLACED, &[label]),
    }))
}

/// Forgets expired series while nobody scrapes, until the exporter is gone.
fn sweep_in_time(site: &Site, shelf: &Arc<Shelf>, expiration: Duration) {
    let shelf = Arc::downgrade(shelf);
    let interval = (expiration / 4).clamp(Duration::from_millis(100), Duration::from_secs(60));
    site.runtime.spawn(async move {
        loop {
            tokio::time::sleep(interval).await;
            let Some(shelf) = shelf.upgrade() else { break };
            shelf.sweep();
        }
    });
}

impl Exporter for Prometheus {
    fn export(&self, shipment: Shipment, delivery: Delivery) {
        let absorbed = self.shelf.absorb(shipment.batch());
        for complaint in &absorbed.complaints {
            tracing::warn!("{complaint}");
        }
        for (reason, points) in &absorbed.dropped {
            if let Some(counter) = self.dropped.get(reason) {
                counter.increment(*points);
            }
        }
        self.replaced.increment(absorbed.replaced);
        let dropped = absorbed.dropped.values().sum::<u64>() as usize;
        self.deliveries.failed(dropped);
        self.deliveries.sent(shipment.points().saturating_sub(dropped));
        // What the page cannot show will not be better the next time.
        delivery.delivered();
    }

    fn shutdown(&self, _deadline: Instant) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.server.lock().unwrap_or_else(PoisonError::into_inner).take();
        })
    }
}
