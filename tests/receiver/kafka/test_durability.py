"""From Kafka into PostgreSQL by the real command: what was sent is stored once, whatever is killed or moved."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.receiver.kafka.conftest import until
from tests.receiver.otlp import GOOD, spans
from tests.receiver.process import Receiver
from tests.servers import kafka as broker_server
from tests.servers import postgres as server
from wafermonitor.receiver.transcode.protocol import Signal

pytestmark = [pytest.mark.servers, pytest.mark.postgres, pytest.mark.xdist_group("kafka"), pytest.mark.timeout(300)]
SPANS = 10


@pytest.fixture
def receiver_of():
    """Start receivers that read Kafka and take no OTLP; what is left is stopped."""
    running: list[Receiver] = []

    def start(dsn: str, **environment: str) -> Receiver:
        running.append(Receiver(dsn, WAFER_RECEIVER_OTLP="false", **environment))
        return running[-1]

    yield start
    for receiver in running:
        receiver.stop()


def stored(postgres: server.Server, dsn: str) -> list[int]:
    """Span ids of every row, doubles as often as they are there."""
    sql = "SELECT span_id FROM wafer_data.span UNION ALL SELECT span_id FROM wafer_data.span_late"
    return [int(line) for line in postgres.psql(sql, dsn).split()]


def count(postgres: server.Server, dsn: str, table: str) -> int:
    return int(postgres.psql(f"SELECT count(*) FROM wafer_data.{table}", dsn))


class Load:
    """Requests of ten spans, one after the other."""

    def __init__(self, topics) -> None:
        self._topics = topics
        self._stopping = False
        self.sent = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Load]:
        """While the context is open; what was written is in Kafka when it has been left."""
        writing = asyncio.create_task(self._write())
        try:
            yield self
        finally:
            self._stopping = True
            await writing

    async def _write(self) -> None:
        while not self._stopping:
            bodies = [spans(SPANS, first=number * SPANS).SerializeToString() for number in range(self.sent + 1, self.sent + 21)]
            await self._topics.send(self._topics.traces, *bodies)
            self.sent += len(bodies)
            await asyncio.sleep(0.01)

    @property
    def span_ids(self) -> set[int]:
        return set(range(SPANS, (self.sent + 1) * SPANS))


async def more(postgres: server.Server, dsn: str, messages: int) -> None:
    """Until PostgreSQL has the spans of so many messages more."""
    goal = await rows(postgres, dsn) + messages * SPANS
    async with asyncio.timeout(60):
        while await rows(postgres, dsn) < goal:
            await asyncio.sleep(0.02)


async def rows(postgres: server.Server, dsn: str) -> int:
    return await asyncio.to_thread(count, postgres, dsn, "span")


async def test_kill_9_mid_way_loses_and_doubles_nothing(postgres, topics, receiver_of):
    dsn = postgres.migrated()
    receiver = await asyncio.to_thread(receiver_of, dsn, **topics.environment)
    load = Load(topics)
    async with load.running():
        for _ in range(3):
            await more(postgres, dsn, 100)
            await asyncio.to_thread(receiver.kill)
            await asyncio.to_thread(receiver.start)
        await more(postgres, dsn, 100)
    for signal, topic in ((Signal.LOGS, topics.logs), (Signal.METRICS, topics.metrics)):
        await topics.send(topic, GOOD[signal](7).SerializeToString())
    await topics.settled()
    found = await asyncio.to_thread(stored, postgres, dsn)
    assert len(found) == len(set(found))
    assert set(found) == load.span_ids
    assert (count(postgres, dsn, "log_record"), count(postgres, dsn, "metric_point")) == (7, 7)


async def test_items_without_a_time_of_their_own_are_stored_once_when_they_come_again(postgres, topics, receiver_of):
    """They take the time at which Kafka got them, which is the same at every delivery."""
    dsn = postgres.migrated()
    request = GOOD[Signal.LOGS](3)
    point = GOOD[Signal.METRICS](1)
    for record in request.resource_logs[0].scope_logs[0].log_records:
        record.time_unix_nano = 0
    point.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points[0].time_unix_nano = 0
    await topics.send(topics.logs, request.SerializeToString())
    await topics.send(topics.metrics, point.SerializeToString())
    for group in ("one", "two"):
        receiver = await asyncio.to_thread(receiver_of, dsn, **topics.environment | {"WAFER_RECEIVER_KAFKA_GROUP": group})
        topics.options["kafka_group"] = group
        await topics.settled()
        assert await asyncio.to_thread(receiver.stop) == 0
    assert (count(postgres, dsn, "log_record"), count(postgres, dsn, "metric_point")) == (3, 1)


async def test_two_receivers_share_the_work_and_one_takes_over_from_a_killed_one(postgres, topics, receiver_of):
    dsn = postgres.migrated()
    first = await asyncio.to_thread(receiver_of, dsn, **topics.environment)
    load = Load(topics)
    async with load.running():
        await more(postgres, dsn, 100)
        second = await asyncio.to_thread(receiver_of, dsn, **topics.environment)
        await until(lambda: measure(second, "messages_total") > 0, "the second receiver to store something")
        await more(postgres, dsn, 100)
        await asyncio.to_thread(first.kill)
        await until(lambda: measure(second, "rebalances_total") > 1, "the second receiver alone")
        await more(postgres, dsn, 100)
    await topics.settled()
    found = await asyncio.to_thread(stored, postgres, dsn)
    assert len(found) == len(set(found))
    assert set(found) == load.span_ids


async def test_poison_among_good_ones_is_kept_and_the_rest_is_stored(postgres, topics, receiver_of):
    dsn = postgres.migrated()
    receiver = await asyncio.to_thread(receiver_of, dsn, **topics.environment)
    poison = [b"\xff\xff\xff", b"{not protobuf}", spans(5).SerializeToString()[:-3]]
    messages = [spans(SPANS, first=number * SPANS).SerializeToString() for number in range(1, 101)]
    mixed = list(itertools.chain(*([*messages[index::3], bad] for index, bad in enumerate(poison))))
    await topics.send(topics.traces, *mixed)
    await topics.settled()
    found = await asyncio.to_thread(stored, postgres, dsn)
    assert sorted(found) == list(range(SPANS, 101 * SPANS))
    letters = postgres.psql("SELECT encode(sample, 'hex') FROM wafer_data.dead_letter", dsn).split()
    assert sorted(letters) == sorted(bad.hex() for bad in poison)
    assert await asyncio.to_thread(receiver.stop) == 0
    assert receiver.log.count("can never be stored, a dead letter") == 3


async def test_a_database_that_is_killed_and_comes_back_costs_only_time(topics, receiver_of, durable):
    dsn = durable.migrated()
    receiver = await asyncio.to_thread(receiver_of, dsn, **topics.environment)
    load = Load(topics)
    async with load.running():
        await more(durable, dsn, 100)
        await asyncio.to_thread(durable.kill)
        await until(lambda: measure(receiver, "retries_total") > 0, "messages that are tried again")
        began = time.monotonic()
        assert await asyncio.to_thread(receiver.stop) == 0
        assert time.monotonic() - began < 5  # there is nothing to wait for
        await asyncio.to_thread(durable.restart)
        await asyncio.to_thread(receiver.start)
        await more(durable, dsn, 100)
        await asyncio.to_thread(durable.kill)
        await until(lambda: measure(receiver, "retries_total") > 0, "messages that are tried again")
        await asyncio.to_thread(durable.restart)
        await more(durable, dsn, 100)
    await topics.settled()
    found = await asyncio.to_thread(stored, durable, dsn)
    assert len(found) == len(set(found))
    assert set(found) == load.span_ids
    assert await asyncio.to_thread(receiver.stop) == 0


async def test_stopping_in_order_commits_what_it_took_within_the_drain(postgres, topics, receiver_of):
    dsn = postgres.migrated()
    receiver = await asyncio.to_thread(receiver_of, dsn, **topics.environment)
    load = Load(topics)
    async with load.running():
        await more(postgres, dsn, 200)
        began = time.monotonic()
        assert await asyncio.to_thread(receiver.stop) == 0
        assert time.monotonic() - began < 10
        assert "Traceback" not in receiver.log
        # Everything that was taken was stored and committed: the next one reads nothing again.
        assert await rows(postgres, dsn) == sum((await topics.committed()).values()) * SPANS
        await asyncio.to_thread(receiver.start)
        await more(postgres, dsn, 100)
    await topics.settled()
    assert set(await asyncio.to_thread(stored, postgres, dsn)) == load.span_ids


async def test_kafka_alone_opens_no_port_for_otlp_but_health_and_metrics(topics, receiver_of):
    receiver = await asyncio.to_thread(receiver_of, "memory://", **topics.environment)
    assert (receiver.ready["grpc"], receiver.ready["kafka"]) == (None, topics.options["kafka"])
    await until(lambda: page(receiver, "/readyz")[0] == 200, "the receiver to be ready")
    status, body = page(receiver, "/v1/traces", b"{}")
    assert (status, b"no such path" in body) == (404, True)
    await until(lambda: measure(receiver, "rebalances_total") == 1, "an assignment")
    assert measure(receiver, "connected") == 1
    await until(lambda: health(receiver)["partitions"] == 9, "health that tells of the partitions")
    assert health(receiver) == {"trouble": None, "partitions": 9, "lag": 0, "stalled": 0, "missing": []}


async def test_kafka_alone_is_not_ready_while_no_broker_answers(receiver_of):
    receiver = await asyncio.to_thread(receiver_of, "memory://", WAFER_RECEIVER_KAFKA="127.0.0.1:1")
    status, body = page(receiver, "/readyz")
    assert (status, json.loads(body)["reason"]) == (503, "Kafka does not answer")
    assert page(receiver, "/healthz")[0] == 200
    assert page(receiver, "/v1/health")[0] == 503
    await until(lambda: "127.0.0.1:1" in health(receiver)["trouble"], "the reason")
    began = time.monotonic()
    assert await asyncio.to_thread(receiver.stop) == 0
    assert time.monotonic() - began < 5
    assert receiver.log.count("cannot be read") == 1


async def test_a_secret_is_in_no_log_even_when_everything_is_logged(broker, topics, receiver_of):
    secret = {
        "WAFER_RECEIVER_KAFKA": broker.secure,
        "WAFER_RECEIVER_KAFKA_TLS": "true",
        "WAFER_RECEIVER_KAFKA_CA_FILE": str(broker.ca_file),
        "WAFER_RECEIVER_KAFKA_SASL": "PLAIN",
        "WAFER_RECEIVER_KAFKA_USER": broker_server.USER,
        "WAFER_RECEIVER_KAFKA_PASSWORD": broker_server.PASSWORD,
        "LOG_LEVEL": "DEBUG",
    }
    receiver = await asyncio.to_thread(receiver_of, "memory://", **topics.environment | secret)
    await topics.send(topics.traces, spans(3).SerializeToString())
    await topics.settled()
    assert await asyncio.to_thread(receiver.stop) == 0
    assert '"level": "DEBUG"' in receiver.log
    assert broker_server.PASSWORD not in receiver.log


def page(receiver: Receiver, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Status and body of one of its pages."""
    request = urllib.request.Request(f"http://{receiver.http_address}{path}", body, {"content-type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def health(receiver: Receiver) -> dict:
    """What its health page says of Kafka."""
    return json.loads(page(receiver, "/v1/health")[1])["kafka"]


def measure(receiver: Receiver, name: str) -> float:
    """A measure of the consumer, over all labels."""
    lines = page(receiver, "/metrics")[1].decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"wafer_receiver_kafka_{name}"))
