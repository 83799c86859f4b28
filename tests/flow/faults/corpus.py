"""What the faults send: spans, log records and metrics that use every field of OTLP, different in each request.

`Corpus(name).body(number)` is request `number`, encoded. It costs a copy of a prepared body with its ids and times put in, so
that the load is cheap; `decoded(body)` tells later what was in it. Everything belongs to the service `name`.
"""

from __future__ import annotations

import hashlib
import random
import struct
import time
from typing import Any, NamedTuple

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue

SITE = "f1"
SECOND_NS = 1_000_000_000
SPANS, LOGS, POINTS = 100, 50, 10
"""In one request of each kind; POINTS is of each kind of metric."""
SIGNALS = ("traces",) * 8 + ("logs", "metrics")
TEMPLATES = 4
MARK = b"\x7fTRACE-ID-MARK\x7f\x7f"
MARK_NS = 0x1234567812345678
REQUESTS = {
    "traces": ExportTraceServiceRequest,
    "logs": ExportLogsServiceRequest,
    "metrics": ExportMetricsServiceRequest,
}


class Sent(NamedTuple):
    """One request."""

    signal: str
    body: bytes


class Corpus:
    """The requests of one load. `job_every`: every so many-th span is a run's; None: none is."""

    def __init__(self, name: str, *, job_every: int | None = 10) -> None:
        self.name = name
        self._dice = random.Random(name)
        self._job_every = job_every
        # Not long ago: older spans belong among the late ones. Whole milliseconds, and an odd rest of nanoseconds.
        self._start_ns = (time.time_ns() - 600 * SECOND_NS) // 1_000_000 * 1_000_000 + 123
        make = {"traces": self._traces, "logs": self._logs, "metrics": self._metrics}
        self._templates = {
            signal: [make[signal](number).SerializeToString() for number in range(TEMPLATES)] for signal in REQUESTS
        }

    def request(self, number: int) -> Sent:
        """Request `number`: eight of ten hold spans, one log records, one points."""
        signal = SIGNALS[number % len(SIGNALS)]
        return Sent(signal, self.body(signal, number))

    def body(self, signal: str, number: int) -> bytes:
        """Request `number` of one kind."""
        template = self._templates[signal][number % TEMPLATES]
        own_trace = hashlib.sha256(f"{self.name}/{number}".encode()).digest()[:16]
        own_ns = struct.pack("<Q", self._start_ns + number * 1_000_003)
        return template.replace(MARK, own_trace).replace(struct.pack("<Q", MARK_NS), own_ns)

    def _resource(self, into: Any, number: int) -> None:
        into.attributes.extend(
            [
                pair("service.name", self.name),
                pair("service.version", "1.2.3"),
                pair("wafer.site.id", SITE),
                pair("wafer.feed.id", "faults"),
                pair("host.name", f"host-{number}"),
                pair("process.pid", 4000 + number),
            ]
        )

    def _attributes(self) -> list[KeyValue]:
        values: list[Any] = [
            "probe", "", "Größe µ 晶圓 🙂", 'a "quoted" \\ line\n', 0, -1, 2**63 - 1, -(2**63), 2**53 + 1, 0.5, -0.0,
            1e300, 5.0, True, False, b"\x00\xff", [1, "two", 3.5, [True]], {"x": 1, "y": {"z": ["deep"]}}, None,
        ]  # fmt: skip
        chosen = self._dice.sample(range(len(values)), 3)
        return [pair(f"key.{index}", values[index]) for index in chosen]

    def _traces(self, number: int) -> ExportTraceServiceRequest:
        request = ExportTraceServiceRequest()
        dice = self._dice
        for part in range(2):
            group = request.resource_spans.add()
            self._resource(group.resource, number * 2 + part)
            scope = group.scope_spans.add()
            scope.scope.name, scope.scope.version = f"scope.{part}", "0.1" * part
            scope.scope.attributes.extend([pair("short", True)] * part)
            for index in range(1 + part * SPANS // 2, 1 + (part + 1) * SPANS // 2):
                start_ns = self._start_ns + index * 1_234_567
                span = scope.spans.add(
                    trace_id=MARK,
                    span_id=((number << 32) + index).to_bytes(8, "big"),
                    parent_span_id=b"" if index == 1 else ((number << 32) + dice.randrange(1, index)).to_bytes(8, "big"),
                    name=f"step {index}",
                    kind=dice.randrange(6),
                    start_time_unix_nano=start_ns,
                    end_time_unix_nano=start_ns + dice.randrange(10**9),
                    trace_state=dice.choice(["", "a=1,b=2"]),
                    flags=dice.choice([0, 1, 0x301]),
                    dropped_attributes_count=dice.choice([0, 2]),
                    dropped_events_count=dice.choice([0, 3]),
                    dropped_links_count=dice.choice([0, 4]),
                )
                span.status.code = dice.randrange(3)
                span.status.message = "no contact" if span.status.code == 2 else ""
                span.attributes.extend(self._attributes())
                if self._job_every and index % self._job_every == 1:
                    span.attributes.append(pair("wafer.job.name", f"job {index}"))
                for event in range(dice.randrange(3)):
                    made = span.events.add(time_unix_nano=start_ns + event, name=f"event {event}")
                    made.attributes.extend(self._attributes())
                    made.dropped_attributes_count = event
                for link in range(dice.randrange(2)):
                    made = span.links.add(trace_id=bytes([7] * 16), span_id=bytes([8] * 8), trace_state="c=3", flags=link)
                    made.attributes.extend(self._attributes())
        return request

    def _logs(self, number: int) -> ExportLogsServiceRequest:
        request = ExportLogsServiceRequest()
        group = request.resource_logs.add()
        self._resource(group.resource, number)
        scope = group.scope_logs.add()
        scope.scope.name = "lines"
        bodies = ["a line", "", {"k": [1, 2]}, 7, 0.25, True, b"\x01", ["x"]]
        for index in range(LOGS):
            record = scope.log_records.add(
                time_unix_nano=self._start_ns + index,
                observed_time_unix_nano=self._start_ns + index + 17,
                severity_number=self._dice.randrange(25),
                severity_text=self._dice.choice(["", "INFO", "ERROR"]),
                event_name=self._dice.choice(["", "chuck.moved"]),
                trace_id=MARK,
                span_id=((number << 32) + 1).to_bytes(8, "big"),
                flags=index % 2,
                dropped_attributes_count=index % 3,
            )
            record.body.CopyFrom(value_of(bodies[index % len(bodies)]))
            record.attributes.extend([pair("line.number", number * LOGS + index), *self._attributes()])
        return request

    def _metrics(self, number: int) -> ExportMetricsServiceRequest:
        request = ExportMetricsServiceRequest()
        group = request.resource_metrics.add()
        self._resource(group.resource, number)
        scope = group.scope_metrics.add()
        scope.scope.name = "meter"

        def points(name: str, kind: str, **said: Any) -> Any:
            metric = scope.metrics.add(name=name, unit="1")
            data = getattr(metric, kind)
            for field, value in said.items():
                setattr(data, field, value)
            for index in range(POINTS):
                point = data.data_points.add(time_unix_nano=MARK_NS, start_time_unix_nano=self._start_ns, flags=index % 2)
                point.attributes.extend([pair("series", number * POINTS + index), pair("ratio", 0.5)])
                yield index, point

        for index, point in points("queue.length", "gauge"):
            point.as_int = index - 5
        for index, point in points("energy", "sum", aggregation_temporality=2, is_monotonic=True):
            point.as_double = index + 0.25
        for index, point in points("moves", "sum", aggregation_temporality=1):
            point.as_int = index
        for index, point in points("took", "histogram", aggregation_temporality=1):
            point.count, point.sum = index + 3, index * 1.5
            point.bucket_counts.extend([1, 2, index])
            point.explicit_bounds.extend([0.5, 1.0])
            if index % 2:
                point.min, point.max = 0.1, 9.0
        for index, point in points("width", "exponential_histogram", aggregation_temporality=2):
            point.count, point.sum, point.scale, point.zero_count = index + 6, 12.5, 0, index
            point.positive.offset = 1
            point.positive.bucket_counts.extend([1, 2, 3])
        for index, point in points("old", "summary"):
            point.count, point.sum = index, index * 2.0
            point.quantile_values.add(quantile=0.5, value=1.5)
            point.quantile_values.add(quantile=0.99, value=2.5)
        return request


def decoded(sent: Sent) -> Any:
    """The message that was sent."""
    return REQUESTS[sent.signal].FromString(sent.body)


def pair(key: str, value: Any) -> KeyValue:
    """An attribute."""
    return KeyValue(key=key, value=value_of(value))


def value_of(value: Any) -> AnyValue:
    """A plain value as OTLP's."""
    made = AnyValue()
    if isinstance(value, bool):
        made.bool_value = value
    elif isinstance(value, int):
        made.int_value = value
    elif isinstance(value, float):
        made.double_value = value
    elif isinstance(value, str):
        made.string_value = value
    elif isinstance(value, bytes):
        made.bytes_value = value
    elif isinstance(value, list):
        made.array_value.values.extend(map(value_of, value))
    elif isinstance(value, dict):
        made.kvlist_value.values.extend(pair(key, inner) for key, inner in value.items())
    return made
