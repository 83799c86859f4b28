"""OTLP/JSON: what protobuf becomes and what the builders make both read back as the same protobuf."""

import json
import math

import pytest
from google.protobuf import json_format
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from wafermonitor.instrumentation import otlp_json

TRACE = bytes(range(16))
SPAN = bytes(range(1, 9))


def test_a_span_becomes_what_the_specification_says():
    message = ExportTraceServiceRequest()
    span = message.resource_spans.add().scope_spans.add().spans.add()
    span.trace_id, span.span_id, span.parent_span_id = TRACE, SPAN, SPAN[::-1]
    span.start_time_unix_nano = 2**63 + 1
    span.kind = 3
    span.status.code = 2
    span.flags = 0x101
    span.dropped_attributes_count = 4
    for key, value in {"zero": 0, "big": -(2**63)}.items():
        entry = span.attributes.add()
        entry.key = key
        entry.value.int_value = value
    entry = span.attributes.add()
    entry.key = "raw"
    entry.value.bytes_value = b"\xff\x00"
    entry = span.attributes.add()
    entry.key = "nan"
    entry.value.double_value = math.nan
    entry = span.attributes.add()
    entry.key = "nothing"
    entry.value.SetInParent()
    span.links.add().trace_id = TRACE
    (got,) = otlp_json.request_from_proto(message)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert got == {
        "traceId": TRACE.hex(),
        "spanId": SPAN.hex(),
        "parentSpanId": SPAN[::-1].hex(),
        "startTimeUnixNano": str(2**63 + 1),
        "kind": 3,
        "status": {"code": 2},
        "flags": 0x101,
        "droppedAttributesCount": 4,
        "attributes": [
            {"key": "zero", "value": {"intValue": "0"}},
            {"key": "big", "value": {"intValue": str(-(2**63))}},
            {"key": "raw", "value": {"bytesValue": "/wA="}},
            {"key": "nan", "value": {"doubleValue": "NaN"}},
            {"key": "nothing", "value": {}},
        ],
        "links": [{"traceId": TRACE.hex()}],
    }
    json.dumps(got, allow_nan=False)


def test_metrics_agree_with_protobufs_own_json_mapping():
    message = ExportMetricsServiceRequest()
    metrics = message.resource_metrics.add().scope_metrics.add().metrics
    histogram = metrics.add()
    histogram.name = "wafer.job.duration"
    histogram.histogram.aggregation_temporality = 1
    point = histogram.histogram.data_points.add()
    point.count, point.sum, point.min = 3, 1.5, -math.inf
    point.explicit_bounds.extend([0.5, 1])
    point.bucket_counts.extend([1, 1, 1])
    total = metrics.add().sum
    total.is_monotonic = True
    total.data_points.add().as_int = 7
    exponential = metrics.add().exponential_histogram.data_points.add()
    exponential.positive.offset, exponential.scale = -3, 2
    exponential.positive.bucket_counts.extend([1, 2**40])
    metrics.add().summary.data_points.add().quantile_values.add(quantile=0.5, value=2)
    theirs = json_format.MessageToDict(message, use_integers_for_enums=True)
    assert otlp_json.request_from_proto(message) == theirs


def test_a_hand_made_span_reads_back_as_protobuf():
    span = otlp_json.span(
        trace_id=TRACE,
        span_id=SPAN,
        parent_span_id=SPAN[::-1],
        name="lot_yield",
        start_ns=1,
        end_ns=5,
        attributes={"lot": ["A", "B"], "n": 3, "yes": True, "ratio": 0.5, "nan": math.nan, "none": None, "huge": 2**64},
        error="exit code 7",
        trace_state="a=b",
    )
    request = otlp_json.spans_request({"service.name": "x"}, [span], scope={"name": "wafer", "version": "1", "schema_url": "s"})
    message = read(request, ExportTraceServiceRequest())
    (resource,) = message.resource_spans
    (scope,) = resource.scope_spans
    (got,) = scope.spans
    assert (resource.schema_url, scope.schema_url, scope.scope.name) == ("s", "s", "wafer")
    assert (got.trace_id, got.span_id, got.parent_span_id, got.trace_state) == (TRACE, SPAN, SPAN[::-1], "a=b")
    assert (got.start_time_unix_nano, got.end_time_unix_nano, got.kind) == (1, 5, 1)
    assert (got.status.code, got.status.message, got.flags) == (2, "exit code 7", 0x301)
    values = {entry.key: entry.value for entry in got.attributes}
    assert [item.string_value for item in values["lot"].array_value.values] == ["A", "B"]
    assert (values["n"].int_value, values["yes"].bool_value, values["ratio"].double_value) == (3, True, 0.5)
    assert values["huge"].string_value == str(2**64)
    assert "nan" not in values
    assert "none" not in values


def test_a_hand_made_event_reads_back_as_protobuf():
    record = otlp_json.log_record(
        event_name="wafer.job.end",
        time_ns=9,
        severity="ERROR",
        attributes={"a": "b"},
        trace_id=TRACE,
        span_id=SPAN,
        body="tail",
    )
    message = read(otlp_json.logs_request({}, [record], scope={"name": "wafer"}), ExportLogsServiceRequest())
    (got,) = message.resource_logs[0].scope_logs[0].log_records
    assert (got.event_name, got.time_unix_nano, got.severity_number, got.severity_text) == ("wafer.job.end", 9, 17, "ERROR")
    assert (got.trace_id, got.span_id, got.body.string_value) == (TRACE, SPAN, "tail")


@pytest.mark.parametrize(("given", "kept"), [("plain", "plain"), ("bad\udcff!", "bad�!"), ("\ud83d\ude00", "😀"), ("é", "é")])
def test_text_never_holds_a_lone_surrogate(given, kept):
    assert otlp_json.text(given) == kept


def read(request, message):
    """What a receiver makes of it: ids are hex in OTLP/JSON, which protobuf's own reader would take for base64."""
    import base64

    def rebase(node):
        if isinstance(node, dict):
            ids = {"traceId", "spanId", "parentSpanId"}
            return {k: base64.b64encode(bytes.fromhex(v)).decode() if k in ids else rebase(v) for k, v in node.items()}
        return [rebase(item) for item in node] if isinstance(node, list) else node

    return json_format.ParseDict(rebase(json.loads(json.dumps(request, allow_nan=False))), message)
