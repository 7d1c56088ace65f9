"""Sends metrics with OpenTelemetry's Python SDK, as an application would.

    otlp_sdk.py grpc|http ENDPOINT VALUE COMPRESSION

Adds VALUE to a counter, records VALUE in a histogram, exports both once, and ends with status 1 if the SDK says that it
failed.
"""

import sys

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricExportResult, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource

protocol, endpoint, value, compression = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
if protocol == "grpc":
    import grpc
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter

    packed = grpc.Compression.Gzip if compression == "gzip" else grpc.Compression.NoCompression
    exporter = OTLPMetricExporter(endpoint=endpoint, insecure=True, compression=packed)
else:
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    packed = Compression.Gzip if compression == "gzip" else Compression.NoCompression
    exporter = OTLPMetricExporter(endpoint=endpoint + "/v1/metrics", compression=packed)

results = []
export = exporter.export


def watched(*arguments, **options):
    results.append(export(*arguments, **options))
    return results[-1]


exporter.export = watched
reader = PeriodicExportingMetricReader(exporter, export_interval_millis=3_600_000)
provider = MeterProvider([reader], resource=Resource.create({"service.name": f"sdk-{protocol}-{compression}"}))
meter = provider.get_meter("test")
meter.create_counter("sdk.requests", "{request}").add(value, {"route": "/a"})
meter.create_up_down_counter("sdk.open", "{request}").add(value)
provider.force_flush()
sys.exit(results != [MetricExportResult.SUCCESS])
