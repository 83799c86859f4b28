"""Child processes of a measurement: started, asked for their CPU and memory, ended or killed.

In: a command. Out: a `Child`; CPU seconds and MiB of it and all below it. Called by: `system`, `peers`, `load`, `ceilings`.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self

import psutil

from wafermonitor.deploy.service import WAFER
from wafermonitor.instrumentation.tether import tethered

START_S = 120.0
STOP_S = 60.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Child:
    """A process that ends with us. What it says on stderr is kept in a file, for the error message."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, folder: Path | None = None
    ) -> None:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("WAFER_", "OTEL_"))}
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - closed by stop
        self._process = subprocess.Popen(
            tethered(command),
            env=kept | dict(environment or {}),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            start_new_session=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Has it not ended?"""
        return self._process.poll() is None

    def line(self, within_s: float = START_S) -> str:
        """The next line that it prints; SystemExit with its last words when it ends or takes too long."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], within_s)
        text = self._process.stdout.readline() if ready else ""
        if not text:
            raise SystemExit(f"{self._process.args!r} said nothing: {self.last_words()}")
        return text

    def tell(self, text: str) -> None:
        """A line on its stdin."""
        assert self._process.stdin is not None
        self._process.stdin.write(text + "\n")
        self._process.stdin.flush()

    def wait(self, within_s: float) -> None:
        """Until it ends by itself; SystemExit when it fails or does not."""
        try:
            code = self._process.wait(within_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise SystemExit(f"{self._process.args!r} did not end within {within_s:g} s") from None
        if code:
            raise SystemExit(f"{self._process.args!r} ended with {code}: {self.last_words()}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that takes too long."""
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
        self._said.close()

    def kill(self) -> None:
        """SIGKILL for it and all below it, at once."""
        below = family(self.pid)
        for process in below:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(below[1:], timeout=10)
        self._process.wait(10)

    def last_words(self) -> str:
        """The end of what it said on stderr."""
        self._said.seek(0)
        return self._said.read().decode("utf-8", "replace")[-2_000:]


def wafer(*arguments: str) -> list[str]:
    """The command line of `wafer …`."""
    return [*WAFER, *arguments]


def family(pid: int) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        first = psutil.Process(pid)
        return [first, *first.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def cpu_s(pids: Iterable[int]) -> float:
    """CPU seconds that processes, those below them and those of them that have ended have used."""
    total = 0.0
    for pid in pids:
        for process in family(pid):
            with contextlib.suppress(OSError, psutil.NoSuchProcess):
                fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
                total += sum(map(int, fields[11:15])) * _TICK_S
    return total


def resident_mib(pids: Iterable[int]) -> float:
    """Memory of processes and those below them; what they share counts once for each."""
    total = 0.0
    for pid in pids:
        for process in family(pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss / 2**20
    return total


def peak_mib(pid: int) -> float:
    """The most memory that a process had so far, and those below it."""
    total = 0.0
    for process in family(pid):
        for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                total += int(line.split()[1]) / 1024
    return total


def wait_for(url: str, within_s: float = START_S) -> None:
    """Until `url` answers 2xx."""
    until_s = time.monotonic() + within_s
    while time.monotonic() < until_s:
        with contextlib.suppress(OSError, HTTPException), urllib.request.urlopen(url, timeout=2):
            return
        time.sleep(0.05)
    raise SystemExit(f"{url} did not answer within {within_s:g} s")


def facts(child: Child, key: str) -> dict[str, Any]:
    """The JSON object that a child prints once it is ready; other lines are passed over."""
    while True:
        line = child.line()
        if line.startswith("{") and key in (found := json.loads(line)):
            return dict(found)
