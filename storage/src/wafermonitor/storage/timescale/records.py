"""Rows become records again: the way back of `rows`.

In: rows of the queries, in the types of `codecs.register`. Out: records of `runs.records`. Called by: `reader`.
"""

from __future__ import annotations

from typing import Any

import asyncpg

from wafermonitor.runs.records import DeadLetter, Feed, LogRecord, MetricPoint, Progress, Resource, Run, Scope, Series, Span
from wafermonitor.runs.state import State
from wafermonitor.storage.protocol import StoredDeadLetter, StoredRun


def span_of(row: asyncpg.Record) -> Span:
    """A row of `spans_of_trace` or `spans_newest`."""
    return Span(
        resource=_resource(row),
        scope=_scope(row),
        trace_id=row["trace_id"],
        span_id=_id(row["span_id"]),
        parent_span_id=_id_or_none(row["parent_span_id"]),
        name=row["name"],
        kind=row["kind"],
        start_ns=row["start_time"] * 1000 + row["start_ns"],
        duration_ns=row["duration_ns"],
        status=row["status"],
        status_message=row["status_message"],
        attributes=row["attributes"],
        events=row["events"],
        links=row["links"],
        dropped_attributes=row["dropped_attributes"],
        dropped_events=row["dropped_events"],
        dropped_links=row["dropped_links"],
        flags=row["flags"],
        trace_state=row["trace_state"],
        received_ns=row["received_time"] * 1000 + row["received_ns"],
    )


def log_of(row: asyncpg.Record) -> LogRecord:
    """A row of `logs`."""
    return LogRecord(
        resource=_resource(row),
        scope=_scope(row),
        time_ns=row["time"] * 1000 + row["time_ns"],
        observed_ns=row["observed_time"] * 1000 + row["observed_ns"],
        severity=row["severity"],
        severity_text=row["severity_text"],
        event_name=row["event_name"],
        body=row["body"],
        attributes=row["attributes"],
        dropped_attributes=row["dropped_attributes"],
        flags=row["flags"],
        trace_id=row["trace_id"],
        span_id=_id_or_none(row["span_id"]),
        digest=row["digest"],
        received_ns=row["received_time"] * 1000 + row["received_ns"],
    )


def point_of(row: asyncpg.Record) -> MetricPoint:
    """A row of `metrics`."""
    series = Series(
        key=row["key"],
        resource=_resource(row),
        scope=_scope(row),
        name=row["name"],
        unit=row["unit"],
        type=row["type"],
        temporality=row["temporality"],
        monotonic=row["monotonic"],
        attributes=row["attributes"],
    )
    return MetricPoint(
        series=series,
        time_ns=row["time"] * 1000 + row["time_ns"],
        start_ns=None if row["start_time"] is None else row["start_time"] * 1000 + row["start_ns"],
        value=row["value"],
        count=row["count"],
        sum=row["sum"],
        min=row["min"],
        max=row["max"],
        bounds=_tuple(row["bounds"]),
        buckets=_tuple(row["buckets"]),
        quantile_values=_tuple(row["quantile_values"]),
        flags=row["flags"],
        received_ns=row["received_time"] * 1000 + row["received_ns"],
    )


def run_of(row: asyncpg.Record) -> StoredRun:
    """A row of any query that includes `run_answer`."""
    run = Run(
        site=row["site"],
        trace_id=row["trace_id"],
        span_id=_id(row["span_id"]),
        start_ns=row["start_unix_ns"],
        job=row["job"],
        run_id=row["run_id"],
        parent_span_id=_id_or_none(row["parent_span_id"]),
        parent_run_id=row["parent_run_id"],
        feed=row["feed_id"],
        service=row["service"],
        service_version=row["service_version"],
        attempt=row["attempt"],
        trigger=row["trigger"],
        nominal_time_ns=row["nominal_unix_ns"],
        expected_duration_s=row["expected_duration_s"],
        deadline_ns=row["deadline_unix_ns"],
        owner=row["owner"],
        equipment=row["equipment"],
        recipe=row["recipe"],
        product=row["product"],
        lot_ids=_tuple(row["lot_ids"]),
        substrate_ids=_tuple(row["substrate_ids"]),
        process_key=row["process_key"],
        attributes=row["attributes"],
        final_fields=row["final_fields"],
        end_rank=row["end_rank"],
        end_ns=row["end_unix_ns"],
        result=row["result"],
        error_type=row["error_type"],
        heartbeat_interval_s=row["heartbeat_interval_s"],
        last_sign_ns=row["last_sign_unix_ns"],
        progress=_progress(row),
        cpu_s=row["cpu_s"],
        memory_bytes=row["memory_bytes"],
        inferred=row["inferred"],
        received_ns=row["received_unix_ns"],
        process_beat_ns=row["process_beat_unix_ns"],
        process_interval_s=row["process_interval_s"],
    )
    return StoredRun(run, State(row["state"]), row["overdue"])


def letter_of(row: asyncpg.Record) -> StoredDeadLetter:
    """A row of `dead_letters` or `dead_letter`."""
    letter = DeadLetter(row["site"], row["signal"], row["reason"], row["sample"], row["received_unix_ns"])
    return StoredDeadLetter(row["key"].hex(), letter, row["retries"], row["retried_unix_ns"], row["answer"])


def feed_of(row: asyncpg.Record) -> Feed:
    """A row of `feeds`."""
    return Feed(row["site"], row["feed_id"], row["watermark_unix_ns"], row["received_unix_ns"], row["skew_ns"])


def _progress(row: asyncpg.Record) -> Progress | None:
    if row["progress_unix_ns"] is None:
        return None
    return Progress(
        at_ns=row["progress_unix_ns"],
        ratio=row["progress_ratio"],
        completed=row["progress_completed"],
        total=row["progress_total"],
        unit=row["progress_unit"],
        stage=row["progress_stage"],
        message=row["progress_message"],
    )


def _resource(row: asyncpg.Record) -> Resource:
    return Resource(
        key=row["resource_key"],
        site=row["site"],
        feed=row["feed_id"],
        service=row["service"],
        service_version=row["service_version"],
        process_key=row["process_key"],
        attributes=row["resource_attributes"],
    )


def _scope(row: asyncpg.Record) -> Scope:
    return Scope(row["scope_key"], row["scope_name"], row["scope_version"], row["scope_attributes"])


def _id(number: int) -> bytes:
    return number.to_bytes(8, signed=True)


def _id_or_none(number: int | None) -> bytes | None:
    return None if number is None else _id(number)


def _tuple(values: list[Any] | None) -> tuple[Any, ...] | None:
    return None if values is None else tuple(values)
