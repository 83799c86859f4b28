"""From a run that did not come to somebody's webhook, by processes of `wafer alerting run` that are killed at any moment."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import asyncpg
import pytest

from tests.servers import http_sink
from wafermonitor.runs.alerts import Alert, Delivery, DeliveryState
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect
from wafermonitor.storage.watch import AlertQuery

pytestmark = [pytest.mark.postgres, pytest.mark.slow]
RULES = """
expectations:
  pulse: {{job: pulse, site: f1, every: 1s, early: 0s, start_margin: 0s, grace: 1s}}
rules:
  late: {{kind: late, enabled: false}}
channels:
  hook: {{engine: webhook, url: "{url}"}}
routes:
  - {{rules: missed, channels: hook, group_by: alert, wait: 0, pause: 0}}
"""


@contextmanager
def alerting(rules: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that evaluates and sends, and is ready."""
    command = [sys.executable, "-m", "wafermonitor.instrumentation.cli", "alerting", "run", "--json", "--rules", str(rules)]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=os.environ)
    try:
        assert running.stdout is not None
        assert json.loads(running.stdout.readline())["ready"] == "alerting"
        yield running
    finally:
        running.kill()
        running.communicate()


def until(condition, what: str) -> None:
    """Wait for it, a minute at most."""
    end, pause = time.monotonic() + 60, threading.Event()
    while not condition():
        assert time.monotonic() < end, what
        pause.wait(0.02)


async def hurry(address: str) -> None:
    """Let an absence be known at once."""
    connection = await asyncpg.connect(address)
    await connection.execute("UPDATE wafer_data.setting SET value = '0' WHERE name = 'margin_s'")
    await connection.close()


async def stored() -> list[tuple[Alert, list[Delivery]]]:
    """Every alert of a missed run, and the messages about it."""
    opened = await connect(StorageConfig.load(), migrate=False)
    try:
        alerts = (await opened.watch.alerts(AlertQuery(rule=("missed",), limit=1000))).items
        return [(alert, await opened.watch.alert_deliveries(alert.id)) for alert in alerts]
    finally:
        await opened.close()


def told(sink: http_sink.Server) -> Counter[str]:
    """How often each alert was told to the webhook."""
    return Counter(alert["id"] for request in sink.requests for alert in request.json["alerts"])


def test_whoever_is_killed_each_missed_run_is_told_once(postgres, monkeypatch, tmp_path):
    address = postgres.migrated()
    monkeypatch.setenv("WAFER_STORAGE_DSN", address)
    asyncio.run(hurry(address))
    monkeypatch.setenv("WAFER_ALERTING_TICK_S", "0.1")
    for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "WAFER_CONFIG", "WAFER_ALERTING_METRICS_ADDRESS"):
        monkeypatch.delenv(name, raising=False)
    random = Random(7)
    rules = tmp_path / "alerts.yaml"
    with http_sink.start() as sink:
        rules.write_text(RULES.format(url=sink.url))
        with alerting(rules) as last:
            for round_ in range(3):
                with alerting(rules) as dying:
                    until(lambda enough=3 * round_ + 3: len(told(sink)) >= enough, "nothing more is told")
                    threading.Event().wait(random.random())  # killed at any moment of a tick or a message
                    dying.kill()
            until(lambda: len(told(sink)) >= 12, "nothing more is told")
            last.terminate()
            last.communicate(timeout=30)
        found = asyncio.run(stored())
        known = told(sink)
    assert set(known.values()) == {1}
    assert set(known) <= {alert.id for alert, _ in found}
    for alert, messages in found:
        states = {one.state for one in messages}
        assert len(messages) == 1
        # One that was being sent when its process died waits for another until its lease is over.
        assert (alert.id in known) or (states == {DeliveryState.WAITING})
        assert (states == {DeliveryState.SENT}) <= (alert.id in known)
