"""A small fab with known ids and times, as the records the receiver would write.

In: a writer. Out: stored runs, spans, logs and metrics.  Called by: the tests of query (through `conftest`), tests of screens.
"""

from __future__ import annotations

import hashlib
import json

from wafermonitor.runs.records import (
    Batch,
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
)
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events
from wafermonitor.storage.protocol import Writer

SECOND = 1_000_000_000
NOW = 1_780_000_000 * SECOND
PROCESS = b"p" * 16


class Clock:
    """Now in ns, moved by the test."""

    def __init__(self, now_ns=NOW):
        self.now_ns = now_ns

    def __call__(self):
        return self.now_ns

    def pass_s(self, seconds):
        self.now_ns += int(seconds * SECOND)


def trace_id(number):
    return number.to_bytes(16, "big")


def span_id(number):
    return number.to_bytes(8, "big")


def id_of(trace, span):
    return f"{trace_id(trace).hex()}-{span_id(span).hex()}"


def resource(site="fab1", service="yield", process=PROCESS, version="1.4"):
    attributes = {names.SERVICE_NAME: service, names.HOST_NAME: "tool-7"}
    key = hashlib.sha256(f"{site}{service}{process!r}".encode()).digest()
    return Resource(key, site, "feed-1", service, version, process, json.dumps(attributes))


SCOPE = Scope(hashlib.sha256(b"wafer").digest(), "wafer", "1", "{}")


def run(trace=1, span=1, *, parent=None, start_s=-100.0, end_s=None, arrived=True, site="fab1", **fields):
    """An open run, or with `end_s` an ended one; times in s from NOW. `arrived`: by its span, else only by its end event."""
    ended = end_s is not None
    start_ns = None if start_s is None else NOW + int(start_s * SECOND)
    end_ns = NOW + int(end_s * SECOND) if ended else None
    values = {
        "job": "lot_yield",
        "run_id": f"r{trace}.{span}",
        "parent_span_id": None if parent is None else span_id(parent),
        "feed": "feed-1",
        "service": "yield",
        "service_version": "1.4",
        "end_rank": (2 if arrived else 1) if ended else 0,
        "result": "success" if ended else None,
        "heartbeat_interval_s": 10.0,
        "last_sign_ns": end_ns if ended else start_ns,
        "process_key": PROCESS,
        "attributes": "{}",
        "received_ns": NOW,
    } | fields
    return Run(site=site, trace_id=trace_id(trace), span_id=span_id(span), start_ns=start_ns, end_ns=end_ns, **values)


def span(trace=1, number=1, *, parent=None, start_s=-100.0, duration_s=1.0, name="work", attributes=None, **fields):
    values = {
        "resource": resource(),
        "scope": SCOPE,
        "kind": 1,
        "status": 0,
        "status_message": "",
        "events": None,
        "links": None,
        "dropped_attributes": 0,
        "dropped_events": 0,
        "dropped_links": 0,
        "flags": 1,
        "trace_state": "",
        "received_ns": NOW,
    } | fields
    return Span(
        trace_id=trace_id(trace),
        span_id=span_id(number),
        parent_span_id=None if parent is None else span_id(parent),
        name=name,
        start_ns=NOW + int(start_s * SECOND),
        duration_ns=int(duration_s * SECOND),
        attributes=json.dumps(attributes or {}),
        **values,
    )


def job_span(trace, number, job, **fields):
    return span(trace, number, name=job, attributes={names.WAFER_JOB_NAME: job}, **fields)


def log(trace=1, number=1, *, at_s=-50.0, body="hello", severity=9, event="", **fields):
    identity = repr((trace, number, at_s, body, event))
    return LogRecord(
        resource=fields.get("resource", resource()),
        scope=SCOPE,
        time_ns=NOW + int(at_s * SECOND),
        observed_ns=NOW,
        severity=severity,
        severity_text="INFO",
        event_name=event,
        body=json.dumps(body),
        attributes=json.dumps({"line": number}),
        dropped_attributes=0,
        flags=0,
        trace_id=trace_id(trace),
        span_id=span_id(number),
        digest=hashlib.sha256(identity.encode()).digest(),
        received_ns=NOW,
    )


def points(name="process.memory.usage", *, at_s=(-90.0, -80.0, -70.0), process=PROCESS):
    owner = resource(process=process)
    key = hashlib.sha256(f"{name}{process!r}".encode()).digest()
    series = Series(key, owner, SCOPE, name, "By", "gauge", 0, False, json.dumps({"state": "used"}))
    return [
        MetricPoint(series, NOW + int(at * SECOND), None, 1000.0 + at, None, None, None, None, None, None, None, 0, NOW)
        for at in at_s
    ]


def feed_beat(at_s=0.0, site="fab1", feed="feed-1"):
    at_ns = NOW + int(at_s * SECOND)
    return FeedBeat(site, feed, at_ns, at_ns, 0)


def process_beat(at_s=0.0):
    return ProcessBeat(PROCESS, "fab1", "tool-7", 42, "instance", NOW + int(at_s * SECOND), 10.0)


async def fill(writer: Writer) -> None:
    """Trace 1: an open lot with three wafers (ended, open, failed) and plain spans. 2: a failed job elsewhere. 3: a plain
    trace. 4: a stock-instrumented job with an unannounced subjob below a plain span."""
    lot = run(
        1, 1, start_s=-100, lot_ids=("GAL-LOT",), equipment="P1", progress=Progress(NOW, 0.5, 2, 4, "wafer"), last_sign_ns=NOW
    )
    wafers = [
        run(1, 2, parent=1, job="wafer", start_s=-90, end_s=-80, substrate_ids=("W01",)),
        run(1, 3, parent=1, job="wafer", start_s=-70, last_sign_ns=NOW),
        run(1, 4, parent=1, job="wafer", start_s=-60, end_s=-50, arrived=False, result="failure", error_type="BadFile"),
    ]
    spans = [
        job_span(1, 2, "wafer", parent=1, start_s=-90, duration_s=10),
        span(1, 20, parent=2, start_s=-89, name="read"),
        span(1, 10, parent=1, start_s=-95, name="open file"),
        span(1, 30, parent=3, start_s=-65, name="fit"),
        span(1, 31, parent=30, start_s=-64, name="fit inner"),
    ]
    logs = [
        log(1, 1, at_s=-100, event=events.WAFER_JOB_START, body="start"),
        log(1, 20, at_s=-88, body="=SUM(A1)"),
        log(1, 31, at_s=-63, body="fitting", severity=17),
        log(1, 1, at_s=-10, body="half done"),
    ]
    failed = run(
        2,
        1,
        site="fab2",
        feed="feed-2",
        job="etch_check",
        service="etch",
        start_s=-3600,
        end_s=-3000,
        result="failure",
        attributes=json.dumps({"wafer.param.dies": 1569, "note": "a:b"}),
        product="P-9",
    )
    plain = [span(3, 1, start_s=-500, name="GET /"), span(3, 2, parent=1, start_s=-499, name="SELECT", status=2)]
    stock = [run(4, 1, job="stock", start_s=-400, end_s=-300), run(4, 3, job="stock_part", start_s=-390, end_s=-350)]
    stock_spans = [
        job_span(4, 1, "stock", start_s=-400, duration_s=100),
        span(4, 2, parent=1, start_s=-395, duration_s=50, name="between"),
        job_span(4, 3, "stock_part", parent=2, start_s=-390, duration_s=40),
    ]
    await writer.write(
        [
            Batch(
                spans=[*spans, *plain, *stock_spans],
                logs=logs,
                points=[*points(), *points("process.cpu.time", at_s=(-1000.0, -5.0)), *points(process=b"q" * 16)],
                runs=[lot, *wafers, failed, *stock],
                processes=[process_beat()],
                feeds=[feed_beat()],
            )
        ]
    )
