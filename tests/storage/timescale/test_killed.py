"""kill -9 of PostgreSQL while two writers bring the same rows: nothing acknowledged is lost, nothing doubled."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import asyncpg
import pytest

from tests.servers import postgres as server
from tests.storage.contract.builders import NOW, SECOND, ended, log, point, run, span, trace_id
from tests.storage.engines import Engine, on_postgres
from wafermonitor.runs.merge import merge_all
from wafermonitor.runs.records import Batch
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.protocol import RunQuery
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.postgres

KILLS = 3
RUNS = 40
DEADLINE_S = 100.0
TABLES = {"span": RUNS * 3, "log_record": RUNS * 3, "metric_point": RUNS * 3, "run": RUNS, "run_open": 0}
"""What is in each in the end."""


@pytest.fixture
def durable() -> Iterator[server.Server]:
    """A server of this test's own, told not to wait for the disk: what is acknowledged is there all the same."""
    running = server.start(settings={"synchronous_commit": "off"})
    yield running
    running.stop()


def story(number: int) -> list[Batch]:
    """The life of one run in three requests, with a span, a line and a point each."""
    messages = (
        run(number, heartbeat_interval_s=1.0),
        run(number, last_sign_ns=NOW + number, cpu_s=float(number)),
        ended(number, end_ns=NOW + SECOND),
    )
    return [
        Batch(
            spans=[span(number * 10 + step, trace_id=trace_id(number))],
            logs=[log(number * 10 + step)],
            points=[point(number, time_ns=NOW + number * 10 + step)],
            runs=[message],
        )
        for step, message in enumerate(messages)
    ]


async def bring(writer: Writer, batches: list[Batch]) -> None:
    """As a receiver does it: in groups, each until it is acknowledged."""
    for start in range(0, len(batches), 4):
        while True:
            try:
                await writer.write(batches[start : start + 4])
            except StorageUnavailable:
                await asyncio.sleep(0.01)
            else:
                break


async def kill_again_and_again(running: server.Server, store: Engine) -> None:
    for step in range(1, KILLS + 1):
        while await spans(store) < RUNS * 3 * step // (KILLS + 2):
            await asyncio.sleep(0)
        await asyncio.to_thread(running.kill)
        await asyncio.to_thread(running.restart)


async def spans(store: Engine) -> int:
    """How many there are; -1 while nobody answers."""
    try:
        return await store.pool.fetchval("SELECT count(*) FROM wafer_data.span")
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
        return -1


async def test_nothing_acknowledged_is_lost_and_nothing_doubled(durable: server.Server) -> None:
    batches = [batch for number in range(RUNS) for batch in story(number)]
    dice = random.Random(9)
    shares = [dice.sample(batches, len(batches)) for _ in range(2)]
    async with asyncio.timeout(DEADLINE_S), on_postgres(durable.migrated()) as store:
        writers = [store.another_writer() for _ in shares]
        await asyncio.gather(*map(bring, writers, shares), kill_again_and_again(durable, store))
        counts = [await store.pool.fetchval(f"SELECT count(*) FROM wafer_data.{table}") for table in TABLES]
        assert dict(zip(TABLES, counts, strict=True)) == TABLES
        stored = (await store.reader.runs(RunQuery(limit=1000))).items
    told = merge_all([message for batch in batches for message in batch.runs])
    assert sorted((item.run for item in stored), key=lambda item: item.key) == told
