"""`wafer receiver --writer NAME` for tests: a bridge to another backend, as a process on a fixed free port.

    server = bridge.start("files", {"WAFER_FILES_DIR": folder})
    server.http                # "127.0.0.1:PORT", for OTLP by HTTP
    server.kill()              # kill -9
    server.launch()            # again, on the same port
    server.end()               # SIGTERM; the exit code
    server.dead_letters()      # what the backend refused for good
    server.stop()

All calls block.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.servers.collector import free_ports, until
from wafermonitor.instrumentation.tether import tethered

DEADLINE_S = 60.0
COMMAND = (sys.executable, "-m", "wafermonitor.instrumentation.cli", "receiver")


def start(writer: str, environ: Mapping[str, str]) -> Server:
    """A bridge that takes data; `environ` is what its writer reads."""
    server = Server(writer, environ)
    try:
        server.launch()
    except BaseException:
        server.stop()
        raise
    return server


class Server:
    """One bridge."""

    def __init__(self, writer: str, environ: Mapping[str, str]) -> None:
        self.writer = writer
        self.home = Path(tempfile.mkdtemp(prefix="wafer-bridge-"))
        self.log = self.home / "stderr"
        self.http = f"127.0.0.1:{free_ports(1)[0]}"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("WAFER_", "OTEL_"))}
        own = {"WAFER_RECEIVER_DEAD_LETTER_FILE": str(self.home / "dead.jsonl"), "LOG_LEVEL": "WARNING"}
        self._environ = {**clean, **own, **environ}
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start, for the first time or again; returns when it takes data."""
        ready = self.home / "ready"
        flags = ["--writer", self.writer, "--http-address", self.http, "--ready-json"]
        with self.log.open("ab") as log, ready.open("wb") as said:
            self._process = subprocess.Popen(
                tethered([*COMMAND, *flags]), env=self._environ, stdin=subprocess.DEVNULL, stdout=said, stderr=log
            )
        until(lambda: self._ended() or ready.read_bytes().endswith(b"\n"), "the bridge is ready")
        assert not self._ended(), f"the bridge ended while starting: {self.tail()}"

    def kill(self) -> None:
        """kill -9."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(DEADLINE_S)

    def end(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(DEADLINE_S)

    def stop(self) -> None:
        """End it if it runs, and remove its folder."""
        if self._process is not None and not self._ended():
            try:
                self.end()
            finally:
                self.kill()
        shutil.rmtree(self.home)

    def tail(self) -> str:
        """The last lines it said."""
        return self.log.read_text(errors="replace")[-2000:]

    def dead_letters(self) -> list[dict[str, Any]]:
        """What it has put aside."""
        path = Path(self._environ["WAFER_RECEIVER_DEAD_LETTER_FILE"])
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def _ended(self) -> bool:
        return self._process is None or self._process.poll() is not None
