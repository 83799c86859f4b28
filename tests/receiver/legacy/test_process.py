"""`wafer receiver --legacy-port` as a process: what it acknowledged survives kill -9 of receiver and database."""

from __future__ import annotations

import asyncio
import socket
import time
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from tests.receiver.legacy.events import JOB, event, run
from tests.receiver.process import DEADLINE_S, Receiver, free_address
from tests.receiver.process import run as start_process
from wafermonitor.storage.config import Config
from wafermonitor.storage.connect import connect
from wafermonitor.storage.protocol import LogQuery, RunQuery

pytestmark = pytest.mark.slow
HEADERS = {"content-type": "application/json"}
RETRY_S = 0.05


def older_port() -> tuple[str, dict[str, str]]:
    address = free_address()
    return address, {"WAFER_RECEIVER_LEGACY_PORT": address.rpartition(":")[2]}


def send_until_taken(client: httpx.Client, events: object) -> None:
    """What an older SDK does: the same body until it is answered with 200. A status that is neither is a failure."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        try:
            answer = client.post("/v1/ingest/events:batch", json=events)
        except httpx.TransportError:
            time.sleep(RETRY_S)
            continue
        if answer.status_code == 200:
            return
        assert answer.status_code == 503, answer.text
        assert answer.json()["retryable"] is True
        time.sleep(RETRY_S)
    pytest.fail("not taken in time")


async def stored(dsn: str) -> tuple[int, list[tuple[str | None, str | None]]]:
    """How many records the trace has, and (job, result) of every run."""
    storage = await connect(Config(dsn=SecretStr(dsn)))
    try:
        records = await storage.reader.logs(LogQuery(trace_id=UUID(JOB).bytes, limit=1000))
        found = await storage.reader.runs(RunQuery(limit=10))
    finally:
        await storage.close()
    return len(records.items), sorted((stored.run.job, stored.run.result) for stored in found.items)


def test_it_says_where_the_older_port_is():
    address, environment = older_port()
    receiver = Receiver(**environment)
    try:
        assert receiver.ready["legacy"] == address
        assert httpx.get(f"http://{address}/v1/health").json()["status"] == "ok"
        assert httpx.post(f"http://{address}/v1/event", json=event()).json()["ok"] is True
    finally:
        assert receiver.stop() == 0


def test_an_older_port_that_is_taken_is_named():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        flags = ("--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0", "--legacy-port", port)
        process = start_process(*flags)
        _, errors = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 1
    assert "WAFER_RECEIVER_LEGACY_PORT" in errors
    assert "Traceback" not in errors


@pytest.mark.postgres
def test_what_was_acknowledged_is_there_once_after_kills(durable):
    dsn = durable.migrated()
    address, environment = older_port()
    receiver = Receiver(dsn, **environment)
    events = [*run(), *(event("progress", second / 4) for second in range(20))]
    try:
        with httpx.Client(base_url=f"http://{address}", headers=HEADERS, timeout=DEADLINE_S) as client:
            for place in range(0, 25, 5):
                send_until_taken(client, events[place : place + 5])
                if place == 5:
                    receiver.kill()
                    receiver.start()
                if place == 15:
                    durable.kill()
                    assert client.post("/v1/event", json=events[0]).status_code == 503
                    durable.restart()
            send_until_taken(client, events)
    finally:
        receiver.stop()
    records, found = asyncio.run(stored(dsn))
    assert records == len(events)
    assert found == [("daily-batch", "success"), ("wafer-02", "success")]
