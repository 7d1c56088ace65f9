//! Identities as bytes: equal exactly when the things are the same series, metric or resource.
//!
//! Attributes count without order. Every part carries its length, so no two different identities read alike.

use phoenix_telemetry::{AnyValue, Attributes, Metric, MetricKind, Temporality};

/// Appends attributes, sorted by key.
pub(crate) fn attributes(out: &mut Vec<u8>, attributes: Attributes<'_>) {
    let sorted = attributes.iter().zip(attributes.iter().skip(1)).all(|((a, _), (b, _))| a <= b);
    if sorted {
        attributes.iter().for_each(|(key, value)| attribute(out, key, value));
    } else {
        let mut all: Vec<(&str, AnyValue<'_>)> = attributes.iter().collect();
        all.sort_by_key(|(key, _)| *key);
        all.into_iter().for_each(|(key, value)| attribute(out, key, value));
    }
}

/// Appends what makes a metric within its scope one of its own: everything but its description.
pub(crate) fn stream(out: &mut Vec<u8>, metric: Metric<'_>) {
    let scope = metric.scope();
    for part in [scope.name(), scope.version(), scope.schema_url(), metric.name(), metric.unit()] {
        bytes(out, 0, part.as_bytes());
    }
    out.push(match metric.kind() {
        MetricKind::None => 0,
        MetricKind::Gauge => 1,
        MetricKind::Sum => 2,
        MetricKind::Histogram => 3,
        MetricKind::ExponentialHistogram => 4,
        MetricKind::Summary => 5,
    });
    out.push(match metric.temporality() {
        Temporality::Unspecified => 0,
        Temporality::Delta => 1,
        Temporality::Cumulative => 2,
    });
    out.push(u8::from(metric.is_monotonic()));
    bytes(out, 0, metric.metadata().get_str("prometheus.type").unwrap_or_default().as_bytes());
    attributes(out, scope.attributes());
}

fn attribute(out: &mut Vec<u8>, key: &str, value: AnyValue<'_>) {
    bytes(out, 0, key.as_bytes());
    any_value(out, value);
}

fn any_value(out: &mut Vec<u8>, value: AnyValue<'_>) {
    match value {
        AnyValue::Empty => bytes(out, 1, &[]),
        AnyValue::Str(text) => bytes(out, 2, text.as_bytes()),
        AnyValue::Bool(value) => bytes(out, 3, &[u8::from(value)]),
        AnyValue::Int(value) => bytes(out, 4, &value.to_le_bytes()),
        AnyValue::Double(value) => bytes(out, 5, &value.to_bits().to_le_bytes()),
        AnyValue::Bytes(value) => bytes(out, 6, value),
        AnyValue::Array(values) => {
            bytes(out, 7, &values.len().to_le_bytes());
            values.iter().for_each(|value| any_value(out, value));
        }
        AnyValue::Map(entries) => {
            bytes(out, 8, &entries.len().to_le_bytes());
            attributes(out, entries);
        }
    }
}

fn bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    out.push(tag);
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}
