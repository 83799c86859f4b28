"""Items that say no time of their own: delivered again, to any receiver, by any lane, they are the rows that are there."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest

from tests.receiver.conftest import FREE
from tests.receiver.otlp import TRACE_ID, Grpc, HttpJson, HttpProtobuf, last_item, logs, metrics, spans, text
from tests.receiver.test_transcode import lifecycle_log
from wafermonitor.receiver import server
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.lanes import Lanes
from wafermonitor.receiver.pipeline import Pipeline
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode import json, python
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events
from wafermonitor.storage import memory
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.protocol import RunQuery

LANES = {Encoding.PROTOBUF: python.Lane(), Encoding.JSON: json.Lane()}
SECOND_NS = 1_000_000_000
TABLES = ("spans", "logs", "points")
STORED = ("span", "log_record", "metric_point")


def timeless(number: int = 3) -> dict[Signal, object]:
    """A request of each signal; none of its items has a time. One of the spans is a run."""
    requests = {Signal.TRACES: spans(number), Signal.LOGS: logs(number), Signal.METRICS: metrics(number)}
    for span in requests[Signal.TRACES].resource_spans[0].scope_spans[0].spans:
        span.start_time_unix_nano = span.end_time_unix_nano = 0
    last_item(requests[Signal.TRACES]).attributes.append(text(names.WAFER_JOB_NAME, "lot_yield"))
    for record in requests[Signal.LOGS].resource_logs[0].scope_logs[0].log_records:
        record.time_unix_nano = 0
    for place, point in enumerate(last_item(requests[Signal.METRICS]).gauge.data_points):
        point.time_unix_nano = 0
        point.attributes.append(text("place", str(place)))
    return requests


def mixed(*texts: str) -> Request:
    """Log records without a time, received at 0; `received` gives them one."""
    request = logs(len(texts))
    for record, line in zip(request.resource_logs[0].scope_logs[0].log_records, texts, strict=True):
        record.time_unix_nano, record.body.string_value = 0, line
    return Request(Signal.LOGS, Encoding.PROTOBUF, request.SerializeToString(), 0)


def received(request: Request, second: int) -> Request:
    return request._replace(received_ns=1_700_000_000 * SECOND_NS + second * SECOND_NS)


@pytest.mark.parametrize(
    "engine",
    [
        "memory",
        pytest.param("postgres", marks=pytest.mark.postgres),
        pytest.param("clickhouse", marks=[pytest.mark.servers, pytest.mark.xdist_group("clickhouse")]),
    ],
)
@pytest.mark.parametrize("transport", [Grpc, HttpProtobuf, HttpJson], ids=lambda transport: transport.name)
async def test_what_two_receivers_get_at_once_and_again_is_stored_once(request, engine, transport):
    addresses = {
        "memory": lambda: "memory://",
        "postgres": lambda: request.getfixturevalue("postgres").migrated(),
        "clickhouse": lambda: request.getfixturevalue("clickhouse").database(),
    }
    dsn = addresses[engine]()
    async with AsyncExitStack() as stack:
        stores = [await connect(StorageConfig.load(dsn=dsn), migrate=True) for _ in range(1 if engine == "memory" else 2)]
        clients = []
        for store in stores * (2 // len(stores)):
            receiver = await server.start(store, Config(**FREE))
            stack.push_async_callback(receiver.stop)
            clients.append(await stack.enter_async_context(transport(receiver.grpc_address, receiver.http_address)))
        bodies = {signal: clients[0].encode(one) for signal, one in timeless().items()}
        for _ in range(2):
            sent = [client.send(signal, body) for client in clients * 2 for signal, body in bodies.items()]
            assert all(outcome.ok for outcome in await asyncio.gather(*sent))
        assert await numbers(stores[0]) == (3, 3, 3)
        (run,) = (await stores[0].reader.runs(RunQuery())).items
        span = await stores[0].reader.span(TRACE_ID, run.run.span_id)
        assert (run.run.start_ns, run.run.end_ns) == (span.start_ns, span.start_ns)
        for store in stores:
            await store.close()


async def numbers(store) -> tuple[int, ...]:
    if isinstance(store, memory.Storage):
        return tuple(len(getattr(store.writer._tables, table)) for table in TABLES)
    if not hasattr(store, "pool"):
        answers = [await store.client.query("count", f"SELECT count() FROM {table} FINAL") for table in STORED]
        return tuple(count for ((count,),) in answers)
    return tuple([await store.pool.fetchval(f"SELECT count(*) FROM wafer_data.{table}") for table in STORED])


@pytest.fixture
async def pipeline(store):
    running = Pipeline(store, Lanes(LANES), Config(writers=1), Telemetry(lambda: 0.0))
    running.start()
    yield running
    await running.drain(1)


def lines(store) -> list[tuple[str, int]]:
    found = sorted((row.time_ns, row.body) for row in store.inner.writer._tables.logs.values())
    return [(body, time_ns // SECOND_NS - 1_700_000_000) for time_ns, body in found]


async def test_in_another_request_the_item_keeps_its_time_and_its_neighbours_have_theirs(pipeline, store):
    await pipeline.submit(received(mixed("one", "two"), 1))
    await pipeline.submit(received(mixed("two", "three"), 5))
    await pipeline.submit(received(mixed("three", "one", "four"), 9))
    assert lines(store) == [('"one"', 1), ('"two"', 1), ('"three"', 5), ('"four"', 9)]


async def test_a_request_that_is_taken_apart_keeps_the_time(pipeline, store):
    await pipeline.submit(received(mixed("one", "two"), 1))

    def fail(batches):
        return StorageRejected("no") if any(row.body == '"bad"' for batch in batches for row in batch.logs) else None

    store.fail = fail
    answer = await pipeline.submit(received(mixed("two", "bad", "one", "three"), 7))
    assert answer.rejected == 1
    assert lines(store) == [('"one"', 1), ('"two"', 1), ('"three"', 7)]
    assert len(store.letters) == 1


async def test_a_try_that_was_not_stored_gives_the_time(pipeline, store):
    store.fail = lambda _: StorageUnavailable("no")
    with pytest.raises(Exception, match="try again"):
        await pipeline.submit(received(mixed("one"), 1))
    store.fail = lambda _: None
    await pipeline.submit(received(mixed("one"), 4))
    assert lines(store) == [('"one"', 1)]


async def test_while_the_store_cannot_tell_only_those_who_have_to_know_wait(pipeline, store):
    async def fail(_arrivals):
        raise StorageUnavailable("no")

    store.first_arrivals = fail
    good = Request(Signal.TRACES, Encoding.PROTOBUF, spans(2).SerializeToString(), 1)
    outcomes = await asyncio.gather(pipeline.submit(received(mixed("one"), 1)), pipeline.submit(good), return_exceptions=True)
    assert "try again" in str(outcomes[0])
    assert outcomes[1].rejected == 0
    assert (lines(store), sorted(await store.span_names())) == ([], ["span 1", "span 2"])


async def test_a_beat_counts_when_it_arrives_however_often(pipeline, store):
    for second in (1, 31):
        for name in (events.WAFER_JOB_HEARTBEAT, events.WAFER_FEED_BEAT):
            beat = lifecycle_log(name, time_unix_nano=0).SerializeToString()
            await pipeline.submit(received(Request(Signal.LOGS, Encoding.PROTOBUF, beat, 0), second))
    tables = store.inner.writer._tables
    newest_ns = 1_700_000_031 * SECOND_NS
    assert [beat.beat_ns for beat in tables.processes.values()] == [newest_ns]
    assert [feed.watermark_ns for feed in tables.feeds.values()] == [newest_ns]
    assert [run.last_sign_ns for run in tables.runs.values()] == [newest_ns]
    assert len(tables.logs) == 2


async def test_an_end_without_a_time_that_comes_again_moves_nothing(pipeline, store):
    for second in (1, 31):
        end = lifecycle_log(events.WAFER_JOB_END, time_unix_nano=0).SerializeToString()
        await pipeline.submit(received(Request(Signal.LOGS, Encoding.PROTOBUF, end, 0), second))
    (run,) = store.inner.writer._tables.runs.values()
    assert run.end_ns == run.last_sign_ns == 1_700_000_001 * SECOND_NS
