//! Every field of every data point, a line each, as the Collector's debug exporter has them.
//!
//! Where the Collector's text leaves something out (flags, an exponential histogram's scale), it stands on a line of its
//! own in the same manner.

use std::fmt::Write;

use phoenix_telemetry::{
    AnyValue, Attributes, Batch, Buckets, ExponentialHistogram, Histogram, Metric, MetricKind, Number, Point, Summary,
    Temporality,
};

use crate::time::timestamp;

/// Appends the lines of a batch. Writing to a string cannot fail, so results of `write!` are passed over.
pub(super) fn write(out: &mut String, batch: &Batch) {
    for (i, resource) in batch.resources().enumerate() {
        let _ = write!(out, "ResourceMetrics #{i}\nResource SchemaURL: {}\n", resource.schema_url());
        attributes(out, "Resource attributes:", "", resource.attributes());
        for (j, scope) in resource.scopes().enumerate() {
            let _ = write!(out, "ScopeMetrics #{j}\nScopeMetrics SchemaURL: {}\n", scope.schema_url());
            let _ = writeln!(out, "InstrumentationScope {} {}", scope.name(), scope.version());
            attributes(out, "InstrumentationScope attributes:", "", scope.attributes());
            for (k, metric) in scope.metrics().enumerate() {
                let _ = writeln!(out, "Metric #{k}");
                descriptor(out, metric);
                metric.points().enumerate().for_each(|(n, each)| point(out, n, each));
            }
        }
    }
}

fn attributes(out: &mut String, header: &str, indent: &str, attributes: Attributes<'_>) {
    if attributes.is_empty() {
        return;
    }
    let _ = writeln!(out, "{header}");
    for (key, value) in attributes.iter() {
        let _ = writeln!(out, "{indent}     -> {key}: {}", typed(value));
    }
}

/// `Str(value)`: the type of an attribute's value and its text.
fn typed(value: AnyValue<'_>) -> String {
    let kind = match value {
        AnyValue::Empty => "Empty",
        AnyValue::Str(_) => "Str",
        AnyValue::Bool(_) => "Bool",
        AnyValue::Int(_) => "Int",
        AnyValue::Double(_) => "Double",
        AnyValue::Array(_) => "Slice",
        AnyValue::Map(_) => "Map",
        AnyValue::Bytes(_) => "Bytes",
    };
    format!("{kind}({value})")
}

fn kind(metric: Metric<'_>) -> &'static str {
    match metric.kind() {
        MetricKind::None => "Empty",
        MetricKind::Gauge => "Gauge",
        MetricKind::Sum => "Sum",
        MetricKind::Histogram => "Histogram",
        MetricKind::ExponentialHistogram => "ExponentialHistogram",
        MetricKind::Summary => "Summary",
    }
}

fn descriptor(out: &mut String, metric: Metric<'_>) {
    let _ = write!(
        out,
        "Descriptor:\n     -> Name: {}\n     -> Description: {}\n     -> Unit: {}\n     -> DataType: {}\n",
        metric.name(),
        metric.description(),
        metric.unit(),
        kind(metric)
    );
    attributes(out, "     -> Metadata:", "     ", metric.metadata());
    if metric.kind() == MetricKind::Sum {
        let _ = writeln!(out, "     -> IsMonotonic: {}", metric.is_monotonic());
    }
    if matches!(metric.kind(), MetricKind::Sum | MetricKind::Histogram | MetricKind::ExponentialHistogram) {
        let temporality = match metric.temporality() {
            Temporality::Unspecified => "Unspecified",
            Temporality::Delta => "Delta",
            Temporality::Cumulative => "Cumulative",
        };
        let _ = writeln!(out, "     -> AggregationTemporality: {temporality}");
    }
}

fn point(out: &mut String, n: usize, point: Point<'_>) {
    let title = match point.metric().kind() {
        MetricKind::Histogram => "HistogramDataPoints",
        MetricKind::ExponentialHistogram => "ExponentialHistogramDataPoints",
        MetricKind::Summary => "SummaryDataPoints",
        MetricKind::None | MetricKind::Gauge | MetricKind::Sum => "NumberDataPoints",
    };
    let _ = writeln!(out, "{title} #{n}");
    attributes(out, "Data point attributes:", "", point.attributes());
    let _ = writeln!(out, "StartTimestamp: {}", timestamp(point.start_time()));
    let _ = writeln!(out, "Timestamp: {}", timestamp(point.time()));
    if point.flags() != 0 {
        let meaning = if point.no_recorded_value() { " (no recorded value)" } else { "" };
        let _ = writeln!(out, "Flags: {}{meaning}", point.flags());
    }
    number(out, "", point.value());
    if let Some(value) = point.histogram() {
        histogram(out, &value);
    }
    if let Some(value) = point.exponential_histogram() {
        exponential(out, &value);
    }
    if let Some(value) = point.summary() {
        summary(out, &value);
    }
    exemplars(out, point);
}

fn number(out: &mut String, indent: &str, value: Option<Number>) {
    let _ = match value {
        Some(Number::Int(value)) => writeln!(out, "{indent}Value: {value}"),
        Some(Number::Double(value)) => writeln!(out, "{indent}Value: {value:.6}"),
        None => Ok(()),
    };
}

fn totals(out: &mut String, count: u64, known: [(&str, Option<f64>); 3]) {
    let _ = writeln!(out, "Count: {count}");
    for (name, value) in known {
        if let Some(value) = value {
            let _ = writeln!(out, "{name}: {value:.6}");
        }
    }
}

fn histogram(out: &mut String, value: &Histogram<'_>) {
    totals(out, value.count, [("Sum", value.sum), ("Min", value.min), ("Max", value.max)]);
    for (i, bound) in value.explicit_bounds().enumerate() {
        let _ = writeln!(out, "ExplicitBounds #{i}: {bound:.6}");
    }
    for (i, count) in value.bucket_counts().enumerate() {
        let _ = writeln!(out, "Buckets #{i}, Count: {count}");
    }
}

fn exponential(out: &mut String, value: &ExponentialHistogram<'_>) {
    totals(out, value.count, [("Sum", value.sum), ("Min", value.min), ("Max", value.max)]);
    let _ = writeln!(out, "Scale: {}", value.scale);
    let bound = |index: i64| (index as f64 * (-f64::from(value.scale)).exp2()).exp2();
    let indexed = |buckets: Buckets<'_>| (i64::from(buckets.offset)..).zip(buckets.counts()).collect::<Vec<_>>();
    for (index, count) in indexed(value.negative()).into_iter().rev() {
        let _ = writeln!(out, "Bucket [{:.6}, {:.6}), Count: {count}", -bound(index + 1), -bound(index));
    }
    if value.zero_count != 0 {
        let _ = writeln!(out, "Bucket [{0}, {0}], Count: {1}", value.zero_threshold, value.zero_count);
    }
    for (index, count) in indexed(value.positive()) {
        let _ = writeln!(out, "Bucket ({:.6}, {:.6}], Count: {count}", bound(index), bound(index + 1));
    }
}

fn summary(out: &mut String, value: &Summary<'_>) {
    let _ = write!(out, "Count: {}\nSum: {:.6}\n", value.count, value.sum);
    for (i, (quantile, value)) in value.quantiles().enumerate() {
        let _ = writeln!(out, "QuantileValue #{i}: Quantile {quantile:.6}, Value {value:.6}");
    }
}

fn exemplars(out: &mut String, point: Point<'_>) {
    for (i, exemplar) in point.exemplars().enumerate() {
        if i == 0 {
            out.push_str("Exemplars:\n");
        }
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let _ = writeln!(out, "Exemplar #{i}");
        let _ = writeln!(out, "     -> Trace ID: {}", hex(exemplar.trace_id));
        let _ = writeln!(out, "     -> Span ID: {}", hex(exemplar.span_id));
        let _ = writeln!(out, "     -> Timestamp: {}", timestamp(exemplar.time));
        number(out, "     -> ", exemplar.value);
        attributes(out, "     -> FilteredAttributes:", "     ", exemplar.attributes());
    }
}
