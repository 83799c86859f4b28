"""An OTLP sink, and programs that report to it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.servers import otlp_sink
from wafermonitor.instrumentation import exits, guard, logs, providers

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


@pytest.fixture
def telemetry(
    sink: otlp_sink.Server, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., providers.Telemetry]]:
    """Telemetry of this very process, reporting to the sink. Called with changes to the environment; undone afterwards."""
    make_record = logging.getLogRecordFactory()
    for name in [name for name in os.environ if name.startswith(("OTEL_", "WAFER_", "TRACE"))]:
        monkeypatch.delenv(name)
    for name in ("WAFER_SPOOL_DIR", "WAFER_SITE_ID", "WAFER_INSTRUMENTATION_BLOCKING_S", "OTEL_EXPORTER_OTLP_TIMEOUT"):
        monkeypatch.setenv(name, environment[name])
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", sink.url)
    monkeypatch.setattr(exits, "watch", lambda *_: None)
    monkeypatch.setattr(logs, "_listening", False)
    monkeypatch.setattr(guard, "_seen", set())
    monkeypatch.setattr(providers, "_telemetry", None)
    monkeypatch.setattr(providers, "_off", False)

    def make(**changes: str) -> providers.Telemetry:
        for name, value in changes.items():
            monkeypatch.setenv(name, value)
        made = providers.telemetry()
        assert made is not None
        return made

    yield make
    providers.close()
    logging.setLogRecordFactory(make_record)
