"""One OTLP request as the spans, log records or metric points in it, each with what it needs to stand alone.

In: a serialized request. Out: items in its order, and parts of it as requests of their own. Called by: writers whose backend
has documents, rows or values instead of OTLP.

An item's `id` is a digest of what its sender said (of a span: site, trace, id and start), so that the same item has the same
id at every delivery. `wafer.feed.id`, which a Collector adds, does not count; `wafer.site.id` does, wherever it comes from: a
job that names its site has the same ids directly and by a bridge. Whatever else a Collector is told to change makes other ids
of log records and points. Two lines that are equal to the last bit, without a time in either, are one.
Source: opentelemetry-proto, trace.proto, logs.proto, metrics.proto, common.proto.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from google.protobuf.message import DecodeError

from wafermonitor.instrumentation.otlp_json import proto_type
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.writers.protocol import ACCEPTED, Fate, Outcome, Signal

UNSET: Final = "unset"
KINDS: Final = ("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER")
STATUSES: Final = ("UNSET", "OK", "ERROR")
TEMPORALITIES: Final = ("unspecified", "delta", "cumulative")
_ID_CHARACTERS: Final = 32
_POINTS: Final = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


class Resource(NamedTuple):
    """Who sent it. `site` and `service` are taken out of `attributes`, where they are as well."""

    site: str
    service: str
    attributes: dict[str, Any]
    schema_url: str


class Scope(NamedTuple):
    """Which library made it."""

    name: str
    version: str
    attributes: dict[str, Any]


class Event(NamedTuple):
    """An event of a span."""

    time_ns: int
    name: str
    attributes: dict[str, Any]


class Link(NamedTuple):
    """A link of a span; ids in hex."""

    trace_id: str
    span_id: str
    attributes: dict[str, Any]


class Span(NamedTuple):
    """A finished span. Ids are lower-case hex, empty where there is none; `kind` and `status` are OpenTelemetry's words."""

    id: str
    resource: Resource
    scope: Scope
    trace_id: str
    span_id: str
    parent_span_id: str
    trace_state: str
    name: str
    kind: str
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    events: list[Event]
    links: list[Link]
    status: str
    status_message: str

    @property
    def time_ns(self) -> int:
        """When it began."""
        return self.start_ns


class Log(NamedTuple):
    """A log record. `time_ns` is its own time, else when it was observed, else 0."""

    id: str
    resource: Resource
    scope: Scope
    time_ns: int
    observed_ns: int
    trace_id: str
    span_id: str
    severity: int
    severity_text: str
    event_name: str
    body: Any
    attributes: dict[str, Any]


class Point(NamedTuple):
    """A data point of a metric.

    `value` is the number of a gauge or sum, None for the other types. `summary` has count, sum, and as far as they are said
    min, max, bounds and counts of buckets, or quantiles.
    """

    id: str
    resource: Resource
    scope: Scope
    name: str
    unit: str
    type: str
    temporality: str
    monotonic: bool
    start_ns: int
    time_ns: int
    value: float | int | None
    summary: dict[str, Any]
    attributes: dict[str, Any]


Item: TypeAlias = Span | Log | Point


def items(signal: Signal, request: bytes) -> list[Item]:
    """Every item of `request`, in its order. StorageRejected when it is no request of this signal."""
    return [item for item, _ in _walk(signal, parsed(signal, request))]


def part(signal: Signal, request: bytes, keep: Callable[[int], bool]) -> bytes:
    """A request of those items whose position in `items` is kept; empty bytes when none is."""
    message = parsed(signal, request)
    chosen = [place for position, place in enumerate(_places(signal, message)) if keep(position)]
    if not chosen:
        return b""
    rest = proto_type(signal)()
    made: dict[tuple[int, ...], Any] = {}
    for place in chosen:
        _copy(signal, message, rest, place, made)
    return bytes(rest.SerializeToString())


def judged(signal: Signal, request: bytes, refused: Mapping[int, str]) -> Outcome:
    """Accepted, but for the items at the positions in `refused`, each with the reason."""
    if not refused:
        return ACCEPTED
    reason = next(iter(refused.values()))
    return Outcome(Fate.ACCEPTED, reason, len(refused), part(signal, request, refused.__contains__))


def count(signal: Signal, request: bytes) -> int:
    """How many items it has. StorageRejected when it is no request of this signal."""
    return sum(1 for _ in _places(signal, parsed(signal, request)))


def plain(value: Any) -> Any:
    """An AnyValue as Python has it: str, bool, int, float, bytes, list, dict or None."""
    kind = value.WhichOneof("value")
    if kind is None:
        return None
    held = getattr(value, kind)
    if kind == "array_value":
        return [plain(one) for one in held.values]
    if kind == "kvlist_value":
        return attributes(held.values)
    return held


def attributes(pairs: Any) -> dict[str, Any]:
    """KeyValues as a dict."""
    return {pair.key: plain(pair.value) for pair in pairs}


def parsed(signal: Signal, request: bytes) -> Any:
    """The protobuf message. StorageRejected when `request` is no request of this signal."""
    message = proto_type(signal)()
    try:
        message.ParseFromString(request)
    except DecodeError:
        raise StorageRejected(f"not an OTLP request of {signal}") from None
    return message


_Place: TypeAlias = tuple[int, ...]
"""Where an item stands: resource, scope, item; for a point also its place in the metric."""
_LEVELS: Final[dict[Signal, tuple[str, str, str]]] = {
    "traces": ("resource_spans", "scope_spans", "spans"),
    "logs": ("resource_logs", "scope_logs", "log_records"),
    "metrics": ("resource_metrics", "scope_metrics", "metrics"),
}


def _places(signal: Signal, message: Any) -> Iterator[_Place]:
    """The places that `_walk` has, in its order, without making an item of each."""
    outers, inners, leaves = _LEVELS[signal]
    for at, outer in enumerate(getattr(message, outers)):
        for within, inner in enumerate(getattr(outer, inners)):
            found = getattr(inner, leaves)
            if signal != "metrics":
                yield from ((at, within, position) for position in range(len(found)))
                continue
            for position, metric in enumerate(found):
                kind = metric.WhichOneof("data")
                size = len(getattr(metric, kind).data_points) if kind in _POINTS else 0
                yield from ((at, within, position, place) for place in range(size))


def _walk(signal: Signal, message: Any) -> Iterator[tuple[Item, _Place]]:
    readers: dict[Signal, Callable[..., Iterator[tuple[Item, _Place]]]] = {"traces": _spans, "logs": _logs, "metrics": _points}
    read = readers[signal]
    outers, inners, _ = _LEVELS[signal]
    for at, outer in enumerate(getattr(message, outers)):
        resource = _resource(outer)
        sender = _sender(outer.resource)
        for within, inner in enumerate(getattr(outer, inners)):
            scope = Scope(inner.scope.name, inner.scope.version, attributes(inner.scope.attributes))
            made_by = inner.scope.SerializeToString(deterministic=True)
            for item, place in read(inner, resource, scope, (sender, made_by)):
                yield item, (at, within, *place)


def _sender(resource: Any) -> bytes:
    """Its attributes in any order, without what a Collector adds to find itself again."""
    said = [pair.SerializeToString(deterministic=True) for pair in resource.attributes if pair.key != names.WAFER_FEED_ID]
    return _framed(*sorted(said))


def _resource(outer: Any) -> Resource:
    found = attributes(outer.resource.attributes)
    site, service = found.get(names.WAFER_SITE_ID), found.get(names.SERVICE_NAME)
    return Resource(
        site if isinstance(site, str) and site else UNSET,
        service if isinstance(service, str) else "",
        found,
        outer.schema_url,
    )


def _spans(inner: Any, resource: Resource, scope: Scope, _: tuple[bytes, bytes]) -> Iterator[tuple[Span, _Place]]:
    for position, span in enumerate(inner.spans):
        key = (resource.site.encode(), span.trace_id, span.span_id, span.start_time_unix_nano.to_bytes(8, "big"))
        yield (
            Span(
                _digest(*key),
                resource,
                scope,
                span.trace_id.hex(),
                span.span_id.hex(),
                span.parent_span_id.hex(),
                span.trace_state,
                span.name,
                _word(KINDS, span.kind),
                span.start_time_unix_nano,
                span.end_time_unix_nano,
                attributes(span.attributes),
                [Event(one.time_unix_nano, one.name, attributes(one.attributes)) for one in span.events],
                [Link(one.trace_id.hex(), one.span_id.hex(), attributes(one.attributes)) for one in span.links],
                _word(STATUSES, span.status.code),
                span.status.message,
            ),
            (position,),
        )


def _logs(inner: Any, resource: Resource, scope: Scope, origin: tuple[bytes, bytes]) -> Iterator[tuple[Log, _Place]]:
    for position, record in enumerate(inner.log_records):
        yield (
            Log(
                _digest(*origin, record.SerializeToString(deterministic=True)),
                resource,
                scope,
                record.time_unix_nano or record.observed_time_unix_nano,
                record.observed_time_unix_nano,
                record.trace_id.hex(),
                record.span_id.hex(),
                record.severity_number,
                record.severity_text,
                record.event_name,
                plain(record.body),
                attributes(record.attributes),
            ),
            (position,),
        )


def _points(inner: Any, resource: Resource, scope: Scope, origin: tuple[bytes, bytes]) -> Iterator[tuple[Point, _Place]]:
    for position, metric in enumerate(inner.metrics):
        kind = metric.WhichOneof("data")
        if kind not in _POINTS:
            continue
        data = getattr(metric, kind)
        named = (*origin, metric.name.encode(), metric.unit.encode(), kind.encode())
        for place, point in enumerate(data.data_points):
            yield (
                Point(
                    _digest(*named, point.SerializeToString(deterministic=True)),
                    resource,
                    scope,
                    metric.name,
                    metric.unit,
                    kind,
                    _word(TEMPORALITIES, getattr(data, "aggregation_temporality", 0)),
                    bool(getattr(data, "is_monotonic", False)),
                    point.start_time_unix_nano,
                    point.time_unix_nano,
                    _number(point) if kind in {"gauge", "sum"} else None,
                    {} if kind in {"gauge", "sum"} else _summary(kind, point),
                    attributes(point.attributes),
                ),
                (position, place),
            )


def _number(point: Any) -> float | int | None:
    kind = point.WhichOneof("value")
    return None if kind is None else getattr(point, kind)


def _summary(kind: str, point: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"count": point.count}
    for field in ("sum", "min", "max"):
        if kind == "summary":
            if field == "sum":
                found["sum"] = point.sum
        elif point.HasField(field):
            found[field] = getattr(point, field)
    if kind == "histogram":
        found |= {"bounds": list(point.explicit_bounds), "buckets": list(point.bucket_counts)}
    elif kind == "exponential_histogram":
        found |= {"scale": point.scale, "zero_count": point.zero_count}
        for side in ("positive", "negative"):
            buckets = getattr(point, side)
            found[side] = {"offset": buckets.offset, "buckets": list(buckets.bucket_counts)}
    else:
        found["quantiles"] = {str(one.quantile): one.value for one in point.quantile_values}
    return found


def _word(words: tuple[str, ...], number: int) -> str:
    return words[number] if 0 <= number < len(words) else words[0]


def _digest(*parts: bytes) -> str:
    return hashlib.sha256(_framed(*parts)).hexdigest()[:_ID_CHARACTERS]


def _framed(*parts: bytes) -> bytes:
    return b"".join(len(one).to_bytes(8, "big") + one for one in parts)


def _copy(signal: Signal, source: Any, target: Any, place: _Place, made: dict[tuple[int, ...], Any]) -> None:
    """Copy one item into `target`, below copies of its resource and scope (and metric), which are made once."""
    outers, inners, leaves = _LEVELS[signal]
    outer = getattr(source, outers)[place[0]]
    inner = getattr(outer, inners)[place[1]]
    leaf = getattr(inner, leaves)[place[2]]
    if place[:1] not in made:
        made[place[:1]] = getattr(target, outers).add(resource=outer.resource, schema_url=outer.schema_url)
    if place[:2] not in made:
        made[place[:2]] = getattr(made[place[:1]], inners).add(scope=inner.scope, schema_url=inner.schema_url)
    if signal != "metrics":
        getattr(made[place[:2]], leaves).add().CopyFrom(leaf)
        return
    kind = leaf.WhichOneof("data")
    if place[:3] not in made:
        metric = made[place[:2]].metrics.add()
        metric.CopyFrom(leaf)
        del getattr(metric, kind).data_points[:]
        made[place[:3]] = metric
    getattr(made[place[:3]], kind).data_points.add().CopyFrom(getattr(leaf, kind).data_points[place[3]])
