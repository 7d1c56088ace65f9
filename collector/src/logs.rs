//! What the agent logs: `tracing` events to the places the configuration names, repeats limited.
//!
//! A fault that repeats on every scrape must not fill a disk: per place in the code and period, the first few lines pass
//! and then every n-th (the Collector's `sampling`). What is held back is counted in `phoenix_log_suppressed_total`. Level
//! and sampling can change while the agent runs; the outputs and the encoding are chosen once, at the start.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Filter, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use crate::terminal::Terminal;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// For people.
    Console,
    /// One JSON object a line.
    Json,
}

/// Per place in the code and `tick`: the first `initial` lines, then every `thereafter`-th (0 = none).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sampling {
    /// The period.
    pub tick: Duration,
    /// Lines that pass at the beginning of each period.
    pub initial: u64,
    /// After those, one line in this many passes.
    pub thereafter: u64,
}

#[derive(Clone, Copy)]
struct Settings {
    level: LevelFilter,
    sampling: Option<Sampling>,
}

/// The valve all lines go through; shared so that a reload can turn it.
#[derive(Clone)]
pub struct Valve(Arc<Inner>);

struct Inner {
    settings: RwLock<Settings>,
    // As many entries as there are log statements in the program.
    seen: Mutex<HashMap<Identifier, (Instant, u64)>>,
    suppressed: AtomicU64,
}

impl Valve {
    fn new(level: LevelFilter, sampling: Option<Sampling>) -> Self {
        let settings = RwLock::new(Settings { level, sampling });
        Valve(Arc::new(Inner { settings, seen: Mutex::default(), suppressed: AtomicU64::new(0) }))
    }

    fn settings(&self) -> Settings {
        *self.0.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes level and sampling from now on.
    pub fn set(&self, level: LevelFilter, sampling: Option<Sampling>) {
        *self.0.settings.write().unwrap_or_else(PoisonError::into_inner) = Settings { level, sampling };
        tracing::callsite::rebuild_interest_cache();
    }

    /// Lines held back so far.
    pub fn suppressed(&self) -> u64 {
        self.0.suppressed.load(Ordering::Relaxed)
    }

    fn passes(&self, place: Identifier, now: Instant) -> bool {
        let Some(Sampling { tick, initial, thereafter }) = self.settings().sampling else { return true };
        let mut seen = self.0.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = seen.entry(place).or_insert((now, 0));
        if now.duration_since(*since) >= tick {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        let passes = *count <= initial || (thereafter > 0 && (*count - initial).is_multiple_of(thereafter));
        if !passes {
            self.0.suppressed.fetch_add(1, Ordering::Relaxed);
        }
        passes
    }
}

impl<S: Subscriber> Filter<S> for Valve {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        *metadata.level() <= self.settings().level
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if *metadata.level() <= self.settings().level { Interest::sometimes() } else { Interest::never() }
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        self.passes(event.metadata().callsite(), Instant::now())
    }
}

/// Where lines go.
pub enum Output {
    /// The terminal, sharing it with the summary line.
    Terminal(Terminal),
    /// A file that is appended to.
    File(std::fs::File),
}

impl Output {
    /// Opens `stderr`, `stdout` or a path.
    ///
    /// # Errors
    /// The path and why it cannot be opened.
    pub fn open(name: &str, terminal: &Terminal) -> Result<Self, String> {
        if name == "stderr" || name == "stdout" {
            return Ok(Output::Terminal(terminal.clone()));
        }
        let file = std::fs::OpenOptions::new().append(true).create(true).open(name);
        file.map(Output::File).map_err(|error| format!("cannot open the log file {name}: {error}"))
    }
}

/// Starts logging for the whole process. Call once.
///
/// # Errors
/// An output that cannot be opened.
pub fn start(
    outputs: &[String],
    encoding: Encoding,
    level: LevelFilter,
    sampling: Option<Sampling>,
    terminal: &Terminal,
) -> Result<Valve, String> {
    let valve = Valve::new(level, sampling);
    let mut layers: Vec<Box<dyn Layer<Registry> + Send + Sync>> = Vec::new();
    for name in outputs {
        let layer = match Output::open(name, terminal)? {
            Output::Terminal(terminal) => {
                let colours = terminal.is_terminal();
                layer(encoding, colours, terminal)
            }
            Output::File(file) => layer(encoding, false, Mutex::new(file)),
        };
        layers.push(layer);
    }
    let layers = layers.with_filter(valve.clone());
    Registry::default().with(layers).try_init().map_err(|error| error.to_string())?;
    Ok(valve)
}

fn layer<W>(encoding: Encoding, colours: bool, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let layer = tracing_subscriber::fmt::layer().with_target(false).with_ansi(colours).with_writer(writer);
    match encoding {
        Encoding::Console => Box::new(layer),
        Encoding::Json => Box::new(layer.json().flatten_event(true).with_current_span(false).with_span_list(false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_lines_pass_then_every_nth_and_a_new_period_begins_anew() {
        let sampling = Sampling { tick: Duration::from_secs(10), initial: 3, thereafter: 4 };
        let valve = Valve::new(LevelFilter::INFO, Some(sampling));
        let subscriber = Registry::default().with(tracing_subscriber::fmt::layer().with_writer(std::io::sink));
        let place = tracing::subscriber::with_default(subscriber, || {
            tracing::callsite::Identifier::clone(
                &tracing::info_span!("somewhere").metadata().map(Metadata::callsite).unwrap(),
            )
        });
        let start = Instant::now();
        let passed: Vec<bool> = (0..12).map(|_| valve.passes(place.clone(), start)).collect();
        let expected = [true, true, true, false, false, false, true, false, false, false, true, false];
        assert_eq!(passed, expected);
        assert_eq!(valve.suppressed(), 7);
        assert!(valve.passes(place, start + Duration::from_secs(10)));
    }
}
