"""What one process needs to report its runs, made when its first run begins and made anew after a fork.

In: `Config`, the application's providers if it has any. Out: `Telemetry`, and processors on the application's providers.
Called by: `jobs` (for every run), `install()`, `distro`, `exits`.

Run spans come from a provider of our own that samples always, with the application's resource. The application's processors get
them too, except those whose OTLP endpoint is ours: there must be one copy on the wire.
"""

from __future__ import annotations

import copy
import os
import sys
import threading
import uuid
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from opentelemetry import trace
from opentelemetry._logs import set_logger_provider
from opentelemetry.context import Context
from opentelemetry.sdk._logs import LoggerProvider, LogRecordProcessor, ReadableLogRecord, ReadWriteLogRecord
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, Decision, Sampler, SamplingResult
from opentelemetry.trace import Link, SpanKind, get_current_span
from opentelemetry.util.types import Attributes

from wafermonitor.instrumentation import exits
from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.endpoint import Endpoint
from wafermonitor.instrumentation.export import Sender
from wafermonitor.instrumentation.guard import guarded
from wafermonitor.instrumentation.processor import SCOPE, Lifecycle, Processor, Run
from wafermonitor.instrumentation.replay import drain
from wafermonitor.instrumentation.spool import Spool
from wafermonitor.instrumentation.target import target_of
from wafermonitor.instrumentation.transport import same_server, transport_for
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv.schema import SCHEMA_URL


def package_version() -> str:
    """The installed version, or an empty text in a source tree."""
    try:
        return version("wafermonitor")
    except PackageNotFoundError:
        return ""


class Telemetry:
    """Everything of one process: its queue, its lifecycle, its providers."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.pid = os.getpid()
        self.version = package_version()
        self.sender = Sender(
            transport_for(config), Spool(config.spool_dir), blocking_s=config.blocking_s, send_spool=self._send_spool
        )
        self._instance_id = str(uuid.uuid4())
        self._application: TracerProvider | None = None
        self._own: TracerProvider | None = None
        self.resource = self._resource_of(None)
        self.lifecycle = Lifecycle(self.sender, self.resource, self.version, config.heartbeat_s)
        self._meters: Any = None
        self._build()

    def tracer(self) -> trace.Tracer:
        """The tracer of run spans. The application may have set its provider since the last run."""
        application = trace.get_tracer_provider()
        if application is not self._application and isinstance(application, TracerProvider) and application is not self._own:
            self._application = application
            self.resource = self._resource_of(application)
            self._build()
        return self._tracer

    @property
    def own_provider(self) -> TracerProvider:
        """The provider of run spans."""
        assert self._own is not None
        return self._own

    def open_runs(self) -> Sequence[Run]:
        """The open runs of this process, oldest first."""
        return self.lifecycle.beats.runs

    @guarded
    def collect(self) -> None:
        """Queue one collection of the metrics."""
        if self._meters is not None:
            self._meters.collect()

    def _send_spool(self) -> None:
        drain(self.config.spool_dir, target_of(self.config))

    def _build(self) -> None:
        sampler = _KeepParent() if self.config.parent_flag == "keep" else ALWAYS_ON
        own = TracerProvider(sampler=sampler, resource=self.resource, shutdown_on_exit=False)
        own.add_span_processor(Processor(_lifecycle, sends=True))
        if self._application is not None:
            own.add_span_processor(_HandOn(self._application, self.config))
        self._own = own
        self._tracer = own.get_tracer(SCOPE, self.version, SCHEMA_URL)
        self.lifecycle.resource = self.resource
        self.logs = LoggerProvider(resource=self.resource, shutdown_on_exit=False)
        self.logs.add_log_record_processor(_Queue(self.sender))
        if self.config.metrics:
            from wafermonitor.instrumentation.metrics import Metrics

            self._meters = Metrics(self.resource, self.version, lambda data: self.sender.put("metrics", data))
            self.lifecycle.durations = self._meters.durations
            self.lifecycle.collect = self.collect

    def _resource_of(self, application: TracerProvider | None) -> Resource:
        """The instance id comes first: some file readers tell files apart by their first bytes."""
        found = dict((application.resource if application else Resource.create()).attributes)
        if _forked:
            found[names.SERVICE_INSTANCE_ID] = self._instance_id
        ours: dict[str, Any] = {
            names.SERVICE_INSTANCE_ID: found.get(names.SERVICE_INSTANCE_ID) or self._instance_id,
            **found,
            names.HOST_NAME: found.get(names.HOST_NAME) or os.uname().nodename,
            names.PROCESS_PID: self.pid,
            names.TELEMETRY_DISTRO_NAME: SCOPE,
            names.TELEMETRY_DISTRO_VERSION: self.version,
        }
        program = self.config.app_name or _program()
        if program and str(ours.get(names.SERVICE_NAME, "")).startswith("unknown_service"):
            ours[names.SERVICE_NAME] = program
        configured = {names.WAFER_SITE_ID: self.config.site_id, names.WAFER_AREA_NAME: self.config.area_name}
        configured[names.SERVICE_VERSION] = self.config.app_version
        ours |= {name: value for name, value in configured.items() if name not in ours}
        return Resource({name: value for name, value in ours.items() if value != ""}, SCHEMA_URL)


def _program() -> str:
    """The program's name: its file, or its package when it was started by `python -m`."""
    if not sys.argv or sys.argv[0].startswith("-"):
        return ""
    path = Path(sys.argv[0])
    return path.parent.name if path.stem == "__main__" else path.stem


class _Queue(LogRecordProcessor):
    """From the SDK's loggers to the queue. The context is let go: it would keep the whole run alive."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        record = copy.copy(log_record.log_record)
        record.context = Context()
        scope = log_record.instrumentation_scope
        ready = ReadableLogRecord(record, log_record.resource or Resource.get_empty(), scope, log_record.limits)
        self._sender.put("logs", ready, soon=record.event_name is not None)

    def shutdown(self) -> None:
        """The sender is closed by `exits`."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        del timeout_millis
        return bool(self._sender.flush())


class _HandOn(SpanProcessor):
    """Gives run spans to the application's own processors, so that its traces stay whole."""

    def __init__(self, application: TracerProvider, config: Config) -> None:
        self._application = application
        self._config = config
        self._seen: tuple[SpanProcessor, ...] | None = None
        self._chosen: tuple[SpanProcessor, ...] = ()

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        for processor in self._processors():
            processor.on_start(span, parent_context)

    def on_end(self, span: ReadableSpan) -> None:
        for processor in self._processors():
            processor.on_end(span)

    def _processors(self) -> tuple[SpanProcessor, ...]:
        present = processors_of(self._application)
        if present is not self._seen:
            self._seen = present
            self._chosen = tuple(
                processor
                for processor in present
                if not isinstance(processor, Processor) and not sends_to_us(processor, self._config)
            )
        return self._chosen


class _KeepParent(Sampler):
    """Records every run, and hands the upstream's decision on to the run's children."""

    def should_sample(  # noqa: PLR0917 - the SDK's own signature
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Attributes = None,
        links: Sequence[Link] | None = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        del trace_id, name, kind, links, trace_state
        parent = get_current_span(parent_context).get_span_context()
        sampled = not parent.is_valid or parent.trace_flags.sampled
        decision = Decision.RECORD_AND_SAMPLE if sampled else Decision.RECORD_ONLY
        return SamplingResult(decision, attributes, parent.trace_state if parent.is_valid else None)

    def get_description(self) -> str:
        return "WaferKeepParent"


def processors_of(provider: TracerProvider) -> tuple[SpanProcessor, ...]:
    """The processors of a provider. The SDK keeps them to itself, so a change there costs the hand-on and nothing else."""
    found = getattr(getattr(provider, "_active_span_processor", None), "_span_processors", ())
    return found if isinstance(found, tuple) else ()


def sends_to_us(processor: SpanProcessor, config: Config) -> bool:
    """Whether what this processor exports arrives where our own telemetry arrives."""
    endpoint = getattr(getattr(processor, "span_exporter", None), "_endpoint", None)
    return config.sends_otlp and isinstance(endpoint, str) and same_server(endpoint, Endpoint.of(config).urls["traces"])


def logs_come_to_us(provider: object, config: Config) -> bool:
    """Whether log records of this provider arrive where our own telemetry arrives."""
    if not config.sends_otlp:
        return False
    processors = getattr(getattr(provider, "_multi_log_record_processor", None), "_log_record_processors", ())
    for processor in processors:
        exporter = getattr(getattr(processor, "_batch_processor", processor), "_exporter", None)
        endpoint = getattr(exporter, "_endpoint", None)
        if isinstance(endpoint, str) and same_server(endpoint, Endpoint.of(config).urls["logs"]):
            return True
    return False


def install() -> None:
    """Watch the application's spans: those that are runs announce themselves, and all arrive where our telemetry arrives.

    With providers of the application: a processor is added, which sends only what does not arrive there anyhow. Without: ours
    become the global ones, so that plain spans and log records of libraries are sent too. Calling it again changes nothing.
    """
    _install()


@guarded
def _install() -> None:
    ready = telemetry()
    if ready is None:
        return
    ready.tracer()
    application = trace.get_tracer_provider()
    if not isinstance(application, TracerProvider):
        trace.set_tracer_provider(ready.own_provider)
        set_logger_provider(ready.logs)
        return
    if application is ready.own_provider or any(isinstance(found, Processor) for found in processors_of(application)):
        return
    arrives = any(sends_to_us(found, ready.config) for found in processors_of(application))
    application.add_span_processor(Processor(_lifecycle, sends=not arrives))


_lock = threading.Lock()
_telemetry: Telemetry | None = None
_off = False
_forked = False
_inherited: Run | None = None


def telemetry() -> Telemetry | None:
    """This process's telemetry, made on first use; None in mode `off`."""
    return _telemetry if _telemetry is not None or _off else _make()


def _make() -> Telemetry | None:
    global _telemetry, _off  # noqa: PLW0603 - one for each process
    with _lock:
        if _telemetry is None:
            config = Config.load(strict=False)
            _off = config.mode == "off"
            _telemetry = None if _off else Telemetry(config)
    if _telemetry is not None:
        exits.watch(end_runs, close)
    return _telemetry


def _lifecycle() -> Lifecycle | None:
    ready = telemetry()
    return None if ready is None else ready.lifecycle


def existing() -> Telemetry | None:
    """This process's telemetry if it has been made."""
    return _telemetry


@guarded
def end_runs(error_type: str) -> None:
    """End every open run of this process as cancelled, innermost first: the process is ending."""
    for run in reversed(_telemetry.open_runs() if _telemetry is not None else ()):
        if run.cancel is not None:
            run.cancel(error_type)


@guarded
def close() -> None:
    """Send or spill everything: the process is ending."""
    if _telemetry is not None:
        _telemetry.sender.close()


def inherited() -> Run | None:
    """In a forked child: the oldest run that its parent process had open.

    A pool forks its later workers in a thread that knows of no run; this one is theirs.
    """
    return _inherited


def _after_fork() -> None:
    """The child's runs are its own: nothing of the parent's queue, threads and locks is used again."""
    global _telemetry, _lock, _forked, _inherited  # noqa: PLW0603 - as above
    if _telemetry is not None:
        _inherited = _telemetry.lifecycle.beats.oldest or _inherited
    _lock = threading.Lock()
    _telemetry = None
    _forked = True


os.register_at_fork(after_in_child=_after_fork)
