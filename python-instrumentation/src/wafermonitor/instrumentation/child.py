"""One command run as it would have run alone: same files, same signals, same exit code, and what it used.

In: argument list, environment, files to watch. Out: `Outcome` with exit code, signal, CPU seconds, peak memory.
Called by: `wrap`. Knows nothing of telemetry.

The command stays in our process group, keeps every inherited file and every ignored signal. Signals are taken one by one with
`sigtimedwait`, so none is lost between the start of the command and a handler. Linux.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

FORWARDED: Final = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_ENDING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
NOT_FOUND: Final = 127
NOT_EXECUTABLE: Final = 126
_SIGNALLED: Final = 128
_LOOK_EVERY_S: Final = 1.0


class Outcome(NamedTuple):
    """How the command ended. `code` is what a shell would report; `stopped_by` is the signal that asked it to stop."""

    code: int
    signal: int | None
    cpu_s: float
    memory_bytes: int
    stopped_by: int | None
    timed_out: bool


class NotStartedError(OSError):
    """The command cannot be run; `code` is 127 (there is none) or 126 (not executable)."""

    def __init__(self, command: str, error: OSError) -> None:
        missing = error.errno in {errno.ENOENT, errno.ENOTDIR}
        self.code = NOT_FOUND if missing else NOT_EXECUTABLE
        self.cause = type(error).__name__
        super().__init__(error.errno, f"{command}: {error.strerror}")


class Child:
    """A command between its start and its end. Make it in the main thread, before any other thread starts.

    OSError where the system has no `sigtimedwait`.
    """

    def __init__(self) -> None:
        if not hasattr(signal, "sigtimedwait"):
            raise OSError(errno.ENOSYS, "wafer run watches commands on Linux only")
        # A signal that the caller ignores (nohup, a background job's SIGINT) stays ignored, by us and by the command.
        taken = [number for number in FORWARDED if signal.getsignal(number) is not signal.SIG_IGN]
        self._taken = {*taken, signal.SIGCHLD}
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else the kernel reaps the command and its exit code is gone
        self._mask = signal.pthread_sigmask(signal.SIG_BLOCK, self._taken)
        self.pid = 0

    def start(self, command: Sequence[str], environ: Mapping[str, str], files: Iterable[tuple[int, int]] = ()) -> None:
        """Run it. `files` are (ours, its) descriptor pairs. NotStartedError when it cannot be run."""
        actions = [(os.POSIX_SPAWN_DUP2, ours, its) for ours, its in files]
        try:
            self.pid = self._spawn(command, environ, actions)
        except OSError as error:
            if error.errno != errno.ENOEXEC:
                raise NotStartedError(command[0], error) from None
            # A script without a first line that names its interpreter: every shell runs it with sh.
            path = shutil.which(command[0]) or command[0]
            self.pid = self._spawn(["/bin/sh", path, *command[1:]], environ, actions)

    def _spawn(self, command: Sequence[str], environ: Mapping[str, str], actions: Sequence[tuple[int, int, int]]) -> int:
        # Python itself ignores these two; the command must not.
        default = [signal.SIGPIPE, signal.SIGXFSZ]
        return os.posix_spawnp(
            command[0], list(command), environ, file_actions=actions, setsigmask=self._mask, setsigdef=default
        )

    def wait(self, *, timeout_s: float | None = None, grace_s: float = 10.0) -> Outcome:
        """Until the command is gone, passing signals on. After `timeout_s` it gets TERM, `grace_s` later KILL."""
        due = None if timeout_s is None else time.monotonic() + timeout_s
        stopped_by: int | None = None
        timed_out = False
        while True:
            left = _LOOK_EVERY_S if due is None else min(_LOOK_EVERY_S, max(0.0, due - time.monotonic()))
            info = signal.sigtimedwait(self._taken, left)
            if info is not None and info.si_signo != signal.SIGCHLD:
                stopped_by = info.si_signo if info.si_signo in _ENDING else stopped_by
                self._forward(info)
                continue
            gone, status, usage = os.wait4(self.pid, os.WNOHANG)
            if gone:
                break
            if due is not None and time.monotonic() >= due:
                self._kill_tree(signal.SIGKILL if timed_out else signal.SIGTERM)
                timed_out, due = True, time.monotonic() + grace_s
        code = os.waitstatus_to_exitcode(status)
        return Outcome(
            code=_SIGNALLED - code if code < 0 else code,
            signal=-code if code < 0 else None,
            cpu_s=usage.ru_utime + usage.ru_stime,
            memory_bytes=usage.ru_maxrss * 1024,
            stopped_by=stopped_by,
            timed_out=timed_out,
        )

    def _forward(self, info: signal.struct_siginfo) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            # A terminal's Ctrl-C (sent by the kernel) reaches the whole group: a second one would be a change.
            if info.si_code > 0 and os.getpgid(self.pid) == os.getpgrp():
                return
            os.kill(self.pid, info.si_signo)

    def _kill_tree(self, number: signal.Signals) -> None:
        for pid in [*descendants(self.pid), self.pid]:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


class Usage(NamedTuple):
    """What a living process and all below it use at this moment."""

    cpu_s: float
    memory_bytes: int


def usage_of(pid: int) -> Usage:
    """CPU so far and resident memory of the tree under `pid`; zeros where there is no /proc."""
    ticks, pages = 0, 0
    for member in [pid, *descendants(pid)]:
        fields = _stat(member)
        if fields:
            ticks += sum(int(field) for field in fields[11:15])
            pages += int(fields[21])
    return Usage(ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE"))


def descendants(pid: int) -> list[int]:
    """Every process below `pid`."""
    found = []
    for children in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError, ValueError):
            for child in (int(word) for word in children.read_text("ascii").split()):
                found += [child, *descendants(child)]
    return found


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
    return []
