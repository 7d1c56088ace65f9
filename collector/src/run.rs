//! One run of the agent, from the checked configuration to the last signal.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use phoenix_pipeline::admission::Budget;
use phoenix_pipeline::config::Mistake;
use phoenix_pipeline::{BuildError, Clock, Estimates, Explain, Listeners, Metrics, Profiles, StatusBoard, memory};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::{Model, Request};
use crate::control::{Control, World};
use crate::descriptors;
use crate::logs::{self, Valve};
use crate::notify::Notifier;
use crate::own::{self, SUMMARY_EVERY, Summary};
use crate::service::{Agent, GRACE, Shared};
use crate::start_pages;
use crate::state::{self, Place, StateDir};
use crate::terminal::Terminal;

/// The agent's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why a run ended badly.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is wrong.
    #[error("{}", crate::config::report(.0))]
    Config(Vec<Mistake>),
    /// The host does not allow it, or a stage broke.
    #[error("{0}")]
    Host(String),
}

impl From<BuildError> for Failure {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Config(mistakes) => Failure::Config(mistakes),
            BuildError::Failed(why) => Failure::Host(why),
        }
    }
}

/// Runs until a signal ends it. `state_dir` is the state directory that was named on the command line.
///
/// # Errors
/// A wrong configuration, a named state directory that cannot be used, something the host does not allow, or a stage that panicked.
pub fn run(request: &Request, state_dir: Option<&Path>) -> Result<(), Failure> {
    let kept = crate::allocator::keep_what_comes_again();
    let (model, notices) = request.load().map_err(Failure::Config)?;
    let terminal = Terminal::stderr();
    let log = &model.telemetry.logs;
    let valve = logs::start(&log.output_paths, log.encoding(), log.level(), log.sampling(), &terminal)
        .map_err(Failure::Host)?;
    notices.iter().for_each(crate::config::Notice::log);
    if !kept {
        tracing::debug!("the allocator keeps its own thresholds: large requests cost more page faults");
    }
    let state = state::open(Place::find(state_dir, |name| std::env::var_os(name))).map_err(Failure::Host)?;
    // One thread for all edges: they wait far more than they work, and an idle agent stays small.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Host(format!("cannot start the asynchronous runtime: {error}")))?;
    let outcome = runtime.block_on(serve(request, model, state, &valve, &terminal));
    terminal.finish();
    // A task that hangs on a dead peer must not keep the process alive after the grace period.
    runtime.shutdown_timeout(Duration::from_millis(200));
    outcome
}

/// The signals an agent listens to.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next signal.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.hang_up.recv() => RELOAD,
        }
    }

    /// Waits for a second signal that ends the agent at once. The same wish often arrives twice (a terminal and its
    /// shell both pass it on), so the first second does not count.
    async fn insisted(&mut self) -> &'static str {
        let _ = tokio::time::timeout(Duration::from_secs(1), async {
            loop {
                self.next().await;
            }
        })
        .await;
        loop {
            match self.next().await {
                RELOAD => tracing::warn!("the agent is ending; SIGHUP comes too late"),
                name => return name,
            }
        }
    }
}

/// The signal that means: read the configuration again.
const RELOAD: &str = "SIGHUP";

/// So long after a start or a reload the pages it needed are given back: three scrapes at the default interval, so that what
/// the first ones do differently is over, too.
const SETTLED: Duration = Duration::from_secs(30);

async fn serve(
    request: &Request,
    model: Model,
    state: Option<StateDir>,
    valve: &Valve,
    terminal: &Terminal,
) -> Result<(), Failure> {
    let clock = Clock::system();
    let metrics = Metrics::new(&clock, crate::identity::resource(&model, VERSION));
    own::register(&metrics, &clock, valve, VERSION);
    let (estimates, profiles) = (Estimates::default(), Profiles::new(clock.clone()));
    let world = World {
        clock: clock.clone(),
        metrics: metrics.clone(),
        estimates: estimates.clone(),
        profiles: profiles.clone(),
    };
    let control =
        Control::start(world).map_err(|error| Failure::Host(format!("cannot start the control thread: {error}")))?;
    let shared = Shared {
        metrics: metrics.clone(),
        clock: clock.clone(),
        runtime: tokio::runtime::Handle::current(),
        listeners: Listeners::default(),
        authenticators: phoenix_pipeline::auth::Authenticators::default(),
        storages: phoenix_pipeline::storage::Storages::default(),
        board: StatusBoard::default(),
        explain: Explain::default(),
        estimates,
        folded: phoenix_pipeline::Folded::default(),
        profiles,
        control,
        state,
        admission: admission(),
        connections: descriptors::raise(),
        version: VERSION,
    };
    // Before anything starts: a signal during the start must end the agent in order, too.
    let mut signals = Signals::listen().map_err(|error| Failure::Host(format!("cannot listen to signals: {error}")))?;
    let (fatal, mut broken) = mpsc::unbounded_channel();
    tracing::info!(version = VERSION, config = %request.describe(), "starting");
    let mut agent = Agent::start(&model, shared, fatal).await?;
    for line in model.describe() {
        tracing::info!("{line}");
    }

    let notifier = Arc::new(Notifier::find(|name| std::env::var_os(name)));
    notifier.ready("running");
    if let Some(period) = notifier.watchdog() {
        // A task of its own, so that it is fed during a reload and while queues drain, too.
        tokio::spawn(feed(notifier.clone(), period));
    }

    let mut summary = Summary::new(metrics);
    let mut redraw = tokio::time::interval_at(tokio::time::Instant::now() + Duration::from_secs(3), SUMMARY_EVERY);
    let settled = tokio::time::sleep(SETTLED);
    tokio::pin!(settled);
    let mut unsettled = true;
    let outcome = loop {
        tokio::select! {
            signal = signals.next() => match signal {
                RELOAD => {
                    notifier.reloading();
                    notifier.ready(reload(request, &mut agent, valve).await);
                    settled.as_mut().reset(tokio::time::Instant::now() + SETTLED);
                    unsettled = true;
                }
                end => {
                    tracing::info!(signal = end, grace_seconds = GRACE.as_secs(), "ending: receivers stop, queues drain");
                    break Ok(());
                }
            },
            Some(why) = broken.recv() => break Err(Failure::Host(why)),
            () = &mut settled, if unsettled => {
                unsettled = false;
                if let Err(error) = start_pages::give_back() {
                    tracing::debug!(%error, "the program's pages stay, also those that only the start needed");
                }
            }
            _ = redraw.tick(), if terminal.is_terminal() || notifier.is_heard() => {
                let line = summary.line(&clock);
                notifier.status(&line);
                if terminal.is_terminal() {
                    terminal.live(&line);
                }
            }
        }
    };
    notifier.stopping();
    tokio::select! {
        () = agent.shutdown(GRACE) => tracing::info!("ended"),
        name = signals.insisted() => tracing::warn!(signal = name, "ended at once by a second signal; what was queued is lost"),
    }
    outcome
}

/// Feeds the watchdog until the runtime ends.
async fn feed(notifier: Arc<Notifier>, period: Duration) {
    let mut timer = tokio::time::interval(period);
    loop {
        timer.tick().await;
        notifier.alive();
    }
}

/// Room for data that comes in, by the memory this process may use.
fn admission() -> Budget {
    let available = memory::available(Path::new("/")).unwrap_or_else(|error| {
        tracing::warn!(%error, "cannot learn how much memory may be used; the least is set aside for data that comes in");
        0
    });
    Budget::of_memory(available)
}

/// SIGHUP: the new configuration is read, checked, built and only then put in place. Says in a line what came of it.
async fn reload(request: &Request, agent: &mut Agent, valve: &Valve) -> &'static str {
    let (model, notices) = match request.load() {
        Ok(loaded) => loaded,
        Err(mistakes) => {
            for mistake in &mistakes {
                tracing::error!("{mistake}");
            }
            tracing::error!(mistakes = mistakes.len(), "the new config is wrong; the old one goes on");
            return "the new config is wrong; the old one goes on";
        }
    };
    match agent.apply(&model).await {
        Ok(()) => {
            notices.iter().for_each(crate::config::Notice::log);
            valve.set(model.telemetry.logs.level(), model.telemetry.logs.sampling());
            tracing::info!("reloaded: the new config is in place");
            "running"
        }
        Err(error) => {
            tracing::error!("the new config cannot be put in place: {error}; the old one goes on");
            "the new config cannot be put in place; the old one goes on"
        }
    }
}
