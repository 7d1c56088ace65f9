//! A TLS configuration that follows its files while connections live on.
//!
//! The content of all files is compared every `reload_interval`, not their dates: Kubernetes swaps links. What is new and
//! good is taken up by the next handshake; connections that stand keep what they agreed on. What is new and bad is
//! left aside and the old one stays, so there is never a moment without a configuration. A certificate and its key that
//! are replaced one after the other look bad for a moment: bad content is looked at again after [`SETTLE`] before
//! anything is said.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use phoenix_pipeline::{Clock, Instrument, Level, Site, Status};
use tracing::{info, warn};

use super::material::{Files, Validity};

static RELOADS: Instrument = Instrument {
    name: "phoenix_tls_reloads_total",
    unit: "{reload}",
    description: "New content of certificate, key or CA files, by outcome: taken, or refused with the old one kept.",
    level: Level::Normal,
};
static NOT_AFTER: Instrument = Instrument {
    name: "phoenix_tls_certificate_not_after",
    unit: "s",
    description: "When the certificate this side shows expires, as Unix time.",
    level: Level::Normal,
};

/// How long after bad content was seen it is read again: whoever replaces two files does so within a second.
const SETTLE: Duration = Duration::from_secs(2);

/// A configuration as it was built from one state of the files.
pub(super) struct Built<C> {
    pub(super) config: C,
    /// Of the certificate this side shows.
    pub(super) validity: Option<Validity>,
    /// How messages name that certificate.
    pub(super) place: String,
}

type Build<C> = Box<dyn Fn(&Files) -> Result<Built<C>, String> + Send + Sync>;

/// The configuration in use, and what it takes to renew it.
pub(super) struct Reloading<C> {
    current: ArcSwap<C>,
    paths: Vec<String>,
    build: Build<C>,
    state: Mutex<State>,
    clock: Clock,
    status: Status,
    /// The block of the configuration ("tls"), for labels and the health page.
    key: String,
    taken: metrics::Counter,
    refused: metrics::Counter,
    not_after: metrics::Gauge,
}

#[derive(Default)]
struct State {
    /// Fingerprint of what is in use.
    used: u64,
    /// How many looks in a row found bad content.
    bad: u32,
    /// The complaint that was made about it.
    said: Option<String>,
}

/// What one look at the files led to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing is new.
    Same,
    /// The new content is in use.
    Taken,
    /// The new content is bad so far.
    Unsettled,
    /// The new content is bad; the old one stays, and that was said.
    Refused,
}

impl<C: Send + Sync + 'static> Reloading<C> {
    /// Builds the first configuration and, if `interval` is not zero, follows the files in the background for as long as
    /// the returned value lives.
    pub(super) fn new(
        paths: Vec<String>,
        interval: Duration,
        key: &str,
        site: &Site,
        build: Build<C>,
    ) -> Result<Arc<Self>, String> {
        let files = Files::read(&paths);
        let Built { config, validity, place } = build(&files)?;
        let clock = site.clock.clone();
        if let Some(complaint) = validity.and_then(|validity| validity.complaint(wall(&clock))) {
            // The peer decides what it thinks of it, and a new one may come.
            warn!(component = %site.status.component(), "{place}: {complaint}");
        }
        let labels = [("component", site.status.component()), ("key", key)];
        let reloads = |outcome| {
            let labels = [labels[0], labels[1], ("outcome", outcome)];
            site.metrics.counter(&RELOADS, &labels)
        };
        let not_after = match validity {
            Some(_) => site.metrics.gauge(&NOT_AFTER, &labels),
            None => metrics::Gauge::noop(),
        };
        let watched = interval > Duration::ZERO && !paths.is_empty();
        let this = Arc::new(Reloading {
            current: ArcSwap::from_pointee(config),
            paths,
            build,
            state: Mutex::new(State { used: files.fingerprint(), ..State::default() }),
            clock,
            status: site.status.clone(),
            key: key.to_owned(),
            taken: reloads("taken"),
            refused: reloads("refused"),
            not_after,
        });
        this.show(validity);
        if watched {
            site.runtime.spawn(follow(Arc::downgrade(&this), interval));
        }
        Ok(this)
    }

    /// The configuration for the next handshake.
    pub(super) fn current(&self) -> Arc<C> {
        self.current.load_full()
    }

    /// Compares the files with what is in use. Reads files: not for an asynchronous task.
    pub(super) fn look(&self) -> Look {
        let files = Files::read(&self.paths);
        let fingerprint = files.fingerprint();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if fingerprint == state.used {
            // Perhaps bad content was taken back.
            self.mended(&mut state);
            return Look::Same;
        }
        let built = (self.build)(&files).and_then(|built| {
            let complaint = built.validity.and_then(|validity| validity.complaint(wall(&self.clock)));
            complaint.map_or(Ok(()), |complaint| Err(format!("{}: {complaint}", built.place))).map(|()| built)
        });
        match built {
            Ok(Built { config, validity, .. }) => {
                self.current.store(Arc::new(config));
                state.used = fingerprint;
                self.mended(&mut state);
                self.show(validity);
                self.taken.increment(1);
                info!(component = %self.status.component(), key = self.key, "new TLS files are in use");
                Look::Taken
            }
            Err(why) => {
                state.bad += 1;
                if state.bad == 1 {
                    return Look::Unsettled;
                }
                if state.said.as_ref() != Some(&why) {
                    warn!(component = %self.status.component(), "the new TLS files are not used, the old ones stay: {why}");
                    self.refused.increment(1);
                    self.status.concern(&self.key, Some(format!("the new TLS files are not used: {why}")));
                    state.said = Some(why);
                }
                Look::Refused
            }
        }
    }

    fn mended(&self, state: &mut State) {
        state.bad = 0;
        if state.said.take().is_some() {
            self.status.concern(&self.key, None);
        }
    }

    fn show(&self, validity: Option<Validity>) {
        if let Some(until) = validity.and_then(|validity| validity.until.duration_since(UNIX_EPOCH).ok()) {
            self.not_after.set(until.as_secs_f64());
        }
    }
}

impl<C> Drop for Reloading<C> {
    fn drop(&mut self) {
        self.status.concern(&self.key, None);
    }
}

impl<C> std::fmt::Debug for Reloading<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloading").field("paths", &self.paths).finish_non_exhaustive()
    }
}

fn wall(clock: &Clock) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(clock.unix_nanos())
}

/// Looks again and again until nobody uses the configuration any more.
async fn follow<C: Send + Sync + 'static>(followed: std::sync::Weak<Reloading<C>>, interval: Duration) {
    let mut pause = interval;
    loop {
        tokio::time::sleep(pause).await;
        let Some(this) = followed.upgrade() else { return };
        // A file on a share that hangs must not hold up the runtime.
        let look = tokio::task::spawn_blocking(move || this.look()).await;
        pause = match look {
            Ok(Look::Unsettled) => SETTLE.min(interval),
            _ => interval,
        };
    }
}
