//! What OTLP metrics look like: every message and field, in one table that the validator, the normal form and both
//! directions of JSON read. Source: opentelemetry-proto, `metrics/v1`, `common/v1`, `resource/v1`.

use crate::wire::{FIXED64, LEN, VARINT};
use std::fmt;

/// A message of an OTLP metrics request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the specification's own
pub enum Message {
    ExportMetricsServiceRequest,
    ResourceMetrics,
    Resource,
    EntityRef,
    ScopeMetrics,
    InstrumentationScope,
    Metric,
    Gauge,
    Sum,
    Histogram,
    ExponentialHistogram,
    Summary,
    NumberDataPoint,
    HistogramDataPoint,
    ExponentialHistogramDataPoint,
    SummaryDataPoint,
    Buckets,
    ValueAtQuantile,
    Exemplar,
    KeyValue,
    AnyValue,
    ArrayValue,
    KeyValueList,
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// The type of a field's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    /// An enum, or an `int32`: JSON shows both as a plain integer.
    Int32,
    Uint32,
    Sint32,
    Int64,
    Uint64,
    Fixed64,
    Sfixed64,
    Double,
    String,
    Bytes,
    /// Bytes that JSON shows in hexadecimal: trace and span ids.
    Id,
    Message(Message),
}

impl Kind {
    /// The wire type of one such value.
    pub(crate) fn wire(self) -> u8 {
        match self {
            Kind::Bool | Kind::Int32 | Kind::Uint32 | Kind::Sint32 | Kind::Int64 | Kind::Uint64 => VARINT,
            Kind::Fixed64 | Kind::Sfixed64 | Kind::Double => FIXED64,
            Kind::String | Kind::Bytes | Kind::Id | Kind::Message(_) => LEN,
        }
    }
}

/// How often a field may occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Times {
    Once,
    Many,
    /// A member of the message's only oneof.
    OneOf,
}

/// One field of a message.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) number: u32,
    /// The name in OTLP/JSON.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) times: Times,
}

const fn once(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, times: Times::Once }
}

const fn many(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, times: Times::Many }
}

const fn one_of(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind, times: Times::OneOf }
}

const fn message(message: Message) -> Kind {
    Kind::Message(message)
}

const REQUEST: &[Field] = &[many(1, "resourceMetrics", message(Message::ResourceMetrics))];
const RESOURCE_METRICS: &[Field] = &[
    once(1, "resource", message(Message::Resource)),
    many(2, "scopeMetrics", message(Message::ScopeMetrics)),
    once(3, "schemaUrl", Kind::String),
];
const RESOURCE: &[Field] = &[
    many(1, "attributes", message(Message::KeyValue)),
    once(2, "droppedAttributesCount", Kind::Uint32),
    many(3, "entityRefs", message(Message::EntityRef)),
];
const ENTITY_REF: &[Field] = &[
    once(1, "schemaUrl", Kind::String),
    once(2, "type", Kind::String),
    many(3, "idKeys", Kind::String),
    many(4, "descriptionKeys", Kind::String),
];
const SCOPE_METRICS: &[Field] = &[
    once(1, "scope", message(Message::InstrumentationScope)),
    many(2, "metrics", message(Message::Metric)),
    once(3, "schemaUrl", Kind::String),
];
const SCOPE: &[Field] = &[
    once(1, "name", Kind::String),
    once(2, "version", Kind::String),
    many(3, "attributes", message(Message::KeyValue)),
    once(4, "droppedAttributesCount", Kind::Uint32),
];
const METRIC: &[Field] = &[
    once(1, "name", Kind::String),
    once(2, "description", Kind::String),
    once(3, "unit", Kind::String),
    one_of(5, "gauge", message(Message::Gauge)),
    one_of(7, "sum", message(Message::Sum)),
    one_of(9, "histogram", message(Message::Histogram)),
    one_of(10, "exponentialHistogram", message(Message::ExponentialHistogram)),
    one_of(11, "summary", message(Message::Summary)),
    many(12, "metadata", message(Message::KeyValue)),
];
const GAUGE: &[Field] = &[many(1, "dataPoints", message(Message::NumberDataPoint))];
const SUM: &[Field] = &[
    many(1, "dataPoints", message(Message::NumberDataPoint)),
    once(2, "aggregationTemporality", Kind::Int32),
    once(3, "isMonotonic", Kind::Bool),
];
const HISTOGRAM: &[Field] =
    &[many(1, "dataPoints", message(Message::HistogramDataPoint)), once(2, "aggregationTemporality", Kind::Int32)];
const EXPONENTIAL: &[Field] = &[
    many(1, "dataPoints", message(Message::ExponentialHistogramDataPoint)),
    once(2, "aggregationTemporality", Kind::Int32),
];
const SUMMARY: &[Field] = &[many(1, "dataPoints", message(Message::SummaryDataPoint))];
const NUMBER_POINT: &[Field] = &[
    once(2, "startTimeUnixNano", Kind::Fixed64),
    once(3, "timeUnixNano", Kind::Fixed64),
    one_of(4, "asDouble", Kind::Double),
    many(5, "exemplars", message(Message::Exemplar)),
    one_of(6, "asInt", Kind::Sfixed64),
    many(7, "attributes", message(Message::KeyValue)),
    once(8, "flags", Kind::Uint32),
];
const HISTOGRAM_POINT: &[Field] = &[
    once(2, "startTimeUnixNano", Kind::Fixed64),
    once(3, "timeUnixNano", Kind::Fixed64),
    once(4, "count", Kind::Fixed64),
    once(5, "sum", Kind::Double),
    many(6, "bucketCounts", Kind::Fixed64),
    many(7, "explicitBounds", Kind::Double),
    many(8, "exemplars", message(Message::Exemplar)),
    many(9, "attributes", message(Message::KeyValue)),
    once(10, "flags", Kind::Uint32),
    once(11, "min", Kind::Double),
    once(12, "max", Kind::Double),
];
const EXPONENTIAL_POINT: &[Field] = &[
    many(1, "attributes", message(Message::KeyValue)),
    once(2, "startTimeUnixNano", Kind::Fixed64),
    once(3, "timeUnixNano", Kind::Fixed64),
    once(4, "count", Kind::Fixed64),
    once(5, "sum", Kind::Double),
    once(6, "scale", Kind::Sint32),
    once(7, "zeroCount", Kind::Fixed64),
    once(8, "positive", message(Message::Buckets)),
    once(9, "negative", message(Message::Buckets)),
    once(10, "flags", Kind::Uint32),
    many(11, "exemplars", message(Message::Exemplar)),
    once(12, "min", Kind::Double),
    once(13, "max", Kind::Double),
    once(14, "zeroThreshold", Kind::Double),
];
const SUMMARY_POINT: &[Field] = &[
    once(2, "startTimeUnixNano", Kind::Fixed64),
    once(3, "timeUnixNano", Kind::Fixed64),
    once(4, "count", Kind::Fixed64),
    once(5, "sum", Kind::Double),
    many(6, "quantileValues", message(Message::ValueAtQuantile)),
    many(7, "attributes", message(Message::KeyValue)),
    once(8, "flags", Kind::Uint32),
];
const BUCKETS: &[Field] = &[once(1, "offset", Kind::Sint32), many(2, "bucketCounts", Kind::Uint64)];
const QUANTILE: &[Field] = &[once(1, "quantile", Kind::Double), once(2, "value", Kind::Double)];
const EXEMPLAR: &[Field] = &[
    once(2, "timeUnixNano", Kind::Fixed64),
    one_of(3, "asDouble", Kind::Double),
    once(4, "spanId", Kind::Id),
    once(5, "traceId", Kind::Id),
    one_of(6, "asInt", Kind::Sfixed64),
    many(7, "filteredAttributes", message(Message::KeyValue)),
];
const KEY_VALUE: &[Field] =
    &[once(1, "key", Kind::String), once(2, "value", message(Message::AnyValue)), once(3, "keyStrindex", Kind::Int32)];
const ANY_VALUE: &[Field] = &[
    one_of(1, "stringValue", Kind::String),
    one_of(2, "boolValue", Kind::Bool),
    one_of(3, "intValue", Kind::Int64),
    one_of(4, "doubleValue", Kind::Double),
    one_of(5, "arrayValue", message(Message::ArrayValue)),
    one_of(6, "kvlistValue", message(Message::KeyValueList)),
    one_of(7, "bytesValue", Kind::Bytes),
    one_of(8, "stringValueStrindex", Kind::Int32),
];
const ARRAY: &[Field] = &[many(1, "values", message(Message::AnyValue))];
const KEY_VALUE_LIST: &[Field] = &[many(1, "values", message(Message::KeyValue))];

impl Message {
    /// The message's fields, by rising number.
    pub(crate) fn fields(self) -> &'static [Field] {
        match self {
            Message::ExportMetricsServiceRequest => REQUEST,
            Message::ResourceMetrics => RESOURCE_METRICS,
            Message::Resource => RESOURCE,
            Message::EntityRef => ENTITY_REF,
            Message::ScopeMetrics => SCOPE_METRICS,
            Message::InstrumentationScope => SCOPE,
            Message::Metric => METRIC,
            Message::Gauge => GAUGE,
            Message::Sum => SUM,
            Message::Histogram => HISTOGRAM,
            Message::ExponentialHistogram => EXPONENTIAL,
            Message::Summary => SUMMARY,
            Message::NumberDataPoint => NUMBER_POINT,
            Message::HistogramDataPoint => HISTOGRAM_POINT,
            Message::ExponentialHistogramDataPoint => EXPONENTIAL_POINT,
            Message::SummaryDataPoint => SUMMARY_POINT,
            Message::Buckets => BUCKETS,
            Message::ValueAtQuantile => QUANTILE,
            Message::Exemplar => EXEMPLAR,
            Message::KeyValue => KEY_VALUE,
            Message::AnyValue => ANY_VALUE,
            Message::ArrayValue => ARRAY,
            Message::KeyValueList => KEY_VALUE_LIST,
        }
    }

    /// The field of that number, if the message has one.
    pub(crate) fn field(self, number: u32) -> Option<&'static Field> {
        self.fields().iter().find(|field| field.number == number)
    }

    /// The repeated field that the index holds one entry each for, and that must lie in one run in the normal form.
    pub(crate) fn children(self) -> Option<u32> {
        match self {
            Message::ResourceMetrics | Message::ScopeMetrics => Some(2),
            Message::Gauge | Message::Sum | Message::Histogram | Message::ExponentialHistogram | Message::Summary => {
                Some(1)
            }
            _ => None,
        }
    }
}
