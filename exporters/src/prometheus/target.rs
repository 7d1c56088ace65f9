//! `target_info`: what is known about the target as a whole, once per `job` and `instance`.
//!
//! Many resources can stand behind one job and instance: every process of a host does, and none of them names a
//! service. A row per resource would be a thousand rows that contradict each other, so a target has one row with what
//! **all** its resources agree on. Of resources that name no service, attributes of something smaller than the target
//! (`process.*`, `container.*`, `k8s.pod.*`, `k8s.container.*`) are left out, which leaves the description of the host.

use std::collections::BTreeMap;

use phoenix_telemetry::Attributes;

use super::labels::{self, Label, Origin};
use super::options::{TextOptions, is_command_line};

/// Namespaces of attributes that describe a part of the target.
const PARTS: [&str; 4] = ["process.", "container.", "k8s.pod.", "k8s.container."];
/// Attributes that are in `job` and `instance` already.
const SERVICE: [&str; 3] = ["service.name", "service.namespace", "service.instance.id"];

/// What one resource says about its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    job: String,
    instance: String,
    attributes: BTreeMap<String, String>,
}

impl Target {
    /// What the attributes of a resource say.
    pub(crate) fn of(attributes: Attributes<'_>, options: &TextOptions) -> Self {
        let (job, instance) = if options.service_labels { labels::service(attributes) } else { Default::default() };
        let whole = attributes.get("service.name").is_some();
        let is_told = |key: &str| options.service_labels && SERVICE.contains(&key);
        let is_part = |key: &str| !whole && PARTS.iter().any(|part| key.starts_with(part));
        let wanted = |key: &str| !is_command_line(key) && !is_told(key) && !is_part(key);
        let attributes =
            attributes.iter().filter(|(key, _)| wanted(key)).map(|(key, value)| (key.to_owned(), value.to_string()));
        Self { job, instance, attributes: attributes.collect() }
    }

    /// Bytes that are equal exactly for equal targets.
    pub(crate) fn identity(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let parts =
            [&self.job, &self.instance].into_iter().chain(self.attributes.iter().flat_map(|(key, value)| [key, value]));
        for part in parts {
            out.extend_from_slice(&(part.len() as u64).to_le_bytes());
            out.extend_from_slice(part.as_bytes());
        }
        out
    }
}

/// The rows of `target_info`, as canonical label texts.
pub(crate) fn rows<'a>(targets: impl Iterator<Item = &'a Target>, options: &TextOptions) -> Vec<String> {
    let mut agreed: BTreeMap<(&str, &str), BTreeMap<&str, &str>> = BTreeMap::new();
    for target in targets {
        let said = || target.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        agreed
            .entry((&target.job, &target.instance))
            .and_modify(|agreed| {
                agreed.retain(|key, value| target.attributes.get(*key).is_some_and(|said| said == value))
            })
            .or_insert_with(|| said().collect());
    }
    let utf8 = options.naming.utf8;
    let row = |((job, instance), attributes): ((&str, &str), BTreeMap<&str, &str>)| {
        if attributes.values().all(|value| value.is_empty()) {
            return None;
        }
        let service = [("job", job), ("instance", instance)]
            .map(|(name, value)| Label::new(name, value.to_owned(), Origin::Derived, utf8));
        let constant =
            options.const_labels.iter().map(|(name, value)| Label::new(name, value.clone(), Origin::Constant, utf8));
        let attributes =
            attributes.into_iter().map(|(key, value)| Label::new(key, value.to_owned(), Origin::Resource, utf8));
        Some(labels::text(service.into_iter().chain(constant).chain(attributes).collect(), None))
    };
    let mut rows: Vec<String> = agreed.into_iter().filter_map(row).collect();
    // Constant labels may make two targets one.
    rows.sort();
    rows.dedup();
    rows
}
