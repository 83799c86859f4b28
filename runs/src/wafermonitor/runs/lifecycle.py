"""What a span or a lifecycle event says about a run.

In: decoded attributes (str, bool, int, float, bytes, list, dict) of a span or log record, and its resource's `Origin`.
Out: a `Run` record with what this one message knows, a `ProcessBeat`, a `FeedBeat`, or None when it is not about a run.
Called by: the receiver's transcoders, for each span and for each log record that has an event name.

Source: design/2 §2.1 to §2.3. A value of the wrong type is treated as absent: telemetry never fails for a bad label.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from wafermonitor.runs.merge import final_fields
from wafermonitor.runs.records import UNSET_SITE, FeedBeat, ProcessBeat, Progress, Run
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events

Attributes = Mapping[str, Any]

START = events.WAFER_JOB_START
PROGRESS = events.WAFER_JOB_PROGRESS
HEARTBEAT = events.WAFER_JOB_HEARTBEAT
EXCEPTION = events.WAFER_JOB_EXCEPTION
END = events.WAFER_JOB_END
FEED_BEAT = events.WAFER_FEED_BEAT
RUN_EVENTS = frozenset({START, PROGRESS, HEARTBEAT, EXCEPTION, END})
"""The event names that say something about a run, on log records and on span events alike."""
BEATS = frozenset({HEARTBEAT, FEED_BEAT})
"""The event names that say that somebody is alive."""

RESULTS = ("success", "failure", "error", "timeout", "cancellation", "skip")
STATUS_ERROR = 2
_INT64_MAX = 2**63 - 1
_RFC3339 = re.compile(
    r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?)?\Z",
    re.ASCII,  # fromisoformat reads more forms, and others in every version of Python
)


class Origin(NamedTuple):
    """Who sent it: read once per resource."""

    site: str
    feed: str | None
    service: str | None
    service_version: str | None
    host: str
    pid: int
    instance_id: str
    process_key: bytes | None


def origin_of(resource: Attributes) -> Origin:
    """The parts of a resource that runs need. A resource without a site belongs to the site `unset`."""
    site = _text(resource.get(names.WAFER_SITE_ID)) or UNSET_SITE
    host = _text(resource.get(names.HOST_NAME)) or ""
    pid = _integer(resource.get(names.PROCESS_PID)) or 0
    instance_id = _text(resource.get(names.SERVICE_INSTANCE_ID)) or ""
    return Origin(
        site=site,
        feed=_text(resource.get(names.WAFER_FEED_ID)),
        service=_text(resource.get(names.SERVICE_NAME)),
        service_version=_text(resource.get(names.SERVICE_VERSION)),
        host=host,
        pid=pid,
        instance_id=instance_id,
        process_key=process_key(site, host, pid, instance_id) if pid or instance_id else None,
    )


def process_key(site: str, host: str, pid: int, instance_id: str) -> bytes:
    """16 bytes that name a process: a fork gets a new instance id and so a new key."""
    return hashlib.sha256("\0".join((site, host, str(pid), instance_id)).encode("utf-8", "replace")).digest()[:16]


def run_of_span(
    origin: Origin,
    attributes: Attributes,
    attributes_json: str,
    *,
    trace_id: bytes,
    span_id: bytes,
    start_ns: int,
    end_ns: int,
    status: int,
    received_ns: int,
) -> Run | None:
    """The final word on a run, or None for a plain span. A span is a run if it has `wafer.job.name`."""
    job = _text(attributes.get(names.WAFER_JOB_NAME))
    if job is None:
        return None
    result = _text(attributes.get(names.WAFER_JOB_RESULT))
    if result not in RESULTS:
        result = "failure" if status == STATUS_ERROR else "success"
    run = Run(
        site=origin.site,
        trace_id=trace_id,
        span_id=span_id,
        start_ns=start_ns,
        end_rank=2,
        end_ns=end_ns,
        result=result,
        error_type=_text(attributes.get(names.ERROR_TYPE)),
        last_sign_ns=end_ns,
        progress=_progress(attributes, end_ns),
        received_ns=received_ns,
        **_description(origin, attributes, attributes_json, span_id),
        **_resources(attributes),
    )
    return dataclasses.replace(run, final_fields=final_fields(run))


def run_of_event(
    origin: Origin,
    event_name: str,
    attributes: Attributes,
    attributes_json: str,
    *,
    trace_id: bytes,
    span_id: bytes,
    time_ns: int,
    received_ns: int,
) -> Run | None:
    """What a lifecycle event says about its run, or None for another event or one without ids."""
    if event_name not in RUN_EVENTS or not any(trace_id) or not any(span_id):
        return None
    ended = event_name == END
    result = _text(attributes.get(names.WAFER_JOB_RESULT)) if ended else None
    if ended and result not in RESULTS:
        result = "success"
    announced = event_name == START
    return Run(
        site=origin.site,
        trace_id=trace_id,
        span_id=span_id,
        start_ns=_start(event_name, attributes, time_ns),
        end_rank=1 if ended else 0,
        end_ns=time_ns if ended else None,
        result=result,
        error_type=_text(attributes.get(names.ERROR_TYPE)) if ended else None,
        heartbeat_interval_s=_positive(attributes.get(names.WAFER_JOB_HEARTBEAT_INTERVAL)),
        last_sign_ns=time_ns,
        progress=None if announced else _progress(attributes, time_ns),
        received_ns=received_ns,
        **_description(origin, attributes, attributes_json if announced else None, span_id),
        **_resources(attributes),
    )


def process_beat(origin: Origin, event_name: str, attributes: Attributes, time_ns: int) -> ProcessBeat | None:
    """A heartbeat counts for every open run of its process; None for other events and for unnamed processes."""
    if event_name != HEARTBEAT or origin.process_key is None:
        return None
    return ProcessBeat(
        key=origin.process_key,
        site=origin.site,
        host=origin.host,
        pid=origin.pid,
        instance_id=origin.instance_id,
        beat_ns=time_ns,
        interval_s=_positive(attributes.get(names.WAFER_JOB_HEARTBEAT_INTERVAL)),
    )


def feed_beat(origin: Origin, event_name: str, time_ns: int, received_ns: int) -> FeedBeat | None:
    """A beat of the sender's feed. A stamp from the future is clamped: no clock may move a watermark beyond now."""
    if event_name != FEED_BEAT or origin.feed is None:
        return None
    return FeedBeat(origin.site, origin.feed, min(time_ns, received_ns), received_ns, received_ns - time_ns)


def _start(event_name: str, attributes: Attributes, time_ns: int) -> int | None:
    announced = _integer(attributes.get(names.WAFER_JOB_START_TIME_UNIX_NANO))
    if announced is not None and announced > 0:
        return announced
    return time_ns if event_name == START else None


def _description(origin: Origin, attributes: Attributes, attributes_json: str | None, span_id: bytes) -> dict[str, Any]:
    parent = _text(attributes.get(names.WAFER_JOB_PARENT_SPAN_ID))
    return {
        "job": _text(attributes.get(names.WAFER_JOB_NAME)),
        "run_id": _text(attributes.get(names.WAFER_JOB_RUN_ID)) or span_id.hex(),
        "parent_span_id": _span_id(parent),
        "parent_run_id": _text(attributes.get(names.WAFER_JOB_PARENT_RUN_ID)),
        "feed": origin.feed,
        "service": origin.service,
        "service_version": origin.service_version,
        "attempt": _integer(attributes.get(names.WAFER_JOB_ATTEMPT)),
        "trigger": _text(attributes.get(names.WAFER_JOB_TRIGGER)),
        "nominal_time_ns": _instant(attributes.get(names.WAFER_JOB_NOMINAL_TIME)),
        "expected_duration_s": _positive(attributes.get(names.WAFER_JOB_EXPECTED_DURATION)),
        "deadline_ns": _instant(attributes.get(names.WAFER_JOB_DEADLINE)),
        "owner": _text(attributes.get(names.WAFER_JOB_OWNER)),
        "equipment": _text(attributes.get(names.WAFER_EQUIPMENT_ID)),
        "recipe": _text(attributes.get(names.WAFER_RECIPE_NAME)),
        "product": _text(attributes.get(names.WAFER_PRODUCT_ID)),
        "lot_ids": _texts(attributes.get(names.WAFER_LOT_IDS)),
        "substrate_ids": _texts(attributes.get(names.WAFER_SUBSTRATE_IDS)),
        "process_key": origin.process_key,
        "attributes": attributes_json,
    }


def _resources(attributes: Attributes) -> dict[str, Any]:
    memory = _number(attributes.get(names.WAFER_JOB_MEMORY_MAX))
    return {
        "cpu_s": _number(attributes.get(names.WAFER_JOB_CPU_TIME)),
        "memory_bytes": int(memory) if memory is not None and 0 <= memory <= _INT64_MAX else None,
    }


def _progress(attributes: Attributes, at_ns: int) -> Progress | None:
    ratio = _number(attributes.get(names.WAFER_JOB_PROGRESS_RATIO))
    completed = _number(attributes.get(names.WAFER_JOB_PROGRESS_COMPLETED))
    total = _number(attributes.get(names.WAFER_JOB_PROGRESS_TOTAL))
    stage = _text(attributes.get(names.WAFER_JOB_PROGRESS_STAGE))
    message = _text(attributes.get(names.WAFER_JOB_PROGRESS_MESSAGE))
    if ratio is None and completed is not None and total:
        ratio = completed / total
    if ratio is None and completed is None and stage is None and message is None:
        return None
    return Progress(
        at_ns=at_ns,
        ratio=None if ratio is None else min(max(ratio, 0.0), 1.0),
        completed=completed,
        total=total,
        unit=_text(attributes.get(names.WAFER_JOB_PROGRESS_UNIT)),
        stage=stage,
        message=message,
    )


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _texts(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, str):
        return (value,) if value else None
    if not isinstance(value, list | tuple):
        return None
    return tuple(item for item in value if isinstance(item, str) and item) or None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _positive(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if abs(value) <= _INT64_MAX else None


def _instant(value: Any) -> int | None:
    """RFC 3339 → ns. A time without an offset is UTC; one beyond the year 2262 is absent."""
    if not isinstance(value, str) or not _RFC3339.match(value):
        return None
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        return None
    if instant.tzinfo is None:
        instant = instant.replace(tzinfo=UTC)
    elapsed = instant - datetime(1970, 1, 1, tzinfo=UTC)
    elapsed_ns = (elapsed.days * 86_400 + elapsed.seconds) * 1_000_000_000 + elapsed.microseconds * 1_000
    return elapsed_ns if abs(elapsed_ns) <= _INT64_MAX else None


def _span_id(text: str | None) -> bytes | None:
    if text is None:
        return None
    try:
        span_id = bytes.fromhex(text)
    except ValueError:
        return None
    return span_id if len(span_id) == 8 and any(span_id) else None  # noqa: PLR2004 - a span id has 8 bytes
