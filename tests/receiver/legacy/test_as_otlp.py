"""What the older routes store is what an OTLP request with the same events stores, row by row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

from tests.receiver.legacy.events import APP, JOB, SUBJOB, at_ns, body, run
from tests.receiver.otlp import REQUESTS, as_json
from wafermonitor.receiver.legacy import Lane
from wafermonitor.receiver.transcode import json as json_lane
from wafermonitor.receiver.transcode import python
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events

RECEIVED_NS = at_ns(3000)
JOB_SPAN, SUBJOB_SPAN = (hashlib.sha256(UUID(value).bytes).digest()[:8] for value in (JOB, SUBJOB))


def pair(into: Any, key: str, value: str | float) -> None:
    field = {str: "string_value", float: "double_value", int: "int_value"}[type(value)]
    setattr(into.attributes.add(key=key).value, field, value)


def otlp() -> Any:
    """The events of `run()`, as a program writes them that speaks OTLP."""
    request = REQUESTS[Signal.LOGS]()
    group = request.resource_logs.add()
    for key, value in (
        (names.WAFER_SITE_ID, "fab1"),
        (names.SERVICE_NAME, APP["name"]),
        (names.SERVICE_VERSION, APP["version"]),
        (names.SERVICE_INSTANCE_ID, APP["app_id"]),
    ):
        pair(group.resource, key, value)
    scoped = group.scope_logs.add()
    scoped.scope.name = "wafer"

    def record(name: str, second: int, said: dict[str, str | float], *, subjob: bool = False) -> None:
        added = scoped.log_records.add(
            time_unix_nano=at_ns(second),
            event_name=name,
            severity_number=9,
            severity_text="INFO",
            trace_id=UUID(JOB).bytes,
            span_id=SUBJOB_SPAN if subjob else JOB_SPAN,
            flags=1,
        )
        identity = {names.WAFER_JOB_NAME: "daily-batch", names.WAFER_JOB_RUN_ID: JOB}
        if subjob:
            identity = {
                names.WAFER_JOB_NAME: "wafer-02",
                names.WAFER_JOB_RUN_ID: SUBJOB,
                names.WAFER_JOB_PARENT_RUN_ID: JOB,
                names.WAFER_JOB_PARENT_SPAN_ID: JOB_SPAN.hex(),
            }
        for key, value in (identity | said).items():
            pair(added, key, value)

    record_run(record)
    return request


def record_run(record: Callable[..., None]) -> None:
    """A job and its subjob from start to end."""
    key, start = names.WAFER_LEGACY_IDEMPOTENCY_KEY, names.WAFER_JOB_START_TIME_UNIX_NANO
    app = {names.WAFER_LEGACY_APP_ID: APP["app_id"]}
    ended = names.WAFER_JOB_RESULT
    record(events.WAFER_JOB_START, 0, {key: f"{JOB}-started-0", start: at_ns(0)} | app)
    record(events.WAFER_JOB_START, 1, {key: f"{SUBJOB}-started-1", start: at_ns(1)} | app, subjob=True)
    record(
        events.WAFER_JOB_PROGRESS,
        4,
        {key: f"{JOB}-progress-4", names.WAFER_JOB_PROGRESS_RATIO: 0.5, names.WAFER_JOB_PROGRESS_STAGE: "probe"},
    )
    record(
        events.WAFER_JOB_END,
        5,
        {key: f"{SUBJOB}-finished-5", ended: "success", names.WAFER_JOB_DURATION: 4.0, start: at_ns(1)},
        subjob=True,
    )
    record(
        events.WAFER_JOB_END,
        8,
        {
            key: f"{JOB}-finished-8",
            ended: "success",
            names.WAFER_JOB_DURATION: 8.0,
            start: at_ns(0),
            names.WAFER_JOB_CPU_TIME: 3.5,
            names.WAFER_JOB_MEMORY_MAX: 100 * 1024 * 1024,
        },
    )


def test_rows_runs_and_digests_are_those_of_the_same_events_by_otlp():
    older = Lane().transcode(Request(Signal.LOGS, Encoding.EVENTS, body(*run()), RECEIVED_NS)).batch
    protobuf = Request(Signal.LOGS, Encoding.PROTOBUF, otlp().SerializeToString(), RECEIVED_NS)
    assert older == python.Lane().transcode(protobuf).batch
    assert older == json_lane.Lane().transcode(Request(Signal.LOGS, Encoding.JSON, as_json(otlp()), RECEIVED_NS)).batch
    assert len(older.logs) == 5
    assert len(older.runs) == 5
