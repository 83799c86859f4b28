"""A row that the store refused → an OTLP/JSON request with it alone, from which a lane makes the same row again.

In: a `Span`, `LogRecord` or `MetricPoint`. Out: a sample that can be sent again; None for rows that no request makes: those of
exponential histograms, whose scale was resolved, and run deltas and beats, which come with a span or a record.
Called by: `culprits`.
"""

from __future__ import annotations

import itertools
from typing import Any

import msgspec

from wafermonitor.receiver.transcode.logs import digest_of
from wafermonitor.runs.records import LogRecord, MetricPoint, Resource, Scope, Span

Json = dict[str, Any]


def sample_of(row: Any) -> bytes | None:
    """The request; times that were the arrival's are left out, so that the row is told from others as it was before."""
    if isinstance(row, Span):
        found = _request("Spans", "spans", row.resource, row.scope, _span(row))
    elif isinstance(row, LogRecord):
        found = _request("Logs", "logRecords", row.resource, row.scope, _log(row))
    elif isinstance(row, MetricPoint) and row.series.type in _POINTS:
        found = _request("Metrics", "metrics", row.series.resource, row.series.scope, _metric(row))
    else:
        return None
    return msgspec.json.encode(found)


def _request(signal: str, items: str, resource: Resource, scope: Scope, item: Json) -> Json:
    scoped = {
        "scope": {"name": scope.name, "version": scope.version, "attributes": _attributes(scope.attributes)},
        items: [item],
    }
    group = {"resource": {"attributes": _attributes(resource.attributes)}, f"scope{signal}": [scoped]}
    return {f"resource{signal}": [group]}


def _span(row: Span) -> Json:
    return {
        "traceId": row.trace_id.hex(),
        "spanId": row.span_id.hex(),
        "parentSpanId": (row.parent_span_id or b"").hex(),
        "traceState": row.trace_state,
        "name": row.name,
        "kind": row.kind,
        "startTimeUnixNano": str(row.start_ns),
        "endTimeUnixNano": str(row.start_ns + row.duration_ns),
        "attributes": _attributes(row.attributes),
        "events": [_event(event) for event in _list(row.events)],
        "links": [_link(link) for link in _list(row.links)],
        "status": {"code": row.status, "message": row.status_message},
        "droppedAttributesCount": row.dropped_attributes,
        "droppedEventsCount": row.dropped_events,
        "droppedLinksCount": row.dropped_links,
        "flags": row.flags,
    }


def _event(event: Json) -> Json:
    return {
        "timeUnixNano": str(event["time_ns"]),
        "name": event["name"],
        "attributes": _pairs(event["attributes"]),
        "droppedAttributesCount": event.get("dropped_attributes"),
    }


def _link(link: Json) -> Json:
    return {
        "traceId": link["trace_id"],
        "spanId": link["span_id"],
        "traceState": link.get("trace_state"),
        "attributes": _pairs(link["attributes"]),
        "droppedAttributesCount": link.get("dropped_attributes"),
        "flags": link.get("flags"),
    }


def _log(row: LogRecord) -> Json:
    time_ns, observed_ns = _sent_times(row)
    return {
        "timeUnixNano": str(time_ns),
        "observedTimeUnixNano": str(observed_ns),
        "severityNumber": row.severity,
        "severityText": row.severity_text,
        "eventName": row.event_name,
        "body": None if row.body is None else _any(msgspec.json.decode(row.body)),
        "attributes": _attributes(row.attributes),
        "droppedAttributesCount": row.dropped_attributes,
        "flags": row.flags,
        "traceId": (row.trace_id or b"").hex(),
        "spanId": (row.span_id or b"").hex(),
    }


def _sent_times(row: LogRecord) -> tuple[int, int]:
    """Time and observed time as they were sent, 0 for absent: only these give the record's digest."""
    for time_ns, observed_ns in itertools.product((row.time_ns, 0), (row.observed_ns, 0)):
        if digest_of(row, time_ns, observed_ns) == row.digest:
            return time_ns, observed_ns
    return row.time_ns, row.observed_ns


def _metric(row: MetricPoint) -> Json:
    series = row.series
    point = {
        "timeUnixNano": None if row.time_ns == row.received_ns else str(row.time_ns),
        "startTimeUnixNano": None if row.start_ns is None else str(row.start_ns),
        "attributes": _attributes(series.attributes),
        "flags": row.flags,
    }
    data = {
        "dataPoints": [point | _POINTS[series.type](row)],
        "aggregationTemporality": series.temporality,
        "isMonotonic": series.monotonic,
    }
    return {"name": series.name, "unit": series.unit, series.type: data}


def _number(row: MetricPoint) -> Json:
    return {"asDouble": row.value}


def _histogram(row: MetricPoint) -> Json:
    return {
        "count": row.count,
        "sum": row.sum,
        "min": row.min,
        "max": row.max,
        "explicitBounds": row.bounds,
        "bucketCounts": row.buckets,
    }


def _summary(row: MetricPoint) -> Json:
    pairs = zip(row.bounds or (), row.quantile_values or (), strict=True)
    quantiles = [{"quantile": quantile, "value": value} for quantile, value in pairs]
    return {"count": row.count, "sum": row.sum, "quantileValues": quantiles}


_POINTS = {"gauge": _number, "sum": _number, "histogram": _histogram, "summary": _summary}


def _list(text: str | None) -> list[Json]:
    return [] if text is None else msgspec.json.decode(text, type=list[Json])


def _attributes(text: str) -> list[Json]:
    return _pairs(msgspec.json.decode(text))


def _pairs(values: Json) -> list[Json]:
    return [{"key": key, "value": _any(value)} for key, value in values.items()]


def _any(value: Any) -> Json:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any(item) for item in value]}}
    # Bytes are an object with one text as well: read again they are the same JSON.
    return {} if value is None else {"kvlistValue": {"values": _pairs(value)}}
