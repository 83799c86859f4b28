"""What is said about one run: its lifecycle events and its final span, as OTLP/JSON requests.

In: a run's ids, names and start attributes; progress; how it ended. Out: requests for `outbox`.
Called by: `wafer run`, `wafer start/progress/end`. Needs the standard library only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple
from urllib.parse import unquote

from wafermonitor.instrumentation import otlp_json
from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.derived import Ids
from wafermonitor.instrumentation.spool import Request
from wafermonitor.semconv import SCHEMA_URL, SCOPE_NAME, events
from wafermonitor.semconv import attributes as names

NS: Final = 1_000_000_000
FAILED: Final = frozenset({names.WAFER_JOB_RESULT_FAILURE, names.WAFER_JOB_RESULT_ERROR, names.WAFER_JOB_RESULT_TIMEOUT})
"""The results that make a span's status ERROR."""

_SCOPE: Final = {"name": SCOPE_NAME, "schema_url": SCHEMA_URL}
_NUMBER: Final = r"\d+(?:\.\d+)?|\.\d+"
_LINE: Final = re.compile(rf"\s*({_NUMBER})\s*(?:/\s*({_NUMBER})|(%))?(?:\s+(.*?))?\s*\Z", re.DOTALL)
_PERCENT: Final = 100.0
_MESSAGE_LETTERS: Final = 1000


class Progress(NamedTuple):
    """How far a run is: a ratio (0…1), or completed of total."""

    ratio: float | None
    completed: float | None = None
    total: float | None = None
    message: str = ""

    def attributes(self) -> dict[str, Any]:
        """As the progress event carries it."""
        out: dict[str, Any] = {names.WAFER_JOB_PROGRESS_RATIO: self.ratio}
        if self.completed is not None:
            out |= {names.WAFER_JOB_PROGRESS_COMPLETED: self.completed, names.WAFER_JOB_PROGRESS_TOTAL: self.total}
        if self.message:
            out[names.WAFER_JOB_PROGRESS_MESSAGE] = self.message[:_MESSAGE_LETTERS]
        return out


def progress_of(line: str) -> Progress | None:
    """`3/25 message`, `0.12 message` or `12% message` → Progress; None for anything else."""
    match = _LINE.match(line)
    if match is None:
        return None
    value, total, percent, message = match.groups()
    if total is not None:
        return counted(float(value), float(total), message or "")
    ratio = float(value) / _PERCENT if percent else float(value)
    return Progress(ratio, message=message or "") if 0 <= ratio <= 1 else None


def counted(completed: float, total: float, message: str = "") -> Progress:
    """`completed` of `total`; no ratio when the total is nothing."""
    return Progress(min(completed / total, 1.0) if total else None, completed, total, message)


class Ending(NamedTuple):
    """How a run ended. `cpu_s`, `memory_bytes`, `exit_code` are None where nobody can know them."""

    result: str
    end_ns: int
    error_type: str = ""
    message: str = ""
    exit_code: int | None = None
    cpu_s: float | None = None
    memory_bytes: int | None = None

    def attributes(self) -> dict[str, Any]:
        """As end event and span carry it."""
        return {
            names.WAFER_JOB_RESULT: self.result,
            names.ERROR_TYPE: self.error_type or None,
            names.PROCESS_EXIT_CODE: self.exit_code,
            names.WAFER_JOB_CPU_TIME: self.cpu_s,
            names.WAFER_JOB_MEMORY_MAX: self.memory_bytes,
        }


@dataclass(frozen=True, kw_only=True)
class Announced:
    """One run. `attributes` are those of its start (without name, run id and parent); `start_ns` None: nobody remembers."""

    ids: Ids
    parent_span_id: bytes | None
    job: str
    run_id: str
    start_ns: int | None
    resource: Mapping[str, Any]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    trace_state: str = ""

    def start(self, heartbeat_s: float | None) -> Request:
        """The start event."""
        interval = {names.WAFER_JOB_HEARTBEAT_INTERVAL: heartbeat_s}
        return self._log(events.WAFER_JOB_START, self.start_ns or 0, "INFO", self._described() | interval)

    def progress(self, at_ns: int, progress: Progress) -> Request:
        """A progress event."""
        return self._log(events.WAFER_JOB_PROGRESS, at_ns, "INFO", progress.attributes())

    def heartbeat(self, at_ns: int, sequence: int, interval_s: float, more: Mapping[str, Any]) -> Request:
        """A heartbeat of the process that watches over this run."""
        beat = {names.WAFER_JOB_HEARTBEAT_SEQUENCE: sequence, names.WAFER_JOB_HEARTBEAT_INTERVAL: interval_s}
        return self._log(events.WAFER_JOB_HEARTBEAT, at_ns, "DEBUG", {**beat, **more})

    def end(self, ending: Ending, progress: Progress | None, tail: str | None = None) -> Request:
        """The end event; `tail` is the end of the program's output, for the event's body."""
        attributes = ending.attributes() | _ratio(progress)
        if self.start_ns is not None:
            attributes[names.WAFER_JOB_DURATION] = (
                max(0, ending.end_ns - self.start_ns) / NS
            )  # the clock may have been put back
        severity = "ERROR" if ending.result in FAILED else "INFO"
        return self._log(events.WAFER_JOB_END, ending.end_ns, severity, attributes, tail)

    def span(self, ending: Ending, progress: Progress | None) -> Request:
        """The final span. Only for a run whose start is known: a span with another start would be another row."""
        assert self.start_ns is not None
        span = otlp_json.span(
            trace_id=self.ids.trace_id,
            span_id=self.ids.span_id,
            parent_span_id=self.parent_span_id,
            name=self.job,
            start_ns=self.start_ns,
            end_ns=ending.end_ns,
            attributes=self._identity() | self._described() | ending.attributes() | _ratio(progress),
            error=ending.message if ending.result in FAILED else None,
            trace_state=self.trace_state,
        )
        return otlp_json.spans_request(self.resource, [span], scope=_SCOPE)

    def _identity(self) -> dict[str, Any]:
        return {names.WAFER_JOB_NAME: self.job, names.WAFER_JOB_RUN_ID: self.run_id}

    def _described(self) -> dict[str, Any]:
        parent = self.parent_span_id.hex() if self.parent_span_id else None
        return {names.WAFER_JOB_PARENT_SPAN_ID: parent, **self.attributes}

    def _log(self, event: str, at_ns: int, severity: str, attributes: Mapping[str, Any], body: str | None = None) -> Request:
        record = otlp_json.log_record(
            event_name=event,
            time_ns=at_ns,
            severity=severity,
            attributes={**self._identity(), names.WAFER_JOB_START_TIME_UNIX_NANO: self.start_ns, **attributes},
            trace_id=self.ids.trace_id,
            span_id=self.ids.span_id,
            body=body,
        )
        return otlp_json.logs_request(self.resource, [record], scope=_SCOPE)


def resource_of(
    config: Config, environ: Mapping[str, str], *, service: str, instance_id: str, pid: int | None
) -> dict[str, Any]:
    """Who sends: OpenTelemetry's variables win over what we work out ourselves."""
    # The instance id goes first: readers of files tell two files apart by their first bytes.
    ours = {
        names.SERVICE_INSTANCE_ID: instance_id,
        names.SERVICE_NAME: config.app_name or service,
        names.SERVICE_VERSION: config.app_version or None,
        names.HOST_NAME: os.uname().nodename,
        names.PROCESS_PID: pid,
        names.WAFER_SITE_ID: config.site_id or None,
        names.WAFER_AREA_NAME: config.area_name or None,
        names.TELEMETRY_DISTRO_NAME: SCOPE_NAME,
    }
    for part in environ.get("OTEL_RESOURCE_ATTRIBUTES", "").split(","):
        key, separator, value = part.partition("=")
        if separator and key.strip() and key.strip() != names.SERVICE_INSTANCE_ID:
            ours[unquote(key.strip())] = unquote(value.strip())
    named = environ.get("OTEL_SERVICE_NAME", "").strip()
    return ours | ({names.SERVICE_NAME: named} if named else {})


def instance_id_of(seed: bytes) -> str:
    """16 bytes as the text of a UUID."""
    text = seed[:16].hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _ratio(progress: Progress | None) -> dict[str, Any]:
    return {names.WAFER_JOB_PROGRESS_RATIO: progress.ratio if progress else None}
