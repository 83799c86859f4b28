"""How a process may end, and that nothing it started is lost then.

In: a process with runs. Out: its runs ended, its queue sent or spilled. Called by: `jobs`, when a process's first run begins.

| the process ends by | what happens here |
|---|---|
| return, exception, sys.exit | the `with` block ends the run; at exit the queue is sent |
| SIGTERM, SIGHUP, no handler of the program | open runs end as cancelled, innermost first; then the signal does its work |
| SIGTERM with a handler of the program | it is called as ever; a run it unwinds counts as cancelled |
| SIGHUP with a handler of the program | the same; when the handler returns the program goes on, and nothing is cancelled |
| SIGINT | Python's KeyboardInterrupt unwinds the block |
| end of a multiprocessing child, which skips atexit | a finalizer of multiprocessing sends the queue |
| os._exit, SIGKILL | what was flushed at the start and end of the outermost run has arrived |
"""

from __future__ import annotations

import atexit
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from wafermonitor.instrumentation.guard import guarded

_SIGNALS: Final = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
_LIMIT_S: Final = 2.0
"""A signal's work may take so long; it runs in a thread of its own, because the interrupted code may hold any lock."""

_pid: int | None = None
_signals_pid: int | None = None
_end_runs: Callable[[str], object] | None = None
_close: Callable[[], object] | None = None
_previous: dict[int, Any] = {}
received: signal.Signals | None = None
"""The signal that is ending this process, if one is."""


@guarded
def watch(end_runs: Callable[[str], object], close: Callable[[], object]) -> None:
    """Once for each process. `end_runs(error_type)` ends what is open, `close()` empties the queue."""
    global _pid, _signals_pid, _end_runs, _close  # noqa: PLW0603 - one for each process
    pid = os.getpid()
    if _pid != pid:
        _pid = pid
        _end_runs, _close = end_runs, close
        atexit.register(_at_exit)
        multiprocessing = sys.modules.get("multiprocessing")
        if multiprocessing is not None and multiprocessing.parent_process() is not None:
            multiprocessing.util.Finalize(None, _at_exit, exitpriority=0)
    if _signals_pid != pid and threading.current_thread() is threading.main_thread():
        _signals_pid = pid
        for number in _SIGNALS:
            _take(number)


def _take(number: signal.Signals) -> None:
    """Stand in front of the default action, and of a handler the program has set; ignored signals stay ignored."""
    present = signal.getsignal(number)
    if present is _on_signal or present is None or present is signal.SIG_IGN or present is signal.default_int_handler:
        return
    _previous[number] = present
    signal.signal(number, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    global received  # noqa: PLW0603 - one for each process
    received = signal.Signals(number)
    before = _previous.get(number)
    if callable(before):
        before(number, frame)
        if number == signal.SIGHUP:
            received = None  # it came back: the program has read its settings anew and goes on
        return
    if _pid == os.getpid():
        worker = threading.Thread(target=_finish, args=(f"signal.{received.name}",), daemon=True)
        worker.start()
        worker.join(_LIMIT_S)
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


@guarded
def _finish(error_type: str) -> None:
    if _end_runs is not None and _close is not None:
        _end_runs(error_type)
        _close()


@guarded
def _at_exit() -> None:
    """Runs still open belong to threads that are cut off now."""
    if _pid == os.getpid():
        _finish("process_exit")
