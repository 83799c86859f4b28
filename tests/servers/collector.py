"""A real Collector for tests: `wafer collector run` on free loopback ports, with folders of its own.

    server = collector.start(backends=("file",))          # about 1 s; returns when it takes data
    server = collector.start(environ={"WAFER_MANAGED_ENDPOINT": f"127.0.0.1:{port}", "WAFER_SITE_ID": "fab1"})
    ...
    server.stop()                                           # in order; removes its folders

Skip the test when `collector.missing()` says why there is none; `collector.prepare()` builds one where Go can (about 4
minutes, once). `kill()` is kill -9 of the Collector alone, `kill_supervisor()` of the process that keeps it. `otlp_http` and
the like are `host:port`. All calls block.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from wafermonitor.collector import binary, build, catalog, fragments
from wafermonitor.collector.config import Config
from wafermonitor.collector.documents import read
from wafermonitor.collector.errors import BinaryRejected

DEADLINE_S = 60.0
COMMAND = (sys.executable, "-m", "wafermonitor.instrumentation.cli", "collector")


def missing() -> str | None:
    """Why no Collector can be run here; None when one can."""
    try:
        _found()
    except BinaryRejected as error:
        return None if build.go() is not None else str(error)
    return None


def prepare(backends: tuple[str, ...] = ()) -> binary.Binary:
    """The Collector that tests run, with the parts of these backends as well; built first if there is none."""
    try:
        found = _found()
    except BinaryRejected:
        build.install(fragments.MANIFESTS["minimal"], lambda _elapsed_s, _line: None)
        found = _found()
    if found.source == "cache" and any(lacking(name, "minimal") for name in backends):
        built = build.install(fragments.MANIFESTS["full"], lambda _elapsed_s, _line: None)
        return found._replace(path=built)
    return found


def lacking(backend: str, manifest: str) -> list[str]:
    """The parts of `backends/<backend>.yaml` that a Collector built of `manifest` does not have."""
    path = Path(backend) if "/" in backend else fragments.HERE / "backends" / f"{backend}.yaml"
    return catalog.lacking(read(path, {}), fragments.MANIFESTS[manifest])


def _found() -> binary.Binary:
    config = Config.load(backends=("managed", "file"), receivers=("files", "host"))
    return binary.find(config, fragments.choose(config))


def free_ports(count: int) -> list[int]:
    """Loopback ports that nothing uses at this moment."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(condition: Callable[[], Any], what: str, timeout_s: float = DEADLINE_S, *, every_s: float = 0.02) -> Any:
    """The first true value of `condition`; AssertionError names `what` when there is none in time."""
    end = time.monotonic() + timeout_s
    pause = threading.Event()
    while time.monotonic() < end:
        value = condition()
        if value:
            return value
        pause.wait(every_s)
    raise AssertionError(f"{what}: not within {timeout_s:g} s")


def gone(pid: int) -> bool:
    """Whether the process has ended; one that only waits to be reaped has."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def start(
    backends: tuple[str, ...] = ("managed",),
    receivers: tuple[str, ...] = (),
    environ: Mapping[str, str] | None = None,
    words: tuple[str, ...] = (),
) -> Server:
    """A Collector that takes data. `environ` wins over the ports and folders chosen here; `words` are further flags."""
    server = Server(backends, receivers, environ or {}, words)
    try:
        server.launch()
    except BaseException:
        server.stop()
        raise
    return server


class Server:
    """One supervised Collector."""

    def __init__(
        self, backends: tuple[str, ...], receivers: tuple[str, ...], environ: Mapping[str, str], words: tuple[str, ...] = ()
    ) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="wafer-collector-"))
        self.binary = prepare((*backends, *(str(fragments.HERE / "receivers" / f"{name}.yaml") for name in receivers)))
        self.events: list[dict[str, Any]] = []
        self.log = self.home / "stderr"
        grpc, http, health, metrics, loopback = free_ports(5)
        self.environ = {
            "WAFER_OTLP_GRPC": f"127.0.0.1:{grpc}",
            "WAFER_OTLP_HTTP": f"127.0.0.1:{http}",
            "WAFER_HEALTH_ENDPOINT": f"127.0.0.1:{health}",
            "WAFER_METRICS_PORT": str(metrics),
            "WAFER_FILE_LOOPBACK": f"127.0.0.1:{loopback}",
            "WAFER_COLLECTOR_QUEUE_DIR": str(self.home / "queue"),
            "WAFER_FILE_DIR": str(self.home / "out"),
            "WAFER_DROP_DIR": str(self.home / "drop"),
            "WAFER_SPOOL_DIR": str(self.home / "spool"),
            "WAFER_COLLECTOR_BIN": str(self.binary.path),
            "WAFER_SITE_ID": "fab1",
            "WAFER_FEED_ID": "test-host",
            **environ,
        }
        self._backends = backends
        self._receivers = receivers
        self._words = words
        self._changed = threading.Condition()
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None

    @property
    def otlp_grpc(self) -> str:
        """host:port."""
        return self.environ["WAFER_OTLP_GRPC"]

    @property
    def otlp_http(self) -> str:
        """host:port."""
        return self.environ["WAFER_OTLP_HTTP"]

    @property
    def health(self) -> str:
        """host:port."""
        return self.environ["WAFER_HEALTH_ENDPOINT"]

    @property
    def config(self) -> Config:
        """What the running process was told."""
        return Config.load(self.environ, backends=self._backends, receivers=self._receivers)

    @property
    def pid(self) -> int:
        """The Collector's own pid, as of its latest start."""
        return int([event for event in self.events if event["event"] == "ready"][-1]["collector_pid"])

    @property
    def supervisor(self) -> int:
        """The pid of the process that keeps it."""
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Start, for the first time or again on the same folders and ports; returns when it takes data."""
        flags = [word for name in self._backends for word in ("--backend", name)]
        flags += [word for name in self._receivers for word in ("--receiver", name)]
        before = self.count("ready")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*COMMAND, "run", "--json", *flags, *self._words],
                env=os.environ | self.environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        self._reader = threading.Thread(target=self._read, args=(self._process,), daemon=True)
        self._reader.start()
        self.wait("ready", before + 1)

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout as lines:
            for line in lines:
                with self._changed:
                    self.events.append(json.loads(line))
                    self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def count(self, event: str) -> int:
        """How often the supervisor said `event`."""
        return sum(one["event"] == event for one in self.events)

    def wait(self, event: str, count: int = 1, timeout_s: float = DEADLINE_S) -> dict[str, Any]:
        """The `count`-th time that the supervisor says `event`."""
        with self._changed:
            alive = self._changed.wait_for(lambda: self.count(event) >= count or self._ended(), timeout_s)
            if not alive or self.count(event) < count:
                raise AssertionError(f"no {event} number {count}; said: {self.events}; stderr: {self.log.read_text()[-2000:]}")
            return [one for one in self.events if one["event"] == event][count - 1]

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def reload(self) -> None:
        """SIGHUP to the supervisor."""
        os.kill(self.supervisor, signal.SIGHUP)

    def kill(self) -> None:
        """kill -9 of the Collector; the supervisor starts it again."""
        os.kill(self.pid, signal.SIGKILL)

    def kill_supervisor(self) -> None:
        """kill -9 of the process that keeps the Collector."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def end(self, timeout_s: float = DEADLINE_S) -> int:
        """SIGTERM; the exit code. The folders stay, for `launch()`."""
        assert self._process is not None
        self._process.terminate()
        code = self._process.wait(timeout_s)
        assert self._reader is not None
        self._reader.join(timeout_s)
        return code

    def stop(self) -> None:
        """Stop in order and remove every file."""
        if self._process is not None and self._process.poll() is None:
            self.end()
        shutil.rmtree(self.home, ignore_errors=True)

    def delivered(self, signal_key: str = "resourceLogs") -> list[dict[str, Any]]:
        """What the backend `file` has written of one signal: one `resource…` object each. A half-written last line is left."""
        found = []
        for path in sorted((self.home / "out").glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
                if line.endswith("\n"):
                    found += json.loads(line).get(signal_key, [])
        return found

    def records(self) -> list[dict[str, Any]]:
        """Every log record that the backend `file` has written."""
        return [record for one in self.delivered() for scope in one["scopeLogs"] for record in scope["logRecords"]]
