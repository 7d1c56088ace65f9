//! One line a data point, with its metric's name, its attributes and its value.

use std::fmt::Write;

use phoenix_telemetry::{Attributes, Batch, Number, Point};

/// Appends the lines of a batch.
pub(super) fn write(out: &mut String, batch: &Batch) {
    for (i, resource) in batch.resources().enumerate() {
        let _ = write!(out, "ResourceMetrics #{i}");
        schema(out, resource.schema_url());
        trailing(out, resource.attributes());
        for (j, scope) in resource.scopes().enumerate() {
            let _ = write!(out, "ScopeMetrics #{j}");
            if !scope.name().is_empty() {
                let _ = write!(out, " {}", scope.name());
            }
            if !scope.version().is_empty() {
                let _ = write!(out, "@{}", scope.version());
            }
            schema(out, scope.schema_url());
            trailing(out, scope.attributes());
            for metric in scope.metrics() {
                for point in metric.points() {
                    let _ = write!(out, "{}{{{}}}", metric.name(), joined(point.attributes(), ","));
                    value(out, point);
                    out.push('\n');
                }
            }
        }
    }
}

fn schema(out: &mut String, url: &str) {
    if !url.is_empty() {
        let _ = write!(out, " [{url}]");
    }
}

fn trailing(out: &mut String, attributes: Attributes<'_>) {
    if !attributes.is_empty() {
        out.push(' ');
        out.push_str(&joined(attributes, " "));
    }
    out.push('\n');
}

fn joined(attributes: Attributes<'_>, between: &str) -> String {
    attributes.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(between)
}

fn value(out: &mut String, point: Point<'_>) {
    if point.no_recorded_value() {
        out.push_str(" no recorded value");
        return;
    }
    let known = |out: &mut String, pairs: [(&str, Option<f64>); 3]| {
        for (name, value) in pairs {
            if let Some(value) = value {
                let _ = write!(out, " {name}={value}");
            }
        }
    };
    match point.value() {
        Some(Number::Int(value)) => drop(write!(out, " {value}")),
        Some(Number::Double(value)) => drop(write!(out, " {value}")),
        None => {}
    }
    if let Some(histogram) = point.histogram() {
        let _ = write!(out, " count={}", histogram.count);
        known(out, [("sum", histogram.sum), ("min", histogram.min), ("max", histogram.max)]);
        let mut bounds = histogram.explicit_bounds();
        for count in histogram.bucket_counts() {
            let _ = match bounds.next() {
                Some(bound) => write!(out, " le{bound}={count}"),
                None => write!(out, " {count}"),
            };
        }
    }
    if let Some(histogram) = point.exponential_histogram() {
        let _ = write!(out, " count={}", histogram.count);
        known(out, [("sum", histogram.sum), ("min", histogram.min), ("max", histogram.max)]);
        let _ = write!(out, " scale={}", histogram.scale);
        for (sign, buckets) in [("-", histogram.negative()), ("", histogram.positive())] {
            for (index, count) in (i64::from(buckets.offset)..).zip(buckets.counts()) {
                let _ = write!(out, " {sign}[{index}]={count}");
            }
        }
        if histogram.zero_count > 0 {
            let _ = write!(out, " zero_count{}={}", histogram.zero_threshold, histogram.zero_count);
        }
    }
    if let Some(summary) = point.summary() {
        let _ = write!(out, " count={} sum={}", summary.count, summary.sum);
        for (quantile, value) in summary.quantiles() {
            let _ = write!(out, " q{quantile}={value}");
        }
    }
}
