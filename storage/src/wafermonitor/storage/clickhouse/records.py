"""Rows become records again: the way back of `rows`.

In: rows of the queries, as `client.Client.query` gives them (64-bit floats as text, ids in hex). Out: records.
Called by: `reader`, `runs`, `names`.
"""

from __future__ import annotations

from typing import Any

from wafermonitor.runs.merge import DESCRIPTIVE
from wafermonitor.runs.records import DeadLetter, Feed, LogRecord, MetricPoint, Progress, Resource, Run, Scope, Series, Span
from wafermonitor.storage.clickhouse.rows import SPAN, TRACE
from wafermonitor.storage.protocol import StoredDeadLetter

Row = list[Any]
_IDS = ("parent_span_id", "process_key")
_NUMBERS = ("expected_duration_s",)
_LISTS = ("lot_ids", "substrate_ids")


def run_of(row: Row) -> Run:
    """A row of `run_columns`, without what its process says."""
    trace, span, site, start_ns, final_fields, ending, interval, last_sign_ns, progress, cpu, memory, inferred, received = row[
        :13
    ]
    rank, end_ns, result, error_type, has = ending
    described = {name: _described(name, *value) for name, value in zip(DESCRIPTIVE, row[13:], strict=True)}
    return Run(
        site=site,
        trace_id=bytes.fromhex(trace),
        span_id=bytes.fromhex(span),
        start_ns=start_ns,
        final_fields=final_fields,
        end_rank=rank,
        end_ns=end_ns if has & 1 else None,
        result=result if has & 2 else None,
        error_type=error_type if has & 4 else None,
        heartbeat_interval_s=_number(interval),
        last_sign_ns=last_sign_ns,
        progress=_progress(progress),
        cpu_s=_number(cpu),
        memory_bytes=memory,
        inferred=bool(inferred),
        received_ns=received,
        **described,
    )


def span_of(row: Row, resources: dict[str, Resource], scopes: dict[str, Scope]) -> Span:
    """A row of `span_columns`, with what it refers to by key in hex."""
    (trace, span, parent, start_ns, duration_ns, received_ns, kind, status, flags, *dropped), rest = row[:12], row[12:]
    resource, scope, name, status_message, trace_state, attributes, events, links = rest
    return Span(
        resource=resources[resource],
        scope=scopes[scope],
        trace_id=bytes.fromhex(trace),
        span_id=bytes.fromhex(span),
        parent_span_id=_id(parent, SPAN),
        name=name,
        kind=kind,
        start_ns=start_ns,
        duration_ns=duration_ns,
        status=status,
        status_message=status_message,
        attributes=attributes,
        events=events or None,
        links=links or None,
        dropped_attributes=dropped[0],
        dropped_events=dropped[1],
        dropped_links=dropped[2],
        flags=flags,
        trace_state=trace_state,
        received_ns=received_ns,
    )


def log_of(row: Row, resources: dict[str, Resource], scopes: dict[str, Scope]) -> LogRecord:
    """A row of `logs`, with what it refers to by key in hex."""
    trace, span, digest, time_ns, observed_ns, received_ns, severity, flags, dropped, resource, scope, *words = row
    severity_text, event_name, body, attributes = words
    return LogRecord(
        resource=resources[resource],
        scope=scopes[scope],
        time_ns=time_ns,
        observed_ns=observed_ns,
        severity=severity,
        severity_text=severity_text,
        event_name=event_name,
        body=body or None,
        attributes=attributes,
        dropped_attributes=dropped,
        flags=flags,
        trace_id=_id(trace, TRACE),
        span_id=_id(span, SPAN),
        digest=bytes.fromhex(digest),
        received_ns=received_ns,
    )


def series_of(row: Row, resources: dict[str, Resource], scopes: dict[str, Scope]) -> Series:
    """A row of `series`, with what it refers to by key in hex."""
    key, resource, scope, name, unit, kind, temporality, monotonic, attributes = row
    return Series(
        key=bytes.fromhex(key),
        resource=resources[resource],
        scope=scopes[scope],
        name=name,
        unit=unit,
        type=kind,
        temporality=temporality,
        monotonic=bool(monotonic),
        attributes=attributes,
    )


def point_of(row: Row, series: dict[str, Series]) -> MetricPoint:
    """A row of `points`."""
    key, time_ns, start_ns, value, count, total, least, most, has, bounds, buckets, quantile_values, flags, received_ns = row
    return MetricPoint(
        series=series[key],
        time_ns=time_ns,
        start_ns=start_ns,
        value=_number(value),
        count=count,
        sum=_number(total),
        min=_number(least),
        max=_number(most),
        bounds=tuple(map(float, bounds)) if has & 1 else None,
        buckets=tuple(buckets) if has & 2 else None,
        quantile_values=tuple(map(float, quantile_values)) if has & 4 else None,
        flags=flags,
        received_ns=received_ns,
    )


def resource_of(row: Row) -> Resource:
    """A row of `resources`."""
    key, site, feed, service, version, process_key, has, attributes = row
    return Resource(
        key=bytes.fromhex(key),
        site=site,
        feed=feed if has & 1 else None,
        service=service,
        service_version=version if has & 2 else None,
        process_key=bytes.fromhex(process_key) if has & 4 else None,
        attributes=attributes,
    )


def scope_of(row: Row) -> Scope:
    """A row of `scopes`."""
    key, name, version, attributes = row
    return Scope(bytes.fromhex(key), name, version, attributes)


def feed_of(row: Row) -> Feed:
    """A row of `feeds`."""
    return Feed(*row)


def letter_of(row: Row) -> StoredDeadLetter:
    """A row of `letter_columns`."""
    key, site, signal, reason, sample, received_ns, retries, (retried_ns, answer) = row
    letter = DeadLetter(site, signal, reason, bytes.fromhex(sample), received_ns)
    return StoredDeadLetter(key, letter, retries, *((retried_ns, answer) if retries else (None, None)))


def _progress(value: Row) -> Progress | None:
    at_ns, *rest, has = value
    if not has:
        return None
    ratio, completed, total, unit, stage, message = (part if has >> bit & 1 else None for bit, part in enumerate(rest, start=1))
    return Progress(at_ns, _number(ratio), _number(completed), _number(total), unit, stage, message)


def _described(name: str, r: int, value: Any) -> Any:
    if not r:
        return None
    if name in _IDS:
        return bytes.fromhex(value)
    if name in _NUMBERS:
        return float(value)
    return tuple(value) if name in _LISTS else value


def _number(value: str | float | None) -> float | None:
    return None if value is None else float(value)


def _id(text: str, size: int) -> bytes | None:
    value = bytes.fromhex(text)
    return None if value == bytes(size) else value
