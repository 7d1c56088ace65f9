//! Arbitrary OTLP requests as `opentelemetry-proto` structs, and the comparison of those with this crate's views.
//!
//! The structs and prost are the oracle: nothing here uses this crate's own knowledge of the schema.
#![allow(dead_code)] // each test file uses its part
#![allow(clippy::unwrap_used, clippy::expect_used)]

pub mod mangle;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest as Request;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{
    AnyValue, ArrayValue, EntityRef, InstrumentationScope, KeyValue, KeyValueList,
};
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as NumberValue;
use opentelemetry_proto::tonic::metrics::v1::summary_data_point::ValueAtQuantile;
use opentelemetry_proto::tonic::metrics::v1::*;
use opentelemetry_proto::tonic::resource::v1::Resource;
use phoenix_telemetry as phoenix;
use phoenix_telemetry::{MetricKind, Number, Temporality};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

pub fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::sample::select(vec!["", "state", "user", "process.pid", "host.name", "s", "By", "Grüße", "日本"]).prop_map(str::to_owned),
        1 => ".{0,200}",
    ]
}

pub fn double() -> impl Strategy<Value = f64> {
    prop_oneof![3 => any::<f64>(), 1 => Just(0.0), 1 => Just(f64::NAN), 1 => Just(f64::INFINITY), 1 => Just(f64::NEG_INFINITY)]
}

pub fn any_value() -> impl Strategy<Value = AnyValue> {
    let leaf = prop_oneof![
        1 => Just(None),
        4 => text().prop_map(|text| Some(Value::StringValue(text))),
        1 => any::<bool>().prop_map(|value| Some(Value::BoolValue(value))),
        1 => any::<i64>().prop_map(|value| Some(Value::IntValue(value))),
        1 => (-200i64..200).prop_map(|value| Some(Value::IntValue(value))),
        1 => double().prop_map(|value| Some(Value::DoubleValue(value))),
        1 => vec(any::<u8>(), 0..150).prop_map(|bytes| Some(Value::BytesValue(bytes))),
    ]
    .prop_map(|value| AnyValue { value });
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3)
                .prop_map(|values| AnyValue { value: Some(Value::ArrayValue(ArrayValue { values })) }),
            vec((text(), option::of(inner)), 0..3).prop_map(|pairs| {
                let values = pairs.into_iter().map(|(key, value)| KeyValue { key, value, ..Default::default() });
                AnyValue { value: Some(Value::KvlistValue(KeyValueList { values: values.collect() })) }
            }),
        ]
    })
}

pub fn attributes() -> impl Strategy<Value = Vec<KeyValue>> {
    let pair = (text(), option::weighted(0.9, any_value())).prop_map(|(key, value)| KeyValue {
        key,
        value,
        ..Default::default()
    });
    vec(pair, 0..4)
}

fn resource() -> impl Strategy<Value = Resource> {
    let entity = (text(), text(), vec(text(), 0..3)).prop_map(|(schema_url, r#type, id_keys)| EntityRef {
        schema_url,
        r#type,
        description_keys: id_keys.clone(),
        id_keys,
    });
    (attributes(), any::<u32>(), vec(entity, 0..2)).prop_map(|(attributes, dropped_attributes_count, entity_refs)| {
        Resource { attributes, dropped_attributes_count, entity_refs }
    })
}

fn exemplars() -> impl Strategy<Value = Vec<Exemplar>> {
    let value = prop_oneof![
        Just(None),
        double().prop_map(|value| Some(exemplar::Value::AsDouble(value))),
        any::<i64>().prop_map(|value| Some(exemplar::Value::AsInt(value))),
    ];
    let one = (attributes(), any::<u64>(), vec(any::<u8>(), 0..9), vec(any::<u8>(), 0..17), value).prop_map(
        |(filtered_attributes, time_unix_nano, span_id, trace_id, value)| Exemplar {
            filtered_attributes,
            time_unix_nano,
            span_id,
            trace_id,
            value,
        },
    );
    vec(one, 0..2)
}

fn number_point() -> impl Strategy<Value = NumberDataPoint> {
    let value = prop_oneof![
        1 => Just(None),
        3 => double().prop_map(|value| Some(NumberValue::AsDouble(value))),
        3 => any::<i64>().prop_map(|value| Some(NumberValue::AsInt(value))),
    ];
    (attributes(), any::<u64>(), any::<u64>(), exemplars(), any::<u32>(), value).prop_map(
        |(attributes, start_time_unix_nano, time_unix_nano, exemplars, flags, value)| NumberDataPoint {
            attributes,
            start_time_unix_nano,
            time_unix_nano,
            exemplars,
            flags,
            value,
        },
    )
}

fn histogram_point() -> impl Strategy<Value = HistogramDataPoint> {
    let times = (any::<u64>(), any::<u64>(), any::<u64>());
    let lists = (vec(any::<u64>(), 0..4), vec(double(), 0..4));
    let optional = (option::of(double()), option::of(double()), option::of(double()));
    (attributes(), times, lists, exemplars(), any::<u32>(), optional).prop_map(
        |(attributes, (start, time, count), (bucket_counts, explicit_bounds), exemplars, flags, (sum, min, max))| {
            HistogramDataPoint {
                attributes,
                start_time_unix_nano: start,
                time_unix_nano: time,
                count,
                sum,
                bucket_counts,
                explicit_bounds,
                exemplars,
                flags,
                min,
                max,
            }
        },
    )
}

fn buckets() -> impl Strategy<Value = Option<Buckets>> {
    let buckets = (any::<i32>(), vec(prop_oneof![any::<u64>(), 0..200u64], 0..4));
    option::of(buckets.prop_map(|(offset, bucket_counts)| Buckets { offset, bucket_counts }))
}

fn exponential_point() -> impl Strategy<Value = ExponentialHistogramDataPoint> {
    let times = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<i32>());
    let optional = (option::of(double()), option::of(double()), option::of(double()), double());
    (attributes(), times, buckets(), buckets(), exemplars(), any::<u32>(), optional).prop_map(
        |(attributes, (start, time, count, zero_count, scale), positive, negative, exemplars, flags, optional)| {
            let (sum, min, max, zero_threshold) = optional;
            ExponentialHistogramDataPoint {
                attributes,
                start_time_unix_nano: start,
                time_unix_nano: time,
                count,
                sum,
                scale,
                zero_count,
                positive,
                negative,
                flags,
                exemplars,
                min,
                max,
                zero_threshold,
            }
        },
    )
}

fn summary_point() -> impl Strategy<Value = SummaryDataPoint> {
    let quantiles = vec((double(), double()).prop_map(|(quantile, value)| ValueAtQuantile { quantile, value }), 0..3);
    (attributes(), any::<u64>(), any::<u64>(), any::<u64>(), double(), quantiles, any::<u32>()).prop_map(
        |(attributes, start, time, count, sum, quantile_values, flags)| SummaryDataPoint {
            attributes,
            start_time_unix_nano: start,
            time_unix_nano: time,
            count,
            sum,
            quantile_values,
            flags,
        },
    )
}

fn data() -> impl Strategy<Value = Option<Data>> {
    let temporality = || 0..4i32;
    prop_oneof![
        1 => Just(None),
        3 => vec(number_point(), 0..5).prop_map(|data_points| Some(Data::Gauge(Gauge { data_points }))),
        3 => (vec(number_point(), 0..5), temporality(), any::<bool>()).prop_map(
            |(data_points, aggregation_temporality, is_monotonic)| {
                Some(Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic }))
            }
        ),
        2 => (vec(histogram_point(), 0..3), temporality()).prop_map(|(data_points, aggregation_temporality)| {
            Some(Data::Histogram(Histogram { data_points, aggregation_temporality }))
        }),
        2 => (vec(exponential_point(), 0..3), temporality()).prop_map(|(data_points, aggregation_temporality)| {
            Some(Data::ExponentialHistogram(ExponentialHistogram { data_points, aggregation_temporality }))
        }),
        1 => vec(summary_point(), 0..3).prop_map(|data_points| Some(Data::Summary(Summary { data_points }))),
    ]
}

fn metric() -> impl Strategy<Value = Metric> {
    (text(), text(), text(), attributes(), data()).prop_map(|(name, description, unit, metadata, data)| Metric {
        name,
        description,
        unit,
        metadata,
        data,
    })
}

/// Any request, or one as agents send them.
pub fn request() -> impl Strategy<Value = Request> {
    prop_oneof![2 => any_request(), 1 => alike()]
}

/// A scope of numbers; what is 1 or more of their start times is to be written over, as are times and values.
fn numbers() -> impl Strategy<Value = ScopeMetrics> {
    let point = (attributes(), 0..2u64, any::<bool>()).prop_map(|(attributes, start_time_unix_nano, is_int)| {
        let value = Some(if is_int { NumberValue::AsInt(0) } else { NumberValue::AsDouble(0.0) });
        NumberDataPoint { attributes, start_time_unix_nano, value, ..Default::default() }
    });
    let metric = (text(), vec(point, 1..4), any::<bool>()).prop_map(|(name, data_points, is_sum)| {
        let data = match is_sum {
            true => Data::Sum(Sum { data_points, aggregation_temporality: 2, is_monotonic: true }),
            false => Data::Gauge(Gauge { data_points }),
        };
        Metric { name, data: Some(data), ..Default::default() }
    });
    (text(), vec(metric, 1..4)).prop_map(|(name, metrics)| {
        let scope = InstrumentationScope { name, ..Default::default() };
        ScopeMetrics { scope: Some(scope), metrics, ..Default::default() }
    })
}

/// Resources of which many report alike: the same but for times and values, which most have in common; here and there a point
/// has times of its own.
fn alike() -> impl Strategy<Value = Request> {
    let odd = option::weighted(0.2, (any::<prop::sample::Index>(), 0..3u64, 0..3u64));
    let one = (resource(), vec(any::<prop::sample::Index>(), 1..3), (1..4u64, 1..4u64), any::<i64>(), odd);
    (vec(numbers(), 1..3), vec(one, 1..7)).prop_map(|(layouts, resources)| {
        let resource_metrics = resources.into_iter().map(|(resource, scopes, (start, time), value, odd)| {
            let mut scope_metrics: Vec<_> = scopes.iter().map(|scope| scope.get(&layouts).clone()).collect();
            let mut points: Vec<_> =
                scope_metrics.iter_mut().flat_map(|scope| &mut scope.metrics).flat_map(number_points).collect();
            for (n, point) in (1..).zip(&mut points) {
                point.start_time_unix_nano *= start;
                point.time_unix_nano = time;
                point.value = match point.value {
                    Some(NumberValue::AsInt(_)) => Some(NumberValue::AsInt(value.wrapping_mul(n))),
                    _ => Some(NumberValue::AsDouble(n as f64 / value as f64)),
                };
            }
            if let Some((at, start, time)) = odd {
                let at = at.index(points.len());
                (points[at].start_time_unix_nano, points[at].time_unix_nano) = (start, time);
            }
            ResourceMetrics { resource: Some(resource), scope_metrics, ..Default::default() }
        });
        Request { resource_metrics: resource_metrics.collect() }
    })
}

fn number_points(metric: &mut Metric) -> &mut [NumberDataPoint] {
    match &mut metric.data {
        Some(Data::Sum(sum)) => &mut sum.data_points,
        Some(Data::Gauge(gauge)) => &mut gauge.data_points,
        _ => &mut [],
    }
}

fn any_request() -> impl Strategy<Value = Request> {
    let scope = (text(), text(), attributes(), any::<u32>()).prop_map(
        |(name, version, attributes, dropped_attributes_count)| InstrumentationScope {
            name,
            version,
            attributes,
            dropped_attributes_count,
        },
    );
    let scope_metrics = (option::of(scope), vec(metric(), 0..4), text())
        .prop_map(|(scope, metrics, schema_url)| ScopeMetrics { scope, metrics, schema_url });
    let resource_metrics = (option::of(resource()), vec(scope_metrics, 0..3), text())
        .prop_map(|(resource, scope_metrics, schema_url)| ResourceMetrics { resource, scope_metrics, schema_url });
    vec(resource_metrics, 0..3).prop_map(|resource_metrics| Request { resource_metrics })
}

// ---------- views against structs ----------

pub fn same_attributes(view: phoenix::Attributes<'_>, structs: &[KeyValue]) {
    let found: Vec<_> = view.iter().collect();
    assert_eq!(found.len(), structs.len());
    assert_eq!(view.len(), structs.len());
    for ((key, value), wanted) in found.iter().zip(structs) {
        assert_eq!(*key, wanted.key);
        same_value(*value, wanted.value.as_ref());
    }
}

fn same_value(view: phoenix::AnyValue<'_>, wanted: Option<&AnyValue>) {
    match (view, wanted.and_then(|wanted| wanted.value.as_ref())) {
        (phoenix::AnyValue::Empty, None | Some(Value::StringValueStrindex(_))) => {}
        (phoenix::AnyValue::Str(a), Some(Value::StringValue(b))) => assert_eq!(a, b),
        (phoenix::AnyValue::Bool(a), Some(Value::BoolValue(b))) => assert_eq!(a, *b),
        (phoenix::AnyValue::Int(a), Some(Value::IntValue(b))) => assert_eq!(a, *b),
        (phoenix::AnyValue::Double(a), Some(Value::DoubleValue(b))) => assert_eq!(a.to_bits(), b.to_bits()),
        (phoenix::AnyValue::Bytes(a), Some(Value::BytesValue(b))) => assert_eq!(a, b),
        (phoenix::AnyValue::Array(a), Some(Value::ArrayValue(b))) => {
            assert_eq!(a.len(), b.values.len());
            a.iter().zip(&b.values).for_each(|(a, b)| same_value(a, Some(b)));
        }
        (phoenix::AnyValue::Map(a), Some(Value::KvlistValue(b))) => same_attributes(a, &b.values),
        (a, b) => panic!("{a:?} is not {b:?}"),
    }
}

fn same_exemplars(point: phoenix::Point<'_>, wanted: &[Exemplar]) {
    let found: Vec<_> = point.exemplars().collect();
    assert_eq!(found.len(), wanted.len());
    for (view, wanted) in found.iter().zip(wanted) {
        assert_eq!(view.time, wanted.time_unix_nano);
        assert_eq!(view.trace_id, wanted.trace_id);
        assert_eq!(view.span_id, wanted.span_id);
        same_attributes(view.attributes(), &wanted.filtered_attributes);
        match (view.value, wanted.value) {
            (None, None) => {}
            (Some(Number::Int(a)), Some(exemplar::Value::AsInt(b))) => assert_eq!(a, b),
            (Some(Number::Double(a)), Some(exemplar::Value::AsDouble(b))) => assert_eq!(a.to_bits(), b.to_bits()),
            (a, b) => panic!("{a:?} is not {b:?}"),
        }
    }
}

fn same_point(view: phoenix::Point<'_>, start: u64, time: u64, flags: u32, attributes: &[KeyValue]) {
    assert_eq!(view.start_time(), start);
    assert_eq!(view.time(), time);
    assert_eq!(view.flags(), flags);
    assert_eq!(view.no_recorded_value(), flags & 1 == 1);
    same_attributes(view.attributes(), attributes);
    assert!(view.same_series(view));
}

fn same_optional(view: Option<f64>, wanted: Option<f64>) {
    assert_eq!(view.map(f64::to_bits), wanted.map(f64::to_bits));
}

fn same_numbers(view: phoenix::Metric<'_>, wanted: &[NumberDataPoint]) {
    let points: Vec<_> = view.points().collect();
    assert_eq!(points.len(), wanted.len());
    for (view, wanted) in points.into_iter().zip(wanted) {
        same_point(view, wanted.start_time_unix_nano, wanted.time_unix_nano, wanted.flags, &wanted.attributes);
        same_exemplars(view, &wanted.exemplars);
        match (view.value(), wanted.value) {
            (None, None) => {}
            (Some(Number::Int(a)), Some(NumberValue::AsInt(b))) => assert_eq!(a, b),
            (Some(Number::Double(a)), Some(NumberValue::AsDouble(b))) => assert_eq!(a.to_bits(), b.to_bits()),
            (a, b) => panic!("{a:?} is not {b:?}"),
        }
    }
}

fn same_histograms(view: phoenix::Metric<'_>, wanted: &[HistogramDataPoint]) {
    let points: Vec<_> = view.points().collect();
    assert_eq!(points.len(), wanted.len());
    for (view, wanted) in points.into_iter().zip(wanted) {
        same_point(view, wanted.start_time_unix_nano, wanted.time_unix_nano, wanted.flags, &wanted.attributes);
        same_exemplars(view, &wanted.exemplars);
        assert!(view.value().is_none() && view.summary().is_none() && view.exponential_histogram().is_none());
        let view = view.histogram().expect("a histogram");
        assert_eq!(view.count, wanted.count);
        same_optional(view.sum, wanted.sum);
        same_optional(view.min, wanted.min);
        same_optional(view.max, wanted.max);
        assert!(view.bucket_counts().eq(wanted.bucket_counts.iter().copied()));
        assert!(
            view.explicit_bounds().map(f64::to_bits).eq(wanted.explicit_bounds.iter().map(|bound| bound.to_bits()))
        );
    }
}

fn same_exponential(view: phoenix::Metric<'_>, wanted: &[ExponentialHistogramDataPoint]) {
    let points: Vec<_> = view.points().collect();
    assert_eq!(points.len(), wanted.len());
    for (view, wanted) in points.into_iter().zip(wanted) {
        same_point(view, wanted.start_time_unix_nano, wanted.time_unix_nano, wanted.flags, &wanted.attributes);
        same_exemplars(view, &wanted.exemplars);
        let view = view.exponential_histogram().expect("an exponential histogram");
        assert_eq!((view.count, view.scale, view.zero_count), (wanted.count, wanted.scale, wanted.zero_count));
        same_optional(view.sum, wanted.sum);
        same_optional(view.min, wanted.min);
        same_optional(view.max, wanted.max);
        assert_eq!(view.zero_threshold.to_bits(), wanted.zero_threshold.to_bits());
        for (view, wanted) in [(view.positive(), &wanted.positive), (view.negative(), &wanted.negative)] {
            let wanted = wanted.clone().unwrap_or_default();
            assert_eq!(view.offset, wanted.offset);
            assert!(view.counts().eq(wanted.bucket_counts));
        }
    }
}

fn same_summaries(view: phoenix::Metric<'_>, wanted: &[SummaryDataPoint]) {
    let points: Vec<_> = view.points().collect();
    assert_eq!(points.len(), wanted.len());
    for (view, wanted) in points.into_iter().zip(wanted) {
        same_point(view, wanted.start_time_unix_nano, wanted.time_unix_nano, wanted.flags, &wanted.attributes);
        let view = view.summary().expect("a summary");
        assert_eq!((view.count, view.sum.to_bits()), (wanted.count, wanted.sum.to_bits()));
        let quantiles = view.quantiles().map(|(quantile, value)| (quantile.to_bits(), value.to_bits()));
        assert!(quantiles.eq(wanted.quantile_values.iter().map(|q| (q.quantile.to_bits(), q.value.to_bits()))));
    }
}

fn temporality(value: i32) -> Temporality {
    match value {
        1 => Temporality::Delta,
        2 => Temporality::Cumulative,
        _ => Temporality::Unspecified,
    }
}

fn same_metric(view: phoenix::Metric<'_>, wanted: &Metric) {
    assert_eq!(view.name(), wanted.name);
    assert_eq!(view.description(), wanted.description);
    assert_eq!(view.unit(), wanted.unit);
    same_attributes(view.metadata(), &wanted.metadata);
    let (kind, aggregation, monotonic) = match &wanted.data {
        None => (MetricKind::None, 0, false),
        Some(Data::Gauge(_)) => (MetricKind::Gauge, 0, false),
        Some(Data::Sum(sum)) => (MetricKind::Sum, sum.aggregation_temporality, sum.is_monotonic),
        Some(Data::Histogram(data)) => (MetricKind::Histogram, data.aggregation_temporality, false),
        Some(Data::ExponentialHistogram(data)) => {
            (MetricKind::ExponentialHistogram, data.aggregation_temporality, false)
        }
        Some(Data::Summary(_)) => (MetricKind::Summary, 0, false),
    };
    assert_eq!(view.kind(), kind);
    assert_eq!(view.temporality(), temporality(aggregation));
    assert_eq!(view.is_monotonic(), monotonic);
    match &wanted.data {
        None => assert_eq!(view.points().count(), 0),
        Some(Data::Gauge(data)) => same_numbers(view, &data.data_points),
        Some(Data::Sum(data)) => same_numbers(view, &data.data_points),
        Some(Data::Histogram(data)) => same_histograms(view, &data.data_points),
        Some(Data::ExponentialHistogram(data)) => same_exponential(view, &data.data_points),
        Some(Data::Summary(data)) => same_summaries(view, &data.data_points),
    }
}

/// Every view of the batch says what the structs hold, in the same order.
pub fn same(batch: &phoenix::Batch, wanted: &Request) {
    let resources: Vec<_> = batch.resources().collect();
    assert_eq!(resources.len(), wanted.resource_metrics.len());
    for (view, wanted) in resources.into_iter().zip(&wanted.resource_metrics) {
        assert_eq!(view.schema_url(), wanted.schema_url);
        let resource = wanted.resource.clone().unwrap_or_default();
        same_attributes(view.attributes(), &resource.attributes);
        let scopes: Vec<_> = view.scopes().collect();
        assert_eq!(scopes.len(), wanted.scope_metrics.len());
        for (view, wanted) in scopes.into_iter().zip(&wanted.scope_metrics) {
            let scope = wanted.scope.clone().unwrap_or_default();
            assert_eq!(view.name(), scope.name);
            assert_eq!(view.version(), scope.version);
            assert_eq!(view.schema_url(), wanted.schema_url);
            same_attributes(view.attributes(), &scope.attributes);
            let metrics: Vec<_> = view.metrics().collect();
            assert_eq!(metrics.len(), wanted.metrics.len());
            metrics.into_iter().zip(&wanted.metrics).for_each(|(view, wanted)| same_metric(view, wanted));
        }
    }
    assert_eq!(batch.points(), count(wanted));
    assert_eq!(batch.series().count(), count(wanted));
    assert_eq!(batch.is_empty(), count(wanted) == 0);
}

/// The data points of a metric.
pub fn points_in(metric: &Metric) -> usize {
    match &metric.data {
        None => 0,
        Some(Data::Gauge(data)) => data.data_points.len(),
        Some(Data::Sum(data)) => data.data_points.len(),
        Some(Data::Histogram(data)) => data.data_points.len(),
        Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(Data::Summary(data)) => data.data_points.len(),
    }
}

/// The data points of a request.
pub fn count(request: &Request) -> usize {
    let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    scopes.flat_map(|scope| &scope.metrics).map(points_in).sum()
}

/// The same, as this crate's drops leave it: points by their number in the request, and every branch that lost points
/// and has none left goes with them.
pub fn retain(request: &mut Request, mut keep: impl FnMut(usize) -> bool) {
    let mut n = 0;
    let mut keep = || {
        n += 1;
        keep(n - 1)
    };
    request.resource_metrics.retain_mut(|resource| {
        let mut touched = false;
        let mut left = 0;
        resource.scope_metrics.retain_mut(|scope| {
            let mut scope_touched = false;
            let mut scope_left = 0;
            scope.metrics.retain_mut(|metric| {
                let before = points_in(metric);
                match &mut metric.data {
                    None => {}
                    Some(Data::Gauge(data)) => data.data_points.retain(|_| keep()),
                    Some(Data::Sum(data)) => data.data_points.retain(|_| keep()),
                    Some(Data::Histogram(data)) => data.data_points.retain(|_| keep()),
                    Some(Data::ExponentialHistogram(data)) => data.data_points.retain(|_| keep()),
                    Some(Data::Summary(data)) => data.data_points.retain(|_| keep()),
                }
                let after = points_in(metric);
                scope_touched |= after < before;
                scope_left += after;
                after == before || after > 0
            });
            touched |= scope_touched;
            left += scope_left;
            !scope_touched || scope_left > 0
        });
        !touched || left > 0
    });
}

/// The attributes of every point, in order.
pub fn point_attributes(request: &mut Request) -> Vec<&mut Vec<KeyValue>> {
    let scopes = request.resource_metrics.iter_mut().flat_map(|resource| &mut resource.scope_metrics);
    let mut all = Vec::new();
    for metric in scopes.flat_map(|scope| &mut scope.metrics) {
        match &mut metric.data {
            None => {}
            Some(Data::Gauge(data)) => all.extend(data.data_points.iter_mut().map(|point| &mut point.attributes)),
            Some(Data::Sum(data)) => all.extend(data.data_points.iter_mut().map(|point| &mut point.attributes)),
            Some(Data::Histogram(data)) => all.extend(data.data_points.iter_mut().map(|point| &mut point.attributes)),
            Some(Data::ExponentialHistogram(data)) => {
                all.extend(data.data_points.iter_mut().map(|point| &mut point.attributes));
            }
            Some(Data::Summary(data)) => all.extend(data.data_points.iter_mut().map(|point| &mut point.attributes)),
        }
    }
    all
}

/// Every point in order, `None` for one that is more than a number.
pub fn numbers_of(request: &mut Request) -> Vec<Option<&mut NumberDataPoint>> {
    let scopes = request.resource_metrics.iter_mut().flat_map(|resource| &mut resource.scope_metrics);
    let mut all = Vec::new();
    for metric in scopes.flat_map(|scope| &mut scope.metrics) {
        let others = match &metric.data {
            Some(Data::Histogram(data)) => data.data_points.len(),
            Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
            Some(Data::Summary(data)) => data.data_points.len(),
            _ => 0,
        };
        all.extend((0..others).map(|_| None));
        all.extend(number_points(metric).iter_mut().map(Some));
    }
    all
}
