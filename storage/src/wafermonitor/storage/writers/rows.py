"""An item as one flat row: the shape that databases with columns, documents or cells hold.

In: an `Item`. Out: `Row`: a table and named values. Called by: `mysql`, `mongodb`.

Tables are `otel_spans`, `otel_logs` and `otel_metrics` (one row for each data point). Every row has `id`, `time_ns`, `site`,
`service`, `job`, `run_id`, `attributes`, `resource`, `scope` and `scope_version`; `_span`, `_log` and `_point` say what else.
Times and durations are integers in ns, times since 1970-01-01 UTC. `job` and `run_id` repeat `wafer.job.name` and
`wafer.job.run.id` of the item, else of its resource, because everybody looks for these. Values are as Python has them: maps are
dicts, bytes are bytes; `plain_json` says how they are written where there is only JSON.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from wafermonitor.semconv import attributes as names
from wafermonitor.storage.writers.items import Item, Log, Point, Span
from wafermonitor.storage.writers.protocol import Signal

TABLES: Final[Mapping[Signal, str]] = {"traces": "otel_spans", "logs": "otel_logs", "metrics": "otel_metrics"}


class Row(NamedTuple):
    """One row, and where it belongs."""

    table: str
    values: dict[str, Any]


def row(item: Item) -> Row:
    """The row of `item`. Two deliveries of one item have equal rows."""
    table, own = _SHAPES[type(item)](item)
    return Row(
        table,
        {
            "id": item.id,
            "time_ns": item.time_ns,
            "site": item.resource.site,
            "service": item.resource.service,
            "job": _label(item, names.WAFER_JOB_NAME),
            "run_id": _label(item, names.WAFER_JOB_RUN_ID),
            **own,
            "attributes": item.attributes,
            "resource": item.resource.attributes,
            "scope": item.scope.name,
            "scope_version": item.scope.version,
        },
    )


def plain_json(value: Any) -> Any:
    """The value as JSON can hold it: bytes in base64; NaN, Infinity and -Infinity as these words (as OTLP/JSON has them)."""
    if isinstance(value, dict):
        return {key: plain_json(one) for key, one in value.items()}
    if isinstance(value, list):
        return [plain_json(one) for one in value]
    if isinstance(value, bytes):
        return base64.b64encode(value).decode("ascii")
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    return value


def _label(item: Item, name: str) -> str | None:
    """A text attribute of the item, else of its resource; None when neither has one."""
    for found in (item.attributes.get(name), item.resource.attributes.get(name)):
        if isinstance(found, str) and found:
            return found
    return None


def _span(span: Span) -> tuple[str, dict[str, Any]]:
    return TABLES["traces"], {
        "end_ns": span.end_ns,
        "duration_ns": max(span.end_ns - span.start_ns, 0),
        "trace_id": span.trace_id,
        "span_id": span.span_id,
        "parent_span_id": span.parent_span_id,
        "trace_state": span.trace_state,
        "name": span.name,
        "kind": span.kind,
        "status": span.status,
        "status_message": span.status_message,
        "events": [{"time_ns": one.time_ns, "name": one.name, "attributes": one.attributes} for one in span.events],
        "links": [{"trace_id": one.trace_id, "span_id": one.span_id, "attributes": one.attributes} for one in span.links],
    }


def _log(log: Log) -> tuple[str, dict[str, Any]]:
    return TABLES["logs"], {
        "observed_ns": log.observed_ns,
        "trace_id": log.trace_id,
        "span_id": log.span_id,
        "severity": log.severity,
        "severity_text": log.severity_text,
        "event_name": log.event_name,
        "body": log.body,
    }


def _point(point: Point) -> tuple[str, dict[str, Any]]:
    return TABLES["metrics"], {
        "start_ns": point.start_ns,
        "name": point.name,
        "unit": point.unit,
        "type": point.type,
        "temporality": point.temporality,
        "monotonic": point.monotonic,
        "value": point.value,
        "summary": point.summary,
    }


_SHAPES: Final[Mapping[type[Any], Callable[[Any], tuple[str, dict[str, Any]]]]] = {Span: _span, Log: _log, Point: _point}
