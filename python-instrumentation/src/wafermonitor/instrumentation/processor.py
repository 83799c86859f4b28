"""Spans that are runs announce themselves: start, progress, heartbeat, exception and end as OTLP log records.

In: spans that begin and end, from our own provider and from the application's. Out: lifecycle events, and the spans themselves
when this provider's spans are ours to send. Called by: the SDK, for every span, so a plain span must cost next to nothing.

A span is a run if it has `wafer.job.name` when it begins, whoever began it. Source: design of the lifecycle events in
docs/semantic-conventions.md; the events carry what names the run, so that they can come long before its span.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from opentelemetry import context as contexts
from opentelemetry._logs import SeverityNumber
from opentelemetry.context import Context
from opentelemetry.sdk._logs import Logger
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.trace import StatusCode, set_span_in_context

from wafermonitor.instrumentation import usage
from wafermonitor.instrumentation.export import Sender
from wafermonitor.instrumentation.guard import guarded
from wafermonitor.instrumentation.heartbeat import Heartbeat
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events

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
        self.job: object | None = None
        self.shared = False
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

    def __init__(self, logger: Logger, sender: Sender, heartbeat_s: float) -> None:
        self.logger = logger
        self.sender = sender
        self.beats: Heartbeat[Run] = Heartbeat(self.heartbeat, heartbeat_s)
        self.ended: Any = None

    @guarded
    def start(self, span: Span, name: str, parent_context: Context | None) -> None:
        """A run begins: complete its attributes, announce it, watch it."""
        identity = span.get_span_context()
        parent = self._parent(span, parent_context)
        run_id = span.attributes.get(names.WAFER_JOB_RUN_ID) if span.attributes else None
        if not isinstance(run_id, str) or not run_id:
            run_id = f"{identity.span_id:016x}"
            span.set_attribute(names.WAFER_JOB_RUN_ID, run_id)
        if parent is not None:
            span.set_attribute(names.WAFER_JOB_PARENT_SPAN_ID, f"{parent.span_id:016x}")
            span.set_attribute(names.WAFER_JOB_PARENT_RUN_ID, parent.run_id)
        elif span.parent is not None and (elsewhere := contexts.get_value(PARENT_KEY, parent_context)):
            span.set_attribute(names.WAFER_JOB_PARENT_SPAN_ID, str(elsewhere))
        run = Run(span, name, run_id, parent)
        self.beats.open(run.span_id, run)
        self._emit(
            run,
            events.WAFER_JOB_START,
            SeverityNumber.INFO,
            {**(span.attributes or {}), names.WAFER_JOB_HEARTBEAT_INTERVAL: self.beats.interval_s},
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
        beat = {names.WAFER_JOB_HEARTBEAT_SEQUENCE: sequence, names.WAFER_JOB_HEARTBEAT_INTERVAL: self.beats.interval_s}
        self._emit(run, events.WAFER_JOB_HEARTBEAT, SeverityNumber.DEBUG, {**beat, **run.progress, **run.cost()})

    def exception(self, run: Run, described: Mapping[str, Any], *, fatal: bool) -> None:
        """An exception that nobody handled. `fatal`: it ends the process's outermost run."""
        severity = SeverityNumber.FATAL if fatal else SeverityNumber.ERROR
        self._emit(run, events.WAFER_JOB_EXCEPTION, severity, dict(described))

    @guarded
    def end(self, run: Run, span: ReadableSpan) -> None:
        """A run has ended; its span says how."""
        attributes = span.attributes or {}
        result = str(attributes.get(names.WAFER_JOB_RESULT, ""))
        if not result:
            failed = span.status.status_code is StatusCode.ERROR
            result = names.WAFER_JOB_RESULT_FAILURE if failed else names.WAFER_JOB_RESULT_SUCCESS
        end_ns = span.end_time or time.time_ns()
        duration_s = max(end_ns - run.start_ns, 0) / _NS
        told = {name: attributes[name] for name in _AT_END if name in attributes} or run.cost()
        told |= {names.WAFER_JOB_RESULT: result, names.WAFER_JOB_DURATION: duration_s}
        severity = SeverityNumber.ERROR if result in _ANNOUNCED else SeverityNumber.INFO
        self._emit(run, events.WAFER_JOB_END, severity, told, at_ns=end_ns, body=run.reason)
        if self.ended is not None:
            kind: dict[str, Any] = {names.WAFER_JOB_NAME: run.name, names.WAFER_JOB_RESULT: result}
            if names.ERROR_TYPE in told:
                kind[names.ERROR_TYPE] = told[names.ERROR_TYPE]
            self.ended.record(duration_s, kind)

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
        self.logger.emit(
            event_name=event_name,
            timestamp=at_ns or time.time_ns(),
            context=run.context,
            severity_number=severity,
            severity_text=severity.name,
            body=body,
            attributes={**attributes, **run.identity},
        )


class Processor(SpanProcessor):
    """Watches one provider's spans. `sends`: its finished spans go out with our telemetry."""

    def __init__(self, lifecycle: Lifecycle, *, sends: bool) -> None:
        self.lifecycle = lifecycle
        self._runs = lifecycle.beats
        self._sends = sends

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Announce it if it is a run."""
        attributes = span.attributes
        if attributes and names.WAFER_JOB_NAME in attributes:
            self.lifecycle.start(span, str(attributes[names.WAFER_JOB_NAME]), parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        """Say how it ended if it is a run, and send it if that is up to us."""
        identity = span.context
        if identity is None:
            return
        run = self._runs.close(identity.span_id) if identity.span_id in self._runs else None
        if run is not None:
            self.lifecycle.end(run, span)
        if self._sends and (run is not None or identity.trace_flags.sampled):
            self.lifecycle.sender.put("traces", span, soon=run is not None)
