"""What a wrapped command writes: passed on byte for byte, while we look for progress and keep the end of it.

In: which of the command's files to watch; a regular expression; how many bytes to keep. Out: the same bytes on our own stdout
and stderr, `Progress` values, the tail. Called by: `wrap`.

Output is only put through pipes when a regular expression or a tail is asked for; otherwise the command keeps our files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import select
import stat
import threading
from collections.abc import Callable
from typing import Final

from wafermonitor.instrumentation.announce import Progress, counted, progress_of
from wafermonitor.instrumentation.guard import guarded

PROGRESS_VARIABLE: Final = "WAFER_PROGRESS_FD"

_CHUNK: Final = 65_536
_AT_LAST: Final = 32  # chunks: more than a pipe holds
_LINE_BYTES: Final = 4_096
_FIRST_PRIVATE: Final = 64
_STDOUT, _STDERR = 1, 2
_PERCENT: Final = 100.0


class Output:
    """The pipes between a command and us. `files` is what the command gets: pairs of (our descriptor, its descriptor)."""

    def __init__(
        self, on_progress: Callable[[Progress], None], *, pattern: re.Pattern[bytes] | None = None, tail_bytes: int = 0
    ) -> None:
        self.files: list[tuple[int, int]] = []
        self.progress_fd: int | None = None
        self._on_progress = on_progress
        self._pattern = pattern
        self._tail_bytes = tail_bytes
        self._tail = bytearray()
        self._sinks: dict[int, int] = {}
        self._lines: dict[int, bytearray] = {}
        self._ours: list[int] = []
        self._thread = threading.Thread(target=self._pump, name="wafer-output", daemon=True)
        if pattern is not None or tail_bytes:
            self._capture()
        self._progress_read = self._offer_progress()
        self._wake_read, self._wake_write = _private_pipe()

    def start(self) -> None:
        """Begin to read, before the command is there: were this to fail later, the command would wait for a reader."""
        self._thread.start()

    def release(self) -> None:
        """The command runs and holds the writing ends: ours would hide that it closed them."""
        for descriptor in self._ours:
            os.close(descriptor)

    def finish(self) -> None:
        """The command is gone: read what it left. Output of processes it left behind goes on without us."""
        os.write(self._wake_write, b"x")
        self._thread.join()
        if self._sinks and os.fork() == 0:
            # Some process still writes. Were nobody to read, it would die of SIGPIPE: this copy of us reads to the end.
            self._relay()

    @property
    def tail(self) -> str:
        """The last bytes of stdout and stderr as text."""
        return bytes(self._tail).decode("utf-8", "replace")

    def _capture(self) -> None:
        """Put pipes before stdout and stderr; one for both where both go to the same place, so that order is kept."""
        same = _same_file(_STDOUT, _STDERR)
        for number in (_STDOUT, _STDERR):
            if number == _STDERR and same and self.files:
                self.files.append((self.files[0][0], _STDERR))
            elif _is_open(number):
                read, write = _private_pipe()
                self._ours.append(write)
                self._sinks[read] = number
                self._lines[read] = bytearray()
                self.files.append((write, number))

    def _offer_progress(self) -> int:
        """A pipe for `WAFER_PROGRESS_FD`, at a number of one digit, because a POSIX shell can redirect to no other."""
        read, write = _private_pipe()
        self.progress_fd = next((number for number in range(9, 2, -1) if not _is_open(number)), None)
        # The command also holds the reading end and never waits: should we be killed, writing there neither ends nor stops it.
        os.set_inheritable(read, True)  # noqa: FBT003 - the system call's own shape
        os.set_blocking(write, False)
        if self.progress_fd is not None:
            self.files.append((write, self.progress_fd))
        self._lines[read] = bytearray()
        return read

    def _pump(self) -> None:
        poll = select.poll()
        for descriptor in (*self._sinks, self._progress_read, self._wake_read):
            poll.register(descriptor, select.POLLIN)
        last = False
        while not last:
            last = any(descriptor == self._wake_read for descriptor, _ in poll.poll())
            for descriptor in (*self._sinks, self._progress_read):
                if not self._take(descriptor, all_of_it=last):
                    poll.unregister(descriptor)
                    self._sinks.pop(descriptor, None)
                    os.close(descriptor)
        for rest in self._lines.values():
            if rest:
                self._line(bytes(rest), named=rest is not self._lines[self._progress_read])

    def _take(self, descriptor: int, *, all_of_it: bool) -> bool:
        """Read what is there now; False when nothing can come any more."""
        for _ in range(_AT_LAST if all_of_it else 1):
            try:
                data = os.read(descriptor, _CHUNK)
            except BlockingIOError:
                break
            if not data:
                return False
            if descriptor != self._progress_read and not self._pass_on(descriptor, data):
                return False
            self._look(descriptor, data)
        return True

    def _pass_on(self, descriptor: int, data: bytes) -> bool:
        """Write on; False when our reader is gone: the command then meets a closed pipe, as it would alone."""
        if self._tail_bytes:
            self._tail += data
            del self._tail[: -self._tail_bytes]
        return _write_all(self._sinks[descriptor], data)

    def _look(self, descriptor: int, data: bytes) -> None:
        named = descriptor != self._progress_read
        if named and self._pattern is None:
            return
        rest = self._lines[descriptor]
        *lines, last = re.split(rb"[\r\n]", bytes(rest) + data)
        for line in lines:
            self._line(line, named=named)
        rest[:] = last[-_LINE_BYTES:]

    @guarded  # were this thread to end, the command would wait for a reader for ever
    def _line(self, line: bytes, *, named: bool) -> None:
        line = line[:_LINE_BYTES]
        progress = matched(self._pattern, line) if named and self._pattern else progress_of(line.decode("utf-8", "replace"))
        if progress is not None:
            self._on_progress(progress)

    def _relay(self) -> None:
        """In a process of its own: copy until the last writer is gone, then vanish."""
        with contextlib.suppress(BaseException):
            for descriptor in self._sinks:
                os.set_blocking(descriptor, True)
            poll = select.poll()
            for descriptor in self._sinks:
                poll.register(descriptor, select.POLLIN)
            while self._sinks:
                for descriptor, _ in poll.poll():
                    data = os.read(descriptor, _CHUNK)
                    if not data or not _write_all(self._sinks[descriptor], data):
                        poll.unregister(descriptor)
                        del self._sinks[descriptor]
                        os.close(descriptor)
        os._exit(0)


def compile_pattern(text: str) -> re.Pattern[bytes]:
    """A progress pattern. ValueError when it is no pattern or says nothing about progress."""
    try:
        pattern = re.compile(text.encode("utf-8", "surrogateescape"))
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    known = {"done", "total", "ratio", "percent"} & set(pattern.groupindex)
    if not pattern.groups or (pattern.groupindex and not known):
        raise ValueError("needs groups: (?P<done>…) and (?P<total>…), (?P<ratio>…), (?P<percent>…), or one or two plain groups")
    return pattern


def matched(pattern: re.Pattern[bytes], line: bytes) -> Progress | None:
    """What the line says about progress. Plain groups: two are done and total, one is percent (a ratio when it is ≤ 1)."""
    match = pattern.search(line)
    if match is None:
        return None
    groups = match.groupdict() or dict(
        zip(("done", "total") if pattern.groups > 1 else ("plain",), match.groups(), strict=False)
    )
    message = (groups.get("message") or b"").decode("utf-8", "replace")
    try:
        numbers = {name: float(text) for name, text in groups.items() if text and name != "message"}
    except ValueError:
        return None
    if "done" in numbers and "total" in numbers:
        return counted(numbers["done"], numbers["total"], message)
    ratio = numbers.get("ratio", numbers.get("plain"))
    if ratio is None or (ratio > 1 and "plain" in numbers):
        ratio = numbers.get("percent", numbers.get("plain", -1.0)) / _PERCENT
    return Progress(ratio, message=message) if 0 <= ratio <= 1 else None


def occupy_closed_files() -> None:
    """Let no file of ours become stdin, stdout or stderr where the caller closed them; the command still finds them closed."""
    for number in (0, _STDOUT, _STDERR):
        if not _is_open(number):
            os.open(os.devnull, os.O_RDWR)


def _write_all(sink: int, data: bytes) -> bool:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(sink, view) :]
        except BlockingIOError:  # a terminal that some other program set to non-blocking
            poll = select.poll()
            poll.register(sink, select.POLLOUT)
            poll.poll()
        except OSError:
            return False
    return True


def _private_pipe() -> tuple[int, int]:
    """A pipe whose ends have high numbers, so that 3 to 9 stay the caller's; reading never waits."""
    ends = []
    for descriptor in os.pipe():
        ends.append(fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, _FIRST_PRIVATE))
        os.close(descriptor)
    os.set_blocking(ends[0], False)
    return ends[0], ends[1]


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    # Our own private files are closed for the command: only what it would inherit counts as open.
    return os.get_inheritable(descriptor)


def _same_file(one: int, two: int) -> bool:
    if not (_is_open(one) and _is_open(two)):
        return False
    first, second = os.fstat(one), os.fstat(two)
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)


def is_pipe(descriptor: int) -> bool:
    """Whether it is open and a pipe: `wafer progress` writes to nothing else."""
    try:
        return stat.S_ISFIFO(os.fstat(descriptor).st_mode)
    except OSError:
        return False
