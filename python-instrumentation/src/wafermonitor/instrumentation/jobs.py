"""`job` and `subjob`: a block of a program becomes a run.

In: a name and what is known of the run. Out: a span and its lifecycle events; the block's own result and errors are untouched.
Called by: applications, through the package's public names.

Whatever goes wrong in here is logged once and never raised: a job runs the same with and without telemetry.
"""

from __future__ import annotations

import functools
import inspect
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast

from opentelemetry import context as contexts
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import SpanKind, Status, StatusCode

from wafermonitor.instrumentation import carrier, exits, logs, providers
from wafermonitor.instrumentation.guard import guarded
from wafermonitor.instrumentation.otlp_json import text
from wafermonitor.instrumentation.processor import RUN_KEY, Run
from wafermonitor.instrumentation.progress import Progress, tracked
from wafermonitor.instrumentation.results import Ending, described, ending_of
from wafermonitor.instrumentation.values import clean
from wafermonitor.semconv import attributes as names

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")

_KEEP_OUTER: Final = 1 / 3
"""Of the blocking budget stays for the end of the process …"""
_KEEP_INNER: Final = 1 / 2
"""… and so much for the outermost run, when a run inside another one asks."""
_JOB_KEY: Final = contexts.create_key("wafer-job")
_BAD: Final = {names.WAFER_JOB_RESULT_FAILURE, names.WAFER_JOB_RESULT_ERROR, names.WAFER_JOB_RESULT_TIMEOUT}


class Job:
    """One run, as `with`, `async with` or a decorator. Made by `job()` and `subjob()`."""

    def __init__(self, name: str, attributes: dict[str, Any]) -> None:
        self.name = text(str(name))
        self._attributes = attributes
        self._span: trace.Span = trace.INVALID_SPAN
        self._above: Context | None = None
        self._context: Context | None = None
        self._token: Any = None
        self._telemetry: providers.Telemetry | None = None
        self._run: Run | None = None
        self._progress: Progress | None = None
        self._said: Ending | None = None

    # What names it.

    @property
    def trace_id(self) -> str:
        """32 hex digits; zeros before the block and in mode `off`."""
        return f"{self._span.get_span_context().trace_id:032x}"

    @property
    def span_id(self) -> str:
        """16 hex digits."""
        return f"{self._span.get_span_context().span_id:016x}"

    @property
    def id(self) -> str:
        """`<trace id>-<span id>`, the `{run}` of the read API's URLs."""
        return f"{self.trace_id}-{self.span_id}"

    @property
    def run_id(self) -> str:
        """The run's label, `wafer.job.run.id`."""
        if self._run is not None:
            return self._run.run_id
        return str(self._attributes.get(names.WAFER_JOB_RUN_ID, "" if self._context is None else self.span_id))

    # What the block says.

    @guarded
    def set(self, name: str, value: Any) -> None:
        """An attribute of the run, for example `wafer.param.dies`; before the block, of every run it begins.

        Numbers, texts, truth values, and sequences of them.
        """
        if self._run is None:
            self._attributes[name] = clean(value)
        else:
            self._span.set_attribute(name, clean(value))

    @guarded
    def progress(
        self,
        completed: float | None = None,
        total: float | None = None,
        *,
        ratio: float | None = None,
        unit: str | None = None,
        stage: str | None = None,
        message: str | None = None,
    ) -> None:
        """How far it is. Sent when a second has passed or 1 % was done since the last one; the last one always."""
        if self._progress is not None:
            self._progress.update(completed, total, ratio=ratio, unit=unit, stage=stage, message=message)

    def track(
        self, items: Iterable[T], *, unit: str | None = None, total: int | None = None, stage: str | None = None
    ) -> Iterator[T]:
        """The items, one by one, with progress after each, and a bar on a terminal."""
        bar = self._telemetry is None or self._telemetry.config.bar
        return tracked(items, self.progress, total=total, unit=unit, stage=stage, bar=bar, label=self.name)

    @guarded
    def fail(self, reason: str | BaseException, *, error_type: str | None = None) -> None:
        """The run has failed although no exception leaves its block."""
        kind = error_type or (type(reason).__name__ if isinstance(reason, BaseException) else "failure")
        self._said = Ending(names.WAFER_JOB_RESULT_FAILURE, kind, message=text(str(reason)))
        if isinstance(reason, BaseException):
            self._tell(reason)

    @guarded
    def skip(self, reason: str = "") -> None:
        """There was nothing to do."""
        self._said = Ending(names.WAFER_JOB_RESULT_SKIP, message=text(reason))

    def env(self, base: Mapping[str, str] | None = None) -> dict[str, str]:
        """A copy of the environment (or of `base`) that makes a child process's runs subjobs of this one."""
        plain = dict(os.environ if base is None else base)
        if self._context is None:
            return plain
        return guarded(carrier.environment)(self._context, plain) or plain

    def subjob(self, name: str, **described_by: Any) -> Job:
        """A run inside this one; the same keywords as `job`."""
        inner = job(name, **described_by)
        inner._above = self._context  # noqa: SLF001 - its own class
        return inner

    # How it begins and ends.

    def __enter__(self) -> Self:
        if self._begin() and self._telemetry is not None:
            try:
                self._telemetry.sender.flush(keep=self._keep())
            except BaseException as error:
                self._finish(error)  # Ctrl-C before the block began: nobody else would end it
                raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None) -> None:
        if self._finish(error) and self._telemetry is not None:
            self._telemetry.sender.flush(keep=_KEEP_OUTER)

    async def __aenter__(self) -> Self:
        if self._begin() and self._telemetry is not None:
            try:
                await self._telemetry.sender.flush_async(keep=self._keep())
            except BaseException as error:
                self._finish(error)  # cancelled: as above
                raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, stack: TracebackType | None
    ) -> None:
        if self._finish(error) and self._telemetry is not None:
            await self._telemetry.sender.flush_async(keep=_KEEP_OUTER)

    def __call__(self, function: F) -> F:
        """As a decorator: every call is a run of its own."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def call_async(*args: Any, **kwargs: Any) -> Any:
                async with Job(self.name, dict(self._attributes)):
                    return await function(*args, **kwargs)

            return cast("F", call_async)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            with Job(self.name, dict(self._attributes)):
                return function(*args, **kwargs)

        return cast("F", call)

    def _cancel(self, error_type: str) -> None:
        """End the run from outside its block, in any thread: the process is being ended."""
        self._said = Ending(names.WAFER_JOB_RESULT_CANCELLATION, error_type)
        self._token = None  # the context belongs to the block's own thread
        self._finish(None)

    @guarded
    def _begin(self) -> bool:
        telemetry = providers.telemetry()
        if telemetry is None:
            return False
        self._telemetry = telemetry
        self._said = None
        exits.watch(providers.end_runs, providers.close)
        logs.listen(telemetry)
        above = contexts.get_current() if self._above is None else self._above
        if not trace.get_current_span(above).get_span_context().is_valid:
            inherited = providers.inherited()
            above = (
                carrier.from_environment() if inherited is None else contexts.set_value(RUN_KEY, inherited, inherited.context)
            )
        attributes = {names.WAFER_JOB_NAME: self.name, **self._attributes}
        span = telemetry.tracer().start_span(self.name, above, SpanKind.INTERNAL, attributes)
        self._span = span
        self._run = telemetry.lifecycle.beats.find(span.get_span_context().span_id)
        if self._run is None:
            return False
        self._run.cancel = self._cancel
        self._progress = Progress(self._run, telemetry.lifecycle)
        context = contexts.set_value(RUN_KEY, self._run, trace.set_span_in_context(span, above))
        self._context = contexts.set_value(_JOB_KEY, self, context)
        self._token = contexts.attach(self._context)
        return True

    def _keep(self) -> float:
        inner = self._run is not None and self._run.parent is not None
        return _KEEP_INNER if inner else _KEEP_OUTER

    @guarded
    def _finish(self, error: BaseException | None) -> bool:
        """End the run; True when it was the outermost one of its process, so that the queue is to be sent."""
        run, telemetry = self._run, self._telemetry
        token, self._token = self._token, None
        if token is not None:
            contexts.detach(token)
        if run is None or telemetry is None or telemetry.pid != os.getpid():
            return False  # a forked child leaves the block of its parent's run: not its run to end
        self._run = None
        if self._progress is not None:
            self._progress.last()
        ending = self._ending(error)
        if error is not None and ending.result in _BAD and not isinstance(error, SystemExit):
            telemetry.lifecycle.exception(
                run, described(error, stacktrace=telemetry.config.stacktrace), fatal=run.parent is None
            )
        self._span.set_attributes(_at_end(run, ending))
        if ending.result in _BAD:
            self._span.set_status(Status(StatusCode.ERROR, ending.message or ending.error_type))
        run.reason = ending.message or None
        last = len(telemetry.open_runs()) == 1
        if last:  # before the end, so that the last points lie within the run
            telemetry.lifecycle.measure(run, ending.result, ending.error_type, time.time_ns())
            telemetry.collect()
        self._span.end()
        return last

    def _ending(self, error: BaseException | None) -> Ending:
        seen = ending_of(error, exits.received)
        if self._said is None:
            return seen
        if error is None or isinstance(error, SystemExit):
            return self._said._replace(exit_code=seen.exit_code)
        return seen

    def _tell(self, error: BaseException) -> None:
        if self._run is not None and self._telemetry is not None:
            stacktrace = self._telemetry.config.stacktrace
            self._telemetry.lifecycle.exception(self._run, described(error, stacktrace=stacktrace), fatal=False)


def job(
    name: str,
    *,
    run_id: str | None = None,
    attempt: int | None = None,
    trigger: str | None = None,
    nominal_time: datetime | str | None = None,
    expected_duration_s: float | None = None,
    deadline: datetime | str | None = None,
    owner: str | None = None,
    lot_ids: Sequence[str] | None = None,
    substrate_ids: Sequence[str] | None = None,
    equipment_id: str | None = None,
    recipe_name: str | None = None,
    product_id: str | None = None,
    params: Mapping[str, Any] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> Job:
    """A run of the job `name`, to be used as `with`, `async with` or a decorator.

    Inside another run it is that one's subjob; with TRACEPARENT in the environment it is a subjob of the caller's run.
    `trigger` is schedule, event, manual or retry; times are aware datetimes or RFC 3339 text; `params` become
    `wafer.param.<key>`.
    """
    found: dict[str, Any] = {
        names.WAFER_JOB_RUN_ID: run_id,
        names.WAFER_JOB_ATTEMPT: attempt,
        names.WAFER_JOB_TRIGGER: trigger,
        names.WAFER_JOB_NOMINAL_TIME: _instant(nominal_time),
        names.WAFER_JOB_EXPECTED_DURATION: expected_duration_s,
        names.WAFER_JOB_DEADLINE: _instant(deadline),
        names.WAFER_JOB_OWNER: owner,
        names.WAFER_LOT_IDS: lot_ids,
        names.WAFER_SUBSTRATE_IDS: substrate_ids,
        names.WAFER_EQUIPMENT_ID: equipment_id,
        names.WAFER_RECIPE_NAME: recipe_name,
        names.WAFER_PRODUCT_ID: product_id,
        **{f"{names.WAFER_PARAM}.{key}": value for key, value in (params or {}).items()},
        **(attributes or {}),
    }
    return Job(name, guarded(_cleaned)(found) or {})


def subjob(name: str, **described_by: Any) -> Job:
    """As `job`; says that a run around it is expected: in this process, or in the caller's by TRACEPARENT."""
    return job(name, **described_by)


def current() -> Job | None:
    """The innermost run of the present context, if it began in this process."""
    found = contexts.get_value(_JOB_KEY)
    return found if isinstance(found, Job) and found._run is not None else None  # noqa: SLF001 - its own class


@guarded
def flush() -> bool:
    """Wait, within the blocking budget, until what is queued has been sent. True when it has arrived."""
    telemetry = providers.existing()
    return telemetry is None or bool(telemetry.sender.flush())


def _at_end(run: Run, ending: Ending) -> dict[str, Any]:
    found = {names.WAFER_JOB_RESULT: ending.result, **run.cost()}
    if ending.error_type:
        found[names.ERROR_TYPE] = ending.error_type
    if ending.exit_code is not None:
        found[names.PROCESS_EXIT_CODE] = ending.exit_code
    if names.WAFER_JOB_PROGRESS_RATIO in run.progress:
        found[names.WAFER_JOB_PROGRESS_RATIO] = run.progress[names.WAFER_JOB_PROGRESS_RATIO]
    return found


def _instant(value: datetime | str | None) -> str | None:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.astimezone(UTC)).isoformat()
    return value


def _cleaned(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: clean(value) for key, value in found.items() if value is not None}
