"""`wafer receiver` for tests, as a process on fixed free ports: killed, started again, its memory watched.

    server = receiver.start(dsn, WAFER_RECEIVER_QUEUE_BYTES="4000000")
    server.kill()              # kill -9
    server.launch()            # again, on the same ports
    server.end()               # SIGTERM; the exit code
    server.peak_bytes          # most memory this process has had since it started, or since `forget_peak()`
    server.stop()

What it says goes to a file, so that it can say much. All calls block.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import psutil

from tests.servers.collector import free_ports, until

DEADLINE_S = 60.0
COMMAND = (sys.executable, "-m", "wafermonitor.instrumentation.cli", "receiver")


def start(dsn: str = "memory://", *, beside: Server | None = None, **environ: str) -> Server:
    """A receiver that takes data; `environ` is added to its own. `beside` another one it listens on the same addresses."""
    server = Server(dsn, environ, beside)
    try:
        server.launch()
    except BaseException:
        server.stop()
        raise
    return server


class Server:
    """One receiver. `otlp_grpc` and `otlp_http` are `host:port`."""

    def __init__(self, dsn: str, environ: Mapping[str, str], beside: Server | None) -> None:
        self.dsn = dsn
        self.home = Path(tempfile.mkdtemp(prefix="wafer-receiver-"))
        self.log = self.home / "stderr"
        grpc, http = free_ports(2)
        own = (f"127.0.0.1:{grpc}", f"127.0.0.1:{http}")
        self.otlp_grpc, self.otlp_http = (beside.otlp_grpc, beside.otlp_http) if beside is not None else own
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("WAFER_", "OTEL_"))}
        settings = {"WAFER_STORAGE_DSN": dsn, "WAFER_STORAGE_MAINTAIN_INTERVAL_S": "1", "LOG_LEVEL": "WARNING"}
        self._environ = clean | settings | environ
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The process, as of its latest start."""
        assert self._process is not None
        return self._process.pid

    def launch(self) -> None:
        """Start, for the first time or again; returns when it takes data."""
        addresses = ("--grpc-address", self.otlp_grpc, "--http-address", self.otlp_http)
        ready = self.home / "ready"
        with self.log.open("ab") as log, ready.open("wb") as said:
            self._process = subprocess.Popen(
                [*COMMAND, "--ready-json", *addresses],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=log,
            )
        until(lambda: self._ended() or ready.read_bytes().endswith(b"\n"), "the receiver is ready")
        assert not self._ended(), f"the receiver ended while starting: {self.tail()}"
        assert json.loads(ready.read_bytes().splitlines()[-1])["pid"] == self.pid

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(DEADLINE_S)

    def end(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(DEADLINE_S)

    def stop(self) -> None:
        """End it if it runs, and remove its folder."""
        if self._process is not None and not self._ended():
            self.end()
        shutil.rmtree(self.home)

    def tail(self) -> str:
        """The last lines it said."""
        return self.log.read_text(errors="replace")[-2000:]

    def measure(self, name: str) -> float:
        """The sum of one measure of `/metrics` over its labels."""
        with urllib.request.urlopen(f"http://{self.otlp_http}/metrics", timeout=DEADLINE_S) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))

    @property
    def cpu_s(self) -> float:
        """What the process has computed so far."""
        return sum(psutil.Process(self.pid).cpu_times()[:2])

    @property
    def resident_bytes(self) -> int:
        """Memory now."""
        return self._memory("VmRSS")

    @property
    def peak_bytes(self) -> int:
        """The most memory so far (Linux's own high-water mark, so nothing between two looks is missed)."""
        return self._memory("VmHWM")

    def forget_peak(self) -> None:
        """Begin to look for the peak anew."""
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def _memory(self, name: str) -> int:
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"no {name} of process {self.pid}")

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None
