//! What the detectors found: attributes, the first to find one keeping it, and what went wrong on the way.
//!
//! For use on the path the attributes are kept as a decoded resource, so that applying them builds no values.

use bytes::Bytes;
use phoenix_telemetry::{Attributes, Batch, DecodeError, JsonError, Limits, json};
use serde_json::json;

/// The value of a detected attribute.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    Text(String),
    Int(i64),
    List(Vec<String>),
}

impl From<String> for Found {
    fn from(text: String) -> Self {
        Found::Text(text)
    }
}

impl From<&str> for Found {
    fn from(text: &str) -> Self {
        Found::Text(text.to_owned())
    }
}

/// The outcome of one detection.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Findings {
    attributes: Vec<(String, Found)>,
    problems: Vec<String>,
}

impl Findings {
    /// Adds an attribute unless an earlier detector found it.
    pub(super) fn add(&mut self, key: impl Into<String>, value: impl Into<Found>) {
        let key = key.into();
        if self.get(&key).is_none() {
            self.attributes.push((key, value.into()));
        }
    }

    /// Adds a sentence about something that was wanted and could not be had.
    pub(super) fn problem(&mut self, sentence: impl Into<String>) {
        self.problems.push(sentence.into());
    }

    /// What could not be had.
    pub(super) fn problems(&self) -> &[String] {
        &self.problems
    }

    /// The value found for a key.
    pub(super) fn get(&self, key: &str) -> Option<&Found> {
        self.attributes.iter().find(|(found, _)| found == key).map(|(_, value)| value)
    }

    /// The keys, in the order in which they were found.
    pub(super) fn keys(&self) -> Vec<&str> {
        self.attributes.iter().map(|(key, _)| key.as_str()).collect()
    }

    /// Forgets every attribute that is not in a list.
    pub(super) fn keep_only(&mut self, keys: &[String]) {
        self.attributes.retain(|(key, _)| keys.contains(key));
    }

    /// The attributes, ready for use.
    ///
    /// # Errors
    /// None that a text in UTF-8 could cause; the codec's own words otherwise.
    pub(super) fn into_detected(self) -> Result<Detected, EncodeError> {
        let attributes: Vec<_> =
            self.attributes.iter().map(|(key, value)| json!({ "key": key, "value": any_value(value) })).collect();
        let request = json!({ "resourceMetrics": [{ "resource": { "attributes": attributes } }] }).to_string();
        let limits = Limits::default();
        let bytes = json::read(request.as_bytes(), &limits)?;
        Ok(Detected(Batch::decode(Bytes::from(bytes), &limits)?))
    }
}

fn any_value(value: &Found) -> serde_json::Value {
    match value {
        Found::Text(text) => json!({ "stringValue": text }),
        Found::Int(number) => json!({ "intValue": number.to_string() }),
        Found::List(texts) => {
            let values: Vec<_> = texts.iter().map(|text| json!({ "stringValue": text })).collect();
            json!({ "arrayValue": { "values": values } })
        }
    }
}

/// Why detected attributes could not be encoded.
#[derive(Debug, thiserror::Error)]
pub(super) enum EncodeError {
    #[error("cannot encode the detected resource: {0}")]
    Json(#[from] JsonError),
    #[error("cannot encode the detected resource: {0}")]
    Decode(#[from] DecodeError),
}

/// Detected attributes as a resource of its own.
#[derive(Debug, Default)]
pub(super) struct Detected(Batch);

impl Detected {
    pub(super) fn attributes(&self) -> Attributes<'_> {
        self.0.resources().next().map(|resource| resource.attributes()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phoenix_telemetry::AnyValue;

    #[test]
    fn the_first_to_find_an_attribute_keeps_it() {
        let mut findings = Findings::default();
        findings.add("host.name", "a");
        findings.add("host.name", "b");
        assert_eq!(findings.get("host.name"), Some(&"a".into()));
        findings.add("os.type", "linux");
        findings.keep_only(&["os.type".into()]);
        assert_eq!(findings.keys(), ["os.type"]);
    }

    #[test]
    fn found_values_become_attributes_with_their_types() {
        let mut findings = Findings::default();
        findings.add("text", "a \"quoted\" ü");
        findings.add("int", Found::Int(1024));
        findings.add("list", Found::List(vec!["10.0.0.1".into(), "fe80::1".into()]));
        let detected = findings.into_detected().unwrap();
        let attributes = detected.attributes();
        assert_eq!(attributes.get_str("text"), Some("a \"quoted\" ü"));
        assert_eq!(attributes.get("int"), Some(AnyValue::Int(1024)));
        let Some(AnyValue::Array(list)) = attributes.get("list") else { panic!("no list: {attributes:?}") };
        assert_eq!(list.iter().collect::<Vec<_>>(), [AnyValue::Str("10.0.0.1"), AnyValue::Str("fe80::1")]);
        assert!(Findings::default().into_detected().unwrap().attributes().is_empty());
    }
}
