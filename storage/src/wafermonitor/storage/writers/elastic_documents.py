"""Spans, log records and metric points as the documents that Elasticsearch and OpenSearch keep.

In: an item of a request. Out: its documents, each with its data stream and its id. Called by: `elastic_bulk`, for both.

The shape is that of the Collector's elasticsearch exporter in its mapping mode `otel`, so that one reader serves for all ways:

traces-<dataset>.otel-<namespace>   a span: `name`, `kind`, `duration` (ns), `trace_id`, `span_id`, `parent_span_id`, `status`,
                                    `links`
logs-…                              a log record: `body.text` or `body.structured`, `severity_text`, `severity_number`,
                                    `event_name`, `observed_timestamp`; and each event of a span: `event_name`, the span's ids,
                                    no `observed_timestamp`
metrics-…                           a point: `metrics.<name>`, `unit`, `start_timestamp`; a histogram is `{values, counts}`
all                                 `@timestamp`, `attributes.*`, `resource.attributes.*`, `scope.*`, `data_stream.*`

Times are strings of milliseconds with six decimals, so that nanoseconds last; durations are ns. Bytes are hex, and a number
that is none is a word. Beyond the exporter: a metric document has one metric, and its `type`, `temporality` and `monotonic`;
what a histogram or summary counts stands whole in `summary`. A list that holds maps, or values of several kinds, is a list of
texts: one field has one type.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from typing import Any, Final, Literal, NamedTuple

from wafermonitor.storage.writers.items import Item, Log, Point, Resource, Scope, Span

Stream = Literal["traces", "logs", "metrics"]
NS_PER_MS: Final = 1_000_000
NOWHERE: Final = ("data_stream.type", "data_stream.dataset", "data_stream.namespace")
"""Attributes that would be taken for the document's own place."""
_ID_CHARACTERS: Final = 32


class Document(NamedTuple):
    """One document. `id` is the same at every delivery; `field` names what a metric document measures, and how it is mapped."""

    stream: Stream
    id: str
    body: dict[str, Any]
    field: str = ""
    template: str = ""


def documents(item: Item) -> list[Document]:
    """The documents of one item: a span also has one for each of its events."""
    if isinstance(item, Span):
        return [Document("traces", item.id, _span(item)), *_events(item)]
    if isinstance(item, Log):
        return [Document("logs", item.id, _log(item))]
    return [_point(item)]


def timestamp(time_ns: int) -> str:
    """Milliseconds with six decimals, which both servers read as `epoch_millis` to the nanosecond."""
    return f"{time_ns // NS_PER_MS}.{time_ns % NS_PER_MS:06d}"


def value(found: Any) -> Any:
    """An attribute's value as JSON can have it."""
    if isinstance(found, bytes):
        return found.hex()
    if isinstance(found, float) and not math.isfinite(found):
        return "NaN" if math.isnan(found) else ("Infinity" if found > 0 else "-Infinity")
    if isinstance(found, dict):
        return {name: value(one) for name, one in found.items()}
    if isinstance(found, list):
        return _alike([value(one) for one in found])
    return found


def _alike(values: list[Any]) -> list[Any]:
    """Values of one kind as they are; else each as text, because the first would decide for all."""
    kinds = {type(one) for one in values if one is not None}
    if kinds <= {str} or kinds <= {bool} or kinds <= {int}:
        return values
    if kinds <= {int, float}:
        return [one if one is None else float(one) for one in values]
    return [one if one is None or isinstance(one, str) else json.dumps(one, separators=(",", ":")) for one in values]


def _attributes(found: dict[str, Any]) -> dict[str, Any]:
    return {name: value(one) for name, one in found.items() if name not in NOWHERE}


def _origin(resource: Resource, scope: Scope) -> dict[str, Any]:
    """Who sent it, and which library made it."""
    sender = _filled({"schema_url": resource.schema_url, "attributes": _attributes(resource.attributes)})
    maker = _filled({"name": scope.name, "version": scope.version, "attributes": _attributes(scope.attributes)})
    return {"resource": sender, "scope": maker}


def _filled(fields: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty."""
    return {name: one for name, one in fields.items() if one not in ("", None, {}, [])}


def _span(span: Span) -> dict[str, Any]:
    return {
        "@timestamp": timestamp(span.start_ns),
        **_filled(
            {
                "trace_id": span.trace_id,
                "span_id": span.span_id,
                "parent_span_id": span.parent_span_id,
                "trace_state": span.trace_state,
                "name": span.name,
                "attributes": _attributes(span.attributes),
                "links": [
                    _filled({"trace_id": one.trace_id, "span_id": one.span_id, "attributes": _attributes(one.attributes)})
                    for one in span.links
                ],
            }
        ),
        "kind": span.kind.capitalize(),
        "duration": max(span.end_ns - span.start_ns, 0),
        "status": _filled({"code": span.status.capitalize(), "message": span.status_message}),
        **_origin(span.resource, span.scope),
    }


def _events(span: Span) -> list[Document]:
    """A span's events, which have no id of their own: the span's, and the place among its events."""
    return [
        Document(
            "logs",
            hashlib.sha256(f"{span.id} {place}".encode()).hexdigest()[:_ID_CHARACTERS],
            {
                "@timestamp": timestamp(event.time_ns),
                **_filled({"trace_id": span.trace_id, "span_id": span.span_id, "event_name": event.name}),
                "attributes": _attributes(event.attributes) | _filled({"event.name": event.name}),
                **_origin(span.resource, span.scope),
            },
        )
        for place, event in enumerate(span.events)
    ]


def _log(record: Log) -> dict[str, Any]:
    named = record.attributes.get("event.name", "")
    return {
        "@timestamp": timestamp(record.time_ns),
        "observed_timestamp": timestamp(record.observed_ns),
        **_filled(
            {
                "severity_text": record.severity_text,
                "severity_number": record.severity or None,
                "trace_id": record.trace_id,
                "span_id": record.span_id,
                "event_name": record.event_name or (named if isinstance(named, str) else ""),
                "attributes": _attributes(record.attributes),
                "body": _body(record.body),
            }
        ),
        **_origin(record.resource, record.scope),
    }


def _body(body: Any) -> dict[str, Any]:
    """Text, or a structure; a structure must be an object."""
    if body is None:
        return {}
    if isinstance(body, dict):
        return {"structured": value(body)}
    if isinstance(body, list):
        return {"structured": {"value": value(body)}}
    return {"text": body if isinstance(body, str) else json.dumps(value(body))}


def _point(point: Point) -> Document:
    field = f"metrics.{point.name}"
    body = {
        "@timestamp": timestamp(point.time_ns),
        **_filled(
            {
                "start_timestamp": timestamp(point.start_ns) if point.start_ns else "",
                "unit": point.unit,
                "type": point.type,
                "temporality": point.temporality if point.temporality != "unspecified" else "",
                "monotonic": point.monotonic or None,
                "attributes": _attributes(point.attributes),
                "summary": value(point.summary),
            }
        ),
        # Stored for time-series indices, which tell points apart by their dimensions alone.
        "_metric_names_hash": hashlib.sha256(point.name.encode()).hexdigest()[:16],
        **_origin(point.resource, point.scope),
    }
    measured, template = _measured(point)
    if measured is not None:
        body["metrics"] = {point.name: measured}
    return Document("metrics", point.id, body, field if template else "", template)


def _measured(point: Point) -> tuple[Any, str]:
    """The value as the exporter writes it, and the name that Elastic's templates have for its mapping."""
    if point.type in {"gauge", "sum"}:
        counter = point.type == "sum" and point.monotonic and point.temporality == "cumulative"
        number = "long" if isinstance(point.value, int) else "double"
        return value(point.value), f"{'counter' if counter else 'gauge'}_{number}" if point.value is not None else ""
    if point.type == "summary":
        return {"sum": value(point.summary["sum"]), "value_count": point.summary["count"]}, "summary"
    return _histogram(point), "histogram"


def _histogram(point: Point) -> dict[str, Any]:
    """The middle of each bucket that has something, and how much; source: the exporter's own rule for the outer ones."""
    if point.type == "histogram":
        middles = _middles(point.summary["bounds"])
        pairs = [(middle, count) for middle, count in zip(middles, point.summary["buckets"], strict=False) if count]
    else:
        pairs = _scaled(point.summary)
    finite = sorted((middle, count) for middle, count in pairs if math.isfinite(middle))
    return {"values": [float(middle) for middle, _ in finite], "counts": [count for _, count in finite]}


def _middles(bounds: list[float]) -> list[float]:
    """A value for each bucket between these upper bounds: half of the first, middles, the last one."""
    if not bounds:
        return [0.0]
    first = bounds[0] / 2 if bounds[0] > 0 else bounds[0]
    between = [low + (high - low) / 2 for low, high in itertools.pairwise(bounds)]
    return [first, *between, bounds[-1]]


def _scaled(summary: dict[str, Any]) -> list[tuple[float, int]]:
    """Buckets of an exponential histogram: bucket i holds what lies between base^i and base^(i+1)."""
    pairs: list[tuple[float, int]] = [(0.0, summary["zero_count"])] if summary["zero_count"] else []
    for side, sign in (("positive", 1), ("negative", -1)):
        offset, counts = summary[side]["offset"], summary[side]["buckets"]
        for place, count in enumerate(counts):
            if count:
                pairs.append((sign * _middle(offset + place, summary["scale"]), count))
    return pairs


def _middle(index: int, scale: int) -> float:
    try:
        base: float = 2.0 ** (2.0**-scale)
        return float(base**index * (1 + base) / 2)
    except OverflowError:
        return math.inf
