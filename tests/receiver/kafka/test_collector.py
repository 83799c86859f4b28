"""The whole way: a stock Collector writes to Kafka by its own exporter, receivers read it; what was sent is stored, once."""

from __future__ import annotations

import asyncio
import itertools

import pytest
from aiokafka import AIOKafkaProducer

from tests.receiver.kafka.conftest import Topics
from tests.receiver.kafka.test_durability import stored
from tests.receiver.otlp import GOOD, HttpProtobuf, last_item, spans, text
from tests.receiver.process import Receiver
from tests.receiver.test_collector import plain
from tests.receiver.test_collector import stored as kept
from tests.servers import collector as server
from wafermonitor.collector import build, fragments
from wafermonitor.receiver.transcode import python
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.semconv import attributes as names

pytestmark = [
    pytest.mark.servers,
    pytest.mark.collector,
    pytest.mark.postgres,
    pytest.mark.xdist_group("kafka"),
    pytest.mark.timeout(1200),
]
REQUESTS = 60
SPANS = 20
ARRIVED = """SELECT (SELECT count(*) FROM wafer_data.span), (SELECT count(*) FROM wafer_data.metric_point),
    (SELECT count(*) FROM wafer_data.log_record WHERE event_name <> 'wafer.feed.beat')"""


@pytest.fixture(scope="module")
def larger() -> str:
    """A Collector that has the kafka exporter, built once (about 4 minutes) through Go."""
    manifest = fragments.MANIFESTS["full"]
    if build.go() is None and not build.target(manifest).is_file():
        pytest.skip(f"Go {build.OLDEST_GO} or newer is not on PATH, so no Collector with the kafka exporter can be built")
    return str(build.install(manifest, lambda _elapsed_s, _line: None))


@pytest.fixture
async def written(broker, larger):
    """A Collector that writes to Kafka, and the topics that it writes to by default."""
    async with AIOKafkaProducer(bootstrap_servers=broker.brokers) as producer:
        topics = Topics(broker, producer)
        topics.traces, topics.logs, topics.metrics = "otlp_spans", "otlp_logs", "otlp_metrics"
        await broker.create(topics.traces, topics.logs, topics.metrics, partitions=3)
        for option in ("kafka_traces", "kafka_logs", "kafka_metrics"):
            del topics.options[option]
        environ = {"WAFER_COLLECTOR_BIN": larger, "WAFER_KAFKA_BROKERS": broker.brokers, "WAFER_SITE_ID": "f1"}
        collector = await asyncio.to_thread(server.start, ("kafka",), environ=environ)
        yield collector, topics
        await asyncio.to_thread(collector.stop)


async def test_what_a_collector_takes_is_stored_once_and_whole_whatever_is_killed(postgres, written, start, store):
    collector, topics = written
    dsn = postgres.migrated()
    receiver = await asyncio.to_thread(Receiver, dsn, WAFER_RECEIVER_OTLP="false", **topics.environment)
    requests = [spans(SPANS, first=number * SPANS) for number in range(1, REQUESTS + 1)]
    for number, request in enumerate(requests):
        last_item(request).attributes.append(text("note", f"NUL \0 in request {number}"))
    try:
        async with HttpProtobuf("", collector.otlp_http) as client:
            for number, request in enumerate(requests):
                assert (await client.send(Signal.TRACES, client.encode(request))).ok
                if number == REQUESTS // 3:
                    await asyncio.to_thread(receiver.kill)
                    await asyncio.to_thread(collector.kill)
                    await asyncio.to_thread(collector.wait, "ready", 2)
                if number == 2 * REQUESTS // 3:
                    await asyncio.to_thread(receiver.start)
            for signal in (Signal.LOGS, Signal.METRICS):
                assert (await client.send(signal, client.encode(GOOD[signal](5)))).ok
        async with asyncio.timeout(120):
            while await asyncio.to_thread(postgres.psql, ARRIVED, dsn) != f"{REQUESTS * SPANS}|5|5":
                await asyncio.sleep(0.1)
        assert await asyncio.to_thread(collector.end) == 0  # its feed's beat would go on for ever
        await topics.settled()
        found = await asyncio.to_thread(stored, postgres, dsn)
        assert len(found) == len(set(found))
        assert set(found) == set(range(SPANS, (REQUESTS + 1) * SPANS))
        assert await asyncio.to_thread(postgres.psql, ARRIVED, dsn) == f"{REQUESTS * SPANS}|5|5"
    finally:
        assert await asyncio.to_thread(receiver.stop) == 0
    # Another group reads the same messages again, from the first one on: field by field what was sent.
    topics.options["kafka_group"] = "another"
    await start(**topics.options, otlp=False)
    await topics.settled()
    lane = python.Lane()
    sent = itertools.chain.from_iterable(
        lane.transcode(Request(Signal.TRACES, Encoding.PROTOBUF, request.SerializeToString(), 1)).batch.spans
        for request in requests
    )
    rows = await kept(store)
    assert sorted(map(plain, rows), key=lambda span: span.span_id) == sorted(map(plain, sent), key=lambda span: span.span_id)
    assert sum(names.WAFER_REPAIRED in span.attributes for span in rows) == REQUESTS
    assert {span.resource.site for span in rows} == {"f1"}
