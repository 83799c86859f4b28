"""An OTLP sink, and programs that report to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import otlp_sink

PROGRAMS = Path(__file__).with_name("programs.py")


@pytest.fixture
def sink() -> Iterator[otlp_sink.Server]:
    server = otlp_sink.start()
    yield server
    server.stop()


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a job: nothing of the developer's own OTEL_* and WAFER_* settings."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "WAFER_", "TRACE"))}
    # Under load an answer may take long; what these tests ask is what arrives, not when.
    return clean | {
        "WAFER_SPOOL_DIR": str(tmp_path / "spool"),
        "WAFER_SITE_ID": "fab1",
        "WAFER_INSTRUMENTATION_BLOCKING_S": "10",
        "OTEL_EXPORTER_OTLP_TIMEOUT": "10",
    }


@pytest.fixture
def start(sink: otlp_sink.Server, environment: dict[str, str]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start one of the programs, reporting to the sink."""
    started: list[subprocess.Popen[str]] = []

    def begin(name: str, *arguments: str, **changes: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, str(PROGRAMS), name, *arguments],
            env={**environment, "OTEL_EXPORTER_OTLP_ENDPOINT": sink.url, **changes},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=10)
