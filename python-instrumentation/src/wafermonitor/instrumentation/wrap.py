"""`wafer run -- CMD`: one command becomes one run, and the command does not notice.

In: an `Order` (what to run, what is known of the run), the environment. Out: the command's exit code; events, heartbeats
and the final span at the endpoint or in the spool. Called by: `command`.

Nothing here may fail, delay (> 0.3 s) or alter the command: every step of the telemetry is guarded, and only its name is sent,
never its arguments or environment.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from wafermonitor.instrumentation.announce import Announced, Ending, Progress, instance_id_of, resource_of
from wafermonitor.instrumentation.child import Child, NotStartedError, Outcome, usage_of
from wafermonitor.instrumentation.config import Config
from wafermonitor.instrumentation.derived import child_flags, parent_of, random_ids, traceparent
from wafermonitor.instrumentation.guard import guarded
from wafermonitor.instrumentation.outbox import Outbox
from wafermonitor.instrumentation.output import PROGRESS_VARIABLE, Output, occupy_closed_files
from wafermonitor.instrumentation.spool import Request, Signal, Spool, size_bytes
from wafermonitor.instrumentation.target import target_of
from wafermonitor.semconv import attributes as names

# Our own start takes about 0.1 s of what a run may be delayed in all.
_START_UP_S: Final = 0.1
_LEAST_BUDGET_S: Final = 0.02
_THROTTLE_S: Final = 1.0
_TIMED_OUT: Final = 124  # timeout(1)'s: a command that was stopped must not look finished
_THROTTLE_RATIO: Final = 0.01


@dataclass(frozen=True, kw_only=True)
class Order:
    """What to run and how to report it. `attributes` are the run's start attributes; None: as the settings say."""

    command: Sequence[str]
    job: str
    run_id: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    timeout_s: float | None = None
    grace_s: float = 10.0
    heartbeat_s: float | None = None
    pattern: re.Pattern[bytes] | None = None
    tail_bytes: int = 0
    spool_dir: Path | None = None
    mode: str | None = None


def run(order: Order, environ: Mapping[str, str]) -> int:
    """Run the command and report it. The command's exit code: 128 + n when signal n ended it, 127 and 126 as in a shell."""
    logging.raiseExceptions = False  # a closed stderr is the caller's right
    child = _child()
    if child is None:
        return _run_alone(order.command, environ)
    watch = _watch(order, environ)
    output = _output(order, watch)
    if watch is not None:
        environ = watch.environ(environ, output.progress_fd if output else None) or environ
        watch.begin()
    try:
        child.start(order.command, environ, output.files if output else ())
    except NotStartedError as error:
        if watch is not None:
            watch.end(_not_started(error), None)
        return _complain(error)
    if output is not None:
        output.release()
    if watch is not None:
        watch.watch(child.pid)
    outcome = child.wait(timeout_s=order.timeout_s, grace_s=order.grace_s)
    if output is not None:
        guarded(output.finish)()
    if watch is not None:
        ending = ending_of(outcome, order.timeout_s)
        failed = ending.result != names.WAFER_JOB_RESULT_SUCCESS
        watch.end(ending, output.tail if failed and output and order.tail_bytes else None)
    return _TIMED_OUT if outcome.timed_out and not outcome.code else outcome.code


def ending_of(outcome: Outcome, timeout_s: float | None = None) -> Ending:
    """What the way a command ended means for its run."""
    result, error_type, message = names.WAFER_JOB_RESULT_SUCCESS, "", ""
    stopped_by = None if outcome.stopped_by is None else signal.Signals(outcome.stopped_by).name
    if outcome.timed_out:
        result, error_type = names.WAFER_JOB_RESULT_TIMEOUT, names.WAFER_JOB_RESULT_TIMEOUT
        message = f"not done after {timeout_s:g} s" if timeout_s is not None else "not done in time"
    elif outcome.code and stopped_by is not None:
        result, error_type = names.WAFER_JOB_RESULT_CANCELLATION, f"signal.{stopped_by}"
        message = f"stopped by {stopped_by}"
    elif outcome.signal is not None:
        name = _signal_name(outcome.signal)
        result, error_type, message = names.WAFER_JOB_RESULT_ERROR, f"signal.{name}", f"killed by {name}"
    elif outcome.code:
        result, error_type = names.WAFER_JOB_RESULT_FAILURE, f"exit.{outcome.code}"
        message = f"exit code {outcome.code}"
    return Ending(
        result=result,
        end_ns=time.time_ns(),
        error_type=error_type,
        message=message,
        exit_code=outcome.code,
        cpu_s=outcome.cpu_s,
        memory_bytes=outcome.memory_bytes,
    )


def _not_started(error: NotStartedError) -> Ending:
    return Ending(
        result=names.WAFER_JOB_RESULT_ERROR,
        end_ns=time.time_ns(),
        error_type=error.cause,
        message=error.strerror or error.cause,
        exit_code=error.code,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return str(number)


@guarded
def _child() -> Child:
    occupy_closed_files()
    return Child()


def _run_alone(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Where this system cannot be watched, the command takes our place and nothing is reported."""
    try:
        os.execvpe(command[0], list(command), environ)  # noqa: S606 - no shell is wanted
    except OSError as error:
        return _complain(NotStartedError(command[0], error))


def _complain(error: NotStartedError) -> int:
    with contextlib.suppress(OSError, AttributeError):
        sys.stderr.write(f"wafer run: {error.strerror}\n")
    return error.code


@guarded
def _watch(order: Order, environ: Mapping[str, str]) -> Watch | None:
    config = Config.load(environ, strict=False)
    config = dataclasses.replace(
        config,
        mode=order.mode or config.mode,
        spool_dir=order.spool_dir or config.spool_dir,
        heartbeat_s=order.heartbeat_s or config.heartbeat_s,
    )
    return None if config.mode == "off" else Watch(order, config, environ)


@guarded
def _output(order: Order, watch: Watch | None) -> Output | None:
    if watch is None:
        return None
    output = Output(watch.progress, pattern=order.pattern, tail_bytes=order.tail_bytes)
    output.start()
    return output


class Watch:
    """The telemetry of one wrapped command."""

    def __init__(self, order: Order, config: Config, environ: Mapping[str, str]) -> None:
        parent = parent_of(environ)
        ids = random_ids(parent)
        self._config = config
        self._environ = environ
        self._flags = child_flags(parent, keep=config.parent_flag == "keep")
        self._traced = parent is not None
        self._run = Announced(
            ids=ids,
            parent_span_id=parent.span_id if parent else None,
            job=order.job,
            run_id=order.run_id or ids.span_id.hex(),
            start_ns=time.time_ns(),
            resource=resource_of(
                config, environ, service=order.job, instance_id=instance_id_of(os.urandom(16)), pid=os.getpid()
            ),
            attributes=order.attributes,
            trace_state=parent.trace_state if parent else "",
        )
        self._spool = Spool(config.spool_dir)
        endpoint = None if config.mode == "file" else target_of(config, environ)
        budget_s = max(config.blocking_s - _START_UP_S, _LEAST_BUDGET_S)
        self._outbox = Outbox(endpoint, self._spool, budget_s=budget_s)
        self._changed = threading.Condition()
        self._over = False
        self._shipped = False
        self._latest: Progress | None = None
        self._told: Progress | None = None
        self._told_at = 0.0
        self._peak_bytes = 0

    @guarded
    def environ(self, environ: Mapping[str, str], progress_fd: int | None) -> dict[str, str]:
        """The command's environment: the caller's, and where its spans and progress belong."""
        env = dict(environ)
        env["TRACEPARENT"] = traceparent(self._run.ids, self._flags)
        if not self._traced:
            env.pop("TRACESTATE", None)  # it belongs to a trace that we did not join
        env.pop(PROGRESS_VARIABLE, None)
        if progress_fd is not None:
            env[PROGRESS_VARIABLE] = str(progress_fd)
        return env

    @guarded
    def begin(self) -> None:
        """Announce the run, before the command can do anything."""
        self._outbox.flush([("logs", self._run.start(self._config.heartbeat_s))], share=0.5)

    @guarded
    def watch(self, pid: int) -> None:
        """The command lives: beat until it ends, and send what earlier runs left in the spool."""
        self._ship()
        threading.Thread(target=self._beat, args=(pid,), name="wafer-heartbeat", daemon=True).start()

    def progress(self, progress: Progress) -> None:
        """The command got further. Called from the thread that reads its output."""
        with self._changed:
            self._latest = progress
            self._changed.notify()

    @guarded
    def end(self, ending: Ending, tail: str | None) -> None:
        """The last word: what was not told yet, the end event, the span."""
        with self._changed:
            self._over = True
            self._changed.notify()
            latest, told = self._latest, self._told
        requests: list[tuple[Signal, Request]] = []
        if latest is not None and latest is not told:
            requests.append(("logs", self._run.progress(ending.end_ns, latest)))
        requests.append(("logs", self._run.end(ending, latest, tail)))
        requests.append(("traces", self._run.span(ending, latest)))
        self._outbox.flush(requests)

    @guarded
    def _beat(self, pid: int) -> None:
        interval_s = self._config.heartbeat_s
        due, sequence = time.monotonic() + interval_s, 0
        while True:
            with self._changed:
                if self._over:
                    return
                self._changed.wait(max(0.0, min(due, self._tell_at()) - time.monotonic()))
                if self._over:
                    return
                self._tell()
            if time.monotonic() >= due:
                due, sequence = due + interval_s, sequence + 1
                usage = usage_of(pid)
                self._peak_bytes = max(self._peak_bytes, usage.memory_bytes)
                more = {names.WAFER_JOB_CPU_TIME: usage.cpu_s, names.WAFER_JOB_MEMORY_MAX: self._peak_bytes}
                more |= self._told.attributes() if self._told else {}
                self._outbox.put("logs", self._run.heartbeat(time.time_ns(), sequence, interval_s, more))
                self._ship()

    def _tell_at(self) -> float:
        """When the latest progress may be sent: never if it was; at once if it moved by 1 %, else 1 s after the last one."""
        latest, told = self._latest, self._told
        if latest is None or latest is told:
            return float("inf")
        moved = told is None or abs((latest.ratio or 0.0) - (told.ratio or 0.0)) >= _THROTTLE_RATIO
        return 0.0 if moved else self._told_at + _THROTTLE_S

    def _tell(self) -> None:
        if self._latest is not None and time.monotonic() >= self._tell_at():
            self._told, self._told_at = self._latest, time.monotonic()
            self._outbox.put("logs", self._run.progress(time.time_ns(), self._latest))

    def _ship(self) -> None:
        """Send the spool, once, as soon as something answers: client libraries of direct backends take a while to load."""
        if not self._shipped and self._outbox.answers and size_bytes(self._config.spool_dir):
            self._shipped = True
            threading.Thread(target=self._drain, name="wafer-replay", daemon=True).start()

    @guarded
    def _drain(self) -> None:
        from wafermonitor.instrumentation.replay import drain

        drain(self._config.spool_dir, target_of(self._config, self._environ))
