"""The older routes into a real PostgreSQL: runs, redelivery, a server that goes away."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from tests.receiver.conftest import FREE
from tests.receiver.legacy.events import JOB, at_ns, body, event, run
from wafermonitor.receiver import server
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.legacy import translation
from wafermonitor.runs.state import State
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect
from wafermonitor.storage.protocol import DeadLetterQuery, LogQuery, RunQuery, Storage

pytestmark = pytest.mark.postgres


@pytest.fixture
async def storage(postgres) -> AsyncIterator[Storage]:
    opened = await connect(StorageConfig(dsn=SecretStr(postgres.migrated())))
    yield opened
    await opened.close()


@pytest.fixture
async def client(storage: Storage) -> AsyncIterator[httpx.AsyncClient]:
    receiver = await server.start(storage, Config(**FREE, legacy_port=0))
    async with httpx.AsyncClient(
        base_url=f"http://{receiver.legacy_address}", timeout=30, headers={"content-type": "application/json"}
    ) as client:
        yield client
    await receiver.stop()


async def test_a_run_is_read_while_it_runs_and_when_it_has_ended(client, storage):
    job, part, halfway, part_ended, ended = run(status="failed")
    await client.post("/v1/ingest/events", content=json.dumps(job))
    await client.post("/v1/ingest/events", content=json.dumps(halfway))
    ids = translation.ids(UUID(JOB), None)
    running = await storage.reader.run(*ids)
    assert running is not None
    assert (running.state, running.run.progress.ratio) == (State.RUNNING, 0.5)
    answer = await client.post("/v1/ingest/events:batch", content=json.dumps([ended, part_ended, part, "broken"]))
    assert (answer.json()["success"], answer.json()["failed"]) == (3, 1)
    tree = await storage.reader.tree(UUID(JOB).bytes)
    assert [(found.run.job, found.state, found.run.result) for found in tree] == [
        ("daily-batch", State.ENDED, "failure"),
        ("wafer-02", State.ENDED, "success"),
    ]
    assert (tree[0].run.start_ns, tree[0].run.end_ns, tree[0].run.cpu_s) == (at_ns(0), at_ns(8), 3.5)
    letters = await storage.reader.dead_letters(DeadLetterQuery())
    assert [(found.letter.signal, found.letter.sample) for found in letters.items] == [("events", b'{"events":["broken"]}')]


async def test_events_sent_thrice_in_any_order_at_once_are_stored_once(client, storage):
    events = [*run(), *(event("progress", second / 4, metrics={"progress": second}) for second in range(16))]
    batches = []
    for seed in range(3):
        random.Random(seed).shuffle(events)
        batches += [client.post("/v1/events/batch", content=body(*events[place : place + 4])) for place in range(0, 24, 4)]
    assert {answer.status_code for answer in await asyncio.gather(*batches)} == {200}
    records = await storage.reader.logs(LogQuery(trace_id=UUID(JOB).bytes, limit=1000))
    assert len(records.items) == len(events)
    found = await storage.reader.runs(RunQuery(limit=10))
    assert sorted(stored.run.job for stored in found.items) == ["daily-batch", "wafer-02"]
    assert {stored.state for stored in found.items} == {State.ENDED}


async def test_an_end_without_its_start_has_a_start_and_keeps_it_when_the_start_comes(client, storage):
    ended = event("finished", 8, status="succeeded", metrics={"duration_s": 7.25})
    await client.post("/v1/event", content=json.dumps(ended))
    alone = await storage.reader.run(*translation.ids(UUID(JOB), None))
    assert alone.run.start_ns == at_ns(8) - 7_250_000_000
    await client.post("/v1/event", content=json.dumps(event("started", 0)))
    both = await storage.reader.run(*translation.ids(UUID(JOB), None))
    assert (both.run.start_ns, both.run.end_ns, both.state) == (at_ns(0), at_ns(8), State.ENDED)
    assert len((await storage.reader.runs(RunQuery(limit=10))).items) == 1
