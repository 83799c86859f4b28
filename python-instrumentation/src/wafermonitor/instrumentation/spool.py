"""The file spool: what no endpoint took is kept as OTLP JSON lines until `wafer replay` sends it.

In: OTLP/JSON requests (`otlp_json`). Out: `<spool>/{logs,traces,metrics}/<host>-<pid>-<startns>.jsonl`, one writer per
file, one request per line. Called by: the exporters when nothing answers, mode `file`, `wafer run`; read by `replay`.

A writer holds a shared lock on its file, so that a reader knows whether more may come. Nothing here raises into a job:
what cannot be written is counted, and one warning names the reason and the fix.
Source: OTLP file exporter specification; lines stay below 512 kB because the Collector's reader splits them at 1 MiB.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, Literal

Signal = Literal["traces", "logs", "metrics"]
Request = dict[str, Any]

SIGNALS: Final[tuple[Signal, ...]] = ("logs", "traces", "metrics")
"""In the order in which they are sent again: lifecycle events first."""
REJECTED: Final = "rejected"
"""Folder below the spool for what will never be taken."""
LINE_LIMIT_BYTES: Final = 512_000
MAX_BYTES: Final = 1 << 30
_MEASURE_EVERY_BYTES: Final = 16 << 20
_LEVELS: Final = ("resourceSpans", "resourceLogs", "resourceMetrics", "scopeSpans", "scopeLogs", "scopeMetrics")
_LEAVES: Final = ("spans", "logRecords", "metrics")
_KINDS: Final = ("gauge", "sum", "histogram", "exponentialHistogram", "summary")

_FIX: Final = "send it with `wafer replay`, free the disk, or set WAFER_SPOOL_DIR to a writable folder"

_logger = logging.getLogger(__name__)
_spools: weakref.WeakSet[Spool] = weakref.WeakSet()


class Spool:
    """A spool folder, and this process's files in it. Safe with threads and fork: a new process writes new files.

    `max_bytes` bounds the whole folder, all writers together; beyond it new lines are dropped and one warning says so.
    """

    def __init__(self, directory: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self.directory = directory
        self.max_bytes = max_bytes
        self.dropped = 0
        self._open: dict[Signal, int] = {}
        self._forget()
        _spools.add(self)

    def _forget(self) -> None:
        """Start anew: in a forked child the parent's files, lock and counters are not ours."""
        for descriptor in self._open.values():
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._lock = threading.Lock()
        self._open = {}
        self._broken: set[Signal] = set()
        self._stem = ""
        self._written = 0
        self._others = 0
        self._measure_at = 0
        self._warned = False

    def append(self, signal: Signal, request: Request) -> None:
        """Write one export request as one line, or as several when it is too long for one."""
        try:
            for line in lines(request):
                self._write(signal, line)
        except (OSError, ValueError, TypeError) as error:
            # Outside the lock: a logging handler may lead back here.
            self.dropped += 1
            if not self._warned:
                self._warned = True
                reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                _logger.warning("telemetry is being lost: spool %s: %s; %s", self.directory, reason, _FIX)

    def close(self) -> None:
        """Let go of the files; a later append opens new ones."""
        with self._lock:
            for descriptor in self._open.values():
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            self._open.clear()
            self._stem = ""

    def _write(self, signal: Signal, line: bytes) -> None:
        with self._lock:
            if not self._room(len(line)):
                raise OSError(errno.EDQUOT, f"it holds its limit of {self.max_bytes} bytes")
            descriptor = self._open.get(signal)
            if descriptor is None:
                descriptor = self._open[signal] = self._create(signal)
            # A short write (disk full) leaves half a line behind; the next one starts on a line of its own.
            data = b"\n" + line if signal in self._broken else line
            written = os.write(descriptor, data)
            self._written += written
            self._broken.discard(signal)
            if written < len(data):
                self._broken.add(signal)
                raise OSError(errno.ENOSPC, "no space left on the disk")

    def _create(self, signal: Signal) -> int:
        folder = self.directory / signal
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not self._stem:
            self._stem = f"{host_name()}-{os.getpid()}-{time.time_ns()}"
        path = folder / f"{self._stem}.jsonl"
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with contextlib.suppress(OSError):  # some network file systems have no locks: a reader then goes by pid and age
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return descriptor

    def _room(self, more: int) -> bool:
        if self._written >= self._measure_at:
            self._others = size_bytes(self.directory) - self._written
            self._measure_at = self._written + _MEASURE_EVERY_BYTES
        return self._others + self._written + more <= self.max_bytes


def _after_fork() -> None:
    for spool in list(_spools):
        spool._forget()  # noqa: SLF001 - this module's own class


os.register_at_fork(after_in_child=_after_fork)


def host_name() -> str:
    """This host's name, fit for a file name."""
    return "".join(letter if letter.isalnum() or letter in "._" else "_" for letter in os.uname().nodename) or "host"


def size_bytes(directory: Path) -> int:
    """What the spool's files hold together."""
    total = 0
    for signal in SIGNALS:
        try:
            with os.scandir(directory / signal) as entries:
                for entry in entries:
                    with contextlib.suppress(OSError):
                        total += entry.stat().st_size
        except OSError:
            continue
    return total


def lines(request: Request) -> Iterator[bytes]:
    """The request as lines below the limit: split by records, and a single giant record has its texts shortened."""
    line = json.dumps(request, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    if len(line) < LINE_LIMIT_BYTES:
        yield line
        return
    halves = _halve(request)
    if halves:
        for half in halves:
            yield from lines(half)
        return
    for limit in (65_536, 8_192, 1_024, 64):
        line = json.dumps(_shorten(request, limit), separators=(",", ":"), allow_nan=False).encode() + b"\n"
        if len(line) < LINE_LIMIT_BYTES:
            yield line
            return
    raise ValueError("one record is longer than 512 kB even with its texts shortened")


def _halve(node: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """Two requests that together are `node`, cut at the outermost list that has two elements; None for one record."""
    for key in (*_LEVELS, *_LEAVES, "dataPoints"):
        items = node.get(key)
        if not items:
            continue
        if len(items) > 1:
            middle = len(items) // 2
            return {**node, key: items[:middle]}, {**node, key: items[middle:]}
        inner = _halve(items[0]) if key not in {"spans", "logRecords", "dataPoints"} else None
        return None if inner is None else ({**node, key: [inner[0]]}, {**node, key: [inner[1]]})
    for kind in _KINDS:
        if isinstance(node.get(kind), dict):
            inner = _halve(node[kind])
            return None if inner is None else ({**node, kind: inner[0]}, {**node, kind: inner[1]})
    return None


def _shorten(value: Any, limit: int) -> Any:
    if isinstance(value, str):
        return value[:limit]
    if isinstance(value, dict):
        return {key: _shorten(item, limit) for key, item in value.items()}
    if isinstance(value, list):
        return [_shorten(item, limit) for item in value]
    return value
