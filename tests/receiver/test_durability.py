"""What was acknowledged is in PostgreSQL, once, whatever is killed: receiver, database, or both in turn."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.receiver.otlp import GOOD, SECOND_NS, TRANSPORTS, Grpc, HttpJson, HttpProtobuf, last_item, spans, text
from tests.receiver.process import Receiver
from tests.receiver.test_transcode import POISON, lifecycle_log
from tests.servers import postgres as server
from wafermonitor.receiver.transcode.protocol import Signal
from wafermonitor.semconv import attributes as names
from wafermonitor.semconv import events

pytestmark = pytest.mark.postgres
SPANS = 20
RETRY_S = 0.05
KILLS = 3


@pytest.fixture
def receiver_of():
    """Start receivers; what is left is stopped."""
    running: list[Receiver] = []

    def start(dsn: str) -> Receiver:
        running.append(Receiver(dsn))
        return running[-1]

    yield start
    for receiver in running:
        receiver.stop()


class Load:
    """Senders that send each request until it is acknowledged, like a Collector with endless retry."""

    def __init__(self, receiver: Receiver, senders: int = 6) -> None:
        self._receiver = receiver
        self._numbers = itertools.count(1)
        self._stopping = False
        self._senders = senders
        self._progress = asyncio.Condition()
        self.acked: set[int] = set()
        self.retried = 0
        self.refusals: set[int] = set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        transports = itertools.islice(itertools.cycle(TRANSPORTS), self._senders)
        tasks = [asyncio.create_task(self._send(transport)) for transport in transports]
        try:
            yield self
        finally:
            self._stopping = True
            async with asyncio.timeout(60):
                await asyncio.gather(*tasks)

    async def more(self, number: int) -> None:
        """Until `number` more requests have been acknowledged."""
        goal = len(self.acked) + number
        async with asyncio.timeout(60), self._progress:
            await self._progress.wait_for(lambda: len(self.acked) >= goal)

    async def refused(self, number: int) -> None:
        """Until `number` more tries have failed."""
        goal = self.retried + number
        async with asyncio.timeout(60), self._progress:
            await self._progress.wait_for(lambda: self.retried >= goal)

    @property
    def span_ids(self) -> set[int]:
        return {number * SPANS + index for number in self.acked for index in range(SPANS)}

    async def _send(self, transport) -> None:
        async with transport(self._receiver.grpc_address, self._receiver.http_address) as client:
            while not self._stopping:
                number = next(self._numbers)
                body = client.encode(spans(SPANS, first=number * SPANS))
                while not await self._try(client, body):
                    await asyncio.sleep(RETRY_S)
                async with self._progress:
                    self.acked.add(number)
                    self._progress.notify_all()

    async def _try(self, client, body: bytes) -> bool:
        try:
            outcome = await client.send(Signal.TRACES, body)
        except httpx.TransportError:
            outcome = None
        if outcome is not None and outcome.ok:
            return True
        async with self._progress:
            self.retried += 1
            if outcome is not None:
                self.refusals.add(outcome.http or outcome.code)
            self._progress.notify_all()
        return False


def stored(postgres: server.Server, dsn: str) -> list[int]:
    """Span ids of every row, those kept for late spans included, doubles as often as they are there."""
    sql = "SELECT span_id FROM wafer_data.span UNION ALL SELECT span_id FROM wafer_data.span_late"
    return [int(line) for line in postgres.psql(sql, dsn).split()]


async def test_kill_9_of_the_receiver_under_load_loses_and_doubles_nothing(postgres, receiver_of):
    dsn = postgres.migrated()
    receiver = receiver_of(dsn)
    load = Load(receiver)
    async with load.running():
        for _ in range(KILLS):
            await load.more(20)
            await asyncio.to_thread(receiver.kill)
            assert load.span_ids <= set(await asyncio.to_thread(stored, postgres, dsn))
            await load.refused(3)
            await asyncio.to_thread(receiver.start)
        await load.more(20)
    rows = stored(postgres, dsn)
    assert len(rows) == len(set(rows))
    assert set(rows) == load.span_ids
    assert len(rows) >= 20 * (KILLS + 1) * SPANS


async def test_a_database_that_is_killed_and_comes_back_costs_only_time(durable, receiver_of):
    dsn = durable.migrated()
    receiver = receiver_of(dsn)
    load = Load(receiver)
    async with load.running():
        await load.more(20)
        await asyncio.to_thread(durable.kill)
        await load.refused(30)
        async with httpx.AsyncClient(base_url=f"http://{receiver.http_address}") as client:
            assert (await client.get("/readyz")).status_code == 503
            assert (await client.get("/healthz")).status_code == 200
        await asyncio.to_thread(durable.restart)
        await load.more(40)
    assert load.refusals <= {503, 14}
    rows = stored(durable, dsn)
    assert len(rows) == len(set(rows))
    assert set(rows) == load.span_ids


async def test_stopping_in_order_under_load_commits_what_was_accepted(postgres, receiver_of):
    dsn = postgres.migrated()
    receiver = receiver_of(dsn)
    load = Load(receiver)
    async with load.running():
        await load.more(20)
        assert await asyncio.to_thread(receiver.stop) == 0
        assert load.span_ids <= set(await asyncio.to_thread(stored, postgres, dsn))
        await asyncio.to_thread(receiver.start)
        await load.more(10)
    rows = stored(postgres, dsn)
    assert len(rows) == len(set(rows))
    assert set(rows) == load.span_ids
    # 1: gRPC had taken the call but not handed it over when it stopped (OTLP: send again); 14 and 503: said so.
    assert load.refusals <= {1, 14, 503}


async def test_every_kind_of_row_arrives_and_is_json_for_the_database(postgres, receiver_of):
    dsn = postgres.migrated()
    receiver = receiver_of(dsn)
    async with HttpProtobuf("", receiver.http_address) as client, HttpJson("", receiver.http_address) as json_client:
        rejected = 0
        for number, (change, repair) in enumerate(POISON.values(), 1):
            request = spans(3, first=100 * number)
            change(request.resource_spans[0].scope_spans[0].spans[1])
            for sender in (client, json_client):
                outcome = await sender.send(Signal.TRACES, sender.encode(request))
                assert outcome.ok
                rejected += outcome.rejected
                assert outcome.rejected == (repair is None)
        for signal in (Signal.LOGS, Signal.METRICS):
            assert (await client.send(signal, client.encode(GOOD[signal](5)))).ok
        for name in (events.WAFER_JOB_START, events.WAFER_JOB_HEARTBEAT, events.WAFER_FEED_BEAT):
            assert (await client.send(Signal.LOGS, client.encode(lifecycle_log(name)))).ok
    good = sum(3 if repair else 2 for _, repair in POISON.values())
    assert len(stored(postgres, dsn)) == good
    assert postgres.psql("SELECT count(attributes::jsonb), count(events::jsonb) FROM wafer_data.span", dsn) == f"{good}|1"
    assert int(postgres.psql("SELECT count(*) FROM wafer_data.dead_letter", dsn)) == rejected
    assert postgres.psql("SELECT count(body::jsonb) FROM wafer_data.log_record", dsn) == "8"
    assert postgres.psql("SELECT count(*), sum(value) FROM wafer_data.metric_point", dsn) == "5|10"
    assert postgres.psql("SELECT job FROM wafer_data.run_open", dsn) == "lot_yield"
    assert postgres.psql("SELECT count(*) FROM wafer_data.process", dsn) == "1"
    assert postgres.psql("SELECT count(*) FROM wafer_data.feed WHERE watermark_unix_ns IS NOT NULL", dsn) == "1"


async def test_redelivery_in_any_order_by_any_transport_stores_each_row_once(postgres, receiver_of):
    dsn = postgres.migrated()
    receiver = receiver_of(dsn)
    requests = [spans(SPANS, first=number * SPANS) for number in range(1, 11)]
    requests[0].resource_spans[0].scope_spans[0].spans[0].attributes.append(text(names.WAFER_JOB_NAME, "lot_yield"))
    async with (
        Grpc(receiver.grpc_address, "") as first,
        HttpProtobuf("", receiver.http_address) as second,
        HttpJson("", receiver.http_address) as third,
    ):
        orders = [(first, requests), (second, requests[::-1]), (third, requests[5:] + requests[:5])]
        sent = [client.send(Signal.TRACES, client.encode(request)) for client, order in orders for request in order]
        outcomes = await asyncio.gather(*sent)
        assert all(outcome.ok for outcome in outcomes)
        again = spans(SPANS, first=SPANS)
        last_item(again).start_time_unix_nano += SECOND_NS
        last_item(again).end_time_unix_nano += SECOND_NS
        assert (await first.send(Signal.TRACES, first.encode(again))).ok
    rows = stored(postgres, dsn)
    assert len(rows) == 10 * SPANS + 1  # a span id with another start is another span
    assert len(set(rows)) == 10 * SPANS
    assert postgres.psql("SELECT count(*) FROM wafer_data.run", dsn) == "1"
