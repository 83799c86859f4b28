"""One broker for the session, topics and a producer for each test, and consumers that hand what they read to the test."""

from __future__ import annotations

import asyncio
import gc
import itertools
import warnings
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from tests.servers import kafka as server
from tests.servers.fixtures import running
from wafermonitor.receiver.answers import Answer
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.kafka import consumer
from wafermonitor.receiver.kafka.consumer import Consumer
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode.protocol import Request
from wafermonitor.runs.records import DeadLetter
from wafermonitor.storage import memory

DEADLINE_S = 60.0
STOP_S = 30.0
NUMBERS = itertools.count(1)


async def until(condition: Callable[[], Any], what: str, timeout_s: float = DEADLINE_S) -> None:
    """Wait for `condition`; the test fails with `what` when it does not come."""
    try:
        async with asyncio.timeout(timeout_s):
            while not condition():
                await asyncio.sleep(0.01)
    except TimeoutError:
        pytest.fail(f"{what}: not within {timeout_s:g} s")


@pytest.fixture(autouse=True)
async def _connections_of_a_killed_broker() -> AsyncIterator[None]:
    """The library drops a connection that its broker has ended without closing it (`AIOKafkaClient._get_conn`, 0.14): so the
    garbage collector closes it, which must not be in some other test, whose loop is another."""
    yield
    await asyncio.sleep(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session")
def broker() -> Iterator[server.Server]:
    """A real Kafka for the session."""
    yield from running(server)


class Topics:
    """The topics and the group of one test."""

    def __init__(self, broker: server.Server, producer: AIOKafkaProducer) -> None:
        number = next(NUMBERS)
        self.broker = broker
        self.producer = producer
        self.traces, self.logs, self.metrics = (f"{name}_{number}" for name in ("otlp_spans", "otlp_logs", "otlp_metrics"))
        self.options = {
            "kafka": broker.brokers,
            "kafka_group": f"group-{number}",
            "kafka_traces": self.traces,
            "kafka_logs": self.logs,
            "kafka_metrics": self.metrics,
            "kafka_session_s": 1.0,
        }

    @property
    def environment(self) -> dict[str, str]:
        """The same for a process."""
        return {f"WAFER_RECEIVER_{name.upper()}": str(value) for name, value in self.options.items()}

    async def send(self, topic: str, *bodies: bytes | None, partition: int | None = None) -> None:
        """Write messages; returns when the broker has them."""
        key = b"key" if None in bodies else None
        sent = [await self.producer.send(topic, body, key, partition) for body in bodies]
        await asyncio.gather(*sent)

    async def committed(self) -> dict[tuple[str, int], int]:
        """What the group committed, of each partition that ever was."""
        async with AIOKafkaConsumer(
            bootstrap_servers=self.broker.brokers, group_id=self.options["kafka_group"], enable_auto_commit=False
        ) as asking:
            cluster = await asking._client.fetch_all_metadata()
            keys = [
                TopicPartition(topic, number)
                for topic in cluster.topics() & {self.traces, self.logs, self.metrics}
                for number in cluster.partitions_for_topic(topic)
            ]
            return {key: await asking.committed(key) or 0 for key in keys}

    async def settled(self, *, timeout_s: float = DEADLINE_S) -> None:
        """Until the group has committed everything that was written."""
        async with AIOKafkaConsumer(bootstrap_servers=self.broker.brokers, group_id=None) as asking:
            async with asyncio.timeout(timeout_s):
                while True:
                    committed = await self.committed()
                    if committed == await asking.end_offsets(list(committed)):
                        return
                    await asyncio.sleep(0.1)


@pytest.fixture
async def topics(broker) -> AsyncIterator[Topics]:
    """A topic for each signal, of three partitions."""
    async with AIOKafkaProducer(bootstrap_servers=broker.brokers, max_request_size=8 * 1024**2) as producer:
        own = Topics(broker, producer)
        await broker.create(own.traces, own.logs, own.metrics, partitions=3)
        yield own


class Sink:
    """Where a consumer delivers to: `answer` decides on each request, `taken` remembers those that it accepted."""

    def __init__(self) -> None:
        self.store = memory.Storage()
        self.taken: Counter[bytes] = Counter()
        self.order: list[bytes] = []
        self.waiting = 0
        self.waiting_bytes = 0
        self.most_bytes = 0
        self.open = asyncio.Event()
        self.open.set()
        self.answer: Callable[[Request], BaseException | None] = lambda _: None

    async def submit(self, request: Request) -> Answer:
        self.waiting += 1
        self.waiting_bytes += len(request.body)
        self.most_bytes = max(self.most_bytes, self.waiting_bytes)
        try:
            await self.open.wait()
        finally:
            self.waiting -= 1
            self.waiting_bytes -= len(request.body)
        error = self.answer(request)
        if error is not None:
            raise error
        self.taken[request.body] += 1
        self.order.append(request.body)
        return Answer()

    async def letters(self) -> list[DeadLetter]:
        from wafermonitor.storage.protocol import DeadLetterQuery

        return [stored.letter for stored in (await self.store.reader.dead_letters(DeadLetterQuery())).items]


class Reading:
    """A consumer that was started, its sink, and its measures."""

    def __init__(self, sink: Sink, **options: Any) -> None:
        self.sink = sink
        self.config = Config(**options)
        self.telemetry = Telemetry(lambda: 0.0)
        self.consumer = Consumer(self.config, self.config.max_request_bytes, sink.submit, sink.store.writer, self.telemetry)

    def measure(self, name: str, **labels: str) -> float:
        return self.telemetry.registry.get_sample_value(f"wafer_receiver_kafka_{name}", labels) or 0.0

    @property
    def partitions(self) -> int:
        return self.consumer.state.partitions


@pytest.fixture
async def read(monkeypatch) -> AsyncIterator[Callable[..., Reading]]:
    """Start consumers; they are stopped when the test ends."""
    # A busy machine must not leave connections open.
    monkeypatch.setattr(consumer, "LEAVE_S", 10.0)
    readings: list[Reading] = []

    def start(sink: Sink, **options: Any) -> Reading:
        readings.append(Reading(sink, **options))
        readings[-1].consumer.start()
        return readings[-1]

    yield start
    for reading in readings:
        reading.sink.open.set()
        reading.sink.answer = lambda _: None
        await reading.consumer.stop(STOP_S)
