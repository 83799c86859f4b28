"""Records become rows in RowBinary, in the order of the columns that stand beside each encoder.

In: records of `runs.records`. Out: bytes for INSERT … FORMAT RowBinary. Called by: `writer`. `records` is the way back.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from wafermonitor.runs.merge import DESCRIPTIVE
from wafermonitor.runs.records import (
    DeadLetter,
    FeedBeat,
    LogRecord,
    MetricPoint,
    ProcessBeat,
    Progress,
    Resource,
    Run,
    Scope,
    Series,
    Span,
    label,
)
from wafermonitor.storage.clickhouse.rowbinary import (
    array,
    blob,
    finite,
    fixed,
    float64,
    int32,
    int64,
    nullable,
    nullable_number,
    numbers,
    text,
    uint32,
    uint64,
)

TRACE, SPAN, KEY, PROCESS = 16, 8, 32, 16
"""Bytes of an id or key."""
NO_TIME = -(2**63)


class Table(NamedTuple):
    """Where rows go: the table and its columns, in the order in which they are encoded."""

    name: str
    columns: tuple[str, ...]


def _table(name: str, *columns: str) -> Table:
    return Table(name, tuple(name for part in columns for name in part.split()))


SPANS = _table(
    "span",
    "start_ns duration_ns received_ns precedence kind status flags dropped_attributes dropped_events dropped_links trace_id",
    "span_id parent_span_id resource_key scope_key site service name status_message trace_state attributes events links",
)
LOGS = _table(
    "log_record",
    "time_ns observed_ns received_ns precedence severity flags dropped_attributes trace_id span_id digest resource_key",
    "scope_key site severity_text event_name body attributes",
)
POINTS = _table(
    "metric_point",
    "series_key time_ns received_ns precedence flags has start_ns value count sum min max bounds buckets quantile_values",
)
SERIES = _table(
    "metric_series",
    "key resource_key scope_key process_key temporality monotonic seen site service name unit type attributes",
)
RESOURCES = _table("resource", "key process_key has seen site feed service service_version attributes")
SCOPES = _table("scope", "key seen name version attributes")
RUNS = _table(
    "run",
    "trace_id span_id site start_ns final_fields ending heartbeat_interval_s last_sign_ns progress cpu_s memory_bytes inferred",
    "received_ns",
    *DESCRIPTIVE,
)
CHANGES = _table("run_change", "call trace_id span_id site")
ARRIVALS = _table("first_arrival", "digest call arrived_ns state")
PROCESSES = _table("process", "key pid beat_ns interval_s seen site host instance_id")
FEEDS = _table("feed", "watermark_ns received_ns skew_ns site feed")
APPS = _table("app", "site service newest")
SITES = _table("site", "name")
ROLLUPS = _table("rollup_state", "one holder token zone")
LETTERS = _table("dead_letter", "key generation received_ns site signal reason sample retries retried forgotten")

_span_numbers = struct.Struct("<qqqQiiIIII").pack
_log_numbers = struct.Struct("<qqqQiII").pack
_point_numbers = struct.Struct("<qqQIB").pack
_LABELS = frozenset({"job", "run_id", "service", "equipment", "recipe", "product"})
"""Cut as PostgreSQL's are, so that a question finds the same on both; a run's attributes keep the whole text."""


def span_row(span: Span, precedence: int) -> bytes:
    """One row of SPANS."""
    resource = span.resource
    return b"".join(
        (
            _span_numbers(
                span.start_ns,
                span.duration_ns,
                span.received_ns,
                precedence,
                span.kind,
                span.status,
                span.flags,
                span.dropped_attributes,
                span.dropped_events,
                span.dropped_links,
            ),
            fixed(span.trace_id, TRACE),
            fixed(span.span_id, SPAN),
            fixed(span.parent_span_id, SPAN),
            fixed(resource.key, KEY),
            fixed(span.scope.key, KEY),
            text(resource.site),
            text(resource.service),
            text(span.name),
            text(span.status_message),
            text(span.trace_state),
            text(span.attributes),
            text(span.events or ""),
            text(span.links or ""),
        )
    )


def log_row(record: LogRecord, precedence: int) -> bytes:
    """One row of LOGS."""
    return b"".join(
        (
            _log_numbers(
                record.time_ns,
                record.observed_ns,
                record.received_ns,
                precedence,
                record.severity,
                record.flags,
                record.dropped_attributes,
            ),
            fixed(record.trace_id, TRACE),
            fixed(record.span_id, SPAN),
            fixed(record.digest, KEY),
            fixed(record.resource.key, KEY),
            fixed(record.scope.key, KEY),
            text(record.resource.site),
            text(record.severity_text),
            text(record.event_name),
            text(record.body or ""),
            text(record.attributes),
        )
    )


def point_row(point: MetricPoint, precedence: int) -> bytes:
    """One row of POINTS."""
    has = (point.bounds is not None) | (point.buckets is not None) << 1 | (point.quantile_values is not None) << 2
    return b"".join(
        (
            fixed(point.series.key, KEY),
            _point_numbers(point.time_ns, point.received_ns, precedence, point.flags, has),
            nullable(point.start_ns),
            nullable_number(point.value),
            nullable(point.count),
            nullable_number(point.sum),
            nullable_number(point.min),
            nullable_number(point.max),
            numbers(point.bounds, "d"),
            numbers(point.buckets, "q"),
            numbers(point.quantile_values, "d"),
        )
    )


def series_row(series: Series, seen_s: int) -> bytes:
    """One row of SERIES."""
    return b"".join(
        (
            fixed(series.key, KEY),
            fixed(series.resource.key, KEY),
            fixed(series.scope.key, KEY),
            fixed(series.resource.process_key, PROCESS),
            int32(series.temporality),
            b"\1" if series.monotonic else b"\0",
            uint32(seen_s),
            text(series.resource.site),
            text(series.resource.service),
            text(series.name),
            text(series.unit),
            text(series.type),
            text(series.attributes),
        )
    )


def resource_row(resource: Resource, seen_s: int) -> bytes:
    """One row of RESOURCES."""
    has = (resource.feed is not None) | (resource.service_version is not None) << 1 | (resource.process_key is not None) << 2
    return b"".join(
        (
            fixed(resource.key, KEY),
            fixed(resource.process_key, PROCESS),
            bytes([has]),
            uint32(seen_s),
            text(resource.site),
            text(resource.feed or ""),
            text(resource.service),
            text(resource.service_version or ""),
            text(resource.attributes),
        )
    )


def scope_row(scope: Scope, seen_s: int) -> bytes:
    """One row of SCOPES."""
    return fixed(scope.key, KEY) + uint32(seen_s) + text(scope.name) + text(scope.version) + text(scope.attributes)


def run_row(run: Run) -> bytes:
    """One row of RUNS: what this one message says."""
    return b"".join(
        (
            fixed(run.trace_id, TRACE),
            fixed(run.span_id, SPAN),
            text(run.site),
            nullable(run.start_ns),
            uint32(run.final_fields),
            _ending(run),
            _nullable_finite(run.heartbeat_interval_s),
            nullable(run.last_sign_ns),
            _progress(run.progress),
            _nullable_finite(run.cpu_s),
            nullable(run.memory_bytes),
            b"\1" if run.inferred else b"\0",
            nullable(run.received_ns),
            *(
                _described(name, getattr(run, name), final=bool(run.final_fields >> bit & 1))
                for bit, name in enumerate(DESCRIPTIVE)
            ),
        )
    )


def change_row(run: Run, call: bytes) -> bytes:
    """One row of CHANGES."""
    return call + run.trace_id + run.span_id + text(run.site)


CLAIMED, CONFIRMED, WITHDRAWN = 0, 1, 2
"""States of a claim."""


def arrival_row(digest: bytes, call: bytes, arrived_ns: int, state: int) -> bytes:
    """One row of ARRIVALS."""
    return fixed(digest, KEY) + call + int64(arrived_ns) + bytes([state])


def process_row(beat: ProcessBeat, seen_s: int) -> bytes:
    """One row of PROCESSES."""
    return b"".join(
        (
            fixed(beat.key, PROCESS),
            int64(beat.pid),
            int64(beat.beat_ns),
            _nullable_finite(beat.interval_s),
            uint32(seen_s),
            text(beat.site),
            text(beat.host),
            text(beat.instance_id),
        )
    )


def feed_row(beat: FeedBeat) -> bytes:
    """One row of FEEDS."""
    return int64(beat.beat_ns) + int64(beat.received_ns) + int64(beat.skew_ns) + text(beat.site) + text(beat.feed)


def app_row(resource: Resource, received_ns: int) -> bytes:
    """One row of APPS."""
    version = resource.service_version
    newest = int64(received_ns) + text(version or "") + (b"\0" if version is None else b"\1")
    return text(resource.site) + text(resource.service) + newest


def letter_row(letter: DeadLetter, generation: int) -> bytes:
    """One row of LETTERS: a letter that arrived."""
    head = letter.key + uint32(generation) + int64(letter.received_ns)
    words = text(letter.site) + text(letter.signal) + text(letter.reason) + blob(letter.sample)
    return head + words + uint64(0) + int64(0) + text("") + b"\0"


def rollup_row(holder: str, token: str, zone: str) -> bytes:
    """One row of ROLLUPS."""
    return b"\1" + text(holder) + text(token) + text(zone)


def mark_row(
    key: bytes, generation: int, received_ns: int, *, retried_ns: int = 0, answer: str = "", forgotten: bool = False
) -> bytes:
    """One row of LETTERS: what became of the letter, of which it says when it was received, for both go on the same day."""
    head = fixed(key, KEY) + uint32(generation) + int64(received_ns) + b"\0\0\0\0"
    return head + uint64(0 if forgotten else 1) + int64(retried_ns) + text(answer) + (b"\1" if forgotten else b"\0")


def _ending(run: Run) -> bytes:
    has = (run.end_ns is not None) | (run.result is not None) << 1 | (run.error_type is not None) << 2
    words = text(run.result or "") + text(run.error_type or "")
    return bytes([run.end_rank]) + int64(run.end_ns or 0) + words + bytes([has])


_LEAST_PROGRESS = int64(NO_TIME) + float64(float("-inf")) * 3 + b"\0\0\0" + b"\0"


def _progress(progress: Progress | None) -> bytes:
    if progress is None:
        return _LEAST_PROGRESS
    counts = (progress.ratio, progress.completed, progress.total)
    words = (progress.unit, progress.stage, progress.message)
    has = 1 + sum(1 << bit for bit, value in enumerate((*counts, *words), start=1) if value is not None)
    return b"".join(
        (
            int64(progress.at_ns),
            *(float64(float("-inf")) if count is None else finite(count) for count in counts),
            *(text(word or "") for word in words),
            bytes([has]),
        )
    )


def _nullable_finite(value: float | None) -> bytes:
    return b"\1" if value is None else b"\0" + finite(value)


def _described(name: str, value: Any, *, final: bool) -> bytes:
    """`r` and `v` of a descriptive field."""
    encode, nothing = _DESCRIBED.get(name, (text, b"\0"))
    if value is None:
        return b"\0" + nothing
    if name in _LABELS:
        value = label(value)
    return (b"\2" if final else b"\1") + encode(value)


_NO_NUMBER = bytes(8)
_DESCRIBED: dict[str, tuple[Callable[[Any], bytes], bytes]] = {
    "parent_span_id": (lambda value: fixed(value, SPAN), bytes(SPAN)),
    "process_key": (lambda value: fixed(value, PROCESS), bytes(PROCESS)),
    "attempt": (int64, _NO_NUMBER),
    "nominal_time_ns": (int64, _NO_NUMBER),
    "deadline_ns": (int64, _NO_NUMBER),
    "expected_duration_s": (finite, _NO_NUMBER),
    "lot_ids": (lambda values: array([label(value) for value in values]), b"\0"),
    "substrate_ids": (lambda values: array([label(value) for value in values]), b"\0"),
}
"""How a descriptive field that is no text is encoded, and what stands for none."""
