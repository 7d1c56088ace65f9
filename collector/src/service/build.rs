//! From a checked model to components: what must be built anew, what is kept, and the chains that join them.
//!
//! Nothing here is started or stopped, but for sockets that a component opens to be sure of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use phoenix_pipeline::config::Value;
use phoenix_pipeline::{
    Ack, BuildError, Chain, ComponentId, Exporter, Extension, Factory, Lane, Outlet, Siblings, Site, Stage, Target,
};

use super::{Agent, Inlet, Part, Parts, Shared};
use crate::components::{EXPORTERS, EXTENSIONS, PROCESSORS, RECEIVERS};
use crate::config::{Model, Pipeline};

/// What is new, ready to be put in place.
pub(super) struct Plan {
    pub(super) extensions: Parts<Box<dyn Extension>>,
    pub(super) exporters: Parts<Arc<dyn Exporter>>,
    pub(super) receivers: Parts<Inlet>,
    pub(super) chains: Vec<Chain>,
}

impl Plan {
    /// Builds what the model has and the running agent has not, or has with another configuration.
    pub(super) fn build(model: &Model, running: &Agent) -> Result<Plan, BuildError> {
        let shared = &running.shared;
        let extensions = new_parts(
            EXTENSIONS,
            "extensions",
            &model.extensions,
            &model.extension_ids(),
            &running.extensions,
            shared,
        )?;
        // Before anybody is built who asks for them; should the change fail, the caller takes it back.
        let (new, kept) = (&extensions, &running.extensions);
        shared.authenticators.publish(offered(model, new, kept, |extension| extension.authenticator()));
        shared.storages.publish(offered(model, new, kept, |extension| extension.storage()));
        let exporters =
            new_parts(EXPORTERS, "exporters", &model.exporters, &model.exporter_ids(), &running.exporters, shared)?;
        let mut receivers = Parts::new();
        for id in model.receiver_ids() {
            let config = configured(&model.receivers, &id)?;
            if running.receivers.get(&id).is_some_and(|part| part.config == *config) {
                continue;
            }
            let receiver = build(RECEIVERS, "receivers", &id, config, shared, None)?;
            let outlet = Outlet::new(&shared.metrics, id.as_str(), "", Vec::new());
            receivers.insert(id, Part { component: Inlet { receiver, outlet }, config: config.clone() });
        }
        let chains = chains(model, &exporters, running)?;
        let plan = Plan { extensions, exporters, receivers, chains };
        plan.check_promises(model, running)?;
        Ok(plan)
    }

    /// Which exporters keep their queue on disk, once this plan is in place.
    fn durable(&self, agent: &Agent) -> Durable {
        let parts = agent.exporters.iter().chain(&self.exporters);
        parts.map(|(id, part)| (id.clone(), part.component.durable())).collect()
    }

    /// Holds what receivers promise their senders against what the exporters behind them can keep.
    fn check_promises(&self, model: &Model, running: &Agent) -> Result<(), BuildError> {
        let durable = self.durable(running);
        let receivers = running.receivers.iter().filter(|(id, _)| !self.receivers.contains_key(id));
        for (id, part) in receivers.chain(&self.receivers) {
            if part.component.receiver.ack() != Some(Ack::OnDisk) {
                continue;
            }
            let behind = model.pipelines.iter().filter(|pipeline| pipeline.receivers.contains(id));
            let forgetful = behind.flat_map(|pipeline| &pipeline.exporters).find(|id| !is_durable(&durable, id));
            if let Some(exporter) = forgetful {
                return Err(BuildError::Failed(format!(
                    "receivers {id}: ack: on_disk cannot be promised, because {exporter} keeps its queue in memory; \
                     give it a sending_queue with storage, or take ack: on_queue"
                )));
            }
        }
        Ok(())
    }

    /// Starts the new receivers. If one cannot start, those that did are stopped again.
    pub(super) async fn start_receivers(&mut self, model: &Model, agent: &Agent) -> Result<(), BuildError> {
        let mut outcome = Ok(());
        let durable = self.durable(agent);
        for (id, part) in &mut self.receivers {
            agent.shared.board.status(format!("receivers:{id}")).starting();
            part.component.outlet.retarget(targets(model, id, &agent.lane, &durable));
            let outlet = part.component.outlet.clone();
            outcome = part.component.receiver.start(outlet);
            if outcome.is_err() {
                break;
            }
        }
        if outcome.is_err() {
            for part in self.receivers.values_mut() {
                part.component.receiver.shutdown().await;
            }
        }
        outcome
    }
}

/// Exporters, and whether each keeps its queue on disk.
pub(super) type Durable = BTreeMap<ComponentId, bool>;

fn is_durable(durable: &Durable, id: &ComponentId) -> bool {
    durable.get(id).copied().unwrap_or(false)
}

/// The pipelines that take this receiver's data.
pub(super) fn targets(model: &Model, receiver: &ComponentId, lane: &Lane, durable: &Durable) -> Vec<Target> {
    let takes = model.pipelines.iter().filter(|pipeline| pipeline.receivers.contains(receiver));
    let target = |pipeline: &Pipeline| Target {
        lane: lane.handle(),
        pipeline: pipeline.name.as_str().into(),
        durable: pipeline.exporters.iter().all(|id| is_durable(durable, id)),
    };
    takes.map(target).collect()
}

fn chains(model: &Model, new: &Parts<Arc<dyn Exporter>>, running: &Agent) -> Result<Vec<Chain>, BuildError> {
    let shared = &running.shared;
    let siblings = siblings(model, shared);
    let chain = |pipeline: &Pipeline| {
        let mut stages = Vec::new();
        for id in &pipeline.processors {
            let config = configured(&model.processors, id)?;
            let place = InChain { pipeline: &pipeline.name, siblings: &siblings, lane: &running.lane };
            let processor = build(PROCESSORS, "processors", id, config, shared, Some(&place))?;
            stages.push(Stage::new(id.clone(), processor, &shared.metrics));
        }
        let exporters = pipeline.exporters.iter().map(|id| {
            let part = new.get(id).or_else(|| running.exporters.get(id));
            part.map(|part| Arc::clone(&part.component)).ok_or_else(|| missing(id))
        });
        Ok(Chain::new(&pipeline.name, stages, exporters.collect::<Result<_, _>>()?, &shared.metrics))
    };
    model.pipelines.iter().map(chain).collect()
}

/// Builds those of `ids` that are not running with the same configuration already.
fn new_parts<C>(
    table: &[Factory<C>],
    kind: &str,
    configs: &[(ComponentId, Value)],
    ids: &[ComponentId],
    running: &Parts<C>,
    shared: &Shared,
) -> Result<Parts<C>, BuildError> {
    let mut parts = Parts::new();
    for id in ids {
        let config = configured(configs, id)?;
        if running.get(id).is_none_or(|part| part.config != *config) {
            let component = build(table, kind, id, config, shared, None)?;
            parts.insert(id.clone(), Part { component, config: config.clone() });
        }
    }
    Ok(parts)
}

/// What the extensions of the model offer, be they new or kept.
fn offered<T>(
    model: &Model,
    new: &Parts<Box<dyn Extension>>,
    running: &Parts<Box<dyn Extension>>,
    what: impl Fn(&dyn Extension) -> Option<T>,
) -> BTreeMap<ComponentId, T> {
    let offered = |id: ComponentId| {
        let part = new.get(&id).or_else(|| running.get(&id))?;
        let offer = what(&*part.component)?;
        Some((id, offer))
    };
    model.extension_ids().into_iter().filter_map(offered).collect()
}

/// Where a processor stands.
struct InChain<'a> {
    pipeline: &'a str,
    siblings: &'a Siblings,
    lane: &'a Lane,
}

/// Builds processors of this model by id for those that are made of others. They report under the name of the one they
/// are part of.
fn siblings(model: &Model, shared: &Shared) -> Siblings {
    let (configs, state) = (model.processors.clone(), shared.state.clone());
    Arc::new(move |id, site| {
        let config = configured(&configs, id)?;
        let factory = PROCESSORS.iter().find(|factory| factory.answers_to(id.kind())).ok_or_else(|| missing(id))?;
        let state = state.as_ref().map(|state| state.of("processor", id, site.pipeline.as_deref()));
        let site = Site { id: id.clone(), state, siblings: None, ..site.clone() };
        (factory.build)(config, &site).map_err(|error| named("processors", id, error))
    })
}

/// `processors` without its `s`.
fn singular(kinds: &str) -> &str {
    kinds.strip_suffix('s').unwrap_or(kinds)
}

fn build<C>(
    table: &[Factory<C>],
    kind: &str,
    id: &ComponentId,
    config: &Value,
    shared: &Shared,
    place: Option<&InChain<'_>>,
) -> Result<C, BuildError> {
    let factory = table.iter().find(|factory| factory.answers_to(id.kind())).ok_or_else(|| missing(id))?;
    let pipeline = place.map(|place| place.pipeline);
    let status = match pipeline {
        None => format!("{kind}:{id}"),
        Some(pipeline) => format!("{kind}:{id} ({pipeline})"),
    };
    let site = Site {
        pipeline: pipeline.map(Into::into),
        state: shared.state.as_ref().map(|state| state.of(singular(kind), id, pipeline)),
        siblings: place.map(|place| Arc::clone(place.siblings)),
        lane: place.map(|place| place.lane.handle()),
        ..shared.site(id.clone(), shared.board.status(status))
    };
    (factory.build)(config, &site).map_err(|error| named(kind, id, error))
}

/// The error with the name of the component it is about.
fn named(kind: &str, id: &ComponentId, error: BuildError) -> BuildError {
    match error {
        BuildError::Failed(why) => BuildError::Failed(format!("{kind} {id}: {why}")),
        mistakes => mistakes,
    }
}

fn configured<'m>(configs: &'m [(ComponentId, Value)], id: &ComponentId) -> Result<&'m Value, BuildError> {
    configs.iter().find(|(found, _)| found == id).map(|(_, config)| config).ok_or_else(|| missing(id))
}

/// The loader has checked every reference; this is the answer should a model come from elsewhere.
fn missing(id: &ComponentId) -> BuildError {
    BuildError::Failed(format!("{id} is used by a pipeline and not configured"))
}
