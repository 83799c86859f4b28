"""What an older event says of its run: when, which lifecycle event it is, with which values.

In: an `Occurrence`. Out: what the log record carries. Called by: `translation`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from opentelemetry.proto.logs.v1.logs_pb2 import SeverityNumber

from wafermonitor.receiver.errors import ItemRejected
from wafermonitor.receiver.legacy.bodies import Occurrence, Text, shown, text, wrong
from wafermonitor.receiver.transcode.policies import INT64_MAX, Marks, Repair
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events

NS = 1_000_000_000
MIB = 1024 * 1024

KINDS = {
    "started": events.WAFER_JOB_START,
    "progress": events.WAFER_JOB_PROGRESS,
    "metric": events.WAFER_JOB_PROGRESS,
    "finished": events.WAFER_JOB_END,
    "error": events.WAFER_JOB_END,
    "canceled": events.WAFER_JOB_END,
    "cancelled": events.WAFER_JOB_END,
}
"""Older kind → event name. A metric is a progress event without progress: a sign of life that carries numbers."""

RESULTS = {
    "error": names.WAFER_JOB_RESULT_FAILURE,
    "canceled": names.WAFER_JOB_RESULT_CANCELLATION,
    "cancelled": names.WAFER_JOB_RESULT_CANCELLATION,
}
"""Older kind → result. Of `finished` the status decides: the older SDK ends a failed job by it as well."""

STATUSES = {
    names.WAFER_JOB_RESULT_SUCCESS: ("", "succeeded", "success", "ok", "completed", "finished", "done"),
    names.WAFER_JOB_RESULT_FAILURE: ("failed", "failure", "error"),
    names.WAFER_JOB_RESULT_CANCELLATION: ("canceled", "cancelled"),
    names.WAFER_JOB_RESULT_TIMEOUT: ("timeout", "timed_out"),
    names.WAFER_JOB_RESULT_SKIP: ("skipped", "skip"),
}
"""Result → the statuses that mean it. Any other status is kept, and the run is a success."""

FAILED = frozenset({names.WAFER_JOB_RESULT_FAILURE, names.WAFER_JOB_RESULT_TIMEOUT})
UNDERWAY = frozenset({"", "running", "started", "in_progress"})
"""Statuses that say no more than the event does."""
UNKNOWN_ERROR = "_OTHER"
"""OpenTelemetry's `error.type` where nobody knows more."""

_RESULT_OF = {status: result for result, statuses in STATUSES.items() for status in statuses}
_SECONDS = re.compile(r"[0-9]{1,10}(?:\.[0-9]{1,12})?\Z")
_INSTANT = re.compile(r"(?P<minute>\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2})(?:[.,](?P<fraction>\d+))?(?P<offset>\S*)\Z")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_PERCENT = 100.0

Values = dict[str, Any]


class Severity(NamedTuple):
    """OTLP's number and text."""

    number: SeverityNumber.ValueType
    text: str


INFO = Severity(SeverityNumber.SEVERITY_NUMBER_INFO, "INFO")
ERROR = Severity(SeverityNumber.SEVERITY_NUMBER_ERROR, "ERROR")


class Said(NamedTuple):
    """What one event says. An attribute of None is absent; parameters are what the vocabulary has no name for."""

    event_name: str
    at_ns: int
    severity: Severity
    attributes: Values
    parameters: Values
    body: str


def read(occurrence: Occurrence, metadata: Values, marks: Marks) -> Said:
    """What the event says; `metadata` is consumed. ItemRejected without a kind or a time."""
    kind = text(occurrence.kind).lower()
    if kind not in KINDS:
        raise ItemRejected(wrong("event.kind", f"{shown(occurrence.kind)} is none" if kind else "it is missing"))
    at_ns = _instant(occurrence.at)
    metrics = dict(occurrence.metrics or {})
    status = text(occurrence.status)
    attributes = _usage(metrics)
    body = ""
    if KINDS[kind] == events.WAFER_JOB_START:
        attributes[names.WAFER_JOB_START_TIME_UNIX_NANO] = at_ns
        status = "" if status.lower() in UNDERWAY else status
    elif KINDS[kind] == events.WAFER_JOB_PROGRESS:
        attributes |= _progress(metrics, metadata, "" if status.lower() in UNDERWAY else status)
        status = ""
    else:
        attributes |= _end(kind, status, at_ns, metrics, metadata)
        status = "" if status.lower() in _RESULT_OF else status
        body = _take(metadata, "error", _words) or ""
    severity = ERROR if attributes.get(names.WAFER_JOB_RESULT) in FAILED else INFO
    return Said(KINDS[kind], at_ns, severity, attributes, _parameters(metrics, metadata, status, marks), body)


def _parameters(metrics: Values, metadata: Values, status: str, marks: Marks) -> Values:
    """What the vocabulary has no name for. Of a key that stands in several places the metadata's value is kept."""
    found = {"status": status} if status else {}
    for values in (metrics, metadata):
        if found.keys() & values.keys():
            marks.add(Repair.DUPLICATE_KEY)
        found |= values
    return {f"{names.WAFER_PARAM}.{key}": value for key, value in found.items()}


def _usage(metrics: Values) -> Values:
    found: Values = {}
    cpu_s = [_take(metrics, key, _amount) for key in ("cpu_user_s", "cpu_system_s")]
    if any(part is not None for part in cpu_s):
        found[names.WAFER_JOB_CPU_TIME] = float(sum(part or 0.0 for part in cpu_s))
    memory_mib = _take(metrics, "mem_max_mb", _amount)
    if memory_mib is not None and memory_mib * MIB <= INT64_MAX:
        found[names.WAFER_JOB_MEMORY_MAX] = int(memory_mib * MIB)
    return found


def _progress(metrics: Values, metadata: Values, status: str) -> Values:
    ratio = _take(metrics, "progress", _ratio)
    if ratio is None:
        ratio = _take(metadata, "progress", _ratio)
    return {
        names.WAFER_JOB_PROGRESS_RATIO: ratio,
        names.WAFER_JOB_PROGRESS_STAGE: _take(metadata, "stage", _words),
        names.WAFER_JOB_PROGRESS_MESSAGE: _take(metadata, "message", _words) or status or None,
    }


def _end(kind: str, status: str, at_ns: int, metrics: Values, metadata: Values) -> Values:
    result = RESULTS.get(kind) or _RESULT_OF.get(status.lower(), names.WAFER_JOB_RESULT_SUCCESS)
    found: Values = {
        names.WAFER_JOB_RESULT: result,
        names.ERROR_TYPE: _take(metadata, "error_type", _words) or (UNKNOWN_ERROR if result in FAILED else None),
    }
    duration_s = _take(metrics, "duration_s", _amount)
    if duration_s:
        # The run has its length even where its start got lost; where both are known the earlier start counts.
        found[names.WAFER_JOB_DURATION] = duration_s
        start_ns = at_ns - round(duration_s * NS)
        found[names.WAFER_JOB_START_TIME_UNIX_NANO] = start_ns if start_ns > 0 else None
    return found


def _take(values: Values, key: str, convert: Callable[[Any], Any]) -> Any:
    """Remove a value that has the right form; another one stays, and so becomes a parameter."""
    found = convert(values.get(key))
    if found is not None:
        del values[key]
    return found


def _amount(value: Any) -> float | None:
    """A number that is not negative."""
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= INT64_MAX else None


def _ratio(value: Any) -> float | None:
    """0…1 as it is, more than 1 as percent: both were in use."""
    amount = _amount(value)
    if amount is None or amount > _PERCENT:
        return None
    return amount if amount <= 1 else amount / _PERCENT


def _words(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _instant(value: Text) -> int:
    """In ns since 1970: of seconds, as a number or its text, or of RFC 3339. A time without an offset is UTC."""
    written = text(value)
    if not written:
        raise ItemRejected(wrong("event.at", "it is missing"))
    in_seconds = isinstance(value, int | float) or _SECONDS.match(written)
    at_ns = int(Decimal(written) * NS) if in_seconds else _calendar(written)
    if not 0 < at_ns <= INT64_MAX:
        raise ItemRejected(wrong("event.at", f"{shown(written)} is before 1970 or after 2262"))
    return at_ns


def _calendar(written: str) -> int:
    match = _INSTANT.match(written)
    try:
        if match is None:
            raise ValueError  # noqa: TRY301 - the same end as for a month 13
        instant = datetime.fromisoformat(match["minute"] + match["offset"].upper())
        elapsed = (instant if instant.tzinfo else instant.replace(tzinfo=UTC)) - _EPOCH
    except (ValueError, OverflowError):
        raise ItemRejected(wrong("event.at", f"{shown(written)} is no time")) from None
    fraction = (match["fraction"] or "")[:9].ljust(9, "0")
    return (elapsed.days * 86_400 + elapsed.seconds) * NS + int(fraction)
