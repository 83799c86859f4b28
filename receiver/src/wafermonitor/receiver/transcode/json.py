"""OTLP/JSON → records, by msgspec's typed structs.

Not by protobuf's own JSON reader: OTLP's ids are hex (that one takes them for base64), its enums are numbers only, and unknown
fields are ignored. 64-bit integers may be text or numbers, doubles may be "NaN" and "Infinity", null means absent.

In: an admitted `Request` with a JSON body. Out: `Transcoded`. Called by: `pipeline`.
Source: opentelemetry-proto docs/specification.md, "JSON Protobuf Encoding".
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import msgspec

from wafermonitor.receiver.errors import ItemRejected, RequestRejected
from wafermonitor.receiver.transcode import messages, walk
from wafermonitor.receiver.transcode.policies import INT64_MAX, INT64_MIN, Marks, Repair, clean_text, finite
from wafermonitor.receiver.transcode.protocol import Request, Signal, Transcoded
from wafermonitor.receiver.transcode.wire import Frame, Frames, bytes_value, deeper, put

UINT64_MAX = 2**64 - 1
MAX_NESTING = 320
"""JSON levels that the first pass follows: four for each of policies.MAX_DEPTH, and those around the value."""

MENDED_SURROGATE = rb"\uFfFd"
"""U+FFFD in a spelling that nobody else uses, so that the item that was mended is known in the second pass."""

_INTEGER = re.compile(r"-?[0-9]{1,20}\Z")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
# From the left, so that the second half of `\\\\ud800` is not taken for an escape.
_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<lone>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{}]', re.DOTALL)

_REQUESTS: dict[Signal, tuple[msgspec.json.Decoder[Any], str]] = {
    Signal.TRACES: (msgspec.json.Decoder(messages.TraceRequest), "resource_spans"),
    Signal.LOGS: (msgspec.json.Decoder(messages.LogsRequest), "resource_logs"),
    Signal.METRICS: (msgspec.json.Decoder(messages.MetricsRequest), "resource_metrics"),
}
_ITEMS: dict[str, msgspec.json.Decoder[Any]] = {
    "resource": msgspec.json.Decoder(messages.Resource | None),
    "scope": msgspec.json.Decoder(messages.Scope | None),
    "span": msgspec.json.Decoder(messages.Span),
    "log_record": msgspec.json.Decoder(messages.LogRecord),
    "metric": msgspec.json.Decoder(messages.Metric),
    "gauge": msgspec.json.Decoder(messages.NumberPoint),
    "sum": msgspec.json.Decoder(messages.NumberPoint),
    "histogram": msgspec.json.Decoder(messages.HistogramPoint),
    "exponential_histogram": msgspec.json.Decoder(messages.ExponentialPoint),
    "summary": msgspec.json.Decoder(messages.SummaryPoint),
}
_METRIC_KINDS = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
_KIND_NAMES = {"exponential_histogram": "exponentialHistogram"}


class _Names(NamedTuple):
    """What a signal's lists are called in JSON, and the second of them here."""

    groups: str
    scopes: str
    items: str
    scope_field: str


_NAMES = {
    Signal.TRACES: _Names("resourceSpans", "scopeSpans", "spans", "scope_spans"),
    Signal.LOGS: _Names("resourceLogs", "scopeLogs", "logRecords", "scope_logs"),
    Signal.METRICS: _Names("resourceMetrics", "scopeMetrics", "metrics", "scope_metrics"),
}


class JsonWire:
    """`wire.Wire` for structs of `messages`."""

    def item(self, kind: str, raw: Any, marks: Marks) -> Any:
        """Decode one raw message, its text mended; None for an absent or null resource or scope."""
        if not len(raw):
            return None
        body = bytes(raw)
        if MENDED_SURROGATE in body:
            marks.add(Repair.SURROGATE)
        try:
            return _decode(kind, body)
        except UnicodeDecodeError:
            marks.add(Repair.INVALID_UTF8)
            return _decode(kind, body.decode("utf-8", "replace").encode())

    def raw(self, item: Any) -> bytes:
        """The item's text."""
        return bytes(item)

    def frames(self, request: Request, groups: Sequence[Any]) -> Frames:
        """The texts are still there."""
        scopes = _NAMES[request.signal].scope_field

        def frame(group: int, scoped: int) -> Frame:
            around = groups[group]
            return Frame(bytes(around.resource), bytes(getattr(around, scopes)[scoped].scope))

        return frame

    def whole(self, signal: Signal, frame: Frame, item: bytes) -> bytes:
        """The same texts, in one request."""
        shape = _NAMES[signal]
        scoped: dict[str, Any] = {shape.items: [msgspec.Raw(item)]}
        group: dict[str, Any] = {shape.scopes: [scoped]}
        if frame.scope:
            scoped["scope"] = msgspec.Raw(frame.scope)
        if frame.resource:
            group["resource"] = msgspec.Raw(frame.resource)
        return msgspec.json.encode({shape.groups: [group]})

    def metric_of(self, metric: Any, point: bytes) -> bytes:
        """Name, unit, and the data with this point."""
        kind, data = next((kind, getattr(metric, kind)) for kind in _METRIC_KINDS if getattr(metric, kind) is not None)
        alone = {"aggregationTemporality": data.aggregation_temporality, "isMonotonic": data.is_monotonic}
        points = {"dataPoints": [msgspec.Raw(point)]} | {key: value for key, value in alone.items() if value is not None}
        described = {"name": metric.name, "unit": metric.unit, _KIND_NAMES.get(kind, kind): points}
        return msgspec.json.encode({key: value for key, value in described.items() if value is not None})

    def text(self, value: Any, marks: Marks) -> str:
        """Absent is empty."""
        return clean_text(value, marks) if value else ""

    def id(self, value: Any) -> bytes:
        """Hex, in either case."""
        if not value:
            return b""
        try:
            return binascii.unhexlify(value)
        except ValueError:
            raise ItemRejected("an id is not hex") from None

    def integer(self, value: Any) -> int:
        """A number without fraction or its text, within 64 bits; which of the two 64-bit ranges is the field's business."""
        if isinstance(value, str):
            if _INTEGER.match(value) is None:
                raise ItemRejected("an integer field holds other text")
            number = int(value)
        elif isinstance(value, float):
            if not value.is_integer():
                raise ItemRejected("an integer field holds a fraction")
            number = int(value)
        else:
            number = value or 0
        if not INT64_MIN <= number <= UINT64_MAX:
            raise ItemRejected("an integer has more than 64 bits")
        return number

    def double(self, value: Any) -> float:
        """A number, or the text of one, "NaN", "Infinity" and "-Infinity" included."""
        try:
            return 0.0 if value is None else float(value)
        except ValueError:
            raise ItemRejected("a number field holds other text") from None

    def optional_double(self, message: Any, name: str) -> float | None:
        """Null and absent alike are None."""
        value = getattr(message, name)
        return None if value is None else self.double(value)

    def number(self, point: Any) -> float | None:
        """`asDouble` before `asInt`."""
        if point.as_double is not None:
            return self.double(point.as_double)
        return None if point.as_int is None else float(_int64(self.integer(point.as_int)))

    def metric_data(self, metric: Any) -> tuple[str, Any] | None:
        """The first kind that is there."""
        for kind in _METRIC_KINDS:
            data = getattr(metric, kind)
            if data is not None:
                return kind, data
        return None

    def value(self, value: Any, marks: Marks, depth: int = 0) -> Any:
        """Text first: it is the common case."""
        if value is None:
            return None
        if value.string_value is not None:
            return clean_text(value.string_value, marks)
        if value.array_value is not None:
            below = deeper(depth)
            return [self.value(item, marks, below) for item in value.array_value.values or ()]
        if value.kvlist_value is not None:
            return self.attributes(value.kvlist_value.values, marks, deeper(depth))
        return self._scalar(value, marks)

    def _scalar(self, value: Any, marks: Marks) -> Any:
        if value.int_value is not None:
            return _int64(self.integer(value.int_value))
        if value.double_value is not None:
            return finite(self.double(value.double_value), marks)
        if value.bytes_value is not None:
            return bytes_value(_base64(value.bytes_value))
        return value.bool_value

    def attributes(self, pairs: Iterable[Any] | None, marks: Marks, depth: int = 0) -> dict[str, Any]:
        """Keys and values under the policies."""
        found: dict[str, Any] = {}
        for pair in pairs or ():
            put(found, self.text(pair.key, marks), self.value(pair.value, marks, depth), marks)
        return found


_wire = JsonWire()


class Lane:
    """`protocol.Lane` for JSON bodies."""

    def transcode(self, request: Request) -> Transcoded:
        """The rows of one request."""
        decoder, field = _REQUESTS[request.signal]
        try:
            message = first_pass(decoder, request.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise RequestRejected(f"the body is no JSON export request for {request.signal}") from None
        return walk.transcode(request, getattr(message, field), _wire)


def first_pass(decoder: msgspec.json.Decoder[Any], body: bytes) -> Any:
    """Decode down to the raw items, with lone surrogates mended and depths cut off; msgspec's errors pass through."""
    if _SURROGATE.search(body):
        body = _ESCAPE.sub(_mended_surrogate, body)
    try:
        return decoder.decode(body)
    except RecursionError:
        return decoder.decode(_without_depths(body))


def _mended_surrogate(escape: re.Match[bytes]) -> bytes:
    return escape[0] if escape["lone"] is None else MENDED_SURROGATE


def _decode(kind: str, body: bytes) -> Any:
    try:
        return _ITEMS[kind].decode(body)
    except UnicodeDecodeError:
        raise
    except (msgspec.MsgspecError, RecursionError):
        raise ItemRejected(f"{kind} is not valid OTLP/JSON") from None


def _without_depths(body: bytes) -> bytes:
    """The body with 0 in the place of whatever lies deeper than MAX_NESTING, so that its item fails and no other."""
    kept: list[bytes] = []
    depth = begin = 0
    for token in _TOKEN.finditer(body):
        mark = token[0]
        if mark in (b"[", b"{"):
            depth += 1
            if depth == MAX_NESTING + 1:
                kept.append(body[begin : token.start()])
        elif mark in (b"]", b"}"):
            if depth == MAX_NESTING + 1:
                kept.append(b"0")
                begin = token.end()
            depth -= 1
    kept.append(body[begin:] if depth <= MAX_NESTING else b"")
    return b"".join(kept)


def _int64(number: int) -> int:
    if number > INT64_MAX:
        raise ItemRejected("an integer has more than 64 bits")
    return number


def _base64(text: str) -> bytes:
    """Standard or URL-safe alphabet, with padding or without: protobuf's JSON mapping has readers take all four."""
    plain = text.rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except ValueError:
        raise ItemRejected("bytesValue is not base64") from None
