"""A real Prometheus for tests on a free loopback port; it ends with the process that started it.

    server = prometheus.start()                  # about 1 s; skip the test when `prometheus.missing()` says why it cannot
    server = prometheus.start(scrape=address)    # it also fetches the page of metrics at this host:port, every second
    server.url                                   # "http://127.0.0.1:PORT"; takes remote write at /api/v1/write
    server.ask("query", query="up")              # the answer's `data`
    server.kill(); server.restart()              # kill -9, and again on the same port and data
    server.stop()

The program is Debian's, unpacked once into the user's cache folder. Calls block.
"""

from __future__ import annotations

import json
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

from tests.servers import debs
from wafermonitor.instrumentation.tether import tethered

SUITE = "trixie"
DEADLINE_S = 60.0


def missing() -> str | None:
    """Why no server can be started here; None when one can."""
    return debs.missing(SUITE)


def prepare() -> Path:
    """The program, fetched when it is not there yet."""
    return packages() / "usr/bin/prometheus"


def packages() -> Path:
    """The folder with Prometheus and VictoriaMetrics, which come together because lists of packages take longer than they."""
    return debs.unpacked("prometheus", "prometheus", "victoria-metrics", suite=SUITE)


def start(*, scrape: str = "") -> Server:
    """A server that answers. `scrape` is host:port of a page of metrics."""
    server = Server(prepare(), scrape)
    try:
        server.restart()
    except BaseException:
        server.stop()
        raise
    return server


class Server:
    """One Prometheus."""

    def __init__(self, program: Path, scrape: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="wafer-prometheus-"))
        self._program = program
        self._process: subprocess.Popen[bytes] | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        targets = [{"job_name": "tests", "honor_labels": True, "static_configs": [{"targets": [scrape]}]}] if scrape else []
        config = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
            "storage": {"tsdb": {"out_of_order_time_window": "1d"}},
            "scrape_configs": targets,
        }
        self._config = self.home / "prometheus.yml"
        self._config.write_text(json.dumps(config))  # which is YAML as well

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, call: str, **parameters: str) -> Any:
        """What /api/v1/`call` answers. OSError while it is away."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{call}?{urlencode(parameters)}", timeout=10) as answer:
            return json.load(answer)["data"]

    def restart(self) -> None:
        """Start after `kill()`, or for the first time; returns when it answers."""
        options = [f"--config.file={self._config}", f"--storage.tsdb.path={self.home / 'data'}", "--log.level=warn"]
        options += [f"--web.listen-address=127.0.0.1:{self.port}", "--web.enable-remote-write-receiver"]
        log = self.home / "log"
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                tethered([str(self._program), *options], signal.SIGKILL), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        end = time.monotonic() + DEADLINE_S
        while True:
            try:
                urllib.request.urlopen(f"{self.url}/-/ready", timeout=5).close()
            except OSError:
                if self._process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"Prometheus does not start: {log.read_text()[-3000:]}") from None
                time.sleep(0.05)
            else:
                return

    def kill(self) -> None:
        """kill -9; what it has taken is in its log of writes."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """End it and remove every file."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        shutil.rmtree(self.home, ignore_errors=True)
