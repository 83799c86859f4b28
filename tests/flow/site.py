"""A whole site on the loopback for tests: store, receiver, API, screens, Collector, each a real child process.

`Site.start(folder)` runs `wafermonitor.deploy.stack.Stack` in a thread of its own; `Site.stop()` ends it in order.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar

import asyncpg
import psutil

from wafermonitor.deploy.addresses import Addresses, free_addresses
from wafermonitor.deploy.config import Config
from wafermonitor.deploy.stack import Stack, read_dsn
from wafermonitor.query.client import Client

REPOSITORY = Path(__file__).resolve().parents[2]
SITE = "f1"
T = TypeVar("T")


class Site:
    """The running services and how jobs reach them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.addresses: Addresses = free_addresses()
        self.lines: list[str] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="site", daemon=True)
        self._stack: Stack | None = None

    @classmethod
    def start(cls, folder: Path, **environment: str) -> Self:
        site = cls(folder)
        site._thread.start()
        settings = {
            "WAFER_STORAGE_DATA_DIR": str(folder / "store"),
            "WAFER_COLLECTOR_QUEUE_DIR": str(folder / "queue"),
            "WAFER_SPOOL_DIR": str(folder / "spool"),
            "WAFER_ARCHIVE_FOLDER": str(folder / "archive"),
            "WAFER_SITE_ID": SITE,
            "WAFER_COLLECTOR_BEAT_S": "1",
        } | environment
        config = Config(start_s=90, stop_s=20, restart_max_s=1)
        site._stack = Stack(site.addresses, config, environment=settings, collector=True, show=site._remember)
        try:
            site._run(site._stack.__aenter__(), timeout_s=120)
        except BaseException:
            site._end_loop()
            raise
        return site

    def stop(self) -> None:
        assert self._stack is not None
        self._run(self._stack.stop(), timeout_s=120)
        self._end_loop()

    @property
    def client(self) -> Client:
        return Client(f"http://{self.addresses.query}")

    @property
    def screens(self) -> str:
        return f"http://{self.addresses.ui}"

    @property
    def dsn(self) -> str:
        assert self._stack is not None
        return read_dsn(self._stack.service("storage").announced)

    def job_environment(self, **more: str) -> dict[str, str]:
        """The environment of a job on this site's host, without what this test run itself was given."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "WAFER_", "TRACEPARENT"))}
        paths = [str(REPOSITORY / "examples"), *filter(None, [kept.get("PYTHONPATH")])]
        return (
            kept
            | {
                "SIDECAR_URL": f"http://{self.addresses.collector_http}",
                "WAFER_SITE_ID": SITE,
                "WAFER_SPOOL_DIR": str(self.folder / "spool"),
                "WAFER_INSTRUMENTATION_HEARTBEAT_S": "1",
                "PYTHONPATH": os.pathsep.join(paths),
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")]),
            }
            | more
        )

    def run_python(self, program: str, **environment: str) -> subprocess.Popen[str]:
        """Start a Python job of this site; its output is kept in pipes."""
        return subprocess.Popen(
            [sys.executable, "-c", program],
            env=self.job_environment(**environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def pids(self, service: str) -> list[int]:
        """The service's own process and, below it, the server it supervises."""
        assert self._stack is not None
        pid = self._stack.service(service).pid
        if pid is None:
            return []
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]

    def kill(self, service: str) -> None:
        """SIGKILL the service's process; its supervisor starts it again."""
        os.kill(self.pids(service)[0], signal.SIGKILL)

    def kill_below(self, service: str, name: str) -> None:
        """SIGKILL the server that a service supervises (`postgres`, the Collector), by the start of its program's name."""
        found = [pid for pid in self.pids(service)[1:] if psutil.Process(pid).name().startswith(name)]
        assert found, f"{service} has no child named {name}…"
        os.kill(found[0], signal.SIGKILL)

    def execute(self, sql: str, *arguments: Any) -> list[asyncpg.Record]:
        """Ask the store itself, past every layer of ours."""

        async def ask() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.dsn)
            try:
                return list(await connection.fetch(sql, *arguments))
            finally:
                await connection.close()

        return asyncio.run(ask())

    def _remember(self, service: str, line: str) -> None:
        self.lines.append(f"{service:<9} | {line}")

    def _run(self, work: Any, *, timeout_s: float) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


def wait_until(ask: Callable[[], T], *, within_s: float, what: str) -> T:
    """Ask again until the answer is truthy; fail with `what` after `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while True:
        answer = ask()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what} (last answer: {answer!r})"
        threading.Event().wait(0.05)
