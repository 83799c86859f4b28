"""`wafer receiver` as a child process, to be stopped or killed."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

DEADLINE_S = 30
WAFER = Path(sys.executable).with_name("wafer")


def free_address() -> str:
    """A loopback address that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


def run(*flags: str, dsn: str = "memory://", **environment: str) -> subprocess.Popen[str]:
    """Start the command; nothing is awaited."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("WAFER_", "OTEL_"))}
    return subprocess.Popen(
        [str(WAFER), "receiver", *flags],
        env=clean | {"WAFER_STORAGE_DSN": dsn, "WAFER_STORAGE_MAINTAIN_INTERVAL_S": "1"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Receiver:
    """A running receiver on fixed addresses, so that its senders find it again after a restart."""

    def __init__(self, dsn: str = "memory://", **environment: str) -> None:
        self.grpc_address, self.http_address = free_address(), free_address()
        self._dsn = dsn
        self._environment = environment
        self.log = ""
        self.start()

    def start(self) -> None:
        flags = ("--ready-json", "--grpc-address", self.grpc_address, "--http-address", self.http_address)
        self._process = run(*flags, dsn=self._dsn, **self._environment)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            _, self.log = self._process.communicate(timeout=DEADLINE_S)
            raise RuntimeError(self.log)
        self.ready: dict[str, Any] = json.loads(line)

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """kill -9."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self._process.poll() is None:
            self._process.send_signal(number)
        _, log = self._process.communicate(timeout=DEADLINE_S)
        self.log += log
        return self._process.returncode
