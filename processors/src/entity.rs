//! What a marking stage decides about, and among whom: the entity (a resource, or whatever shares a list of attributes)
//! and its scope (a host, everything, or whatever shares a list of resource attributes).
//!
//! Identities are 64-bit hashes. Two entities of one hash would share a mark, which costs attribution and never a total.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use phoenix_pipeline::config::Report;
use phoenix_telemetry::{AnyValue, Attributes, Resource};
use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};
use serde::{Serialize, Serializer};

/// The resource attribute that makes a resource a process.
pub(crate) const PROCESS: &str = "process.pid";

/// The resource attributes that name a host, the best first.
const HOST: [&str; 3] = ["host.id", "host.name", "k8s.node.name"];

/// What a typing error has too many zeros for: at some hundred bytes each, gigabytes.
const MOST_ENTITIES: usize = 10_000_000;

/// The id of a process.
pub(crate) fn pid_of(resource: Resource<'_>) -> Option<u32> {
    match resource.attributes().get(PROCESS) {
        Some(AnyValue::Int(pid)) => u32::try_from(pid).ok(),
        _ => None,
    }
}

/// Complains about a bound on entities that holds nothing, or does not hold anything back.
pub(crate) fn check_max_entities(max_entities: usize, report: &mut Report<'_>) {
    if !(1..=MOST_ENTITIES).contains(&max_entities) {
        report.error("max_entities", format!("must be from 1 to {MOST_ENTITIES}"));
    }
}

/// What is ranked: `resource`, or a list of attributes of the resource or the data point.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EntityBy {
    /// Every resource that is a process.
    #[default]
    Resource,
    /// Whatever shares the values of these attributes; what lacks one of them is no entity.
    Attributes(Vec<String>),
}

/// Among whom it is ranked: `host`, `all`, or a list of resource attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ScopeBy {
    /// A host, by `host.id`, `host.name` or `k8s.node.name`, the first that is there.
    #[default]
    Host,
    /// Everything that comes through the pipeline.
    All,
    /// Whatever shares the values of these resource attributes.
    Attributes(Vec<String>),
}

impl EntityBy {
    /// Complains about a list that names nothing.
    pub(crate) fn check(&self, report: &mut Report<'_>) {
        if let EntityBy::Attributes(keys) = self {
            check_keys("entity", keys, report);
        }
    }
}

impl ScopeBy {
    /// Complains about a list that names nothing.
    pub(crate) fn check(&self, report: &mut Report<'_>) {
        if let ScopeBy::Attributes(keys) = self {
            check_keys("scope", keys, report);
        }
    }

    /// The identity of the scope a resource belongs to. What a resource lacks counts as empty.
    pub(crate) fn of(&self, resource: Attributes<'_>) -> u64 {
        let mut hasher = DefaultHasher::new();
        match self {
            ScopeBy::All => {}
            ScopeBy::Host => {
                host_of(resource).hash(&mut hasher);
            }
            ScopeBy::Attributes(keys) => {
                for key in keys {
                    put(&mut hasher, resource.get(key).unwrap_or(AnyValue::Empty));
                }
            }
        }
        hasher.finish()
    }
}

fn check_keys(path: &str, keys: &[String], report: &mut Report<'_>) {
    if keys.is_empty() {
        report.error(path, "must name at least one attribute");
    }
    if let Some(i) = keys.iter().position(String::is_empty) {
        report.error(&format!("{path}[{i}]"), "must be the name of an attribute");
    }
}

/// The host a resource belongs to; empty where nothing names it.
pub(crate) fn host_of(resource: Attributes<'_>) -> &str {
    HOST.iter().find_map(|key| resource.get_str(key).filter(|name| !name.is_empty())).unwrap_or_default()
}

/// Whether a resource is a process.
pub(crate) fn is_process(resource: Attributes<'_>) -> bool {
    resource.get(PROCESS).is_some()
}

/// The identity of the entity that has the values of `keys`, each looked up with `get`; `None` if one is missing.
pub(crate) fn identity<'a>(scope: u64, keys: &[String], get: impl Fn(&str) -> Option<AnyValue<'a>>) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    scope.hash(&mut hasher);
    for key in keys {
        put(&mut hasher, get(key)?);
    }
    Some(hasher.finish())
}

/// Two hashes to one; the order counts.
pub(crate) fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a ^ 0x9E37_79B9_7F4A_7C15) * u128::from(b ^ 0xD1B5_4A32_D192_ED03);
    product as u64 ^ (product >> 64) as u64
}

/// The hash of a value.
pub(crate) fn hash_of(value: AnyValue<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    put(&mut hasher, value);
    hasher.finish()
}

fn put(hasher: &mut DefaultHasher, value: AnyValue<'_>) {
    match value {
        AnyValue::Empty => 0u8.hash(hasher),
        AnyValue::Str(text) => (1u8, text).hash(hasher),
        AnyValue::Bool(flag) => (2u8, flag).hash(hasher),
        AnyValue::Int(number) => (3u8, number).hash(hasher),
        AnyValue::Double(number) => (4u8, number.to_bits()).hash(hasher),
        AnyValue::Bytes(data) => (5u8, data).hash(hasher),
        AnyValue::Array(values) => values.iter().for_each(|value| put(hasher, value)),
        AnyValue::Map(map) => map.iter().for_each(|(key, value)| {
            key.hash(hasher);
            put(hasher, value);
        }),
    }
}

/// A word of a few, or a list of names.
enum WordOrList {
    Word(String),
    List(Vec<String>),
}

struct WordOrListVisitor(&'static str);

impl<'de> Visitor<'de> for WordOrListVisitor {
    type Value = WordOrList;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} or a list of attribute names", self.0)
    }

    fn visit_str<E: Error>(self, word: &str) -> Result<WordOrList, E> {
        Ok(WordOrList::Word(word.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<WordOrList, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(WordOrList::List(list))
    }
}

impl<'de> Deserialize<'de> for EntityBy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(WordOrListVisitor("resource"))? {
            WordOrList::List(keys) => Ok(EntityBy::Attributes(keys)),
            WordOrList::Word(word) if word == "resource" => Ok(EntityBy::Resource),
            WordOrList::Word(word) => Err(D::Error::custom(format!(
                "{word:?} is not allowed here; write resource or a list of attribute names"
            ))),
        }
    }
}

impl<'de> Deserialize<'de> for ScopeBy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match deserializer.deserialize_any(WordOrListVisitor("host, all"))? {
            WordOrList::List(keys) => Ok(ScopeBy::Attributes(keys)),
            WordOrList::Word(word) => match word.as_str() {
                "host" => Ok(ScopeBy::Host),
                "all" => Ok(ScopeBy::All),
                _ => Err(D::Error::custom(format!(
                    "{word:?} is not allowed here; write host, all or a list of attribute names"
                ))),
            },
        }
    }
}

impl Serialize for EntityBy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            EntityBy::Resource => serializer.serialize_str("resource"),
            EntityBy::Attributes(keys) => keys.serialize(serializer),
        }
    }
}

impl Serialize for ScopeBy {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            ScopeBy::Host => serializer.serialize_str("host"),
            ScopeBy::All => serializer.serialize_str("all"),
            ScopeBy::Attributes(keys) => keys.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phoenix_telemetry::{Batch, BatchBuilder, Descriptor, Number, Shape};

    fn with(attributes: &[(&str, &str)]) -> Batch {
        let mut builder = BatchBuilder::new();
        let mut resource = builder.resource();
        for (key, value) in attributes {
            resource.attribute(key, *value);
        }
        let desc = Descriptor { name: "m", unit: "1", description: "", shape: Shape::Gauge };
        resource.scope("s", "").metric(&desc).point(0, 1, Number::Int(1), &[]);
        drop(resource);
        builder.finish()
    }

    fn scope(by: &ScopeBy, attributes: &[(&str, &str)]) -> u64 {
        by.of(with(attributes).resources().next().unwrap().attributes())
    }

    #[test]
    fn a_host_is_known_by_its_best_name() {
        let by = ScopeBy::Host;
        let named = scope(&by, &[("host.name", "a"), ("host.id", "1")]);
        assert_eq!(named, scope(&by, &[("host.id", "1"), ("host.name", "b")]));
        assert_ne!(named, scope(&by, &[("host.name", "a")]));
        assert_eq!(scope(&by, &[("host.id", ""), ("k8s.node.name", "n")]), scope(&by, &[("k8s.node.name", "n")]));
        assert_eq!(scope(&by, &[]), scope(&by, &[("x", "y")]));
        let by = ScopeBy::Attributes(vec!["x".into()]);
        assert_ne!(scope(&by, &[("x", "1")]), scope(&by, &[("x", "2")]));
    }

    #[test]
    fn an_entity_needs_all_of_its_attributes() {
        let keys = ["a".to_owned(), "b".to_owned()];
        let of = |attributes: &[(&str, &str)]| {
            let batch = with(attributes);
            let attributes = batch.resources().next().unwrap().attributes();
            identity(1, &keys, |key| attributes.get(key))
        };
        assert!(of(&[("a", "1")]).is_none());
        assert_eq!(of(&[("a", "1"), ("b", "2")]), of(&[("b", "2"), ("c", "3"), ("a", "1")]));
        assert_ne!(of(&[("a", "1"), ("b", "2")]), of(&[("a", "2"), ("b", "1")]));
    }
}
