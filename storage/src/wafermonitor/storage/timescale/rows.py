"""Records become rows: one tuple per record, in the order of the columns that are copied.

In: records of `runs.records` and the ids of their dictionary rows. Out: tuples for COPY or unnest, in the types of
`codecs.register` (times in microseconds, ids as bytes). Called by: `writer`. `records` is the way back.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, NamedTuple

from wafermonitor.runs.records import LogRecord, MetricPoint, Run, Span, label
from wafermonitor.storage.protocol import Block, Numbers
from wafermonitor.storage.timescale.codecs import MINUS_INFINITY

Row = tuple[Any, ...]


class Ids(NamedTuple):
    """The dictionary ids of one group, by the keys of its records."""

    sites: dict[str, int]
    apps: dict[tuple[str, str], int]
    scopes: dict[bytes, int]
    resources: dict[bytes, int]
    series: dict[bytes, int]


_FIELDS = {
    "start_unix_ns": "start_ns",
    "end_unix_ns": "end_ns",
    "last_sign_unix_ns": "last_sign_ns",
    "received_unix_ns": "received_ns",
    "nominal_unix_ns": "nominal_time_ns",
    "deadline_unix_ns": "deadline_ns",
    "feed_id": "feed",
}
"""Column of `run` → field of `Run`, where they are not called the same."""
_LISTS = ("lot_ids", "substrate_ids")
_INDEXED = ("job", "run_id", "service", "equipment", "recipe", "product")
"""Cut to what an index can hold; a run's attributes keep the whole text."""
SPAN_COLUMNS = (
    "trace_id",
    "start_time",
    "duration_ns",
    "span_id",
    "parent_span_id",
    "received_time",
    "flags",
    "app_id",
    "scope_id",
    "resource_id",
    "dropped_attributes",
    "dropped_events",
    "dropped_links",
    "site_id",
    "start_ns",
    "received_ns",
    "kind",
    "status",
    "name",
    "status_message",
    "trace_state",
    "attributes",
    "events",
    "links",
)
LOG_COLUMNS = (
    "time",
    "observed_time",
    "received_time",
    "trace_id",
    "span_id",
    "flags",
    "dropped_attributes",
    "resource_id",
    "scope_id",
    "site_id",
    "time_ns",
    "observed_ns",
    "received_ns",
    "severity",
    "digest",
    "severity_text",
    "event_name",
    "body",
    "attributes",
)
POINT_COLUMNS = (
    "time",
    "start_time",
    "received_time",
    "value",
    "count",
    "sum",
    "min",
    "max",
    "flags",
    "series_id",
    "time_ns",
    "start_ns",
    "received_ns",
    "bounds",
    "buckets",
    "quantile_values",
)
DELTA_COLUMNS = (
    "trace_id",
    "span_id",
    "site_id",
    "end_rank",
    "final_fields",
    "start_time",
    "start_unix_ns",
    "end_unix_ns",
    "last_sign_unix_ns",
    "received_unix_ns",
    "nominal_unix_ns",
    "deadline_unix_ns",
    "expected_duration_s",
    "heartbeat_interval_s",
    "cpu_s",
    "memory_bytes",
    "attempt",
    "parent_span_id",
    "process_key",
    "inferred",
    "job",
    "run_id",
    "parent_run_id",
    "feed_id",
    "service",
    "service_version",
    "trigger",
    "owner",
    "equipment",
    "recipe",
    "product",
    "lot_ids",
    "substrate_ids",
    "result",
    "error_type",
    "progress_unix_ns",
    "progress_ratio",
    "progress_completed",
    "progress_total",
    "progress_unit",
    "progress_stage",
    "progress_message",
    "attributes",
)
"""What is copied of a run; each column has the type that it has in `run`. The compiled lane writes them in this order."""
_PROGRESS = tuple(name for name in DELTA_COLUMNS if name.startswith("progress_"))
"""In the order of the fields of `Progress`."""


def span_row(span: Span, ids: Ids) -> Row:
    """One row of `span` or `span_late`."""
    resource = span.resource
    start_us, start_ns = divmod(span.start_ns, 1000)
    received_us, received_ns = divmod(span.received_ns, 1000)
    return (
        span.trace_id,
        start_us,
        span.duration_ns,
        int.from_bytes(span.span_id, signed=True),
        None if span.parent_span_id is None else int.from_bytes(span.parent_span_id, signed=True),
        received_us,
        span.flags,
        ids.apps[resource.site, resource.service],
        ids.scopes[span.scope.key],
        ids.resources[resource.key],
        span.dropped_attributes,
        span.dropped_events,
        span.dropped_links,
        ids.sites[resource.site],
        start_ns,
        received_ns,
        span.kind,
        span.status,
        span.name,
        span.status_message,
        span.trace_state,
        span.attributes,
        span.events,
        span.links,
    )


def log_row(record: LogRecord, ids: Ids) -> Row:
    """One row of `log_record` or `log_late`."""
    time_us, time_ns = divmod(record.time_ns, 1000)
    observed_us, observed_ns = divmod(record.observed_ns, 1000)
    received_us, received_ns = divmod(record.received_ns, 1000)
    return (
        time_us,
        observed_us,
        received_us,
        record.trace_id,
        None if record.span_id is None else int.from_bytes(record.span_id, signed=True),
        record.flags,
        record.dropped_attributes,
        ids.resources[record.resource.key],
        ids.scopes[record.scope.key],
        ids.sites[record.resource.site],
        time_ns,
        observed_ns,
        received_ns,
        record.severity,
        record.digest,
        record.severity_text,
        record.event_name,
        record.body,
        record.attributes,
    )


def point_row(point: MetricPoint, ids: Ids) -> Row:
    """One row of `metric_point` or `metric_late`."""
    time_us, time_ns = divmod(point.time_ns, 1000)
    start_us, start_ns = (None, None) if point.start_ns is None else divmod(point.start_ns, 1000)
    received_us, received_ns = divmod(point.received_ns, 1000)
    return (
        time_us,
        start_us,
        received_us,
        point.value,
        point.count,
        point.sum,
        point.min,
        point.max,
        point.flags,
        ids.series[point.series.key],
        time_ns,
        start_ns,
        received_ns,
        point.bounds,
        point.buckets,
        point.quantile_values,
    )


def run_row(run: Run, ids: Ids) -> Row:
    """One row of `run_delta`. ValueError for a number that JSON would not have: the store would take it, and no reader."""
    made: dict[str, Any] = {
        "site_id": ids.sites[run.site],
        "span_id": int.from_bytes(run.span_id, signed=True),
        "start_time": MINUS_INFINITY if run.start_ns is None else run.start_ns // 1000,
        "parent_span_id": None if run.parent_span_id is None else int.from_bytes(run.parent_span_id, signed=True),
    }
    made |= {name: None if (value := getattr(run, name)) is None else label(value) for name in _INDEXED}
    made |= {name: None if (value := getattr(run, name)) is None else [*map(label, value)] for name in _LISTS}
    made |= zip(_PROGRESS, run.progress or (None,) * len(_PROGRESS), strict=True)
    row = tuple([made[name] if name in made else getattr(run, _FIELDS.get(name, name)) for name in DELTA_COLUMNS])
    if any(isinstance(value, float) and not math.isfinite(value) for value in row):
        raise ValueError("a number of a run is not finite")
    return row


def numbers_of(block: Block, ids: Ids) -> Numbers:
    """What `block` needs to put ids in its rows."""
    return Numbers(
        [ids.sites[site] for site in block.sites],
        [ids.apps[site, service] for _, site, _, service, *_ in block.resources],
        [ids.resources[resource[0]] for resource in block.resources],
        [ids.scopes[scope[0]] for scope in block.scopes],
        [ids.series[series[0]] for series in block.series],
    )


def letter_key(text: str) -> bytes:
    """The key of a dead letter from its hex; what is no hex is the key of none."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def columns(rows: Iterable[Row]) -> list[list[Any]]:
    """Rows turned into one list per column, as unnest takes them."""
    return [list(column) for column in zip(*rows, strict=True)]
