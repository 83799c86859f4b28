"""AWS X-Ray: spans as segments and subsegments.

In: OTLP requests of traces. Out: segment documents, one for each span. Called by: `receiver.bridge`, jobs in mode direct.

The shape is that of the Collector's awsxray exporter. A span that has no parent, or that serves or consumes, is a segment
(named after its service when it serves or consumes); any other is a subsegment of its parent. `fault` says status ERROR, and
`cause` has the exceptions. What people search for are annotations (a list is joined by commas, which the exporter leaves out).
All attributes are in `metadata.default`; those of the resource are called `otel.resource.<name>` here and there. Ours beside
it, in `metadata.wafer`, because X-Ray's times are doubles: `name`, `kind`, `status`, `status_message`, `start_unix_nano`,
`end_unix_nano`, `events`, `scope`.

Accepted is what PutTraceSegments does not name as unprocessed. A segment is named after its span: X-Ray lets the later one of
an id replace the earlier. A document may have 64 kB; a larger one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, ClassVar, Final, NamedTuple

import msgspec

from wafermonitor.instrumentation.environment import EnvironmentConfig, option
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.writers.aws import ERRORS, AwsConfig, Clients, Tally, code_of, outcome_of, unavailable
from wafermonitor.storage.writers.items import Event, Span
from wafermonitor.storage.writers.protocol import Fate, Outcome, Signal
from wafermonitor.storage.writers.rows import plain_json

MOST_SEGMENTS: Final = 50
MOST_BYTES: Final = 64_000
_NAME_CHARACTERS: Final = 200
_TRACE_CHARACTERS: Final = 32
_NO_NAME: Final = re.compile(r"[^\w\s.:/%&#=+\\\-@]")
_NO_KEY: Final = re.compile(r"[^A-Za-z0-9_.]")
_SERVES: Final = frozenset({"SERVER", "CONSUMER"})
_NOTHING: Final = "InvalidRequestException"
"""What it may say to a call without a segment, to a key that it knows."""
_LATER: Final = ("Throttl", "Internal", "ServiceUnavailable", "LimitExceeded")
_encode = msgspec.json.Encoder(decimal_format="number").encode


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


@dataclass(frozen=True, kw_only=True)
class Config(AwsConfig):
    """X-Ray of one region."""

    component: ClassVar[str] = "xray"

    annotations: tuple[str, ...] = option(
        _words,
        "Attributes that can be searched for, by commas.",
        default=(
            names.WAFER_SITE_ID,
            names.WAFER_JOB_NAME,
            names.WAFER_JOB_RUN_ID,
            names.WAFER_JOB_RESULT,
            names.WAFER_LOT_IDS,
            names.WAFER_EQUIPMENT_ID,
        ),
    )


class _Document(NamedTuple):
    """One segment, and which item of which request it is."""

    place: int
    position: int
    id: str
    text: str


class Writer:
    """Puts segments."""

    config_type: ClassVar[type[EnvironmentConfig]] = Config
    signals: ClassVar[frozenset[Signal]] = frozenset({"traces"})
    port: ClassVar[int] = 14510

    def __init__(self, config: Config) -> None:
        self._annotations = config.annotations
        self._clients = Clients(config)

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """As many at once as one call takes."""
        tally = Tally(signal, requests)
        documents = []
        for place, position, item in tally.items():
            assert isinstance(item, Span)
            if len(item.trace_id) != _TRACE_CHARACTERS or len(item.span_id) * 2 != _TRACE_CHARACTERS:
                tally.refuse(place, position, "an id of a wrong length")
                continue
            text = _encode(segment(item, self._annotations)).decode()
            if len(text.encode()) > MOST_BYTES:
                tally.refuse(place, position, f"larger than a segment of {MOST_BYTES} bytes")
            else:
                documents.append(_Document(place, position, item.span_id, text))
        later: Outcome | None = None
        for batch in _batches(documents):
            later = later or self._put(tally, batch)
            if later is not None:
                for document in batch:
                    tally.settle(document.place, later)
        return tally.outcomes()

    def check(self) -> None:
        """Whether X-Ray answers to this key: no segment is a question as well."""
        try:
            self._clients.of("xray").put_trace_segments(TraceSegmentDocuments=[])
        except ERRORS as error:
            if code_of(error) != _NOTHING:
                raise unavailable("X-Ray", error) from None

    def close(self) -> None:
        """End the connections."""
        self._clients.close()

    def _put(self, tally: Tally, batch: Sequence[_Document]) -> Outcome | None:
        """None when X-Ray has each of them or will never have it; else why all must be tried again."""
        try:
            answer = self._clients.of("xray").put_trace_segments(TraceSegmentDocuments=[one.text for one in batch])
        except ERRORS as error:
            return outcome_of("X-Ray", error)
        known = {one.id: one for one in batch}
        for failed in answer.get("UnprocessedTraceSegments", ()):
            code, document = str(failed.get("ErrorCode", "")), known.get(str(failed.get("Id", "")))
            if document is None or code.startswith(_LATER):
                return Outcome(Fate.RETRY, f"X-Ray answers {code or 'that something is unprocessed'}")
            tally.refuse(document.place, document.position, f"X-Ray answers {code}")
        return None


def segment(span: Span, annotations: Sequence[str]) -> dict[str, Any]:
    """The document of one span."""
    inner = bool(span.parent_span_id) and span.kind not in _SERVES
    name = (span.kind in _SERVES and span.resource.service) or span.name
    sender = {f"otel.resource.{name}": value for name, value in span.resource.attributes.items()}
    found: dict[str, Any] = {
        "name": _NO_NAME.sub("_", name)[:_NAME_CHARACTERS] or "-",
        "id": span.span_id,
        "trace_id": f"1-{span.trace_id[:8]}-{span.trace_id[8:]}",
        "start_time": _seconds(span.start_ns),
        "end_time": _seconds(max(span.end_ns, span.start_ns)),
        "annotations": _searched(sender, span.attributes, annotations),
        "metadata": {"default": plain_json(sender | span.attributes), "wafer": _own(span)},
    }
    if span.parent_span_id:
        found["parent_id"] = span.parent_span_id
    if inner:
        found["type"] = "subsegment"
        if span.kind == "CLIENT":
            found["namespace"] = "remote"
    else:
        found["service"] = {"version": str(span.resource.attributes.get(names.SERVICE_VERSION, ""))}
    if span.status == "ERROR":
        found["fault"] = True
        found["cause"] = {"exceptions": [*_exceptions(span)] or [_exception(span, 0, "", span.status_message)]}
    if span.links:
        found["links"] = [
            {
                "trace_id": f"1-{one.trace_id[:8]}-{one.trace_id[8:]}",
                "id": one.span_id,
                "attributes": plain_json(one.attributes),
            }
            for one in span.links
        ]
    return found


def _seconds(time_ns: int) -> Decimal:
    return Decimal(time_ns).scaleb(-9)


def _searched(sender: dict[str, Any], own: dict[str, Any], annotations: Sequence[str]) -> dict[str, Any]:
    """Those of the span, else of its resource."""
    found = {}
    for name in annotations:
        key = name if name in own else f"otel.resource.{name}"
        value = (sender | own).get(key)
        if value not in (None, ""):
            found[_NO_KEY.sub("_", key)] = _indexed(value)
    return found


def _indexed(value: Any) -> Any:
    """X-Ray indexes text, numbers and booleans."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    return value if isinstance(value, str | int | float | bool) else str(value)


def _own(span: Span) -> dict[str, Any]:
    return {
        "name": span.name,
        "kind": span.kind,
        "status": span.status,
        "status_message": span.status_message,
        "start_unix_nano": span.start_ns,
        "end_unix_nano": span.end_ns,
        "events": [
            {"time_unix_nano": one.time_ns, "name": one.name, "attributes": plain_json(one.attributes)} for one in span.events
        ],
        "scope": {"name": span.scope.name, "version": span.scope.version},
    }


def _exceptions(span: Span) -> Iterator[dict[str, Any]]:
    for number, event in enumerate(one for one in span.events if one.name == "exception"):
        yield _exception(span, number, _text(event, names.EXCEPTION_TYPE), _text(event, names.EXCEPTION_MESSAGE))


def _exception(span: Span, number: int, kind: str, message: str) -> dict[str, Any]:
    """Its id is of its span and place, so that a second delivery has the same."""
    return {"id": f"{(int(span.span_id, 16) + number + 1) % 2**64:016x}", "type": kind, "message": message}


def _text(event: Event, name: str) -> str:
    return str(event.attributes.get(name, ""))


def _batches(documents: Sequence[_Document]) -> Iterator[Sequence[_Document]]:
    for start in range(0, len(documents), MOST_SEGMENTS):
        yield documents[start : start + MOST_SEGMENTS]
