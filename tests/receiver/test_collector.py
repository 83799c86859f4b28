"""A stock Collector is the judge of our answers: whatever is refused for now comes again, and arrives field by field."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from tests.receiver.otlp import GOOD, HttpProtobuf, last_item, spans, text
from tests.servers import collector as server
from wafermonitor.receiver.transcode import python
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.errors import SchemaTooOld, StorageUnavailable
from wafermonitor.storage.protocol import SpanQuery

pytestmark = [pytest.mark.collector, pytest.mark.timeout(300)]
REQUESTS = 50
SPANS = 20


@pytest.fixture
def collector_to() -> Iterator:
    """Start a Collector that sends to a receiver."""
    why = server.missing()
    if why is not None:
        pytest.skip(why)
    running: list[server.Server] = []

    def start(grpc_address: str) -> server.Server:
        running.append(server.start(environ={"WAFER_MANAGED_ENDPOINT": grpc_address, "WAFER_SITE_ID": "f1"}))
        return running[-1]

    yield start
    for one in running:
        one.stop()


async def stored(store) -> list:
    found, cursor = [], None
    while True:
        page = await store.reader.spans(SpanQuery(limit=1000, cursor=cursor))
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found


def plain(span) -> tuple:
    """All that the sender wrote; the Collector adds to the resource, and the time of arrival is ours."""
    return span._replace(resource=None, received_ns=0)


async def test_what_a_collector_is_told_to_keep_arrives_whole_and_once(start, store, collector_to):
    faults = [
        StorageUnavailable("down"),
        RuntimeError("a fault of ours"),
        StorageUnavailable("down"),
        SchemaTooOld("migrate first"),
        StorageUnavailable("down"),
    ]
    failing = iter(faults)
    store.fail = lambda _: next(failing, None)
    receiver = await start()
    collector = await asyncio.to_thread(collector_to, receiver.grpc_address)
    requests = [spans(SPANS, first=number * SPANS) for number in range(1, REQUESTS + 1)]
    for number, request in enumerate(requests):
        last_item(request).attributes.append(text("note", f"NUL \0 in request {number}"))
    async with HttpProtobuf("", collector.otlp_http) as client:
        for request in requests:
            assert (await client.send(Signal.TRACES, client.encode(request))).ok
        for signal in (Signal.LOGS, Signal.METRICS):
            assert (await client.send(signal, client.encode(GOOD[signal](5)))).ok
    async with asyncio.timeout(120):
        while len(await stored(store)) < REQUESTS * SPANS:
            store.entered.clear()
            await store.entered.wait()
            await asyncio.sleep(0)
    assert next(failing, None) is None
    lane = python.Lane()
    sent = itertools.chain.from_iterable(
        lane.transcode(Request(Signal.TRACES, Encoding.PROTOBUF, request.SerializeToString(), 1)).batch.spans
        for request in requests
    )
    rows = await stored(store)
    assert sorted(map(plain, rows), key=lambda span: span.span_id) == sorted(map(plain, sent), key=lambda span: span.span_id)
    assert sum(names.WAFER_REPAIRED in span.attributes for span in rows) == REQUESTS
    assert {span.resource.site for span in rows} == {"f1"}
