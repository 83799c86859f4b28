"""What an exception that leaves a job's block says about the run.

In: the exception, and the signal that is ending the process if there is one. Out: result, error type, exit code, description.
Called by: `jobs`, `wrap`.

failure is the job's own; error is the infrastructure's (memory, a killed worker); cancellation is somebody's wish.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import traceback
from concurrent.futures import BrokenExecutor
from typing import Any, Final, NamedTuple

from wafermonitor.instrumentation.otlp_json import text
from wafermonitor.semconv import attributes as names

MESSAGE_LETTERS: Final = 8_192
"""A message may hold a whole file; so much of it tells what is wrong."""
SIGNAL_EXIT: Final = 128
"""Shells and batch systems report death by signal n as exit code 128 + n."""
_WISHES: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Ending(NamedTuple):
    """How a run ended. `error_type` is None for success and skip."""

    result: str
    error_type: str | None = None
    exit_code: int | None = None
    message: str = ""


SUCCESS: Final = Ending(names.WAFER_JOB_RESULT_SUCCESS)


def ending_of(  # noqa: PLR0911 - one line for each kind of ending
    error: BaseException | None, received: signal.Signals | None = None
) -> Ending:
    """The ending that `error` stands for; None is success."""
    if error is None:
        return SUCCESS
    if isinstance(error, SystemExit):
        return _of_exit(error, received)
    name = type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        return Ending(names.WAFER_JOB_RESULT_CANCELLATION, f"signal.{(received or signal.SIGINT).name}")
    if isinstance(error, GeneratorExit) or _is_cancelled_task(error):
        return Ending(names.WAFER_JOB_RESULT_CANCELLATION, name)
    if isinstance(error, MemoryError | BrokenExecutor):
        return Ending(names.WAFER_JOB_RESULT_ERROR, name, message=_text(error))
    if isinstance(error, TimeoutError | subprocess.TimeoutExpired):
        return Ending(names.WAFER_JOB_RESULT_TIMEOUT, name, message=_text(error))
    return Ending(names.WAFER_JOB_RESULT_FAILURE, name, message=_text(error))


def _is_cancelled_task(error: BaseException) -> bool:
    asyncio = sys.modules.get("asyncio")  # a program without it has no tasks, and need not load it for us
    return asyncio is not None and isinstance(error, asyncio.CancelledError)


def _of_exit(error: SystemExit, received: signal.Signals | None) -> Ending:
    code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    if received is not None:
        return Ending(names.WAFER_JOB_RESULT_CANCELLATION, f"signal.{received.name}", code)
    if code == 0:
        return Ending(names.WAFER_JOB_RESULT_SUCCESS, exit_code=0)
    for wish in _WISHES:
        if code == SIGNAL_EXIT + wish:
            return Ending(names.WAFER_JOB_RESULT_CANCELLATION, f"signal.{wish.name}", code)
    message = _cut(error.code) if isinstance(error.code, str) else ""
    return Ending(names.WAFER_JOB_RESULT_FAILURE, "SystemExit", code, message)


def described(error: BaseException, *, stacktrace: bool) -> dict[str, Any]:
    """The exception as OpenTelemetry names its parts."""
    kind = type(error)
    full = kind.__qualname__ if kind.__module__ in {"builtins", "__main__"} else f"{kind.__module__}.{kind.__qualname__}"
    found = {names.EXCEPTION_TYPE: full, names.EXCEPTION_MESSAGE: _text(error)}
    if stacktrace:
        found[names.EXCEPTION_STACKTRACE] = text("".join(traceback.format_exception(error)))
    return found


def _text(error: BaseException) -> str:
    """The message. A child process's command line may hold secrets, so it is left out."""
    if isinstance(error, subprocess.CalledProcessError):
        return f"a child process ended with {error.returncode}"
    if isinstance(error, subprocess.TimeoutExpired):
        return f"a child process did not end within {error.timeout} s"
    try:
        return _cut(str(error))
    except Exception:  # noqa: BLE001 - the job's own __str__ may fail
        return ""


def _cut(message: str) -> str:
    return text(message[:MESSAGE_LETTERS])
