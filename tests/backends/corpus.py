"""What is sent to prove a backend: runs with their steps, lifecycle events and log lines, measured values.

    part = corpus.part("t1", 0)             # 8 runs: 40 spans, 40 log records, 40 metric points
    part.requests["logs"]                   # a serialized OTLP request
    part.items["logs"]["t1-0-logs-3"]       # the same as items of `storage.writers.items`, by key

Every item has a key of its own in its attribute `corpus.key`, a log line also in its body. `tag` tells one test's items from
another's on the same server. Attributes have every type that OTLP has for them; times end in odd nanoseconds. Ids of traces
begin with the second, as AWS wants them.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue

from wafermonitor.semconv import SCOPE_NAME, events
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.writers.items import Item, items
from wafermonitor.storage.writers.protocol import SIGNALS, Signal

KEY = "corpus.key"
SITE, SERVICE = "fab1", "sorter"
RUNS = 8
STEPS = 4
PER_SIGNAL = RUNS * (STEPS + 1)
SECOND_NS = 1_000_000_000
AGO_NS = 60 * SECOND_NS
BIG = 2**53 + 1


class Part(NamedTuple):
    """One request for each signal, and what is in it by key."""

    requests: Mapping[Signal, bytes]
    items: Mapping[Signal, Mapping[str, Item]]


def part(tag: str, number: int) -> Part:
    """The `number`-th part of the corpus of `tag`."""
    traces, logs, metrics = ExportTraceServiceRequest(), ExportLogsServiceRequest(), ExportMetricsServiceRequest()
    spans = _scoped(traces.resource_spans.add(), "scope_spans")
    records = _scoped(logs.resource_logs.add(), "scope_logs")
    measures = _scoped(metrics.resource_metrics.add(), "scope_metrics")
    began_ns = time.time_ns() - AGO_NS
    for index in range(RUNS):
        run = _Run(tag, number, index, began_ns + index * 1_000_007)
        _spans(run, spans)
        _records(run, records)
        _points(run, measures)
    requests: dict[Signal, bytes] = {
        "traces": traces.SerializeToString(),
        "logs": logs.SerializeToString(),
        "metrics": metrics.SerializeToString(),
    }
    return Part(requests, {signal: {key_of(one): one for one in items(signal, requests[signal])} for signal in SIGNALS})


def key_of(item: Item) -> str:
    """Which item of the corpus it is."""
    return str(item.attributes[KEY])


class _Run:
    """One run: its ids, its times, and the keys of what it sends."""

    def __init__(self, tag: str, number: int, index: int, start_ns: int) -> None:
        seed = hashlib.sha256(f"{tag} {number} {index} {start_ns}".encode()).digest()
        self.trace_id = (start_ns // SECOND_NS).to_bytes(4, "big") + seed[:12]
        self.span_ids = [seed[12 + step : 19 + step] + bytes([step + 1]) for step in range(STEPS + 1)]
        self.start_ns = start_ns
        self.job = f"job {index % 3}"
        self.failed = index % 4 == 3
        self._named = f"{tag}-{number}"
        self._first = index * (STEPS + 1)
        self.run_id = f"{self._named}-run-{index}"

    def key(self, signal: Signal, step: int) -> str:
        return f"{self._named}-{signal}-{self._first + step}"

    def attributes(self, signal: Signal, step: int) -> list[KeyValue]:
        """What every item of the run has."""
        return [pair(KEY, self.key(signal, step)), pair(names.WAFER_JOB_NAME, self.job)]


def _spans(run: _Run, scoped: Any) -> None:
    for step in range(STEPS + 1):
        span = scoped.spans.add(
            trace_id=run.trace_id,
            span_id=run.span_ids[step],
            parent_span_id=b"" if step == 0 else run.span_ids[0],
            name=run.job if step == 0 else f"step {step}",
            kind=1,
            start_time_unix_nano=run.start_ns + step * 1_001,
            end_time_unix_nano=run.start_ns + SECOND_NS - step * 1_003,
        )
        key, job = run.attributes("traces", step)
        span.attributes.extend([key, job] if step == 0 else [key])
        if step == 0:
            span.attributes.extend([pair(names.WAFER_JOB_RUN_ID, run.run_id), pair(names.WAFER_LOT_IDS, ["L1", "L2"])])
        if step == 1:
            span.attributes.extend(
                [pair("whole", BIG), pair("part", 0.1), pair("yes", True), pair("text", 'Waferprüfung "A"\n\t’;--')]
            )
        if step == 2:
            span.links.add(trace_id=run.trace_id, span_id=run.span_ids[1], attributes=[pair("why", "before")])
        if run.failed and step == 0:
            span.status.code = 2
            span.status.message = "no wafers"
            span.events.add(
                time_unix_nano=run.start_ns + 5, name="exception", attributes=[pair(names.EXCEPTION_TYPE, "ValueError")]
            )


def _records(run: _Run, scoped: Any) -> None:
    told = (
        (events.WAFER_JOB_START, 9, "started"),
        (events.WAFER_JOB_PROGRESS, 9, "half done"),
        ("", 9, 'a line, "quoted" – and\na second one'),
        ("", 17, "an error line"),
        (events.WAFER_JOB_END, 17 if run.failed else 9, "ended"),
    )
    for step, (event, severity, text) in enumerate(told):
        record = scoped.log_records.add(
            time_unix_nano=run.start_ns + step * 1_001,
            observed_time_unix_nano=run.start_ns + step * 1_001 + 3,
            severity_number=severity,
            severity_text="ERROR" if severity == 17 else "INFO",
            trace_id=run.trace_id,
            span_id=run.span_ids[0],
            event_name=event,
            attributes=run.attributes("logs", step),
        )
        record.body.string_value = f"{text} [{run.key('logs', step)}]"
        if event:
            record.attributes.append(pair(names.WAFER_JOB_RUN_ID, run.run_id))
        if event == events.WAFER_JOB_PROGRESS:
            record.attributes.append(pair(names.WAFER_JOB_PROGRESS_RATIO, 0.5))
        if event == events.WAFER_JOB_END:
            result = names.WAFER_JOB_RESULT_FAILURE if run.failed else names.WAFER_JOB_RESULT_SUCCESS
            record.attributes.append(pair(names.WAFER_JOB_RESULT, result))


def _points(run: _Run, scoped: Any) -> None:
    kinds = (
        ("queue.length", "gauge"),
        ("yield", "gauge"),
        ("wafers.done", "sum"),
        ("wafer.time", "histogram"),
        ("heat", "gauge"),
    )
    for step, (name, kind) in enumerate(kinds):
        metric = scoped.metrics.add(name=name, unit="1" if step < 3 else "s")
        data = getattr(metric, kind)
        point = data.data_points.add(time_unix_nano=run.start_ns + step * 1_001, attributes=run.attributes("metrics", step))
        if kind == "gauge" and step == 0:
            point.as_int = BIG
        elif kind == "gauge":
            point.as_double = 0.1 * (step + 1)
        else:
            data.aggregation_temporality = 2
            point.start_time_unix_nano = run.start_ns - SECOND_NS
        if kind == "sum":
            data.is_monotonic = True
            point.as_int = 25
        elif kind == "histogram":
            point.count, point.sum, point.min, point.max = 6, 4.5, 0.25, 2.0
            point.explicit_bounds.extend([0.5, 1.0])
            point.bucket_counts.extend([2, 3, 1])


def _scoped(outer: Any, inner: str) -> Any:
    outer.resource.attributes.extend(
        [pair(names.WAFER_SITE_ID, SITE), pair(names.SERVICE_NAME, SERVICE), pair(names.HOST_NAME, "tester-07")]
    )
    scoped = getattr(outer, inner).add()
    scoped.scope.name = SCOPE_NAME
    scoped.scope.version = "1"
    return scoped


def pair(key: str, value: str | bool | float | list[str]) -> KeyValue:
    """An attribute."""
    if isinstance(value, list):
        return KeyValue(key=key, value=AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=one) for one in value])))
    if isinstance(value, bool):
        return KeyValue(key=key, value=AnyValue(bool_value=value))
    if isinstance(value, int):
        return KeyValue(key=key, value=AnyValue(int_value=value))
    if isinstance(value, float):
        return KeyValue(key=key, value=AnyValue(double_value=value))
    return KeyValue(key=key, value=AnyValue(string_value=value))
