"""`wafer replay`: what the spool holds goes to the endpoint, at least once, in order, and not twice without need.

In: a spool folder, a `Target`. Out: POSTed requests; files removed when all of them is sent and their writer is gone;
what the endpoint refuses for good is kept under `rejected/`. Called by: `command`, `wrap` (in the background); the feed's beat
asks what is not sent yet.

How far each file is sent stands in `.replay.json`, written after each request. A lock lets one replay at a time work on a
spool. A line broken by a crash is set aside, and sending goes on at the last `{"resource…` in it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from wafermonitor.instrumentation.endpoint import Answer, Target
from wafermonitor.instrumentation.errors import InstrumentationUnavailable, SpoolInUse, SpoolRejected
from wafermonitor.instrumentation.spool import LINE_LIMIT_BYTES, REJECTED, SIGNALS, Signal, host_name

_OFFSETS: Final = ".replay.json"
_LOCK: Final = ".replay.lock"
_BATCH_BYTES: Final = 1 << 20
_LINE_BYTES: Final = 64 << 20
_IDLE_S: Final = 60.0
_BACKOFF_S: Final = (0.25, 5.0)
"""The longer of them is how late everything is after an outage, as in the Collector's own queue."""
_RETRY_AFTER_LIMIT_S: Final = 300.0
_HEAD: Final = re.compile(rb'\{"resource(?:Spans|Logs|Metrics)"')
_KEYS: Final[dict[Signal, str]] = {"traces": "resourceSpans", "logs": "resourceLogs", "metrics": "resourceMetrics"}
_STEM: Final = re.compile(r"(.*)-(\d+)-(\d+)\Z")


@dataclass
class Summary:
    """What was done. `waiting_bytes` are still in the spool; `partial` are requests that the receiver took only in part."""

    requests: int = 0
    lines: int = 0
    sent_bytes: int = 0
    files_done: int = 0
    rejected: int = 0
    broken: int = 0
    partial: int = 0
    waiting_bytes: int = 0
    reason: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        return asdict(self)


class Replay:
    """Sends one spool. Use as a context manager: it holds the spool's lock. SpoolInUse when another replay has it.

    `patience_s` is how long an endpoint may stay away before a pass gives up; None: for ever.
    """

    def __init__(
        self,
        directory: Path,
        endpoint: Target,
        *,
        stop: threading.Event | None = None,
        patience_s: float | None = 0.0,
    ) -> None:
        self.directory = directory
        self.on_advance: Callable[[int], None] | None = None
        """Told how many bytes more are done, for a progress bar."""
        self.summary = Summary()
        self._endpoint = endpoint
        self._stop = stop or threading.Event()
        self._patience_s = patience_s
        self._offsets: dict[str, int] = {}
        self._lock = -1
        self._is_written = True

    def __enter__(self) -> Self:
        if not self.directory.is_dir():
            raise SpoolRejected(f"{self.directory} is no spool: no such folder")
        try:
            self._lock = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise SpoolRejected(f"{self.directory}: {error.strerror}; replay as the user who owns the spool") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise SpoolInUse(f"another wafer replay is at work on {self.directory}; one is enough") from None
        self._offsets = _read_offsets(self.directory)
        return self

    def __exit__(self, *_: object) -> None:
        self._endpoint.close()
        os.close(self._lock)

    def run(self) -> Summary:
        """One pass over all files. InstrumentationUnavailable when the endpoint stays away longer than the patience."""
        for path, signal in files(self.directory):
            if self._stop.is_set():
                break
            with contextlib.suppress(FileNotFoundError):
                self._file(path, signal)
        if not self._is_written:
            self._write_offsets()
        self.summary.waiting_bytes = self.waiting_bytes()
        return self.summary

    def waiting_bytes(self) -> int:
        """What is in the spool and not sent yet."""
        total = 0
        for path, _ in files(self.directory):
            with contextlib.suppress(FileNotFoundError):
                total += max(0, path.stat().st_size - self._offsets.get(_key(path), 0))
        return total

    def _file(self, path: Path, signal: Signal) -> None:
        key = _key(path)
        with path.open("rb") as file:
            finished = is_finished(path, file.fileno())
            size = os.fstat(file.fileno()).st_size
            start = self._offsets.get(key, 0)
            file.seek(start if start <= size else 0)  # a file that shrank is another file
            for lines, end in _batches(file, finished=finished):
                if not self._send(path, signal, lines):
                    return
                self._advance(key, end)
            if finished and file.tell() >= os.fstat(file.fileno()).st_size:
                path.unlink()
                self._offsets.pop(key, None)
                self._write_offsets()
                self.summary.files_done += 1

    def _send(self, path: Path, signal: Signal, lines: list[bytes]) -> bool:
        """Send some lines as one request. False when the stop came first."""
        requests = []
        for line in lines:
            request = _parsed(line, _KEYS[signal])
            if request is None:
                self._set_aside(path, signal, line, "not OTLP JSON: a half-written line")
                self.summary.broken += 1
                request = _resynchronised(line, _KEYS[signal])
            if request is not None:
                requests.append(request)
        if not requests:
            return True
        return self._deliver(path, signal, requests)

    def _deliver(self, path: Path, signal: Signal, requests: list[dict[str, Any]]) -> bool:
        key = _KEYS[signal]
        joined = {key: [item for request in requests for item in request[key]]}
        body = json.dumps(joined, separators=(",", ":")).encode()
        answer = self._post(signal, body)
        if answer is None:
            return False
        if answer.outcome == "accepted":
            self.summary.requests += 1
            self.summary.lines += len(requests)
            self.summary.sent_bytes += len(body)
            self.summary.partial += bool(answer.reason)
            self.summary.reason = answer.reason or self.summary.reason
            return True
        if len(requests) > 1:  # one of them is the guilty one: each by itself
            return all(self._deliver(path, signal, [request]) for request in requests)
        self._set_aside(path, signal, body, answer.reason)
        self.summary.rejected += 1
        self.summary.reason = answer.reason
        return True

    def _post(self, signal: Signal, body: bytes) -> Answer | None:
        """Until it is accepted or rejected; None when the stop came first."""
        began, delay = time.monotonic(), _BACKOFF_S[0]
        while not self._stop.is_set():
            answer = self._endpoint.post(signal, body)
            if answer.outcome in {"accepted", "rejected"}:
                return answer
            waited = time.monotonic() - began
            if self._patience_s is not None and (answer.outcome == "refused" or waited + delay > self._patience_s):
                self.summary.waiting_bytes = self.waiting_bytes()
                raise InstrumentationUnavailable(
                    f"{answer.reason}; {self.summary.waiting_bytes} bytes stay in {self.directory}"
                )
            self._stop.wait(max(delay, min(answer.retry_after_s, _RETRY_AFTER_LIMIT_S)))
            delay = min(delay * 2, _BACKOFF_S[1])
        return None

    def _set_aside(self, path: Path, signal: Signal, line: bytes, reason: str) -> None:
        """Keep what will never be taken, and why, under `rejected/<signal>`."""
        folder = self.directory / REJECTED / signal
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _append(folder / path.name, line.rstrip(b"\n") + b"\n")
        _append(folder / f"{path.stem}.reasons", f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {reason}\n".encode())

    def _advance(self, key: str, offset: int) -> None:
        if self.on_advance is not None:
            self.on_advance(offset - self._offsets.get(key, 0))
        self._offsets[key] = offset
        self._write_offsets()

    def _write_offsets(self) -> None:
        # A full disk must not end the sending that would free it: then some of it is sent twice, which the store forgives.
        self._is_written = False
        with contextlib.suppress(OSError):
            part = self.directory / f"{_OFFSETS}.part"
            descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(self._offsets, file)
            part.replace(self.directory / _OFFSETS)
            self._is_written = True


def drain(directory: Path, endpoint: Target, *, stop: threading.Event | None = None) -> Summary | None:
    """One quiet pass in the background of a job; None when another replay is at it, or the endpoint went away."""
    with (
        contextlib.suppress(SpoolRejected, InstrumentationUnavailable, OSError),
        Replay(directory, endpoint, stop=stop) as replay,
    ):
        return replay.run()
    return None


def watch(directory: Path, endpoint: Target, *, interval_s: float, stop: threading.Event) -> Iterator[Summary]:
    """Passes until `stop`, at most `interval_s` apart; yields the totals after each pass that did something.

    While another replay is at work, a job's in the background for one, this one waits for its turn.
    """
    with contextlib.ExitStack() as turn:
        replay = None
        while replay is None and not stop.is_set():
            try:
                replay = turn.enter_context(Replay(directory, endpoint, stop=stop, patience_s=None))
            except SpoolInUse:
                stop.wait(interval_s)
        while replay is not None and not stop.is_set():
            before = replay.summary.as_dict()
            after = replay.run()
            if after.as_dict() != before:
                yield after
            stop.wait(interval_s)


def files(directory: Path) -> list[tuple[Path, Signal]]:
    """The spool's files: lifecycle events first, then by the time they were begun."""
    found: list[tuple[Path, Signal]] = []
    for signal in SIGNALS:
        paths = (directory / signal).glob("*.jsonl")
        found += [(path, signal) for path in sorted(paths, key=lambda path: (_begun(path), path.name))]
    return found


def unsent(directory: Path) -> dict[str, int]:
    """The spool's files of log records, lifecycle events among them, that are not all sent; and where each ends, in bytes.

    Only whole lines count: the half one of a full disk may never be ended. OSError: the spool cannot be read.
    """
    offsets = _read_offsets(directory)
    ends: dict[str, int] = {}
    try:
        names = [entry.name for entry in os.scandir(directory / "logs") if entry.name.endswith(".jsonl")]
    except FileNotFoundError:
        return {}
    for name in names:
        path = directory / "logs" / name
        sent = offsets.get(_key(path), 0)
        with contextlib.suppress(FileNotFoundError):  # it has just been sent
            if path.stat().st_size > sent and (end := _last_line_end(path)) > sent:
                ends[_key(path)] = end
    return ends


def is_sent(directory: Path, ends: Mapping[str, int]) -> bool:
    """Whether what `unsent` told of has been sent since then. OSError: the spool cannot be read."""
    if not ends:
        return True
    offsets = _read_offsets(directory)
    return all(offsets.get(key, 0) >= end or not (directory / key).exists() for key, end in ends.items())


def is_finished(path: Path, descriptor: int) -> bool:
    """Whether nothing more can come: no writer holds the file, and the process it is named after is gone.

    A file of another host (a copied spool) or of another name is finished when nobody wrote for a minute.
    """
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass  # a file system without locks: the name and the age must do
    match = _STEM.match(path.stem)
    if match is not None and match[1] == host_name():
        return not _lives(int(match[2]), int(match[3]))
    return time.time() - os.fstat(descriptor).st_mtime > _IDLE_S


def _last_line_end(path: Path) -> int:
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, size - LINE_LIMIT_BYTES))
        return start + file.read(size - start).rfind(b"\n") + 1


def _key(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _read_offsets(directory: Path) -> dict[str, int]:
    with contextlib.suppress(OSError, ValueError):
        known = json.loads((directory / _OFFSETS).read_text("utf-8"))
        if isinstance(known, dict):
            return {key: value for key, value in known.items() if isinstance(value, int) and (directory / key).exists()}
    return {}


def _begun(path: Path) -> int:
    match = _STEM.match(path.stem)
    return int(match[3]) if match else 0


def _lives(pid: int, since_ns: int) -> bool:
    """Whether the process that began to write at `since_ns` is still there; a later one with its number is not it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    with contextlib.suppress(OSError, ValueError, IndexError):
        ticks = int(Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19])
        up_s = float(Path("/proc/uptime").read_text("ascii").split()[0])
        began_s = time.time() - up_s + ticks / os.sysconf("SC_CLK_TCK")
        return began_s <= since_ns / 1e9 + 2
    return True


def _batches(file: Any, *, finished: bool) -> Iterator[tuple[list[bytes], int]]:
    """Whole lines, about a megabyte at a time, and the offset behind them. A last line without its end counts when finished."""
    lines: list[bytes] = []
    size = 0
    told = end = file.tell()
    while line := file.readline(_LINE_BYTES):
        if not line.endswith(b"\n") and not finished and len(line) < _LINE_BYTES:
            break
        if lines and size + len(line) > _BATCH_BYTES:
            yield lines, end
            told, lines, size = end, [], 0
        end += len(line)
        if line.strip():
            lines.append(line)
            size += len(line)
    if end > told:
        yield lines, end
    file.seek(end)


def _parsed(line: bytes, key: str) -> dict[str, Any] | None:
    try:
        request = json.loads(line)
    except ValueError:
        return None
    return request if isinstance(request, dict) and isinstance(request.get(key), list) else None


def _resynchronised(line: bytes, key: str) -> dict[str, Any] | None:
    """The whole request that stands behind a half one on the same line."""
    for head in reversed([match.start() for match in _HEAD.finditer(line)]):
        request = _parsed(line[head:], key)
        if request is not None:
            return request
    return None


def _append(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)
