"""Spans that are runs announce themselves: start, progress, heartbeat, exception and end as OTLP log records.

In: spans that begin and end, from our own provider and from the application's. Out: lifecycle events, and the spans themselves
when this provider's spans are ours to send. Called by: the SDK, for every span, so a plain span must cost next to nothing.

A span is a run if it has `wafer.job.name` when it begins, whoever began it. Source: design of the lifecycle events in
docs/semantic-conventions.md; the events carry what names the run, so that they can come long before its span.
"""

from __future__ import annotations

import os
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry._logs import LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.metrics import Histogram
from opentelemetry.sdk._logs import ReadableLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import StatusCode, set_span_in_context

from wafermonitor.instrumentation import usage
from wafermonitor.instrumentation.export import Sender
from wafermonitor.instrumentation.guard import guarded
from wafermonitor.instrumentation.heartbeat import Heartbeat
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events
from wafermonitor.semconv.schema import SCHEMA_URL

SCOPE: Final = "wafer"
"""The instrumentation scope of run spans and lifecycle events."""
RUN_KEY: Final = contexts.create_key("wafer-run")
"""Where a context keeps the innermost `Run`."""
PARENT_KEY: Final = contexts.create_key("wafer-parent-span")
"""Where a context made from another process's keeps the span id (hex) of the run that began this process."""

_ANNOUNCED: Final = {
    names.WAFER_JOB_RESULT_FAILURE,
    names.WAFER_JOB_RESULT_ERROR,
    names.WAFER_JOB_RESULT_TIMEOUT,
}
_AT_END: Final = (
    names.ERROR_TYPE,
    names.PROCESS_EXIT_CODE,
    names.WAFER_JOB_CPU_TIME,
    names.WAFER_JOB_CPU_SHARED,
    names.WAFER_JOB_MEMORY_MAX,
)
_NS: Final = 1_000_000_000
_SEVERITIES: Final = {severity: severity.name for severity in SeverityNumber}


_processors: weakref.WeakSet[Processor] = weakref.WeakSet()


class Run:
    """One open run of this process: what its events repeat, and what it has cost so far."""

    def __init__(self, span: Span, name: str, run_id: str, parent: Run | None) -> None:
        identity = span.get_span_context()
        self.span_id = identity.span_id
        self.trace_id = identity.trace_id
        self.name = name
        self.run_id = run_id
        self.parent = parent
        self.start_ns = span.start_time or time.time_ns()
        self.context = set_span_in_context(span, Context())
        self.identity: dict[str, Any] = {
            names.WAFER_JOB_NAME: name,
            names.WAFER_JOB_RUN_ID: run_id,
            names.WAFER_JOB_START_TIME_UNIX_NANO: self.start_ns,
        }
        self.progress: dict[str, Any] = {}
        self.reason: str | None = None
        self.cancel: Callable[[str], object] | None = None
        """Ends the run as cancelled, with an error type; None for spans that only their own program can end."""
        self.shared = self.measured = False
        self.memory_max = usage.memory_bytes() or 0
        self._cpu_s = sum(usage.cpu_s())

    def descends_from(self, other: object) -> bool:
        """Whether `other` is an ancestor."""
        parent = self.parent
        while parent is not None and parent is not other:
            parent = parent.parent
        return parent is not None

    def cost(self) -> dict[str, Any]:
        """CPU and memory since the run began."""
        found: dict[str, Any] = {names.WAFER_JOB_CPU_TIME: max(sum(usage.cpu_s()) - self._cpu_s, 0.0)}
        if self.shared:
            found[names.WAFER_JOB_CPU_SHARED] = True
        memory = max(self.memory_max, usage.memory_bytes() or 0)
        if memory:
            found[names.WAFER_JOB_MEMORY_MAX] = memory
        return found


class Lifecycle:
    """The lifecycle events of this process's runs."""

    def __init__(self, sender: Sender, resource: Resource, version: str, heartbeat_s: float) -> None:
        self.sender = sender
        self.resource = resource
        self._scope = InstrumentationScope(SCOPE, version, SCHEMA_URL)
        self.beats: Heartbeat[Run] = Heartbeat(self.heartbeat, heartbeat_s)
        self.durations: Histogram | None = None
        self.collect: Callable[[], object] = lambda: None

    @guarded
    def start(self, span: Span, name: str, parent_context: Context | None) -> None:
        """A run begins: complete its attributes, announce it, watch it."""
        identity = span.get_span_context()
        parent = self._parent(span, parent_context)
        attributes = _copy(span)
        found: dict[str, str] = {}
        run_id = attributes.get(names.WAFER_JOB_RUN_ID)
        if not isinstance(run_id, str) or not run_id:
            run_id = found[names.WAFER_JOB_RUN_ID] = f"{identity.span_id:016x}"
        if parent is not None:
            found[names.WAFER_JOB_PARENT_SPAN_ID] = f"{parent.span_id:016x}"
            found[names.WAFER_JOB_PARENT_RUN_ID] = parent.run_id
        elif span.parent is not None and (elsewhere := contexts.get_value(PARENT_KEY, parent_context)):
            found[names.WAFER_JOB_PARENT_SPAN_ID] = str(elsewhere)
        span.set_attributes(found)
        run = Run(span, name, run_id, parent)
        self.beats.open(run.span_id, run)
        self._emit(
            run,
            events.WAFER_JOB_START,
            SeverityNumber.INFO,
            {**attributes, **found, names.WAFER_JOB_HEARTBEAT_INTERVAL: self.beats.interval_s},
            at_ns=run.start_ns,
        )

    def _parent(self, span: Span, parent_context: Context | None) -> Run | None:
        above = span.parent
        if above is None:
            return None
        found = self.beats.find(above.span_id) or contexts.get_value(RUN_KEY, parent_context)
        return found if isinstance(found, Run) and found.trace_id == above.trace_id else None

    def progress(self, run: Run) -> None:
        """How far the run is."""
        self._emit(run, events.WAFER_JOB_PROGRESS, SeverityNumber.INFO, run.progress)

    def heartbeat(self, run: Run, sequence: int) -> None:
        """The process lives. `run` is its oldest open run and speaks for all of them."""
        self.collect()
        beat = {names.WAFER_JOB_HEARTBEAT_SEQUENCE: sequence, names.WAFER_JOB_HEARTBEAT_INTERVAL: self.beats.interval_s}
        self._emit(run, events.WAFER_JOB_HEARTBEAT, SeverityNumber.DEBUG, {**beat, **run.progress, **run.cost()})

    def exception(self, run: Run, described: Mapping[str, Any], *, fatal: bool) -> None:
        """An exception that nobody handled. `fatal`: it ends the process's outermost run."""
        severity = SeverityNumber.FATAL if fatal else SeverityNumber.ERROR
        self._emit(run, events.WAFER_JOB_EXCEPTION, severity, dict(described))

    @guarded
    def end(self, run: Run, span: ReadableSpan) -> None:
        """A run has ended; its span says how."""
        attributes = _copy(span)
        result = str(attributes.get(names.WAFER_JOB_RESULT, ""))
        if not result:
            failed = span.status.status_code is StatusCode.ERROR
            result = names.WAFER_JOB_RESULT_FAILURE if failed else names.WAFER_JOB_RESULT_SUCCESS
        end_ns = span.end_time or time.time_ns()
        duration_s = max(end_ns - run.start_ns, 0) / _NS
        told: dict[str, Any] = {name: attributes[name] for name in _AT_END if name in attributes} or run.cost()
        told |= {names.WAFER_JOB_RESULT: result, names.WAFER_JOB_DURATION: duration_s}
        severity = SeverityNumber.ERROR if result in _ANNOUNCED else SeverityNumber.INFO
        self._emit(run, events.WAFER_JOB_END, severity, told, at_ns=end_ns, body=run.reason)
        self.measure(run, result, told.get(names.ERROR_TYPE), end_ns)
        if run.cancel is None and not self.beats.by_span:
            self.collect()

    def measure(self, run: Run, result: str, error_type: str | None, end_ns: int) -> None:
        """Count the run's duration, once."""
        if self.durations is None or run.measured:
            return
        run.measured = True
        kind = {names.WAFER_JOB_NAME: run.name, names.WAFER_JOB_RESULT: result}
        if error_type:
            kind[names.ERROR_TYPE] = error_type
        self.durations.record(max(end_ns - run.start_ns, 0) / _NS, kind)

    @guarded
    def _emit(
        self,
        run: Run,
        event_name: str,
        severity: SeverityNumber,
        attributes: dict[str, Any],
        *,
        at_ns: int | None = None,
        body: str | None = None,
    ) -> None:
        record = LogRecord(
            event_name=event_name,
            timestamp=at_ns or time.time_ns(),
            context=run.context,
            severity_number=severity,
            severity_text=_SEVERITIES[severity],
            body=body,
            attributes={**attributes, **run.identity},
        )
        # Not by Logger.emit: it checks every attribute once more, which costs more than all the rest of a run.
        self.sender.put("logs", ReadableLogRecord(record, self.resource, self._scope), soon=True)


def _copy(span: ReadableSpan) -> dict[str, Any]:
    """Its attributes as a dict. Looking one up in the SDK's own mapping costs more than copying them all."""
    attributes: Any = span.attributes  # a MappingProxyType, whose type promises less than it does
    copied: dict[str, Any] = attributes.copy()
    return copied


class Processor(SpanProcessor):
    """Watches one provider's spans. `sends`: its finished spans go out with our telemetry.

    `lifecycle` gives the process's own; a forked child that still uses its parent's provider asks for another one.
    """

    def __init__(self, lifecycle: Callable[[], Lifecycle | None], *, sends: bool) -> None:
        self._find = lifecycle
        self._sends = sends
        self._lifecycle: Lifecycle | None = None
        self._open: Mapping[int, Run] = {}
        _processors.add(self)

    def forget(self) -> None:
        """This is a forked child: the parent's runs, queue and locks are not ours."""
        self._lifecycle, self._open = None, {}

    @guarded
    def _ready(self) -> Lifecycle | None:
        found = self._find()
        if found is not None:
            self._lifecycle, self._open = found, found.beats.by_span
        return found

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Announce it if it is a run."""
        attributes = _copy(span)
        if names.WAFER_JOB_NAME in attributes:
            lifecycle = self._lifecycle or self._ready()
            if lifecycle is not None:
                lifecycle.start(span, str(attributes[names.WAFER_JOB_NAME]), parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Say how it ended if it is a run, and send it if that is up to us."""
        identity = span.context
        if identity is None:
            return
        run = None
        lifecycle = self._lifecycle
        if lifecycle is not None and identity.span_id in self._open:
            run = lifecycle.beats.close(identity.span_id)
            if run is not None:
                lifecycle.end(run, span)
        if self._sends and (run is not None or identity.trace_flags.sampled):
            lifecycle = lifecycle or self._ready()
            if lifecycle is not None:
                lifecycle.sender.put("traces", span, soon=run is not None)


def _after_fork() -> None:
    for processor in list(_processors):
        processor.forget()


os.register_at_fork(after_in_child=_after_fork)
