"""OTLP protobuf → records, in Python: the lane that every other lane is compared with.

The messages are decoded by upb from a descriptor that is compatible with OTLP's on the wire, but where
strings are bytes (so that invalid UTF-8 can be mended instead of condemning the request), and
spans, log records, metrics, data points, arrays and maps are bytes too (so that each is decoded within its own bounds: a broken
one condemns only itself, and depth is ours to bound).

In: an admitted `Request` with a protobuf body. Out: `Transcoded`. Called by: `pipeline`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2

from wafermonitor.receiver.errors import ItemRejected, RequestRejected
from wafermonitor.receiver.transcode import walk
from wafermonitor.receiver.transcode.policies import Marks, decode_text, finite
from wafermonitor.receiver.transcode.protocol import Request, Signal, Transcoded
from wafermonitor.receiver.transcode.wire import bytes_value, deeper, put

_FIELD = descriptor_pb2.FieldDescriptorProto
_KEPT_AS_BYTES = frozenset(
    {
        "ScopeSpans.spans",
        "ScopeLogs.log_records",
        "ScopeMetrics.metrics",
        "Gauge.data_points",
        "Sum.data_points",
        "Histogram.data_points",
        "ExponentialHistogram.data_points",
        "Summary.data_points",
        "AnyValue.array_value",
        "AnyValue.kvlist_value",
    }
)


def _compatible_pool(*roots: FileDescriptor) -> descriptor_pool.DescriptorPool:
    """A pool of its own with the roots and all they import, changed as the module's docstring says."""
    pool = descriptor_pool.DescriptorPool()
    added: set[str] = set()

    def add(file: FileDescriptor) -> None:
        if file.name in added:
            return
        added.add(file.name)
        for dependency in file.dependencies:
            add(dependency)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        for message in proto.message_type:
            _loosen(message)
        pool.Add(proto)

    for root in roots:
        add(root)
    return pool


def _loosen(message: descriptor_pb2.DescriptorProto) -> None:
    for field in message.field:
        if field.type == _FIELD.TYPE_STRING or f"{message.name}.{field.name}" in _KEPT_AS_BYTES:
            field.type = _FIELD.TYPE_BYTES
            field.ClearField("type_name")
    for nested in message.nested_type:
        _loosen(nested)


_pool = _compatible_pool(trace_service_pb2.DESCRIPTOR, logs_service_pb2.DESCRIPTOR, metrics_service_pb2.DESCRIPTOR)


def _message(name: str) -> Any:
    return message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"opentelemetry.proto.{name}"))


_REQUESTS = {
    Signal.TRACES: (_message("collector.trace.v1.ExportTraceServiceRequest"), "resource_spans"),
    Signal.LOGS: (_message("collector.logs.v1.ExportLogsServiceRequest"), "resource_logs"),
    Signal.METRICS: (_message("collector.metrics.v1.ExportMetricsServiceRequest"), "resource_metrics"),
}
_ITEMS = {
    "span": _message("trace.v1.Span"),
    "log_record": _message("logs.v1.LogRecord"),
    "metric": _message("metrics.v1.Metric"),
    "gauge": _message("metrics.v1.NumberDataPoint"),
    "sum": _message("metrics.v1.NumberDataPoint"),
    "histogram": _message("metrics.v1.HistogramDataPoint"),
    "exponential_histogram": _message("metrics.v1.ExponentialHistogramDataPoint"),
    "summary": _message("metrics.v1.SummaryDataPoint"),
}
_Array = _message("common.v1.ArrayValue")
_Map = _message("common.v1.KeyValueList")


class ProtobufWire:
    """`wire.Wire` for messages of the compatible descriptor."""

    def item(self, kind: str, raw: Any, marks: Marks) -> Any:
        """Resource and scope are messages already; items are decoded here, each by itself."""
        del marks
        kind_of = _ITEMS.get(kind)
        return raw if kind_of is None else _parse(kind_of, raw, kind)

    def raw(self, item: Any) -> bytes:
        """The item's bytes."""
        return bytes(item)

    def text(self, value: Any, marks: Marks) -> str:
        """Bytes → text."""
        return decode_text(value, marks)

    def id(self, value: Any) -> bytes:
        """As it is."""
        return bytes(value)

    def integer(self, value: Any) -> int:
        """As it is."""
        return int(value)

    def double(self, value: Any) -> float:
        """As it is."""
        return float(value)

    def optional_double(self, message: Any, name: str) -> float | None:
        """None unless it was on the wire."""
        return float(getattr(message, name)) if message.HasField(name) else None

    def number(self, point: Any) -> float | None:
        """None when neither was on the wire."""
        which = point.WhichOneof("value")
        return None if which is None else float(getattr(point, which))

    def metric_data(self, metric: Any) -> tuple[str, Any] | None:
        """None when the metric has no data."""
        which = metric.WhichOneof("data")
        return None if which is None else (which, getattr(metric, which))

    def value(self, value: Any, marks: Marks, depth: int = 0) -> Any:
        """Text first: it is the common case, and touching fields is what costs."""
        text = value.string_value
        if text:
            return decode_text(text, marks)
        which = value.WhichOneof("value")
        if which == "array_value":
            below = deeper(depth)
            return [self.value(item, marks, below) for item in _parse(_Array, value.array_value, "array").values]
        if which == "kvlist_value":
            return self.attributes(_parse(_Map, value.kvlist_value, "map").values, marks, deeper(depth))
        return self._scalar(which, value, marks)

    def _scalar(self, which: str | None, value: Any, marks: Marks) -> Any:
        if which in ("int_value", "bool_value"):
            return getattr(value, which)
        if which == "double_value":
            return finite(value.double_value, marks)
        if which == "bytes_value":
            return bytes_value(value.bytes_value)
        return "" if which == "string_value" else None

    def attributes(self, pairs: Iterable[Any] | None, marks: Marks, depth: int = 0) -> dict[str, Any]:
        """Keys and values under the policies."""
        found: dict[str, Any] = {}
        for pair in pairs or ():
            put(found, decode_text(pair.key, marks), self.value(pair.value, marks, depth), marks)
        return found


def _parse(kind: Any, raw: bytes, name: str) -> Any:
    try:
        return kind.FromString(raw)
    except DecodeError:
        raise ItemRejected(f"{name} is not valid protobuf") from None


_wire = ProtobufWire()


class Lane:
    """`protocol.Lane` for protobuf bodies."""

    def transcode(self, request: Request) -> Transcoded:
        """The rows of one request."""
        kind, field = _REQUESTS[request.signal]
        try:
            message = kind.FromString(request.body)
        except DecodeError:
            raise RequestRejected(f"the body is no protobuf export request for {request.signal}") from None
        return walk.transcode(request, getattr(message, field), _wire)
