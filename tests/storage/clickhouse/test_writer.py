"""What a call of the writer promises on ClickHouse: refused before anything is sent, whole when it returns, else repaired."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

pytest.importorskip("clickhouse_connect", reason="the extra clickhouse is not installed")

from tests.servers import clickhouse as server
from tests.storage import blocks
from tests.storage.contract.builders import NOW, SITE, TRACE, ended, log, point, run, span, trace_id
from tests.storage.contract.test_exactly_once import batch, points_of, spans_of
from tests.storage.engines import Engine, on_clickhouse
from wafermonitor.runs.records import Batch
from wafermonitor.storage.clickhouse import groups, rows, schema
from wafermonitor.storage.clickhouse.client import Client
from wafermonitor.storage.clickhouse.reader import Reader
from wafermonitor.storage.clickhouse.writer import Writer
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.protocol import LogQuery, RunQuery, SpanQuery

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("clickhouse")]


class Failing:
    """A client whose inserts into some tables fail, as many times as is said."""

    def __init__(self, client: Client, tables: list[str]) -> None:
        self._client = client
        self.query = client.query
        self.failing = tables

    async def insert(self, doing, table, encoded):
        if table.name in self.failing:
            self.failing.remove(table.name)
            raise StorageUnavailable("cut off")
        return await self._client.insert(doing, table, encoded)


@pytest.fixture
async def client(clickhouse: server.Server):
    dsn = clickhouse.database()
    async with on_clickhouse(dsn):
        opened = await Client.open(dsn, pool_size=2, timeout_s=60)
        yield opened
        await opened.close()


def engine_of(client: Client, writer: Writer) -> Engine:
    return Engine(writer, Reader(client, clock=lambda: NOW), lambda: NOW, lambda: Writer(client))


@pytest.mark.parametrize(
    "table", ["resource", "scope", "site", "metric_series", "span", "log_record", "metric_point", "run", "run_change", "app"]
)
@pytest.mark.parametrize("given", [batch, lambda number: blocks.part(batch(number))], ids=["records", "rows"])
async def test_a_call_that_failed_anywhere_is_repaired_by_the_same_call(client, table, given):
    """Whichever table was not written: afterwards all is there once, also when one lane follows the other."""
    writer = Writer(Failing(client, [table]))
    engine = engine_of(client, writer)
    start = await engine.reader.changes(None)
    with pytest.raises(StorageUnavailable):
        await writer.write([given(1)])
    await writer.write([given(1)])
    await engine.another_writer().write([batch(1)])
    assert len(await spans_of(engine, trace_id(1))) == 10
    assert len((await engine.reader.logs(LogQuery(trace_id=trace_id(1)))).items) == 3
    assert len(await points_of(engine)) == 3
    assert [stored.run.run_id for stored in (await engine.reader.runs(RunQuery())).items] == ["run-1"]
    assert [status.site for status in await engine.reader.sites()] == [SITE]
    assert {stored.run.run_id for stored in (await engine.reader.changes(start.token)).runs} == {"run-1"}


@pytest.mark.parametrize(
    "wrong",
    [Batch(spans=[span(1), span(2, start_ns=2**63)]), Batch(runs=[run(1, cpu_s=float("nan"))]), Batch(logs=[log(flags=-1)])],
    ids=["span", "run", "log"],
)
async def test_what_never_fits_is_refused_and_nothing_of_the_call_is_stored(client, wrong):
    engine = engine_of(client, Writer(client))
    with pytest.raises(StorageRejected):
        await engine.writer.write([batch(1), wrong])
    assert await engine.reader.sites() == []
    assert (await engine.reader.spans(SpanQuery(trace_id=trace_id(1)))).items == []


async def test_names_are_sent_once_a_day_and_again_after_a_failure(client):
    sent = []

    class Watching(Failing):
        async def insert(self, doing, table, encoded):
            sent.append(table.name)
            return await super().insert(doing, table, encoded)

    watched = Watching(client, [])
    writer = Writer(watched)
    await writer.write([batch(1)])
    assert {"resource", "scope", "site", "metric_series"} <= set(sent)
    sent.clear()
    await writer.write([batch(2)])
    assert {"resource", "scope", "site"}.isdisjoint(sent)
    watched.failing.append("span")
    with pytest.raises(StorageUnavailable):
        await writer.write([batch(3)])
    sent.clear()
    await writer.write([batch(3)])
    assert {"resource", "scope", "site"} <= set(sent)


async def test_nobody_answers(clickhouse: server.Server):
    client = await Client.open(clickhouse.dsn("default"), pool_size=1, timeout_s=5)
    await client.close()
    with pytest.raises(StorageUnavailable):
        await Client.open("clickhouse://127.0.0.1:9/wafer", pool_size=1, timeout_s=5)


async def test_a_server_without_the_tables_keeps_the_data_waiting(clickhouse: server.Server):
    client = await Client.open(clickhouse.dsn("default"), pool_size=1, timeout_s=60)
    with pytest.raises(StorageUnavailable, match="wafer storage migrate"):
        await Writer(client).write([batch(1)])
    await client.close()


async def test_a_run_of_many_days_and_garbage_dates_stays_within_the_partitions(client):
    """A clock that writes every day of a century fills the 1024 partitions, and no more."""
    day = 86_400 * 10**9
    await Writer(client).write([Batch(spans=[span(number, start_ns=number * 17 * day) for number in range(2200)])])
    ((partitions,),) = await client.query(
        "count", "SELECT uniq(partition) FROM system.parts WHERE database = currentDatabase() AND table = 'span' AND active"
    )
    assert partitions == 1024


async def test_a_killed_server_has_what_was_acknowledged():
    """kill -9 between calls and within one: everything that returned is there, the rest is repaired."""
    why = server.missing()
    if why is not None:
        pytest.skip(why)
    running = server.start()
    try:
        client = await Client.open(running.dsn("wafer"), pool_size=2, timeout_s=20)
        await schema.upgrade(client, schema.Keep(90, 730, 60))
        writer = Writer(client)
        for number in range(3):
            await writer.write([batch(number)])
        under_way = asyncio.create_task(writer.write([batch(3)]))
        await asyncio.to_thread(running.kill)
        with pytest.raises(StorageUnavailable):
            await under_way
        await client.close()
        await asyncio.to_thread(running.restart)
        client = await Client.open(running.dsn("wafer"), pool_size=2, timeout_s=20)
        engine = engine_of(client, Writer(client))
        for number in range(3):
            assert len(await spans_of(engine, trace_id(number))) == 10
        await engine.writer.write([batch(3)])
        assert len(await spans_of(engine, trace_id(3))) == 10
        assert len((await engine.reader.runs(RunQuery())).items) == 4
        await client.close()
    finally:
        await asyncio.to_thread(running.stop)


def test_a_group_names_each_thing_once():
    group = groups.gather([batch(1), batch(1)], 1, 1, b"123456")
    assert len(group.changes) == 1
    assert sorted(table.name for table, _ in group.names) == ["metric_series", "resource", "scope", "site"]
    assert len(group.facts[rows.SPANS]) == 20
    assert dataclasses.is_dataclass(group)


async def test_points_and_logs_of_one_moment_are_kept_apart(client):
    engine = engine_of(client, Writer(client))
    lines = [log(number, time_ns=NOW) for number in range(3)]
    await engine.writer.write([Batch(logs=lines, points=[point(1), point(1)], runs=[ended(1)])])
    assert len((await engine.reader.logs(LogQuery(trace_id=TRACE))).items) == 3
    assert len(await points_of(engine)) == 1
