"""Records with everything filled in, so that a test names only what it is about."""

from __future__ import annotations

import dataclasses
import hashlib
import time
from typing import Any

from wafermonitor.runs.merge import final_fields
from wafermonitor.runs.records import (
    Batch,
    DeadLetter,
    FeedBeat,
    LogRecord,
    MetricPoint,
    ProcessBeat,
    Resource,
    Run,
    Scope,
    Series,
    Span,
)

SECOND = 1_000_000_000
HOUR = 3600 * SECOND
DAY = 24 * HOUR
NOW = time.time_ns() // SECOND * SECOND + 123_456_789
"""Today, so that rows meet the days that a store has ready; with every digit of a nanosecond in use."""
SITE, FEED, HOST = "f1", "host-1", "tool-7"
PROCESS = hashlib.sha256(b"process").digest()[:16]
TRACE = bytes.fromhex("0af7651916cd43dd8448eb211c80319c")


def digest(*parts: object) -> bytes:
    return hashlib.sha256(repr(parts).encode()).digest()


def trace_id(number: int) -> bytes:
    return digest("trace", number)[:16]


def span_id(number: int) -> bytes:
    return digest("span", number)[:8]


def resource(site: str = SITE, service: str = "yield", **given: Any) -> Resource:
    fields: dict[str, Any] = {
        "feed": FEED,
        "service_version": "1.2",
        "process_key": PROCESS,
        "attributes": '{"host.name": "tool-7"}',
    }
    fields |= given
    return Resource(key=digest(site, service, sorted(fields.items())), site=site, service=service, **fields)


def scope(name: str = "wafer", version: str = "0.1") -> Scope:
    return Scope(digest(name, version), name, version, "{}")


def span(number: int = 1, **given: Any) -> Span:
    fields: dict[str, Any] = {
        "resource": resource(),
        "scope": scope(),
        "trace_id": TRACE,
        "span_id": span_id(number),
        "parent_span_id": None,
        "name": f"step {number}",
        "kind": 1,
        "start_ns": NOW - HOUR + number,
        "duration_ns": 5_000_001,
        "status": 0,
        "status_message": "",
        "attributes": '{"n": 1}',
        "events": None,
        "links": None,
        "dropped_attributes": 0,
        "dropped_events": 0,
        "dropped_links": 0,
        "flags": 1,
        "trace_state": "",
        "received_ns": NOW,
    }
    return Span(**fields | given)


def log(number: int = 1, **given: Any) -> LogRecord:
    fields: dict[str, Any] = {
        "resource": resource(),
        "scope": scope(),
        "time_ns": NOW - HOUR + number,
        "observed_ns": NOW - HOUR + number + 1,
        "severity": 9,
        "severity_text": "INFO",
        "event_name": "",
        "body": f'"line {number}"',
        "attributes": "{}",
        "dropped_attributes": 0,
        "flags": 0,
        "trace_id": TRACE,
        "span_id": span_id(1),
        "received_ns": NOW,
    }
    fields |= given
    return LogRecord(**{"digest": digest(sorted(fields.items(), key=lambda item: item[0]))} | fields)


def series(name: str = "process.cpu.time", **given: Any) -> Series:
    fields: dict[str, Any] = {
        "resource": resource(),
        "scope": scope(),
        "unit": "s",
        "type": "sum",
        "temporality": 2,
        "monotonic": True,
        "attributes": "{}",
    }
    fields |= given
    return Series(key=digest(name, sorted(fields.items(), key=lambda item: item[0])), name=name, **fields)


def point(number: int = 1, **given: Any) -> MetricPoint:
    fields: dict[str, Any] = {
        "series": series(),
        "time_ns": NOW - HOUR + number,
        "start_ns": None,
        "value": 1.5 * number,
        "count": None,
        "sum": None,
        "min": None,
        "max": None,
        "bounds": None,
        "buckets": None,
        "quantile_values": None,
        "flags": 0,
        "received_ns": NOW,
    }
    return MetricPoint(**fields | given)


def run(number: int = 1, **given: Any) -> Run:
    """An open run, started an hour ago, that has given a sign just now."""
    fields: dict[str, Any] = {
        "site": SITE,
        "trace_id": trace_id(number),
        "span_id": span_id(number),
        "start_ns": NOW - HOUR + number,
        "job": "lot_yield",
        "run_id": f"run-{number}",
        "feed": FEED,
        "service": "yield",
        "last_sign_ns": NOW,
        "received_ns": NOW,
        "attributes": "{}",
    }
    return Run(**fields | given)


def ended(number: int = 1, **given: Any) -> Run:
    """The same run's final span: ended half an hour ago, well."""
    final = {"end_rank": 2, "end_ns": NOW - HOUR // 2, "result": "success"}
    finished = run(number, **final | given)
    return dataclasses.replace(finished, final_fields=final_fields(finished))


def beat(beat_ns: int = NOW, interval_s: float | None = 30.0, key: bytes = PROCESS, site: str = SITE) -> ProcessBeat:
    return ProcessBeat(key, site, HOST, 4711, "instance", beat_ns, interval_s)


def feed_beat(beat_ns: int = NOW, received_ns: int = NOW, skew_ns: int = 0, site: str = SITE, feed: str = FEED) -> FeedBeat:
    return FeedBeat(site, feed, beat_ns, received_ns, skew_ns)


def dead(reason: str = "no trace id") -> DeadLetter:
    return DeadLetter(SITE, "traces", reason, b"\x00\xff sample", NOW)


def runs(*records: Run) -> list[Batch]:
    return [Batch(runs=list(records))]
