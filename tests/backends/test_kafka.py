"""A real Kafka gets every message: from the Collector, by the bridge and from a job itself, whatever is away meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from tests.backends import corpus, messages, proof
from tests.servers import collector, tcp_proxy
from tests.servers import kafka as server
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.writers import items, kafka
from wafermonitor.storage.writers.protocol import Fate, Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("kafka"), pytest.mark.timeout(300)]

TOPICS: dict[Signal, str] = {"traces": "otlp_spans", "logs": "otlp_logs", "metrics": "otlp_metrics"}


class Kafka(proof.Backend):
    """A broker, read from the beginning by the client library."""

    name: ClassVar[str] = "kafka"

    def __init__(self) -> None:
        self.server = server.start()
        self._partitions: dict[str, int] = {}
        self.create(*TOPICS.values(), partitions=2)

    @property
    def environment(self) -> Mapping[str, str]:
        return {"WAFER_KAFKA_BROKERS": self.server.brokers, "WAFER_KAFKA_TIMEOUT_S": "2"}

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        return [one for record in self.records(TOPICS[signal]) for one in messages.kept(signal, record.value)]

    def records(self, topic: str) -> list[ConsumerRecord]:
        """All messages of a topic."""
        try:
            return asyncio.run(_records(self.server.brokers, topic, self._partitions[topic]))
        except KafkaError as error:
            raise OSError(str(error)) from error

    def create(self, *topics: str, partitions: int = 1) -> None:
        """New topics."""
        asyncio.run(self.server.create(*topics, partitions=partitions))
        self._partitions |= dict.fromkeys(topics, partitions)

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.server.restart()


async def _records(brokers: str, topic: str, count: int) -> list[ConsumerRecord]:
    consumer = AIOKafkaConsumer(bootstrap_servers=brokers, auto_offset_reset="earliest", enable_auto_commit=False)
    try:
        await consumer.start()
        partitions = [TopicPartition(topic, number) for number in range(count)]
        consumer.assign(partitions)
        ends = await consumer.end_offsets(partitions)
        found: list[ConsumerRecord] = []
        while [one for one in partitions if await consumer.position(one) < ends[one]]:
            for records in (await consumer.getmany(timeout_ms=200)).values():
                found.extend(records)
        return found
    finally:
        await consumer.stop()


@pytest.fixture(scope="module")
def backend() -> Iterator[Kafka]:
    reason = server.missing()
    if reason is not None:
        pytest.skip(reason)
    collector.prepare(("kafka",))
    backend = Kafka()
    yield backend
    backend.server.stop()


def writer_of(backend: Kafka, **settings: Any) -> kafka.Writer:
    return kafka.Writer(kafka.Config.load(backend.environment, **settings))


@pytest.mark.parametrize("way", proof.ways("kafka"))
def test_nothing_is_lost_while_kafka_is_away(backend, way):
    proof.survives(backend, way)


def test_a_message_is_the_request_with_its_digest(backend):
    backend.create("whole")
    writer = writer_of(backend, logs="whole")
    request = corpus.part("whole", 0).requests["logs"]
    (outcome,) = writer.write("logs", [request])
    writer.close()
    assert outcome.fate is Fate.ACCEPTED
    (record,) = backend.records("whole")
    assert record.value == request
    assert dict(record.headers) == {kafka.HEADER: hashlib.sha256(request).hexdigest().encode()}


def test_a_request_above_the_limit_becomes_several_messages_and_an_item_above_it_is_refused_alone(backend):
    backend.create("pieces")
    message = items.parsed("logs", corpus.part("large", 0).requests["logs"])
    message.resource_logs[0].scope_logs[0].log_records[5].body.string_value = "x" * 5_000
    writer = writer_of(backend, logs="pieces", message_bytes=4_000)
    bad, outcome = writer.write("logs", [b"\xff\xff", message.SerializeToString()])
    writer.close()
    assert bad.fate is Fate.REJECTED
    assert (outcome.fate, outcome.rejected) == (Fate.ACCEPTED, 1)
    assert items.count("logs", outcome.remains) == 1
    found = [record.value for record in backend.records("pieces")]
    assert max(map(len, found)) <= 4_000
    assert sum(items.count("logs", body) for body in found) == corpus.PER_SIGNAL - 1


def test_a_topic_that_is_not_there_loses_nothing(backend):
    writer = writer_of(backend, traces="nowhere", timeout_s=1.0)
    (outcome,) = writer.write("traces", [corpus.part("nowhere", 0).requests["traces"]])
    assert outcome.fate is Fate.RETRY
    assert "topic" in outcome.reason
    with pytest.raises(StorageUnavailable, match="nowhere"):
        writer.check()
    writer.close()


def test_a_login_over_tls_writes_and_a_wrong_password_loses_nothing(backend):
    secure = {"brokers": backend.server.secure, "tls": True, "ca_file": str(backend.server.ca_file), "sasl": "SCRAM-SHA-256"}
    request = corpus.part("secure", 0).requests["logs"]
    for password, fate in ((server.PASSWORD, Fate.ACCEPTED), ("another", Fate.RETRY)):
        writer = writer_of(backend, **secure, user=server.USER, password=password)
        (outcome,) = writer.write("logs", [request])
        writer.close()
        assert outcome.fate is fate
        assert password not in outcome.reason
    assert "password" in outcome.reason


def test_brokers_that_no_longer_answer_lose_nothing_and_the_client_ends_in_time(backend):
    host, _, port = backend.server.brokers.partition(":")
    link = tcp_proxy.start(host, int(port))
    writer = writer_of(backend, brokers=f"127.0.0.1:{link.port}", timeout_s=1.0)
    link.silence()
    request = corpus.part("silent", 0).requests["logs"]
    assert writer.write("logs", [request])[0].fate is Fate.RETRY
    link.heal()
    outcome = writer.write("logs", [request])[0]
    writer.close()
    link.stop()
    assert outcome.fate is Fate.ACCEPTED


def test_many_threads_share_a_client_and_nothing_is_left_of_it(backend):
    backend.create("threads", partitions=4)
    requests = [corpus.part("threads", number).requests["metrics"] for number in range(40)]
    writer = writer_of(backend, metrics="threads")
    outcomes: list[Fate] = []
    threads = [
        threading.Thread(target=lambda part=part: outcomes.extend(one.fate for one in writer.write("metrics", part)))
        for part in (requests[at::8] for at in range(8))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    writer.close()
    assert outcomes == [Fate.ACCEPTED] * 40
    assert sorted(record.value for record in backend.records("threads")) == sorted(requests)
    assert not [thread.name for thread in threading.enumerate() if thread.name == "kafka"]
