"""Items as rows of the archive: the records that `storage.archive.tables` makes columns of.

In: items of one request. Out: records of `runs.records`, with the keys and digests that the receiver gives them, so that what
came to both is recognised. Called by: `s3`.

Of OTLP's fields the flags and the counts of dropped attributes, events and links are 0 here. NaN and the infinities are null,
bytes stand as OTLP/JSON has them. An exponential histogram has the explicit bounds that its scale stands for.
"""

from __future__ import annotations

import base64
import hashlib
import math
import sys
from itertools import pairwise
from typing import Any, Final, TypeAlias

import msgspec

from wafermonitor.runs import lifecycle, records
from wafermonitor.storage.archive.protocol import Signal as Table
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.writers import items
from wafermonitor.storage.writers.protocol import Signal

Row: TypeAlias = records.Span | records.LogRecord | records.MetricPoint
TABLE_OF: Final[dict[Signal, Table]] = {"traces": Table.SPANS, "logs": Table.LOGS, "metrics": Table.METRICS}
"""Under which of its signals the archive keeps each."""
_UNNAMED_SERVICE: Final = "unknown_service"
_TRACE_ID_BYTES: Final = 16
_SPAN_ID_BYTES: Final = 8
_INT64_MAX: Final = 2**63 - 1
_LARGEST_SEVERITY: Final = 24
_SCALES: Final = range(-10, 21)
_encode = msgspec.json.Encoder(order="sorted").encode


def row_of(item: items.Item, received_ns: int) -> Row:
    """The record of one item. StorageRejected when the archive has no column for what it says (an id of three bytes)."""
    if isinstance(item, items.Span):
        return _span(item, received_ns)
    return _log(item, received_ns) if isinstance(item, items.Log) else _point(item, received_ns)


def _span(item: items.Span, received_ns: int) -> records.Span:
    start_ns = _instant(item.start_ns or item.end_ns) or received_ns
    events = [
        {"attributes": _plain(one.attributes), "name": one.name, "time_ns": one.time_ns or start_ns} for one in item.events
    ]
    links = [{"attributes": _plain(one.attributes), "span_id": one.span_id, "trace_id": one.trace_id} for one in item.links]
    return records.Span(
        resource=_resource(item.resource),
        scope=_scope(item.scope),
        trace_id=_id(item.trace_id, _TRACE_ID_BYTES),
        span_id=_id(item.span_id, _SPAN_ID_BYTES),
        parent_span_id=_optional_id(item.parent_span_id, _SPAN_ID_BYTES),
        name=item.name,
        kind=items.KINDS.index(item.kind),
        start_ns=start_ns,
        duration_ns=max(0, _instant(item.end_ns) - start_ns),
        status=items.STATUSES.index(item.status),
        status_message=item.status_message,
        attributes=_canonical(item.attributes),
        events=_encode(events).decode() if events else None,
        links=_encode(links).decode() if links else None,
        dropped_attributes=0,
        dropped_events=0,
        dropped_links=0,
        flags=0,
        trace_state=item.trace_state,
        received_ns=received_ns,
    )


def _log(item: items.Log, received_ns: int) -> records.LogRecord:
    row = records.LogRecord(
        resource=_resource(item.resource),
        scope=_scope(item.scope),
        time_ns=_instant(item.time_ns) or received_ns,
        observed_ns=_instant(item.observed_ns) or received_ns,
        severity=item.severity if 0 <= item.severity <= _LARGEST_SEVERITY else 0,
        severity_text=item.severity_text,
        event_name=item.event_name,
        body=None if item.body is None else _canonical(item.body),
        attributes=_canonical(item.attributes),
        dropped_attributes=0,
        flags=0,
        trace_id=_optional_id(item.trace_id, _TRACE_ID_BYTES),
        span_id=_optional_id(item.span_id, _SPAN_ID_BYTES),
        digest=b"",
        received_ns=received_ns,
    )
    said = _digest(
        row.resource.site.encode(),
        row.resource.key,
        row.scope.key,
        row.trace_id or b"",
        row.span_id or b"",
        row.event_name.encode(),
        item.time_ns.to_bytes(8, "big"),
        item.observed_ns.to_bytes(8, "big"),
        row.severity.to_bytes(1, "big"),
        b"" if row.body is None else row.body.encode(),
        row.attributes.encode(),
    )
    return row._replace(digest=said)


def _point(item: items.Point, received_ns: int) -> records.MetricPoint:
    resource, scope, attributes = _resource(item.resource), _scope(item.scope), _canonical(item.attributes)
    named = (item.name.encode(), item.unit.encode(), item.type.encode(), attributes.encode())
    key = _digest(resource.key, scope.key, *named)
    temporality = items.TEMPORALITIES.index(item.temporality)
    series = records.Series(key, resource, scope, item.name, item.unit, item.type, temporality, item.monotonic, attributes)
    said = item.summary
    bounds, buckets, quantiles = _distribution(item.type, said)
    return records.MetricPoint(
        series=series,
        time_ns=_instant(item.time_ns) or received_ns,
        start_ns=_instant(item.start_ns) or None,
        value=_finite(item.value),
        count=None if not said else _count(said["count"]),
        sum=_finite(said.get("sum")),
        min=_finite(said.get("min")),
        max=_finite(said.get("max")),
        bounds=bounds or None,
        buckets=buckets or None,
        quantile_values=quantiles or None,
        flags=0,
        received_ns=received_ns,
    )


def _resource(resource: items.Resource) -> records.Resource:
    origin = lifecycle.origin_of(resource.attributes)
    site = records.label(origin.site) or records.UNSET_SITE
    text = _canonical(resource.attributes)
    service = _label(origin.service) or _UNNAMED_SERVICE
    key = _digest(site.encode(), text.encode())
    version = _label(origin.service_version)
    return records.Resource(key, site, _label(origin.feed), service, version, origin.process_key, text)


def _label(text: str | None) -> str | None:
    return None if text is None else records.label(text)


def _scope(scope: items.Scope) -> records.Scope:
    text = _canonical(scope.attributes)
    return records.Scope(_digest(scope.name.encode(), scope.version.encode(), text.encode()), scope.name, scope.version, text)


_Distribution: TypeAlias = tuple[tuple[float, ...], tuple[int, ...], tuple[float, ...]]


def _distribution(kind: str, said: dict[str, Any]) -> _Distribution:
    """Bounds, counts of buckets and values of quantiles."""
    if kind == "histogram":
        bounds, buckets = tuple(said["bounds"]), tuple(_count(one) for one in said["buckets"])
        rise = all(map(math.isfinite, bounds)) and all(low < high for low, high in pairwise(bounds))
        if not rise or ((bounds or buckets) and len(buckets) != len(bounds) + 1):
            raise StorageRejected("a histogram's bounds are finite and rise, and it has one bucket more than bounds")
        return bounds, buckets, ()
    if kind == "exponential_histogram":
        return (*_exponential(said), ())
    if kind == "summary":
        pairs = [(float(quantile), value) for quantile, value in said["quantiles"].items() if math.isfinite(value)]
        return tuple(quantile for quantile, _ in pairs), (), tuple(value for _, value in pairs)
    return (), (), ()


def _exponential(said: dict[str, Any]) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """The explicit bounds that the scale stands for: bucket i is (base^i, base^(i+1)] (OTLP's data model)."""
    scale = said["scale"]
    if scale not in _SCALES:
        raise StorageRejected(f"the scale of an exponential histogram lies between {_SCALES[0]} and {_SCALES[-1]}")
    sides = []
    for side in ("positive", "negative"):
        counts, offset = said[side]["buckets"], said[side]["offset"]
        sides.append(([_power(offset + index, scale) for index in range(len(counts) + 1)] if counts else [], counts))
    (above_bounds, above), (below_bounds, below) = sides
    bounds = [-one for one in reversed(below_bounds)] + above_bounds
    counts = ([0, *reversed(below)] if below else []) + [said["zero_count"]] + ([*above, 0] if above else [])
    kept_bounds: list[float] = []
    kept = [counts[0]]
    for bound, number in zip(bounds, counts[1:], strict=True):
        if kept_bounds and bound <= kept_bounds[-1]:  # beyond the doubles' range neighbours fall together
            kept[-1] += number
        else:
            kept_bounds.append(bound)
            kept.append(number)
    return tuple(kept_bounds), tuple(_count(one) for one in kept)


def _power(index: int, scale: int) -> float:
    try:
        return math.exp2(math.ldexp(index, -scale))
    except OverflowError:
        return sys.float_info.max


def _canonical(value: Any) -> str:
    return _encode(_plain(value)).decode()


def _plain(value: Any) -> Any:
    """As JSON has it."""
    if isinstance(value, float):
        return _finite(value)
    if isinstance(value, bytes):
        return {"bytesValue": base64.b64encode(value).decode()}
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return value


def _finite(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _digest(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in parts)).digest()


def _id(text: str, size: int) -> bytes:
    found = _optional_id(text, size)
    if found is None:
        raise StorageRejected("a span without an id")
    return found


def _optional_id(text: str, size: int) -> bytes | None:
    found = bytes.fromhex(text)
    if not any(found):
        return None
    if len(found) != size:
        raise StorageRejected(f"an id of {len(found)} bytes where {size} are")
    return found


def _instant(time_ns: int) -> int:
    if time_ns > _INT64_MAX:
        raise StorageRejected("a time after 2262")
    return time_ns


def _count(number: int) -> int:
    if number > _INT64_MAX:
        raise StorageRejected("a count above 2^63 - 1")
    return number
