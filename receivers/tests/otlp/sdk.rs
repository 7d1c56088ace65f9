//! Rust's own SDK sends as its users write it: instruments, a periodic reader, an exporter that was told nothing but where.

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_otlp::{MetricExporter, Protocol, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use phoenix_telemetry::AnyValue;

use super::support::*;

/// Counts, sets and measures, says goodbye, and checks that all of it is there.
fn sends(rig: &Rig, exporter: MetricExporter) {
    let resource = Resource::builder_empty().with_service_name("shop").build();
    let provider = SdkMeterProvider::builder().with_resource(resource).with_periodic_exporter(exporter).build();
    let meter = provider.meter("checkout");
    let orders = meter.u64_counter("orders").with_unit("{order}").build();
    orders.add(3, &[KeyValue::new("currency", "EUR")]);
    orders.add(4, &[KeyValue::new("currency", "EUR")]);
    meter.f64_gauge("stock").build().record(0.5, &[]);
    meter.f64_histogram("price").with_unit("EUR").build().record(12.5, &[]);
    provider.force_flush().unwrap();
    provider.shutdown().unwrap();

    let batches = rig.sink.batches.lock().unwrap();
    let batch = &batches[0];
    let resource = batch.resources().next().unwrap();
    assert_eq!(resource.attributes().get_str("service.name"), Some("shop"));
    let mut names: Vec<_> = resource.metrics().map(|metric| metric.name().to_owned()).collect();
    names.sort();
    assert_eq!(names, ["orders", "price", "stock"]);
    let orders = resource.metrics().find(|metric| metric.name() == "orders").unwrap();
    let point = orders.points().next().unwrap();
    assert_eq!(point.value().map(|value| value.as_f64()), Some(7.0));
    assert_eq!(point.attributes().get("currency"), Some(AnyValue::Str("EUR")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_grpc() {
    let rig = Rig::new("", "", "");
    let endpoint = format!("http://{}", rig.grpc);
    let exporter = MetricExporter::builder().with_tonic().with_endpoint(endpoint).build().unwrap();
    tokio::task::block_in_place(|| sends(&rig, exporter));
    assert!(rig.counted("otelcol_receiver_accepted_metric_points", "grpc") >= 3.0);
}

#[test]
fn over_http() {
    let rig = Rig::new("", "", "");
    let endpoint = format!("http://{}/v1/metrics", rig.http);
    let builder = MetricExporter::builder().with_http().with_protocol(Protocol::HttpBinary);
    sends(&rig, builder.with_endpoint(endpoint).build().unwrap());
    assert!(rig.counted("otelcol_receiver_accepted_metric_points", "http") >= 3.0);
}
