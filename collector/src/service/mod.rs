//! The running agent: what is built from a checked configuration, how it is changed while it runs, and how it ends.
//!
//! A change is made before it is broken: everything new is built and started first, then the lane takes up the new
//! chains between two batches, and only then is the old stopped. Components whose configuration is the same are kept,
//! with their queues and sockets. If anything new cannot be built, nothing has changed.

mod build;
mod leftover;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use phoenix_pipeline::admission::Budget;
use phoenix_pipeline::auth::Authenticators;
use phoenix_pipeline::config::Value;
use phoenix_pipeline::storage::Storages;
use phoenix_pipeline::{
    BuildError, Chain, Clock, ComponentId, Estimates, Explain, Exporter, Extension, Folded, Health, Lane, Listeners,
    Metrics, Outlet, PageServer, Profiles, Receiver, Site, Status, StatusBoard,
};
use tokio::sync::mpsc;

use crate::admin;
use crate::config::Model;
use crate::control::Control;
use crate::own::{self, PageSettings};
use crate::state::StateDir;
use build::Plan;

/// How long the end may take: what is queued is sent as far as possible, the rest is counted and given up. Below
/// Kubernetes' usual 30 s, so that the agent ends by itself.
pub const GRACE: Duration = Duration::from_secs(25);

/// How long a reload waits for the lane to take up its new chains before it says that this takes long.
const SWAP_PATIENCE: Duration = Duration::from_secs(10);

/// What every component of this agent shares.
#[derive(Clone)]
pub struct Shared {
    /// The agent's own metrics.
    pub metrics: Metrics,
    /// The time.
    pub clock: Clock,
    /// Where the asynchronous edges run.
    pub runtime: tokio::runtime::Handle,
    /// The listening sockets.
    pub listeners: Listeners,
    /// Credentials, by the extension that keeps them.
    pub authenticators: Authenticators,
    /// Where queues on disk lie, by the extension that says so.
    pub storages: Storages,
    /// What the health page says.
    pub board: StatusBoard,
    /// Why the stages decided what.
    pub explain: Explain,
    /// How many series the stages let through.
    pub estimates: Estimates,
    /// Which processes the stages folded.
    pub folded: Folded,
    /// Which profiles are at work.
    pub profiles: Profiles,
    /// Who holds the budgets.
    pub control: Control,
    /// What survives a restart; none if nothing does.
    pub state: Option<StateDir>,
    /// Room in memory for data that comes in.
    pub admission: Budget,
    /// Places for connections of senders.
    pub connections: Budget,
    /// The agent's version.
    pub version: &'static str,
}

impl Shared {
    /// The surroundings of a component, with nothing of its own but its name and its line on the health page.
    fn site(&self, id: ComponentId, status: Status) -> Site {
        Site {
            id,
            pipeline: None,
            metrics: self.metrics.clone(),
            clock: self.clock.clone(),
            runtime: self.runtime.clone(),
            status,
            listeners: self.listeners.clone(),
            authenticators: self.authenticators.clone(),
            storages: self.storages.clone(),
            state: None,
            explain: self.explain.clone(),
            estimates: self.estimates.clone(),
            folded: self.folded.clone(),
            profiles: self.profiles.clone(),
            siblings: None,
            lane: None,
            admission: self.admission.clone(),
            connections: self.connections.clone(),
            version: self.version,
        }
    }

    /// The surroundings of a page that is part of the service and no component: it has no line on the health page.
    pub fn site_of_page(&self, name: &str) -> Site {
        self.site(ComponentId::new(name), StatusBoard::default().status(name))
    }
}

/// A component and the configuration it was built from.
struct Part<C> {
    component: C,
    config: Value,
}

type Parts<C> = BTreeMap<ComponentId, Part<C>>;

/// A receiver also has its way into the lane.
struct Inlet {
    receiver: Box<dyn Receiver>,
    outlet: Outlet,
}

/// A page and the settings it was made from; none where there is to be no page.
type Served<S> = Option<(S, PageServer)>;

/// The pages that change with a configuration; none where the one at work stays.
struct Pages {
    own: Option<Served<PageSettings>>,
    admin: Option<Served<admin::Config>>,
}

/// The agent at work.
pub struct Agent {
    shared: Shared,
    extensions: Parts<Box<dyn Extension>>,
    exporters: Parts<Arc<dyn Exporter>>,
    receivers: Parts<Inlet>,
    lane: Lane,
    page: Served<PageSettings>,
    admin: Served<admin::Config>,
    /// Brings profiles back whose time is over.
    expiry: tokio::task::JoinHandle<()>,
}

impl Agent {
    /// Builds and starts everything of `model`. A stage that panics is told to `fatal`.
    ///
    /// # Errors
    /// The first component that the host does not allow; what was started before it is stopped again.
    pub async fn start(
        model: &Model,
        shared: Shared,
        fatal: mpsc::UnboundedSender<String>,
    ) -> Result<Agent, BuildError> {
        let lane = Lane::start("lane-0", Vec::new(), shared.clock.clone(), shared.metrics.clone(), move |panic| {
            // Nobody listens any more when the agent is ending anyway.
            let _ = fatal.send(format!("a stage of the pipeline panicked: {panic}"));
        });
        let lane = lane.map_err(|error| format!("cannot start the pipeline's thread: {error}"))?;
        let expiry = shared.runtime.spawn(shared.profiles.clone().watch());
        let mut agent = Agent {
            shared,
            extensions: Parts::new(),
            exporters: Parts::new(),
            receivers: Parts::new(),
            lane,
            page: None,
            admin: None,
            expiry,
        };
        match agent.apply(model).await {
            Ok(()) => Ok(agent),
            Err(error) => {
                agent.shutdown(Duration::ZERO).await;
                Err(error)
            }
        }
    }

    /// Changes the running agent to `model`.
    ///
    /// # Errors
    /// What could not be built or started; the agent then runs on as it was.
    pub async fn apply(&mut self, model: &Model) -> Result<(), BuildError> {
        let before = self.shared.board.save();
        let authenticators = self.shared.authenticators.published();
        let storages = self.shared.storages.published();
        let outcome = self.try_apply(model).await;
        if outcome.is_err() {
            // Components that were never put in place must not keep the health page waiting for them.
            self.shared.board.restore(before);
            self.shared.authenticators.publish(authenticators);
            self.shared.storages.publish(storages);
        }
        outcome
    }

    async fn try_apply(&mut self, model: &Model) -> Result<(), BuildError> {
        // Before the stages are built: they start with the profile of the last run.
        let places = self.shared.control.prepare(model, self.shared.state.as_ref());
        let mut plan = Plan::build(model, self)?;
        let pages = Pages { own: self.new_page(model)?, admin: self.new_admin(model)? };
        let chains = std::mem::take(&mut plan.chains);
        if self.receivers.is_empty() {
            // The first start: the chains come first, so that the first scrape finds its pipeline.
            self.swap(chains).await;
            plan.start_receivers(model, self).await?;
        } else {
            // A change: a receiver that cannot start leaves everything as it was.
            plan.start_receivers(model, self).await?;
            self.swap(chains).await;
        }
        self.shared.metrics.set_resource(crate::identity::resource(model, self.shared.version));
        self.adopt(model, plan, pages).await;
        self.shared.control.steer(places);
        Ok(())
    }

    async fn swap(&self, chains: Vec<Chain>) {
        let handle = self.lane.handle();
        let swapped = tokio::task::spawn_blocking(move || handle.swap(chains, SWAP_PATIENCE)).await;
        if !swapped.unwrap_or(false) {
            tracing::warn!(
                "the pipeline is busy and has not taken up its new chain yet; it will after the batch at hand"
            );
        }
    }

    /// Puts the new parts in place and stops what they replace.
    async fn adopt(&mut self, model: &Model, plan: Plan, pages: Pages) {
        let retired_receivers = replace(&mut self.receivers, plan.receivers, &model.receiver_ids());
        let retired_exporters = replace(&mut self.exporters, plan.exporters, &model.exporter_ids());
        let retired_extensions = replace(&mut self.extensions, plan.extensions, &model.extension_ids());
        let durable = self.exporters.iter().map(|(id, part)| (id.clone(), part.component.durable())).collect();
        for (id, part) in &self.receivers {
            part.component.outlet.retarget(build::targets(model, id, &self.lane, &durable));
        }
        let deadline = self.shared.clock.now() + GRACE;
        // In the background: a backend that is away must not hold up the reload. Before the receivers, whose requests may
        // wait for the disk queue that the old exporter still holds.
        let end = |part: Part<Arc<dyn Exporter>>| {
            self.shared.runtime.spawn(async move { part.component.shutdown(deadline).await })
        };
        let ends: Vec<_> = retired_exporters.into_iter().map(end).collect();
        let used = leftover::used(model, self);
        self.shared.runtime.spawn(async move {
            for end in ends {
                // One that panicked has ended as well.
                drop(end.await);
            }
            drop(tokio::task::spawn_blocking(move || leftover::say(&used)).await);
        });
        for mut part in retired_receivers {
            part.component.receiver.shutdown().await;
        }
        for mut part in retired_extensions {
            part.component.shutdown().await;
        }
        if let Some(page) = pages.own {
            self.page = page;
        }
        if let Some(admin) = pages.admin {
            self.admin = admin;
        }
        let known = model.status_names();
        self.shared.board.retain(|component| known.contains(component));
        self.started();
    }

    /// Receivers say themselves when they are ready (after the first scrape); everything else is, once it is built.
    fn started(&self) {
        for (component, health) in self.shared.board.snapshot() {
            if health == Health::Starting && !component.starts_with("receivers:") {
                self.shared.board.status(component).ok();
            }
        }
    }

    /// The page of the agent's own metrics, if it must change: `Some(None)` takes it away.
    fn new_page(&self, model: &Model) -> Result<Option<Served<PageSettings>>, BuildError> {
        let wanted = model.own_metrics_page();
        if wanted.as_ref() == self.page.as_ref().map(|(settings, _)| settings) {
            return Ok(None);
        }
        let Some(settings) = wanted else { return Ok(Some(None)) };
        let server = own::serve_page(settings.clone(), &self.shared.site_of_page("service:telemetry"))?;
        Ok(Some(Some((settings, server))))
    }

    /// The admin endpoint, if it must change: `Some(None)` takes it away.
    fn new_admin(&self, model: &Model) -> Result<Option<Served<admin::Config>>, BuildError> {
        let wanted = Some(&model.admin).filter(|config| config.wanted());
        if wanted == self.admin.as_ref().map(|(config, _)| config) {
            return Ok(None);
        }
        let Some(config) = wanted else { return Ok(Some(None)) };
        Ok(Some(admin::serve(config, &self.shared)?.map(|server| (config.clone(), server))))
    }

    /// Ends: receivers stop, the lane works off what waits, exporters drain until the grace period is over.
    pub async fn shutdown(mut self, grace: Duration) {
        // The exporters give up a little earlier, so that the whole end stays within the grace period.
        let deadline = Instant::now() + grace.mul_f64(0.96);
        // Nobody changes anything from here on.
        self.expiry.abort();
        let control = self.shared.control.clone();
        // A panic in it has been logged where it was.
        let _ = tokio::task::spawn_blocking(move || control.stop()).await;
        self.admin = None;
        for component in self.shared.board.snapshot().into_keys() {
            self.shared.board.status(component).stopping();
        }
        for part in self.receivers.values_mut() {
            part.component.receiver.shutdown().await;
        }
        let lane = self.lane;
        if tokio::task::spawn_blocking(move || lane.stop()).await.is_err() {
            tracing::error!("the pipeline's thread did not end cleanly");
        }
        let draining: Vec<_> = std::mem::take(&mut self.exporters)
            .into_values()
            .map(|part| self.shared.runtime.spawn(async move { part.component.shutdown(deadline).await }))
            .collect();
        for exporter in draining {
            let _ = tokio::time::timeout_at((deadline + grace.mul_f64(0.02)).into(), exporter).await;
        }
        for part in self.extensions.values_mut() {
            part.component.shutdown().await;
        }
    }
}

/// Puts `new` over `parts`, takes out what `wanted` does not name, and returns everything that is no longer in use.
fn replace<C>(parts: &mut Parts<C>, new: Parts<C>, wanted: &[ComponentId]) -> Vec<Part<C>> {
    let mut retired: Vec<Part<C>> = new.into_iter().filter_map(|(id, part)| parts.insert(id, part)).collect();
    let unwanted: Vec<ComponentId> = parts.keys().filter(|id| !wanted.contains(id)).cloned().collect();
    retired.extend(unwanted.iter().filter_map(|id| parts.remove(id)));
    retired
}
