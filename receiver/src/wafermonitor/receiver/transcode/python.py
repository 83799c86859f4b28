"""OTLP protobuf → records, in Python: the lane that every other lane is compared with.

The messages are decoded by upb from a descriptor that is compatible with OTLP's on the wire, but where
strings are bytes (so that invalid UTF-8 can be mended instead of condemning the request), and
spans, log records, metrics, data points, arrays and maps are bytes too (so that each is decoded within its own bounds: a broken
one condemns only itself, and depth is ours to bound).

In: an admitted `Request` with a protobuf body. Out: `Transcoded`. Called by: `pipeline`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
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
from wafermonitor.receiver.transcode.wire import Frame, Frames, bytes_value, deeper, put

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


_NAME, _UNIT, _POINTS = 1, 3, 1
"""Fields of `Metric`, and the points in each of its kinds."""
_TEMPORALITY, _MONOTONIC = b"\x10", b"\x18\x01"
"""Field 2 of sums and histograms, and field 3 of sums when it is set."""


def _compatible_pool(roots: Iterable[FileDescriptor], framed: frozenset[str] = frozenset()) -> descriptor_pool.DescriptorPool:
    """A pool of its own with the roots and all they import, changed as the docstring says; `framed` are lists of bytes."""
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
            _loosen(message, framed)
        pool.Add(proto)

    for root in roots:
        add(root)
    return pool


def _loosen(message: descriptor_pb2.DescriptorProto, framed: frozenset[str]) -> None:
    for field in message.field:
        name = f"{message.name}.{field.name}"
        if field.type == _FIELD.TYPE_STRING or name in _KEPT_AS_BYTES or name in framed:
            field.type = _FIELD.TYPE_BYTES
            field.ClearField("type_name")
        if name in framed:
            field.label = _FIELD.LABEL_REPEATED
    for nested in message.nested_type:
        _loosen(nested, framed)


_ROOTS = (trace_service_pb2.DESCRIPTOR, logs_service_pb2.DESCRIPTOR, metrics_service_pb2.DESCRIPTOR)
_pool = _compatible_pool(_ROOTS)


def _message(name: str, pool: descriptor_pool.DescriptorPool = _pool) -> Any:
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"opentelemetry.proto.{name}"))


def _requests(pool: descriptor_pool.DescriptorPool) -> dict[Signal, tuple[Any, str]]:
    return {
        Signal.TRACES: (_message("collector.trace.v1.ExportTraceServiceRequest", pool), "resource_spans"),
        Signal.LOGS: (_message("collector.logs.v1.ExportLogsServiceRequest", pool), "resource_logs"),
        Signal.METRICS: (_message("collector.metrics.v1.ExportMetricsServiceRequest", pool), "resource_metrics"),
    }


REQUESTS = _requests(_pool)
"""The request of each signal, and its field of groups."""


@cache
def _framed() -> dict[Signal, tuple[Any, str]]:
    """As `REQUESTS`, where resources and scopes are lists of bytes."""
    kinds = ("Spans", "Logs", "Metrics")
    framed = frozenset({*(f"Resource{kind}.resource" for kind in kinds), *(f"Scope{kind}.scope" for kind in kinds)})
    return _requests(_compatible_pool(_ROOTS, framed))


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

    def frames(self, request: Request, groups: Sequence[Any]) -> Frames:
        """Read anew, with resources and scopes left as bytes; of several in one place all count, as protobuf joins them."""
        del groups
        kind, field = _framed()[request.signal]
        found = getattr(kind.FromString(request.body), field)
        scopes = field.replace("resource", "scope")

        def frame(group: int, scoped: int) -> Frame:
            around = found[group]
            return Frame(b"".join(around.resource), b"".join(getattr(around, scopes)[scoped].scope))

        return frame

    def whole(self, signal: Signal, frame: Frame, item: bytes) -> bytes:
        """All signals have one shape on the wire."""
        del signal
        return request_with(frame.resource, frame.scope, item)

    def metric_of(self, metric: Any, point: bytes) -> bytes:
        """Name, unit, and the data with this point."""
        kind = metric.WhichOneof("data")
        data = getattr(metric, kind)
        temporality = getattr(data, "aggregation_temporality", 0)
        parts = [
            lengthy(_NAME, metric.name) if metric.name else b"",
            lengthy(_UNIT, metric.unit) if metric.unit else b"",
            lengthy(
                metric.DESCRIPTOR.fields_by_name[kind].number,
                lengthy(_POINTS, point)
                + (_TEMPORALITY + varint(temporality) if temporality else b"")
                + (_MONOTONIC if getattr(data, "is_monotonic", False) else b""),
            ),
        ]
        return b"".join(parts)

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


def request_with(resource: bytes, scope: bytes, item: bytes) -> bytes:
    """A request of groups (1) of a resource (1) and scoped groups (2), those of a scope (1) and items (2); one of each."""
    around = lengthy(1, scope) if scope else b""
    scoped = lengthy(2, around + lengthy(2, item))
    return lengthy(1, (lengthy(1, resource) if resource else b"") + scoped)


def lengthy(number: int, value: bytes) -> bytes:
    """A length-delimited field on the wire."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(number: int) -> bytes:
    """An integer on the wire; a negative one is its two's complement in 64 bits."""
    number &= 2**64 - 1
    found = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - a varint has seven bits in a byte
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


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
        kind, field = REQUESTS[request.signal]
        try:
            message = kind.FromString(request.body)
        except DecodeError:
            raise RequestRejected(f"the body is no protobuf export request for {request.signal}") from None
        return walk.transcode(request, getattr(message, field), _wire)
