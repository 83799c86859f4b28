"""Messages as the records that a receiver makes of them.

In: `Arrival`s. Out: one `Batch`. Called by: `accelerated`. The meaning of each message is read by `runs.lifecycle`, as in the
receiver; only the way over the wire is left out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from wafermonitor.alerting.simulator.fab import Host
from wafermonitor.alerting.simulator.story import TrueRun
from wafermonitor.alerting.simulator.telling import SPAN, Arrival, Message
from wafermonitor.runs import lifecycle
from wafermonitor.runs.records import Batch, LogRecord, Resource, Scope, Span
from wafermonitor.runs.state import SECOND_NS
from wafermonitor.semconv import attributes as names

VERSION = "1.0"
STATUS_ERROR = 2
INTERNAL = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SCOPE = Scope(hashlib.sha256(b"wafer").digest(), "wafer", VERSION, "{}")


def batch(arrived: Iterable[Arrival]) -> Batch:
    """Everything that `arrived`, in one batch."""
    made = Batch()
    for received_ns, message in arrived:
        if message.run is None:
            beat = lifecycle.feed_beat(origin(message.host, None), message.event, message.stamp_ns, received_ns)
            if beat is not None:
                made.feeds.append(beat)
        else:
            _add(made, message, message.run, received_ns)
    return made


def resource_attributes(host: Host, run: TrueRun | None) -> dict[str, Any]:
    """Who sends: the Collector of `host`, or a process of its own for each run."""
    told: dict[str, Any] = {
        names.WAFER_SITE_ID: host.site,
        names.WAFER_FEED_ID: host.name,
        names.HOST_NAME: host.name,
        names.SERVICE_NAME: "wafer-collector" if run is None else run.job.name,
        names.SERVICE_VERSION: VERSION,
    }
    if run is not None:
        told[names.SERVICE_INSTANCE_ID] = run.span_id.hex()
        told[names.PROCESS_PID] = 2 + int.from_bytes(run.span_id[:2], "big")
    return told


def attributes(message: Message, run: TrueRun) -> dict[str, Any]:
    """What the message says about its run."""
    job = run.job
    told: dict[str, Any] = {
        names.WAFER_JOB_NAME: job.name,
        names.WAFER_JOB_RUN_ID: run.run_id,
        names.WAFER_JOB_START_TIME_UNIX_NANO: message.stamp_ns - (message.at_ns - run.start_ns),
    }
    if message.event != SPAN:
        told[names.WAFER_JOB_HEARTBEAT_INTERVAL] = job.interval_s
    if message.ratio is not None:
        told[names.WAFER_JOB_PROGRESS_RATIO] = message.ratio
    if message.event in {SPAN, lifecycle.START}:
        told |= {names.WAFER_JOB_ATTEMPT: run.attempt, names.WAFER_JOB_OWNER: f"team-{job.name[:3]}"}
        told |= _told_at_start(run)
    if message.event in {SPAN, lifecycle.END}:
        told[names.WAFER_JOB_RESULT] = run.result
        if run.error_type is not None:
            told[names.ERROR_TYPE] = run.error_type
    if message.event == SPAN:
        told[names.WAFER_JOB_MEMORY_MAX] = job.memory_bytes
    return told


def rfc3339(at_ns: int) -> str:
    """A time as attributes bear it, to the second."""
    return (_EPOCH + timedelta(seconds=at_ns // SECOND_NS)).isoformat()


@lru_cache(maxsize=4096)
def origin(host: Host, instance: tuple[str, str, int] | None) -> lifecycle.Origin:
    """Who sends, as runs need it. `instance`: (service, instance id, pid) of a run's process."""
    told: dict[str, Any] = {
        names.WAFER_SITE_ID: host.site,
        names.WAFER_FEED_ID: host.name,
        names.HOST_NAME: host.name,
        names.SERVICE_VERSION: VERSION,
    }
    if instance is not None:
        told |= {names.SERVICE_NAME: instance[0], names.SERVICE_INSTANCE_ID: instance[1], names.PROCESS_PID: instance[2]}
    return lifecycle.origin_of(told)


def _told_at_start(run: TrueRun) -> dict[str, Any]:
    told: dict[str, Any] = {}
    if run.nominal_ns is not None:
        told[names.WAFER_JOB_NOMINAL_TIME] = rfc3339(run.nominal_ns)
        told[names.WAFER_JOB_TRIGGER] = "schedule"
    if run.job.expected_s is not None:
        told[names.WAFER_JOB_EXPECTED_DURATION] = run.job.expected_s
    if run.lot:
        told[names.WAFER_LOT_IDS] = [run.lot]
    return told


def _add(made: Batch, message: Message, run: TrueRun, received_ns: int) -> None:
    sender = origin(message.host, (run.job.name, run.span_id.hex(), 2 + int.from_bytes(run.span_id[:2], "big")))
    told = attributes(message, run)
    if message.event == SPAN:
        _add_span(made, Arrival(received_ns, message), run, sender, told)
        return
    known = lifecycle.run_of_event(
        sender,
        message.event,
        told,
        "{}",
        trace_id=run.trace_id,
        span_id=run.span_id,
        time_ns=message.stamp_ns,
        received_ns=received_ns,
    )
    if known is not None:
        made.runs.append(known)
    process = lifecycle.process_beat(sender, message.event, told, message.stamp_ns)
    if process is not None:
        made.processes.append(process)
    if message.event != lifecycle.HEARTBEAT:
        made.logs.append(_log(message, run, received_ns, sender, told))


def _add_span(made: Batch, arrival: Arrival, run: TrueRun, sender: lifecycle.Origin, told: dict[str, Any]) -> None:
    received_ns, message = arrival
    start_ns = message.stamp_ns - (message.at_ns - run.start_ns)
    status = STATUS_ERROR if run.result == "failure" else 0
    text = json.dumps(told, separators=(",", ":"))
    known = lifecycle.run_of_span(
        sender,
        told,
        text,
        trace_id=run.trace_id,
        span_id=run.span_id,
        start_ns=start_ns,
        end_ns=message.stamp_ns,
        status=status,
        received_ns=received_ns,
    )
    if known is not None:
        made.runs.append(known)
    made.spans.append(
        Span(
            resource=_resource(sender),
            scope=_SCOPE,
            trace_id=run.trace_id,
            span_id=run.span_id,
            parent_span_id=None,
            name=run.job.name,
            kind=INTERNAL,
            start_ns=start_ns,
            duration_ns=message.stamp_ns - start_ns,
            status=status,
            status_message="",
            attributes=text,
            events=None,
            links=None,
            dropped_attributes=0,
            dropped_events=0,
            dropped_links=0,
            flags=1,
            trace_state="",
            received_ns=received_ns,
        )
    )


def _log(message: Message, run: TrueRun, received_ns: int, sender: lifecycle.Origin, told: dict[str, Any]) -> LogRecord:
    text = json.dumps(told, separators=(",", ":"))
    digest = hashlib.sha256(run.span_id + message.event.encode() + message.stamp_ns.to_bytes(8, "big", signed=True)).digest()
    return LogRecord(
        resource=_resource(sender),
        scope=_SCOPE,
        time_ns=message.stamp_ns,
        observed_ns=message.stamp_ns,
        severity=9,
        severity_text="INFO",
        event_name=message.event,
        body=None,
        attributes=text,
        dropped_attributes=0,
        flags=1,
        trace_id=run.trace_id,
        span_id=run.span_id,
        digest=digest,
        received_ns=received_ns,
    )


@lru_cache(maxsize=4096)
def _resource(sender: lifecycle.Origin) -> Resource:
    text = json.dumps(
        {
            names.HOST_NAME: sender.host,
            names.SERVICE_INSTANCE_ID: sender.instance_id,
            names.WAFER_FEED_ID: sender.feed,
            names.WAFER_SITE_ID: sender.site,
        },
        separators=(",", ":"),
    )
    key = hashlib.sha256(f"{sender.site}\0{text}".encode()).digest()
    return Resource(
        key, sender.site, sender.feed, sender.service or "unknown_service", sender.service_version, sender.process_key, text
    )
