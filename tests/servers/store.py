"""`wafer storage serve` for tests: the embedded PostgreSQL with its supervisor, in a data home of the test's choice.

    server = store.start(home)        # about 4 s the first time; skip when `postgres.missing()` says why it cannot
    server.dsn
    server.end()                      # SIGTERM; the exit code. The data home is the caller's to remove.

All calls block.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.servers.collector import until

DEADLINE_S = 120.0
COMMAND = (sys.executable, "-m", "wafermonitor.instrumentation.cli", "storage", "serve", "--json")


def start(home: Path, log: Path) -> Server:
    """A served store below `home`; what it says goes to the file `log`, which may stand elsewhere."""
    server = Server(home, log)
    try:
        server.launch()
    except BaseException:
        server.end()
        raise
    return server


class Server:
    """One supervised store."""

    def __init__(self, home: Path, log: Path) -> None:
        self.home = home
        self.log = log
        self.dsn = ""
        self._process: subprocess.Popen[bytes] | None = None

    def launch(self) -> None:
        """Start; returns when it answers."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("WAFER_", "OTEL_"))}
        own = {"WAFER_STORAGE_DATA_DIR": str(self.home), "WAFER_STORAGE_MAINTAIN_INTERVAL_S": "1"}
        ready = self.log.with_suffix(".ready")
        with self.log.open("ab") as log, ready.open("wb") as said:
            self._process = subprocess.Popen(COMMAND, env=clean | own, stdin=subprocess.DEVNULL, stdout=said, stderr=log)
        until(lambda: self._process.poll() is not None or ready.read_bytes().endswith(b"\n"), "the store is ready", DEADLINE_S)
        assert self._process.poll() is None, self.log.read_text()[-2000:]
        self.dsn = Path(json.loads(ready.read_bytes())["dsn_file"]).read_text().strip()

    def end(self) -> int:
        """SIGTERM; the exit code."""
        assert self._process is not None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        return self._process.wait(DEADLINE_S)
