"""A real VictoriaMetrics (single node) for tests on a free loopback port; it ends with the process that started it.

    server = victoriametrics.start()             # under a second; skip the test when `victoriametrics.missing()` says why not
    server.url                                   # "http://127.0.0.1:PORT"; takes OTLP metrics at /opentelemetry/v1/metrics
    server.export('{__name__="queue.length"}')   # every series with its values and times
    server.kill(); server.restart()              # kill -9 once it has written all to disk, and again on the same port and data
    server.stop()

It answers before it writes: what it has taken is on disk a second later. The program is Debian's, unpacked once into the user's
cache folder. Calls block.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from tests.servers import prometheus
from tests.servers.collector import until
from wafermonitor.instrumentation.tether import tethered

DEADLINE_S = 60.0
_IN_MEMORY = re.compile(r'^vm_rows\{type="(?:storage|indexdb)/inmemory"\} (\d+)$|^vm_pending_rows\{.*\} (\d+)$', re.MULTILINE)


def missing() -> str | None:
    """Why no server can be started here; None when one can."""
    return prometheus.missing()


def prepare() -> Path:
    """The program, fetched when it is not there yet."""
    return prometheus.packages() / "usr/bin/victoria-metrics"


def start() -> Server:
    """A server that answers."""
    server = Server(prepare())
    try:
        server.restart()
    except BaseException:
        server.stop()
        raise
    return server


class Server:
    """One VictoriaMetrics."""

    def __init__(self, program: Path) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="wafer-victoriametrics-"))
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def export(self, match: str) -> list[dict[str, Any]]:
        """Every series that matches: `metric` (its labels), `values`, `timestamps` (ms). OSError while it is away."""
        self._get("/internal/force_flush")  # otherwise what came just now is found some seconds later
        return [json.loads(line) for line in self._get("/api/v1/export", **{"match[]": match}).splitlines()]

    def _get(self, path: str, **parameters: str) -> str:
        with urllib.request.urlopen(f"{self.url}{path}?{urlencode(parameters)}", timeout=10) as answer:
            return str(answer.read().decode())

    def restart(self) -> None:
        """Start after `kill()`, or for the first time; returns when it answers."""
        options = [f"-httpListenAddr=127.0.0.1:{self.port}", f"-storageDataPath={self.home / 'data'}", "-retentionPeriod=1y"]
        options += ["-inmemoryDataFlushInterval=1s", "-memory.allowedBytes=128MB", "-loggerLevel=WARN"]
        log = self.home / "log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                tethered([str(self._program), *options], signal.SIGKILL), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                self._get("/health")
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"VictoriaMetrics does not start: {log.read_text()[-3000:]}") from None
                time.sleep(0.05)
            else:
                return

    def _written(self) -> bool:
        found = _IN_MEMORY.findall(self._get("/metrics"))
        return bool(found) and all(int(one or other) == 0 for one, other in found)

    def kill(self) -> None:
        """kill -9, as soon as nothing is in its memory alone."""
        assert self._process is not None
        until(self._written, "VictoriaMetrics has written all to disk")
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it and remove every file."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self.home, ignore_errors=True)
