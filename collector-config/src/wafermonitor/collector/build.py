"""Build a Collector with the OpenTelemetry Collector Builder, through the Go toolchain; once per manifest.

In: `builder-*.yaml`. Out: `$XDG_CACHE_HOME/wafermonitor/collector/<hash of the manifest>/otelcol-wafer`.
Called by: `wafer collector install`, `wafer collector run`, tests.

Two builds of one manifest do not collide: the second waits for the first and finds its result. A build that is broken off
leaves nothing that looks finished, because the binary is moved into its place whole.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import platform
import queue
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final

from wafermonitor.collector.errors import BinaryRejected, BuildRejected
from wafermonitor.instrumentation.folders import cache_home
from wafermonitor.instrumentation.tether import tethered

BUILDER: Final = "go.opentelemetry.io/collector/cmd/builder"
OLDEST_GO: Final = "1.26"
PROGRAM: Final = "otelcol-wafer"

Progress = Callable[[float, str], None]
"""Called about once a second with the seconds so far and the tool's latest line."""

_DIST_VERSION = re.compile(r"^  version: (\d+\.\d+\.\d+)$", re.MULTILINE)
_TAIL_LINES: Final = 15
_FOLDER: Final = "build-"


def go() -> str | None:
    """The path of Go, or None."""
    return shutil.which("go")


def target(manifest: Path) -> Path:
    """Where the Collector of `manifest` is kept; another manifest or machine has another place."""
    digest = hashlib.sha256(manifest.read_bytes() + platform.machine().encode()).hexdigest()[:16]
    return cache_home() / "collector" / digest / PROGRAM


def install(manifest: Path, progress: Progress, *, again: bool = False) -> Path:
    """Build `manifest` unless it is built, or `again`. BinaryRejected: no Go. BuildRejected: the builder failed."""
    path = target(manifest)
    if path.is_file() and not again:
        return path
    if go() is None:
        raise BinaryRejected(
            f"Go is not on PATH: install Go {OLDEST_GO} or newer, or install otelcol-contrib and name it by WAFER_COLLECTOR_BIN"
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(path.parent.with_suffix(".lock"), progress):
            if path.is_file() and not again:
                return path
            for left in path.parent.glob(f"{_FOLDER}*"):  # of a build that was killed: nobody else builds here now
                shutil.rmtree(left, ignore_errors=True)
            with tempfile.TemporaryDirectory(prefix=_FOLDER, dir=path.parent) as folder:
                built = _build(manifest, Path(folder), progress)
                built.replace(path)
    except OSError as error:
        raise BuildRejected(f"{path.parent}: {error.strerror}; set XDG_CACHE_HOME to a folder with 100 MB of room") from None
    return path


def _build(manifest: Path, folder: Path, progress: Progress) -> Path:
    version = _DIST_VERSION.search(manifest.read_text(encoding="utf-8"))
    if version is None:
        raise BuildRejected(f"{manifest.name} names no dist version")
    command = [go() or "go", "run", f"{BUILDER}@v{version[1]}", "--config", str(manifest)]
    # Without cgo the binary runs on hosts with another C library, and equal inputs give equal bytes.
    environ = os.environ | {"CGO_ENABLED": "0"}
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    with _process(command, folder, environ) as process:
        assert process.stdout is not None
        _watch(process.stdout, tail, progress)
        code = process.wait()
    built = folder / "_build" / PROGRAM
    if code != 0 or not built.is_file():
        raise BuildRejected("\n".join([f"the builder ended with code {code}; its last lines:", *tail]))
    return built


def _watch(stream: IO[str], tail: deque[str], progress: Progress) -> None:
    """Read `stream` to its end; keep the last lines, and report once a second even while the tool is silent."""
    lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def read() -> None:
        for line in stream:
            lines.put(line.rstrip())
        lines.put(None)

    threading.Thread(target=read, daemon=True, name="collector build output").start()
    began = time.monotonic()
    reported = 0.0
    while True:
        with contextlib.suppress(queue.Empty):
            line = lines.get(timeout=1.0)
            if line is None:
                return
            tail.append(line)
        elapsed = time.monotonic() - began
        if elapsed - reported >= 1.0:
            reported = elapsed
            progress(elapsed, tail[-1] if tail else "")


@contextlib.contextmanager
def _process(command: list[str], folder: Path, environ: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process group of its own, so that Ctrl-C ends compilers as well as the builder."""
    process = subprocess.Popen(
        tethered(command), cwd=folder, env=environ, start_new_session=True, text=True, errors="replace",
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        yield process
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    finally:
        if process.stdout is not None:
            process.stdout.close()


@contextlib.contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(0.0, "another process builds the same Collector; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
