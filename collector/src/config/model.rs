//! The checked config: which components there are, which pipelines join them, and every mistake in between.
//!
//! Components that no pipeline names are checked and not started. Known extensions that are not served are left out with a
//! notice; anything else that is unknown is a mistake.

use super::telemetry::Telemetry;
use super::{Notice, extensions, id};
use crate::admin;
use crate::components::{EXPORTERS, EXTENSIONS, PROCESSORS, RECEIVERS};
use crate::extensions::auth;
use crate::own::PageSettings;
use phoenix_pipeline::config::{Key, Kind, Mark, Mistake, Value, is_secret_block, read};
use phoenix_pipeline::{ComponentId, ExporterFactory, ExtensionFactory, Factory, ProcessorFactory, ReceiverFactory};
use phoenix_processors::adaptive;
use std::collections::BTreeSet;

/// The components that can be named.
#[derive(Clone, Copy)]
pub struct Tables<'t> {
    /// All receivers.
    pub receivers: &'t [ReceiverFactory],
    /// All processors.
    pub processors: &'t [ProcessorFactory],
    /// All exporters.
    pub exporters: &'t [ExporterFactory],
    /// All extensions.
    pub extensions: &'t [ExtensionFactory],
}

impl Tables<'static> {
    /// What this agent is made of.
    pub fn agent() -> Self {
        Self { receivers: RECEIVERS, processors: PROCESSORS, exporters: EXPORTERS, extensions: EXTENSIONS }
    }
}

/// One pipeline.
#[derive(Clone, Debug, PartialEq)]
pub struct Pipeline {
    /// `metrics` or `metrics/NAME`.
    pub name: String,
    /// Where its data comes from.
    pub receivers: Vec<ComponentId>,
    /// What it goes through, in order.
    pub processors: Vec<ComponentId>,
    /// Where it goes.
    pub exporters: Vec<ComponentId>,
}

/// Components of one kind with their settings, in the order of the config.
pub type Components = Vec<(ComponentId, Value)>;

/// A config without mistakes.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// Every receiver, used or not.
    pub receivers: Components,
    /// Every processor, used or not.
    pub processors: Components,
    /// Every exporter, used or not.
    pub exporters: Components,
    /// Every extension that is served, used or not.
    pub extensions: Components,
    /// The pipelines; at least one.
    pub pipelines: Vec<Pipeline>,
    /// The extensions the service starts.
    pub started_extensions: Vec<ComponentId>,
    /// `service.telemetry`.
    pub telemetry: Telemetry,
    /// `service.admin`.
    pub admin: admin::Config,
}

const TOP: [&str; 6] = ["receivers", "processors", "exporters", "connectors", "extensions", "service"];
const SERVICE: [&str; 4] = ["admin", "extensions", "pipelines", "telemetry"];
const PIPELINE: [&str; 3] = ["receivers", "processors", "exporters"];

impl Model {
    /// Checks a config and everything in it.
    ///
    /// # Errors
    /// Every mistake, in the order of files and lines.
    pub fn check(value: &Value, tables: &Tables<'_>) -> Result<(Self, Vec<Notice>), Vec<Mistake>> {
        let mut checker = Checker::default();
        let model = checker.model(value, tables);
        let Checker { mistakes, notices } = checker;
        if mistakes.is_empty() { Ok((model, notices)) } else { Err(super::load::sorted(mistakes)) }
    }

    /// The receivers that a pipeline names, each once.
    pub fn receiver_ids(&self) -> Vec<ComponentId> {
        self.used(|pipeline| &pipeline.receivers)
    }

    /// The exporters that a pipeline names, each once.
    pub fn exporter_ids(&self) -> Vec<ComponentId> {
        self.used(|pipeline| &pipeline.exporters)
    }

    /// The extensions that are started.
    pub fn extension_ids(&self) -> Vec<ComponentId> {
        self.started_extensions.clone()
    }

    fn used<'m>(&'m self, of: impl Fn(&'m Pipeline) -> &'m Vec<ComponentId>) -> Vec<ComponentId> {
        let ids: BTreeSet<&ComponentId> = self.pipelines.iter().flat_map(of).collect();
        ids.into_iter().cloned().collect()
    }

    /// What the health page calls the components that run: `receivers:ID`, `processors:ID (PIPELINE)`.
    pub fn status_names(&self) -> BTreeSet<String> {
        let processors = self.pipelines.iter().flat_map(|pipeline| {
            pipeline.processors.iter().map(move |id| format!("processors:{id} ({})", pipeline.name))
        });
        let receivers = self.receiver_ids().into_iter().map(|id| format!("receivers:{id}"));
        let exporters = self.exporter_ids().into_iter().map(|id| format!("exporters:{id}"));
        let extensions = self.extension_ids().into_iter().map(|id| format!("extensions:{id}"));
        processors.chain(receivers).chain(exporters).chain(extensions).collect()
    }

    /// The page of the agent's own metrics; `None` if there is to be none.
    pub fn own_metrics_page(&self) -> Option<PageSettings> {
        self.telemetry.page()
    }

    /// One line a pipeline: what flows where.
    pub fn describe(&self) -> Vec<String> {
        let list = |ids: &[ComponentId]| ids.iter().map(ComponentId::as_str).collect::<Vec<_>>().join(", ");
        self.pipelines
            .iter()
            .map(|pipeline| {
                let Pipeline { name, receivers, processors, exporters } = pipeline;
                let between = if processors.is_empty() { String::new() } else { format!("{} -> ", list(processors)) };
                format!("pipeline {name}: {} -> {between}{}", list(receivers), list(exporters))
            })
            .collect()
    }
}

#[derive(Default)]
struct Checker {
    mistakes: Vec<Mistake>,
    notices: Vec<Notice>,
}

impl Checker {
    fn wrong(&mut self, mark: &Mark, path: &str, message: impl Into<String>) {
        self.mistakes.push(Mistake::new(mark.clone(), path, message));
    }

    fn model(&mut self, value: &Value, tables: &Tables<'_>) -> Model {
        if value.is_null() {
            self.wrong(&value.mark, "", "the config is empty; it needs receivers, exporters and service");
        }
        let top = self.map(value, "", &TOP);
        let part = |name: &str| top.iter().copied().find(|(key, _)| key.name == name);
        let receivers = self.components(part("receivers"), "receivers", "receiver", tables.receivers, &[]);
        let processors = self.components(part("processors"), "processors", "processor", tables.processors, &[]);
        let exporters = self.components(part("exporters"), "exporters", "exporter", tables.exporters, &[]);
        let known = extensions::COLLECTORS;
        let extensions = self.components(part("extensions"), "extensions", "extension", tables.extensions, known);
        if let Some((key, value)) = part("connectors")
            && !value.is_null()
            && value.as_map().is_none_or(|entries| !entries.is_empty())
        {
            self.wrong(
                &key.mark,
                "connectors",
                "connectors are not served; let the pipelines share receivers and exporters instead",
            );
        }
        if !value.is_null() {
            for name in ["receivers", "exporters"] {
                let found = part(name);
                if found.is_none_or(|(_, value)| value.is_null() || value.as_map().is_some_and(<[_]>::is_empty)) {
                    let mark = found.map_or(&value.mark, |(key, _)| &key.mark);
                    self.wrong(mark, name, format!("no {name} are configured; at least one is needed"));
                }
            }
        }
        let mut model = Model {
            receivers: receivers.served,
            processors: processors.served,
            exporters: exporters.served,
            extensions: extensions.served,
            pipelines: Vec::new(),
            started_extensions: Vec::new(),
            telemetry: Telemetry::default(),
            admin: admin::Config::default(),
        };
        self.profiles(&model.processors, &processors.ids);
        let ids = Ids { receivers: receivers.ids, processors: processors.ids, exporters: exporters.ids };
        match part("service") {
            Some((key, value)) => self.service(key, value, &mut model, &ids, &extensions.ids),
            None if value.is_null() => {}
            None => self.wrong(&value.mark, "service", "the key service is missing; its pipelines say what runs"),
        }
        let started = &model.started_extensions;
        self.authenticators("receivers", &model.receivers, auth::FOR_RECEIVERS, started);
        self.authenticators("exporters", &model.exporters, auth::FOR_EXPORTERS, started);
        self.storages(&model.exporters, started);
        model
    }

    /// Each `auth.authenticator` must name an extension that is started and of a type that serves this side.
    fn authenticators(&mut self, kinds: &str, components: &Components, able: &[&str], started: &[ComponentId]) {
        let fits = |id: &&ComponentId| able.contains(&id.kind());
        for (id, config) in components {
            let mut named = Vec::new();
            find_authenticators(config, format!("{kinds}::{id}"), &mut named);
            for (path, value, name) in named {
                if started.iter().filter(fits).any(|id| id.as_str() == name) {
                    continue;
                }
                let message = match started.iter().any(|id| id.as_str() == name) {
                    true => format!("{name:?} is no authenticator for {kinds}"),
                    false => format!("names the authenticator {name:?}, which is not started by service.extensions"),
                };
                let mistake = Mistake::new(value.mark.clone(), path, message);
                let allowed = started.iter().filter(fits).map(ComponentId::as_str);
                self.mistakes.push(mistake.allowing("authenticators that are started", &name, allowed));
            }
        }
    }

    /// Each `sending_queue.storage` must name a storage extension that is started.
    fn storages(&mut self, exporters: &Components, started: &[ComponentId]) {
        let able = || started.iter().filter(|id| id.kind() == "file_storage").map(ComponentId::as_str);
        for (id, config) in exporters {
            let Some(value) = config.get("sending_queue").and_then(|queue| queue.get("storage")) else { continue };
            let named = value.scalar_text().filter(|_| !value.is_null());
            let Some(name) = named.filter(|name| !able().any(|able| able == name)) else { continue };
            let path = format!("exporters::{id}::sending_queue::storage");
            let message = format!("names the storage {name:?}, which is not started by service.extensions");
            let mistake = Mistake::new(value.mark.clone(), path, message);
            self.mistakes.push(mistake.allowing("storages that are started", &name, able()));
        }
    }

    /// The entries of a map, without those that are not known.
    fn map<'v>(&mut self, value: &'v Value, path: &str, known: &[&str]) -> Vec<&'v (Key, Value)> {
        let entries = match &value.kind {
            Kind::Null => return Vec::new(),
            Kind::Map(entries) => entries,
            _ => {
                self.wrong(&value.mark, path, format!("found {}, expected a map", value.described()));
                return Vec::new();
            }
        };
        let (right, wrong): (Vec<_>, Vec<_>) = entries.iter().partition(|(key, _)| known.contains(&key.name.as_str()));
        for (key, _) in wrong {
            let path = if path.is_empty() { key.name.clone() } else { format!("{path}::{}", key.name) };
            let mistake = Mistake::new(key.mark.clone(), path, "unknown key");
            self.mistakes.push(mistake.allowing("known keys", &key.name, known.iter().copied()));
        }
        right
    }

    /// The components of one kind. `unserved` are types that are left out with a notice.
    fn components<C>(
        &mut self,
        part: Option<&(Key, Value)>,
        kinds: &'static str,
        kind: &str,
        table: &[Factory<C>],
        unserved: &[&str],
    ) -> Defined {
        let mut defined = Defined::default();
        let Some((_, value)) = part else { return defined };
        let entries = match &value.kind {
            Kind::Null => return defined,
            Kind::Map(entries) => entries,
            _ => {
                self.wrong(&value.mark, kinds, format!("found {}, expected a map of {kind} ids", value.described()));
                return defined;
            }
        };
        let mut left_out = Vec::new();
        for (key, value) in entries {
            let path = format!("{kinds}::{}", key.name);
            if let Some(flaw) = id::flaw(&key.name) {
                self.wrong(&key.mark, &path, flaw);
                continue;
            }
            let id = ComponentId::new(&key.name);
            defined.ids.push(id.clone());
            if let Some(factory) = table.iter().find(|factory| factory.answers_to(id.kind())) {
                if factory.name != id.kind() {
                    let (old, new) = (id.kind(), factory.name);
                    self.notices.push(Notice::info(format!(
                        "{}: {path}: {old:?} is the older name of {new:?}; both work",
                        key.mark
                    )));
                }
                self.mistakes.extend((factory.validate)(value).into_iter().map(|mistake| mistake.within(&path)));
                defined.served.push((id, value.clone()));
            } else if unserved.contains(&id.kind()) {
                left_out.push(key.name.clone());
            } else {
                let names = table.iter().map(|factory| factory.name);
                let known = match kinds {
                    "receivers" => "known receivers",
                    "processors" => "known processors",
                    "exporters" => "known exporters",
                    _ => "known extensions",
                };
                let mistake = Mistake::new(key.mark.clone(), path, format!("unknown {kind} type {:?}", id.kind()));
                self.mistakes.push(mistake.allowing(known, id.kind(), names));
            }
        }
        if !left_out.is_empty() {
            let text = format!("{kinds} that Phoenix does not serve are left out: {}", left_out.join(", "));
            self.notices.push(Notice::warning(text));
        }
        defined
    }

    fn service(&mut self, key: &Key, value: &Value, model: &mut Model, ids: &Ids, extensions: &[ComponentId]) {
        let parts = self.map(value, "service", &SERVICE);
        let part = |name: &str| parts.iter().find(|(key, _)| key.name == name).map(|(_, value)| value);
        if let Some(list) = part("extensions") {
            let named = self.references(list, "service::extensions", "extension", extensions);
            model.started_extensions =
                named.into_iter().filter(|id| model.extensions.iter().any(|(known, _)| known == id)).collect();
        }
        if let Some(value) = part("telemetry") {
            match read::<Telemetry>(value) {
                Ok(telemetry) => {
                    self.notices.extend(telemetry.notices());
                    model.telemetry = telemetry;
                }
                Err(mistakes) => {
                    self.mistakes.extend(mistakes.into_iter().map(|mistake| mistake.within("service::telemetry")))
                }
            }
        }
        if let Some(value) = part("admin") {
            self.admin(value, model);
        }
        let entries = match part("pipelines").map(|value| (&value.kind, value)) {
            Some((Kind::Map(entries), _)) if !entries.is_empty() => entries,
            Some((Kind::Null | Kind::Map(_), _)) | None => {
                self.wrong(&key.mark, "service::pipelines", "no pipeline is configured; at least one is needed");
                return;
            }
            Some((_, value)) => {
                self.wrong(
                    &value.mark,
                    "service::pipelines",
                    format!("found {}, expected a map of pipeline ids", value.described()),
                );
                return;
            }
        };
        for (key, value) in entries {
            if let Some(pipeline) = self.pipeline(key, value, ids) {
                model.pipelines.push(pipeline);
            }
        }
    }

    /// `service.admin`.
    fn admin(&mut self, value: &Value, model: &mut Model) {
        if let Some(token) = value.get("token").filter(|token| token.is_null()) {
            // Left empty by a variable that is not set, it would open what it should close.
            self.wrong(&token.mark, "service::admin::token", "is empty; set it, or take the key out");
        }
        match read::<admin::Config>(value) {
            Ok(config) => model.admin = admin::Config { named: value.get("endpoint").is_some(), ..config },
            Err(mistakes) => {
                self.mistakes.extend(mistakes.into_iter().map(|mistake| mistake.within("service::admin")));
            }
        }
    }

    /// The members of every profile must be configured.
    fn profiles(&mut self, processors: &Components, ids: &[ComponentId]) {
        for (id, value) in processors.iter().filter(|(id, _)| adaptive::FACTORY.answers_to(id.kind())) {
            for (name, members) in value.get("profiles").and_then(Value::as_map).unwrap_or_default() {
                // What is not a list has been found by the processor's own check.
                if members.as_seq().is_some() {
                    self.references(members, &format!("processors::{id}::profiles::{}", name.name), "processor", ids);
                }
            }
        }
    }

    fn pipeline(&mut self, key: &Key, value: &Value, ids: &Ids) -> Option<Pipeline> {
        let path = format!("service::pipelines::{}", key.name);
        if let Some(flaw) = id::flaw(&key.name) {
            self.wrong(&key.mark, &path, flaw);
            return None;
        }
        match key.name.split_once('/').map_or(key.name.as_str(), |(signal, _)| signal) {
            "metrics" => {}
            signal @ ("traces" | "logs" | "profiles") => {
                let message = format!(
                    "this is a {signal} pipeline; Phoenix carries metrics only: take the pipeline out and leave {signal} to another agent"
                );
                self.wrong(&key.mark, &path, message);
                return None;
            }
            signal => {
                let mistake = Mistake::new(key.mark.clone(), path, format!("unknown signal {signal:?}"));
                self.mistakes.push(mistake.allowing("allowed", signal, ["metrics"]));
                return None;
            }
        }
        let parts = self.map(value, &path, &PIPELINE);
        let part = |name: &str| parts.iter().find(|(key, _)| key.name == name).map(|(_, value)| value);
        let mut list = |name: &str, kind: &str, ids: &[ComponentId], needed: bool| {
            let path = format!("{path}::{name}");
            let value = part(name);
            let empty = value.is_none_or(|value| value.is_null() || value.as_seq().is_some_and(<[Value]>::is_empty));
            if empty && needed {
                self.wrong(
                    value.map_or(&key.mark, |value| &value.mark),
                    &path,
                    format!("a pipeline needs at least one {kind}"),
                );
            }
            value.map(|value| self.references(value, &path, kind, ids)).unwrap_or_default()
        };
        Some(Pipeline {
            name: key.name.clone(),
            receivers: list("receivers", "receiver", &ids.receivers, true),
            processors: list("processors", "processor", &ids.processors, false),
            exporters: list("exporters", "exporter", &ids.exporters, true),
        })
    }

    /// A list of ids, each of which must be configured and stand once.
    fn references(&mut self, list: &Value, path: &str, kind: &str, configured: &[ComponentId]) -> Vec<ComponentId> {
        let items = match &list.kind {
            Kind::Null => return Vec::new(),
            Kind::Seq(items) => items,
            _ => {
                self.wrong(&list.mark, path, format!("found {}, expected a list of {kind} ids", list.described()));
                return Vec::new();
            }
        };
        let mut found: Vec<ComponentId> = Vec::new();
        for item in items {
            let Some(name) = item.scalar_text().filter(|name| !name.is_empty()) else {
                self.wrong(&item.mark, path, format!("found {}, expected the id of one {kind}", item.described()));
                continue;
            };
            let id = ComponentId::new(&name);
            if !configured.contains(&id) {
                let mistake = Mistake::new(
                    item.mark.clone(),
                    path,
                    format!("references {kind} {name:?} which is not configured"),
                );
                self.mistakes.push(mistake.allowing("configured", &name, configured.iter().map(ComponentId::as_str)));
            } else if found.contains(&id) {
                self.wrong(&item.mark, path, format!("references {kind} {name:?} multiple times"));
            } else {
                found.push(id);
            }
        }
        found
    }
}

/// Every `auth.authenticator` of a component's block, at any depth: path, place and the id it names.
fn find_authenticators<'v>(value: &'v Value, path: String, found: &mut Vec<(String, &'v Value, String)>) {
    for (key, below) in value.as_map().unwrap_or_default() {
        if is_secret_block(&key.name) {
            continue;
        }
        let path = format!("{path}::{}", key.name);
        let named = below.get("authenticator").filter(|_| key.name == "auth");
        match named.and_then(|named| Some((named, named.scalar_text()?))) {
            Some((named, id)) if !id.is_empty() => found.push((format!("{path}::authenticator"), named, id)),
            _ => find_authenticators(below, path, found),
        }
    }
}

/// What one kind of components has: all ids, and those that are served with their settings.
#[derive(Default)]
struct Defined {
    ids: Vec<ComponentId>,
    served: Components,
}

/// The ids that a pipeline may name.
struct Ids {
    receivers: Vec<ComponentId>,
    processors: Vec<ComponentId>,
    exporters: Vec<ComponentId>,
}
