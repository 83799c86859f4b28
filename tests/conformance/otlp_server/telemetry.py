"""Requests to send: plain ones, ones that use everything, and pieces of protobuf that no library would write.

Out: `Export…ServiceRequest` messages and bytes. Called by: the cases.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2
from opentelemetry.proto.common.v1 import common_pb2

from .wire import Client, to_json

SECOND_NS = 1_000_000_000
START_NS = (int(time.time()) - 600) * SECOND_NS
"""Not long ago: a server may call old telemetry late."""
FILLER_BYTES = 1 << 20
TRACE_ID = bytes(range(1, 17))
SPAN_ID = bytes(range(1, 9))
REQUESTS: dict[str, Any] = {
    "traces": trace_service_pb2.ExportTraceServiceRequest,
    "logs": logs_service_pb2.ExportLogsServiceRequest,
    "metrics": metrics_service_pb2.ExportMetricsServiceRequest,
}
PLACE = {
    "traces": ("resourceSpans", "scopeSpans", "spans"),
    "logs": ("resourceLogs", "scopeLogs", "logRecords"),
    "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
}
"""The names on the way from a request to its items, as JSON has them."""
_FIELDS = {
    "traces": ("resource_spans", "scope_spans", "spans"),
    "logs": ("resource_logs", "scope_logs", "log_records"),
    "metrics": ("resource_metrics", "scope_metrics", "metrics"),
}


def text(key: str, value: str) -> common_pb2.KeyValue:
    """An attribute."""
    return common_pb2.KeyValue(key=key, value=common_pb2.AnyValue(string_value=value))


def good(signal: str, number: int = 1) -> Any:
    """`number` ordinary items."""
    request = REQUESTS[signal]()
    outer, inner, _ = _FIELDS[signal]
    group = getattr(request, outer).add()
    group.resource.attributes.append(text("service.name", "otlp-conformance"))
    scoped = getattr(group, inner).add()
    scoped.scope.name = "otlp-conformance"
    for index in range(number):
        _ITEMS[signal](scoped, index)
    return request


def items(signal: str, request: Any) -> Any:
    """The repeated field that holds the items of a request made here."""
    outer, inner, name = _FIELDS[signal]
    return getattr(getattr(getattr(request, outer)[0], inner)[0], name)


def attributes(signal: str, request: Any, index: int = 0) -> Any:
    """The attributes of one item; of a metric's first point."""
    item = items(signal, request)[index]
    return item.gauge.data_points[0].attributes if signal == "metrics" else item.attributes


def _span(scoped: Any, index: int) -> None:
    start_ns = START_NS + index
    span = scoped.spans.add(
        trace_id=TRACE_ID,
        span_id=(index + 1).to_bytes(8, "big"),
        name=f"span {index}",
        kind=1,
        start_time_unix_nano=start_ns,
        end_time_unix_nano=start_ns + SECOND_NS,
    )
    span.attributes.append(text("step", "probe"))


def _log(scoped: Any, index: int) -> None:
    record = scoped.log_records.add(
        time_unix_nano=START_NS + index, severity_number=9, severity_text="INFO", trace_id=TRACE_ID, span_id=SPAN_ID
    )
    record.body.string_value = f"line {index}"
    record.attributes.append(text("step", "probe"))


def _metric(scoped: Any, index: int) -> None:
    metric = scoped.metrics.add(name=f"queue.length.{index}", unit="1", description="items that wait")
    point = metric.gauge.data_points.add(time_unix_nano=START_NS + index, as_int=index)
    point.attributes.append(text("step", "probe"))


_ITEMS: dict[str, Callable[[Any, int], None]] = {"traces": _span, "logs": _log, "metrics": _metric}


def envelopes(signal: str) -> Iterator[Any]:
    """Requests that hold resources and scopes, but no telemetry."""
    outer, inner, _ = _FIELDS[signal]
    request = REQUESTS[signal]()
    getattr(request, outer).add()
    yield request
    request = good(signal, 0)
    yield request
    request = good(signal, 0)
    getattr(getattr(request, outer)[0], inner)[0].schema_url = "https://opentelemetry.io/schemas/1.40.0"
    yield request


def every_value() -> list[common_pb2.KeyValue]:
    """Attributes with every kind of value that there is."""
    inner = common_pb2.KeyValueList(values=[text("a", "1"), text("ключ", "值 🦊")])
    array = common_pb2.ArrayValue(values=[common_pb2.AnyValue(int_value=1), common_pb2.AnyValue(string_value="two")])
    values = {
        "string": common_pb2.AnyValue(string_value='ß \t\n "quoted" \\ / \u2028'),
        "empty": common_pb2.AnyValue(string_value=""),
        "bool": common_pb2.AnyValue(bool_value=False),
        "least": common_pb2.AnyValue(int_value=-(2**63)),
        "most": common_pb2.AnyValue(int_value=2**63 - 1),
        "double": common_pb2.AnyValue(double_value=1e-300),
        "bytes": common_pb2.AnyValue(bytes_value=b"\x00\xff\xfe"),
        "array": common_pb2.AnyValue(array_value=array),
        "list": common_pb2.AnyValue(kvlist_value=inner),
        "absent": common_pb2.AnyValue(),
    }
    return [common_pb2.KeyValue(key=key, value=value) for key, value in values.items()]


def rich(signal: str) -> Any:
    """One request that uses all that the signal has."""
    request = good(signal)
    attributes(signal, request).extend(every_value())
    item = items(signal, request)[0]
    if signal == "traces":
        item.kind = 2
        item.trace_state = "a=1,b=2"
        item.parent_span_id = bytes(range(9, 17))
        item.flags = 0x301
        item.status.code = 2
        item.status.message = "broken"
        item.events.add(name="event", time_unix_nano=START_NS + 5, attributes=every_value(), dropped_attributes_count=2)
        item.links.add(trace_id=TRACE_ID, span_id=SPAN_ID, trace_state="c=3", attributes=every_value(), flags=1)
        item.dropped_events_count = item.dropped_links_count = item.dropped_attributes_count = 3
    elif signal == "logs":
        item.observed_time_unix_nano = START_NS + 7
        item.event_name = "probe.done"
        item.flags = 1
        item.body.kvlist_value.values.extend(every_value())
    else:
        _every_metric(request.resource_metrics[0].scope_metrics[0])
    return request


def _every_metric(scoped: Any) -> None:
    times = {"start_time_unix_nano": START_NS, "time_unix_nano": START_NS + SECOND_NS}
    total = scoped.metrics.add(name="items", unit="{item}").sum
    total.aggregation_temporality, total.is_monotonic = 2, True
    point = total.data_points.add(as_double=2.5, attributes=every_value(), **times)
    point.exemplars.add(time_unix_nano=START_NS, as_double=2.5, span_id=SPAN_ID, trace_id=TRACE_ID)
    histogram = scoped.metrics.add(name="time", unit="s").histogram
    histogram.aggregation_temporality = 1
    point = histogram.data_points.add(count=3, sum=6.5, min=0.5, max=5, **times)
    point.bucket_counts.extend([1, 1, 1])
    point.explicit_bounds.extend([1.0, 4.0])
    exponential = scoped.metrics.add(name="size", unit="By").exponential_histogram
    exponential.aggregation_temporality = 2
    point = exponential.data_points.add(count=4, sum=10.0, scale=1, zero_count=1, zero_threshold=0.1, **times)
    point.positive.offset, point.negative.offset = 2, -1
    point.positive.bucket_counts.extend([1, 1])
    point.negative.bucket_counts.extend([1])
    summary = scoped.metrics.add(name="latency", unit="s").summary
    point = summary.data_points.add(count=2, sum=3.0, **times)
    point.quantile_values.add(quantile=0.5, value=1.5)


def field(number: int, payload: bytes) -> bytes:
    """A length-delimited protobuf field."""
    return varint(number << 3 | 2) + varint(len(payload)) + payload


def varint(number: int) -> bytes:
    """A base-128 number."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


UNKNOWN = (
    varint(5000 << 3) + b"\x07" + field(5001, b"newer") + varint(5002 << 3 | 5) + b"1234" + varint(5003 << 3 | 1) + b"12345678"
)
"""Fields that no version of OTLP has, of all four wire types."""


def nested_value(depth: int) -> bytes:
    """An AnyValue as protobuf: arrays in arrays, `depth` of them around a number."""
    value = b"\x18\x01"
    for _ in range(depth):
        value = field(5, field(1, value))
    return value


def nested_request(client: Client, signal: str, depth: int, number: int = 1) -> bytes:
    """`number` good items, the last with an attribute that is `depth` arrays deep, in the client's encoding."""
    request = good(signal, number)
    if client.is_json:
        attributes(signal, request, number - 1).append(text("deep", "HERE"))
        value = '{"arrayValue":{"values":[' * depth + '{"intValue":1}' + "]}}" * depth
        return json.dumps(to_json(request)).replace('{"stringValue": "HERE"}', value).encode()
    # From bytes: no library writes values as deep as this.
    item = items(signal, request)[-1]
    deep = field(1, b"deep") + field(2, nested_value(depth))
    if signal == "metrics":
        point = item.gauge.data_points[0].SerializeToString() + field(7, deep)
        item.ClearField("gauge")
        packed = item.SerializeToString() + field(5, field(1, point))
    else:
        packed = item.SerializeToString() + field({"traces": 9, "logs": 6}[signal], deep)
    del items(signal, request)[-1]
    return wrap(signal, request, packed)


def wrap(signal: str, request: Any, item: bytes) -> bytes:
    """The request with one item more, given as bytes."""
    outer, inner, _ = _FIELDS[signal]
    group = getattr(request, outer)[0]
    scoped = getattr(group, inner)[0].SerializeToString() + field(2, item)
    resource = field(1, group.resource.SerializeToString())
    return field(1, resource + field(2, scoped))


def spoil(signal: str, request: Any, index: int) -> None:
    """Make one item invalid for good in a way that every decoder can read: an id of 5 bytes, buckets without bounds."""
    item = items(signal, request)[index]
    if signal == "metrics":
        item.histogram.aggregation_temporality = 2
        point = item.histogram.data_points.add(time_unix_nano=START_NS, count=1)
        point.bucket_counts.append(1)
        point.explicit_bounds.extend([1.0, 2.0])
    else:
        item.trace_id = b"12345"


def filled(client: Client, signal: str, size: int) -> bytes:
    """A good request of exactly `size` bytes in the client's encoding: text in one item per MiB makes up the difference."""
    request = good(signal, 1 + size // FILLER_BYTES)
    for index in range(size // FILLER_BYTES):
        attributes(signal, request, index).append(text("filler", "x" * (FILLER_BYTES - 2048)))
    last = attributes(signal, request, -1)
    last.append(text("filler", "x"))
    for _ in range(8):
        missing = size - len(client.encode(request))
        if not missing:
            break
        last[-1].value.string_value = "x" * (len(last[-1].value.string_value) + missing)
    return client.encode(request)
