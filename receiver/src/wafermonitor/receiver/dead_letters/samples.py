"""The sample of a dead letter as what it was: a request that a lane can decode again, or something to look at.

A sample is a request with one item (OTLP, or a body of the older routes). Where that would be above 64 KiB, or more than a few
times the request that it came from, it is the item alone, whose resource is lost but for its site; a data point alone has lost
its metric as well, and cannot be sent again.

In: a `DeadLetter`. Out: a `Request`, or JSON values. Called by: `retry`, `command`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from google.protobuf.message import DecodeError, Message
from google.protobuf.unknown_fields import UnknownFieldSet
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from wafermonitor.instrumentation.otlp_json import request_from_proto
from wafermonitor.receiver.errors import RequestRejected
from wafermonitor.receiver.legacy.lane import SIGNAL as OLDER
from wafermonitor.receiver.transcode import python
from wafermonitor.receiver.transcode.policies import MAX_SAMPLE_BYTES
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.runs.records import UNSET_SITE, DeadLetter
from wafermonitor.semconv import attributes as names

CUT = f"the sample was cut at {MAX_SAMPLE_BYTES} bytes; send the item again from where it came"
UNREADABLE = "the sample is no request or item that can be decoded"
HOMELESS = "the sample is no metric with a name, and a data point alone cannot be stored"
SHOWN_BYTES = 2048
"""Of a sample that cannot be decoded."""
_JSON_STARTS = (b"{", b"[")


class _Shape(NamedTuple):
    request: type[Message]
    item: type[Message]
    groups: str
    scopes: str
    items: str


_SHAPES = {
    Signal.TRACES: _Shape(ExportTraceServiceRequest, Span, "resourceSpans", "scopeSpans", "spans"),
    Signal.LOGS: _Shape(ExportLogsServiceRequest, LogRecord, "resourceLogs", "scopeLogs", "logRecords"),
    Signal.METRICS: _Shape(ExportMetricsServiceRequest, Metric, "resourceMetrics", "scopeMetrics", "metrics"),
}
_OBJECT: msgspec.json.Decoder[dict[str, msgspec.Raw]] = msgspec.json.Decoder(dict[str, msgspec.Raw])


def request_of(letter: DeadLetter) -> Request:
    """The sample as a request. RequestRejected when it was cut, or is nothing that a lane reads."""
    if len(letter.sample) >= MAX_SAMPLE_BYTES:
        raise RequestRejected(CUT)
    if letter.signal == OLDER or _is_older(letter):
        return Request(Signal.LOGS, Encoding.EVENTS, letter.sample, letter.received_ns)
    try:
        signal = Signal(letter.signal)
    except ValueError:
        raise RequestRejected(UNREADABLE) from None
    if letter.sample.startswith(_JSON_STARTS):
        encoding, body = _json(signal, letter)
    else:
        encoding, body = Encoding.PROTOBUF, _protobuf(signal, letter)
    return Request(signal, encoding, body, letter.received_ns)


def view(letter: DeadLetter) -> Any:
    """What the sample says, as JSON values; of one that cannot be decoded the first bytes, as text with U+FFFD."""
    try:
        if letter.sample.startswith(_JSON_STARTS):
            return msgspec.json.decode(letter.sample)
        signal = Signal(letter.signal)
        shape = _SHAPES[signal]
        if not _is_whole(signal, letter.sample):
            return request_from_proto(shape.item.FromString(letter.sample))
        whole = _parsed(shape.request, letter.sample)
        return request_from_proto(whole) if whole is not None else _around_broken(shape, signal, letter.sample)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, DecodeError, ValueError):
        return _text(letter.sample)


def _around_broken(shape: _Shape, signal: Signal, sample: bytes) -> Any:
    """A request whose only item is no message: all around it decoded, the item as text. ValueError for any other."""
    request = python.REQUESTS[signal][0].FromString(sample)
    (group,) = _inside(request, shape.groups)
    (scoped,) = _inside(group, shape.scopes)
    items = _inside(scoped, shape.items)
    (item,) = items
    del items[:]
    shown = request_from_proto(shape.request.FromString(request.SerializeToString()))
    shown[shape.groups][0][shape.scopes][0][shape.items] = [_text(item)]
    return shown


def _inside(message: Any, field: str) -> Any:
    return getattr(message, message.DESCRIPTOR.fields_by_camelcase_name[field].name)


def _text(sample: bytes) -> str:
    return sample[:SHOWN_BYTES].decode("utf-8", "replace")


def _json(signal: Signal, letter: DeadLetter) -> tuple[Encoding, bytes]:
    shape = _SHAPES[signal]
    try:
        found = _OBJECT.decode(letter.sample)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise RequestRejected(UNREADABLE) from None
    if shape.groups in found:
        return Encoding.JSON, letter.sample
    if signal is Signal.METRICS and "name" not in found:
        raise RequestRejected(HOMELESS)
    site = [{"key": names.WAFER_SITE_ID, "value": {"stringValue": letter.site}}] if _has_site(letter) else []
    group = {"resource": {"attributes": site}, shape.scopes: [{shape.items: [msgspec.Raw(letter.sample)]}]}
    return Encoding.JSON, msgspec.json.encode({shape.groups: [group]})


def _protobuf(signal: Signal, letter: DeadLetter) -> bytes:
    if _is_whole(signal, letter.sample):
        return letter.sample
    if signal is Signal.METRICS:
        metric = _parsed(Metric, letter.sample)
        if metric is None or not getattr(metric, "name", "") or len(UnknownFieldSet(metric)):
            raise RequestRejected(HOMELESS)
    return python.request_with(_site(letter.site) if _has_site(letter) else b"", b"", letter.sample)


def _parsed(kind: type[Message], sample: bytes) -> Message | None:
    try:
        return kind.FromString(sample)
    except DecodeError:
        return None


def _is_whole(signal: Signal, sample: bytes) -> bool:
    """A request has its groups and nothing else, whatever its items are; an item read as one has fields that no request has."""
    message = _parsed(python.REQUESTS[signal][0], sample)
    return message is not None and bool(message.ListFields()) and not len(UnknownFieldSet(message))


def _is_older(letter: DeadLetter) -> bool:
    """A whole body of the older routes, which the pipeline counts among the logs."""
    if letter.signal != Signal.LOGS or not letter.sample.startswith(_JSON_STARTS):
        return False
    try:
        found = msgspec.json.decode(letter.sample, type=list[msgspec.Raw] | dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return False
    return isinstance(found, list) or "events" in found or "entity" in found


def _has_site(letter: DeadLetter) -> bool:
    return letter.site != UNSET_SITE


def _site(site: str) -> bytes:
    """A resource with the site alone: Resource{attributes = 1: KeyValue{key = 1, value = 2: AnyValue{string_value = 1}}}."""
    key, value = python.lengthy(1, names.WAFER_SITE_ID.encode()), python.lengthy(1, site.encode())
    return python.lengthy(1, key + python.lengthy(2, value))
