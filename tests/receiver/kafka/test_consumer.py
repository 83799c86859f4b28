"""The consumer against a real Kafka: what is read, when offsets move, what stands still and what does not."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import time
from types import SimpleNamespace

import pytest

from tests.receiver.kafka.conftest import STOP_S, Sink, until
from tests.receiver.otlp import GOOD, spans
from tests.receiver.process import free_address
from tests.servers import kafka as server
from wafermonitor.receiver.errors import QueueFull, RequestRejected, StoreUnavailable
from wafermonitor.receiver.kafka import client, consumer, delivery
from wafermonitor.receiver.kafka.offsets import Partition
from wafermonitor.receiver.transcode.protocol import Encoding, Signal
from wafermonitor.storage.errors import StorageUnavailable

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("kafka"), pytest.mark.timeout(180)]


def bodies(count: int, size: int = 20) -> list[bytes]:
    """Distinct messages."""
    return [f"{number:08d}".encode().ljust(size, b".") for number in range(count)]


def complaints(caplog) -> list[str]:
    """What the receiver itself has complained of."""
    ours = [record for record in caplog.records if record.name.startswith("wafermonitor")]
    return [record.getMessage() for record in ours if record.levelno >= logging.ERROR]


async def test_each_topic_is_its_signal_and_offsets_follow_what_was_stored(topics, read):
    sink, seen = Sink(), []
    sink.answer = seen.append
    reading = read(sink, **topics.options)
    began_ns = time.time_ns()
    for topic, signal in ((topics.traces, Signal.TRACES), (topics.logs, Signal.LOGS), (topics.metrics, Signal.METRICS)):
        await topics.send(topic, signal.value.encode())
    await topics.settled()
    assert {request.body: request.signal for request in seen} == {signal.value.encode(): signal for signal in Signal}
    assert {request.encoding for request in seen} == {Encoding.PROTOBUF}
    assert all(abs(request.received_ns - began_ns) < 60e9 for request in seen)
    assert reading.measure("messages_total", topic=topics.logs, fate="stored") == 1
    assert reading.measure("connected") == 1
    await until(lambda: reading.consumer.state == (None, 9, 0, 0, ()), "a consumer with nothing behind it")


async def test_a_new_member_goes_on_where_the_group_stands(topics, read):
    first, second = Sink(), Sink()
    reading = read(first, **topics.options)
    await topics.send(topics.traces, *bodies(30))
    await topics.settled()
    await reading.consumer.stop(STOP_S)
    more = bodies(50)[30:]
    await topics.send(topics.traces, *more)
    read(second, **topics.options)
    await topics.settled()
    assert first.taken == dict.fromkeys(bodies(30), 1)
    assert second.taken == dict.fromkeys(more, 1)


async def test_a_group_that_never_read_begins_where_it_is_told(topics, read):
    early, late = Sink(), Sink()
    await topics.send(topics.traces, b"before")
    reading = read(late, **topics.options | {"kafka_from": "latest", "kafka_group": "late"})
    await until(lambda: reading.partitions == 9, "an assignment")
    await asyncio.gather(
        *(reading.consumer._client._library.position(key) for key in reading.consumer._client._library.assignment())
    )
    await topics.send(topics.traces, b"after")
    read(early, **topics.options)
    await until(lambda: late.taken and len(early.taken) == 2, "both to read")
    assert late.taken == {b"after": 1}


async def test_what_comes_between_two_members_that_begin_at_the_end_is_read(topics, read):
    first, second = Sink(), Sink()
    options = topics.options | {"kafka_from": "latest"}
    await topics.send(topics.traces, b"before", partition=1)
    reading = read(first, **options)
    await topics.settled()
    await reading.consumer.stop(STOP_S)
    await topics.send(topics.traces, b"between", partition=0)
    await topics.send(topics.traces, b"between too", partition=1)
    read(second, **options)
    await topics.settled()
    assert first.taken == {}
    assert second.taken == {b"between": 1, b"between too": 1}


async def test_what_was_compressed_is_read(topics, read):
    from aiokafka import AIOKafkaProducer

    sink = Sink()
    read(sink, **topics.options)
    kinds = ("gzip", "snappy", "lz4", "zstd")
    for kind in kinds:
        async with AIOKafkaProducer(bootstrap_servers=topics.broker.brokers, compression_type=kind) as producer:
            await producer.send_and_wait(topics.traces, kind.encode() * 1000)
    await topics.settled()
    assert sink.taken == {kind.encode() * 1000: 1 for kind in kinds}


async def test_poison_becomes_a_dead_letter_with_its_place_and_the_offset_moves_on(topics, read):
    sink = Sink()
    good = bodies(20)
    sink.answer = lambda request: RequestRejected("the body is no OTLP") if request.body.startswith(b"\xff") else None
    reading = read(sink, **topics.options, max_request_bytes=100_000)
    await topics.send(topics.logs, *good[:10], b"\xff\xfe garbage", None, b"x" * 100_001, *good[10:], partition=1)
    await topics.settled()
    assert sink.taken == dict.fromkeys(good, 1)
    letters = {letter.reason: letter for letter in await sink.letters()}
    garbage, nothing, large = (
        next(letter for reason, letter in letters.items() if f"{topics.logs}[1] at {offset}" in reason)
        for offset in (10, 11, 12)
    )
    assert (garbage.sample, garbage.signal) == (b"\xff\xfe garbage", "logs")
    assert "no OTLP" in garbage.reason
    assert nothing.sample == b""
    assert large.sample == b"x" * 65_536
    assert "larger than 100000 bytes" in large.reason
    assert reading.measure("messages_total", topic=topics.logs, fate="rejected") == 3


async def test_poison_is_not_passed_over_while_its_dead_letter_cannot_be_kept(topics, read, monkeypatch):
    monkeypatch.setattr(delivery, "LONGEST_PAUSE_S", 0.05)
    sink = Sink()
    sink.answer = lambda _: RequestRejected("the body is no OTLP")
    reading = read(sink, **topics.options)
    faults = [StorageUnavailable("down"), RuntimeError("odd"), StorageUnavailable("down")]

    async def write(batches):
        if faults:
            raise faults.pop()
        await sink.store.writer.write(batches)

    monkeypatch.setattr(reading.consumer._delivery, "_writer", SimpleNamespace(write=write))
    await topics.send(topics.traces, b"poison")
    await topics.settled()
    assert not faults
    assert [letter.sample for letter in await sink.letters()] == [b"poison"]
    assert reading.measure("messages_total", topic=topics.traces, fate="rejected") == 1


async def test_nothing_is_committed_while_the_store_is_away_and_everything_after(topics, read):
    sink = Sink()
    away = True
    sink.answer = lambda _: StoreUnavailable("the store cannot commit now", 0.05) if away else None
    reading = read(sink, **topics.options)
    await topics.send(topics.traces, *bodies(60))
    await until(lambda: reading.measure("retries_total", topic=topics.traces) > 90, "tries that fail")
    assert reading.consumer.state.stalled > 0
    assert set((await topics.committed()).values()) == {0}
    away = False
    await topics.settled()
    assert sink.taken == dict.fromkeys(bodies(60), 1)
    assert reading.consumer.state.stalled == 0
    assert reading.consumer._ledger.held_bytes == 0


async def test_only_the_oldest_of_a_partition_is_tried_while_all_fail(topics, read):
    sink, tries = Sink(), []
    away = True

    def answer(request):
        tries.append(request.body)
        return StoreUnavailable("not now", 0.02) if away else None

    sink.answer = answer
    read(sink, **topics.options)
    messages = bodies(10)
    await topics.send(topics.traces, *messages, partition=0)
    await until(lambda: tries.count(messages[0]) > 20, "more tries")
    assert all(tries.count(message) <= 2 for message in messages[1:])
    away = False
    await topics.settled()
    assert sink.order[0] == messages[0]


async def test_a_fault_of_our_own_is_told_and_the_message_tried_again(topics, read, monkeypatch, caplog):
    monkeypatch.setattr(delivery, "LONGEST_PAUSE_S", 0.05)
    sink = Sink()
    faults = [RuntimeError("a fault"), RuntimeError("another")]
    sink.answer = lambda _: faults.pop() if faults else None
    read(sink, **topics.options)
    await topics.send(topics.traces, *bodies(5), partition=0)
    await topics.settled()
    assert sink.taken == dict.fromkeys(bodies(5), 1)
    assert sum("a reason of our own" in told for told in complaints(caplog)) == 2


async def test_what_comes_before_its_partition_is_said_to_be_ours_is_not_passed_over(topics, read, monkeypatch):
    sink = Sink()
    reading = read(sink, **topics.options)
    await until(lambda: reading.partitions == 9, "an assignment")
    reading.consumer._forget(list(reading.consumer._ledger.windows.values()))
    await topics.send(topics.traces, *bodies(5), partition=0)
    rewound = []
    rewind = reading.consumer._client.rewind
    monkeypatch.setattr(reading.consumer._client, "rewind", lambda *place: (rewound.append(place), rewind(*place)))
    await until(lambda: len(rewound) > 1, "messages that nobody waits for")
    assert not sink.taken
    reading.consumer._ledger.assign([Partition(topics.traces, 0)])
    await topics.settled()
    assert sink.taken == dict.fromkeys(bodies(5), 1)


async def test_a_partition_that_cannot_go_on_holds_up_no_other(topics, read):
    sink = Sink()
    stuck = True
    sink.answer = lambda request: QueueFull("too much of this site", 0.05) if stuck and request.body == b"stuck" else None
    reading = read(sink, **topics.options, kafka_bytes=1024 * 1024)
    await topics.send(topics.traces, b"stuck", *bodies(200, 20_000), partition=0)
    others = [body + b"!" for body in bodies(200, 20_000)]
    await topics.send(topics.traces, *others[:100], partition=1)
    await topics.send(topics.logs, *others[100:], partition=0)
    await until(lambda: all(sink.taken[body] for body in others), "the other partitions")
    committed = await topics.committed()
    assert committed[topics.traces, 0] == 0
    assert reading.consumer.state.stalled == 1
    stuck = False
    await topics.settled()
    assert set(sink.taken.values()) == {1}
    assert len(sink.taken) == 401


async def test_what_is_in_flight_is_bounded_in_bytes(topics, read):
    sink = Sink()
    sink.open.clear()
    limit, size = 2 * 1024**2, 100_000
    reading = read(sink, **topics.options, kafka_bytes=limit)
    for number in range(3):
        await topics.send(topics.traces, *[bytes([number]) + body for body in bodies(60, size)], partition=number)
    await until(lambda: len(reading.consumer._ledger.takers()) < 9 and sink.waiting_bytes > limit / 2, "a full room")
    await until(
        lambda: not {key for key in reading.consumer._ledger.takers() if key.topic == topics.traces}, "no room for more"
    )
    held = sink.waiting_bytes
    assert limit / 2 < held < 2 * limit
    assert reading.measure("held_bytes") == held
    sink.open.set()
    await topics.settled()
    assert len(sink.taken) == 180
    assert sink.most_bytes < 2 * limit


async def test_how_far_it_is_behind_is_said_now_and_then(topics, read, monkeypatch, caplog):
    monkeypatch.setattr(consumer, "LOOK_S", 0.05)
    sink = Sink()
    sink.open.clear()
    with caplog.at_level(logging.INFO):
        reading = read(sink, **topics.options)
        await topics.send(topics.traces, *bodies(1200))
        await until(lambda: reading.consumer.state.lag == 1200, "the lag to be seen")
        await until(lambda: re.search(r"1[012]\d\d messages behind in \d partitions", caplog.text), "a line in the log")
    sink.open.set()
    await topics.settled()
    await until(lambda: reading.consumer.state.lag == 0, "no lag")
    assert reading.measure("lag", topic=topics.traces, partition="0") == 0
    assert caplog.text.count("messages behind") == 1


async def test_partitions_move_to_a_second_member_and_back_under_load(topics, read):
    first, second = Sink(), Sink()
    one = read(first, **topics.options)
    sent: list[bytes] = []
    stopping = False

    async def load():
        for number in itertools.count():
            if stopping:
                return
            sent.append(b"%d" % number)
            await topics.send((topics.traces, topics.logs)[number % 2], sent[-1])

    loading = asyncio.create_task(load())
    await until(lambda: len(first.taken) > 100, "a first member that reads")
    two = read(second, **topics.options)
    await until(lambda: one.partitions + two.partitions == 9 and one.partitions in (4, 5), "a fair share")
    await until(lambda: len(second.taken) > 100, "a second member that reads")
    await one.consumer.stop(STOP_S)
    await until(lambda: two.partitions == 9, "the second member alone")
    third = read(first, **topics.options)
    await until(lambda: third.partitions in (4, 5), "a third member")
    stopping = True
    await loading
    await topics.settled()
    assert set(first.taken) | set(second.taken) == set(sent)
    # Stopping in order and moving in order deliver nothing twice while the store answers.
    assert first.taken + second.taken == dict.fromkeys(sent, 1)


async def test_what_is_in_flight_when_its_partition_is_taken_away_is_not_committed_late(topics, read, monkeypatch):
    monkeypatch.setattr(consumer, "REVOKED_S", 0.2)
    first, second = Sink(), Sink()
    one = read(first, **topics.options)
    await until(lambda: one.partitions == 9, "an assignment")
    first.open.clear()
    for number in range(3):
        await topics.send(topics.traces, b"%d" % number, partition=number)
    await until(lambda: first.waiting == 3, "messages in flight")
    second.open.clear()
    two = read(second, **topics.options)
    await until(lambda: one.partitions + two.partitions == 9 and two.partitions in (4, 5), "a second member")
    await until(lambda: second.waiting and first.waiting + second.waiting == 3, "every message to come again")
    again = second.waiting
    first.open.set()
    await until(lambda: len(first.taken) == 3 - again, "the first member to go on with what is still its own")
    await until(lambda: one.consumer._ledger.due() == [], "its commits")
    assert sum((await topics.committed()).values()) == 3 - again
    second.open.set()
    await topics.settled()
    assert sum(first.taken.values()) + sum(second.taken.values()) == 3


async def test_a_member_that_was_silent_for_too_long_gives_up_what_others_have_taken(topics, read):
    """Frozen (a stopped process, a laptop asleep): its session ends, another takes over, and its late commits are refused."""
    first, second = Sink(), Sink()
    one = read(first, **topics.options)
    await until(lambda: one.partitions == 9, "an assignment")
    first.open.clear()
    await topics.send(topics.traces, b"once", partition=0)
    await until(lambda: first.waiting == 1, "a message in flight")
    coordinator = one.consumer._client._library._coordinator
    await coordinator._stop_heartbeat_task()
    two = read(second, **topics.options)
    await until(lambda: second.taken == {b"once": 1}, "the second member to store it")
    first.open.set()
    await topics.settled()
    coordinator._start_heartbeat_task()
    await until(lambda: one.partitions + two.partitions == 9 and one.partitions, "both members again")


async def test_a_topic_that_is_made_later_is_read_then(broker, topics, read, monkeypatch, caplog):
    monkeypatch.setattr(client, "NEW_TOPICS_S", 0.3)
    monkeypatch.setattr(consumer, "LOOK_S", 0.2)
    sink = Sink()
    late = f"{topics.logs}_late"
    with caplog.at_level(logging.WARNING):
        reading = read(sink, **topics.options | {"kafka_logs": late})
        await until(lambda: reading.consumer.state.missing == (late,), "the missing topic to be named")
        assert [record.getMessage() for record in caplog.records if late in record.getMessage()] == [
            f"Kafka has no topic {late} (or hides it from us); it is read as soon as it is there"
        ]
    await broker.create(late)
    await topics.send(late, b"late")
    await until(lambda: sink.taken == {b"late": 1}, "the late topic")
    await until(lambda: reading.consumer.state.missing == (), "no missing topic")


async def test_messages_that_kafka_deleted_before_they_were_read_are_counted_and_said(broker, topics, read, caplog):
    from aiokafka import TopicPartition
    from aiokafka.admin import AIOKafkaAdminClient
    from aiokafka.admin.records_to_delete import RecordsToDelete

    sink = Sink()
    reading = read(sink, **topics.options)
    await topics.send(topics.traces, *bodies(5), partition=0)
    await topics.settled()
    await reading.consumer.stop(STOP_S)
    await topics.send(topics.traces, *bodies(12)[5:], partition=0)
    admin = AIOKafkaAdminClient(bootstrap_servers=broker.brokers)
    await admin.start()
    try:
        await admin.delete_records({TopicPartition(topics.traces, 0): RecordsToDelete(before_offset=9)})
    finally:
        await admin.close()
    again = read(sink, **topics.options)
    await topics.settled()
    await until(lambda: again.measure("expired_total", topic=topics.traces) == 4, "the loss to be counted")
    assert "Kafka deleted 4 messages" in caplog.text
    assert len(sink.taken) == 8


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_it_logs_in_by_tls_and_says_the_password_to_nobody(broker, topics, read, mechanism, caplog):
    secure = {"kafka": broker.secure, "kafka_tls": True, "kafka_ca_file": str(broker.ca_file), "kafka_sasl": mechanism}
    sink = Sink()
    with caplog.at_level(logging.DEBUG):
        reading = read(sink, **topics.options | secure, kafka_user=server.USER, kafka_password=server.PASSWORD)
        await topics.send(topics.traces, b"secret")
        await topics.settled()
        await reading.consumer.stop(STOP_S)
    assert sink.taken == {b"secret": 1}
    assert server.PASSWORD not in caplog.text


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"kafka_password": "wrong"}, "(?i)authentication failed"),
        ({"kafka_ca_file": ""}, "(?i)certificate verify failed"),
    ],
    ids=["password", "certificate"],
)
async def test_brokers_that_do_not_let_it_in_are_said_once_with_the_reason(topics, read, wrong, said, caplog, monkeypatch):  # noqa: PLR0917 - fixtures
    broker = topics.broker
    monkeypatch.setattr(consumer, "SHORTEST_PAUSE_S", 0.05)
    secure = {"kafka": broker.secure, "kafka_tls": True, "kafka_ca_file": str(broker.ca_file), "kafka_sasl": "PLAIN"}
    tries = 0
    opened = client.Client.open

    async def counted(self):
        nonlocal tries
        tries += 1
        await opened(self)

    monkeypatch.setattr(client.Client, "open", counted)
    options = topics.options | secure | {"kafka_user": server.USER, "kafka_password": server.PASSWORD} | wrong
    reading = read(Sink(), **options)
    await until(lambda: tries > 3, "several tries")
    assert re.search(said, reading.consumer.state.trouble)
    told = complaints(caplog)
    assert len(told) == 1
    assert re.search(said, told[0])
    assert reading.measure("connected") == 0


async def test_a_broker_that_is_away_is_said_once_and_found_when_it_is_there(read, caplog, monkeypatch):
    monkeypatch.setattr(consumer, "SHORTEST_PAUSE_S", 0.05)
    address = free_address()
    reading = read(Sink(), kafka=address)
    await until(lambda: reading.consumer.state.trouble != "not connected yet", "a first try")
    assert address in reading.consumer.state.trouble
    began = time.monotonic()
    await reading.consumer.stop(STOP_S)
    assert time.monotonic() - began < 1
    assert len(complaints(caplog)) == 1


async def test_a_broker_that_is_killed_and_comes_back_costs_only_time(read, monkeypatch, caplog):
    from aiokafka import AIOKafkaProducer

    why = server.missing()
    if why is not None:
        pytest.skip(why)
    monkeypatch.setattr(consumer, "LOOK_S", 0.2)
    monkeypatch.setattr(client, "REQUEST_S", 1.0)
    own = await asyncio.to_thread(server.start)
    try:
        await own.create("spans", partitions=2)
        sink = Sink()
        reading = read(sink, kafka=own.brokers, kafka_traces="spans", kafka_logs="", kafka_metrics="", kafka_session_s=1.0)
        async with AIOKafkaProducer(bootstrap_servers=own.brokers, acks="all") as producer:
            for body in bodies(50):
                await producer.send_and_wait("spans", body)
            await until(lambda: len(sink.taken) == 50, "the first half")
            await asyncio.to_thread(own.kill)
            await until(lambda: reading.consumer.state.trouble is not None, "the outage to be noticed")
            await asyncio.to_thread(own.restart)
            for body in bodies(100)[50:]:
                await producer.send_and_wait("spans", body)
        await until(lambda: len(sink.taken) == 100, "the second half")
        await until(lambda: reading.consumer.state.trouble is None, "the outage to be over")
        assert sum("cannot be read" in record.getMessage() for record in caplog.records) == 1
        await reading.consumer.stop(STOP_S)
    finally:
        await asyncio.to_thread(own.stop)


async def test_the_receiver_serves_kafka_beside_otlp(topics, start, store):
    receiver = await start(**topics.options)
    for signal, topic in ((Signal.TRACES, topics.traces), (Signal.LOGS, topics.logs), (Signal.METRICS, topics.metrics)):
        await topics.send(topic, GOOD[signal](5).SerializeToString())
    await topics.send(topics.traces, b"\xff\xff\xff garbage", spans(3, first=100).SerializeToString())
    await topics.settled()
    assert len(await store.span_names()) == 8
    assert [letter.sample for letter in store.letters] == [b"\xff\xff\xff garbage"]
    assert receiver.consumer.state.trouble is None
    assert (
        b'wafer_receiver_requests_total{answer="ok",signal="traces",transport="kafka"} 2.0'
        in receiver.consumer._delivery._telemetry.text()
    )


async def test_a_site_over_its_quota_waits_in_its_partition_and_others_go_on(topics, start, store):
    def of_site(name: str, first: int) -> bytes:
        request = spans(2, first=first)
        request.resource_spans[0].resource.attributes[0].value.string_value = name
        return request.SerializeToString()

    receiver = await start(**topics.options, quota_by_site={"f1": {"bytes_per_s": 1.0}})
    text = receiver.consumer._delivery._telemetry.text
    await topics.send(topics.traces, of_site("f1", 1), partition=0)
    await until(lambda: store.groups == [1], "the first message, with which the debt begins")
    await topics.send(topics.traces, of_site("f1", 11), partition=1)
    await until(lambda: b'wafer_receiver_refusals_total{reason="Throttled"} 1.0' in text(), "a message that has to wait")
    await topics.send(topics.traces, of_site("f2", 21), partition=2)
    await until(lambda: store.groups == [1, 1], "the other site's message")
    assert sorted(await store.span_names()) == ["span 1", "span 2", "span 21", "span 22"]
    assert receiver.consumer.state.stalled == 1
