"""Answers that depend on what stands behind the receiver, over gRPC, HTTP/protobuf and HTTP/JSON: the store, the options.

What every sender may expect of any OTLP server is judged in `tests/conformance/otlp_server`. The judge here is what a Collector
does with the answer: it retries UNAVAILABLE and 503, and drops what is called permanent.
"""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.receiver.otlp import GOOD, JSON, PROTOBUF, START_NS, Grpc, HttpJson, HttpProtobuf, http_refusal, last_item, spans
from wafermonitor.receiver.transcode.policies import MAX_DEPTH
from wafermonitor.receiver.transcode.protocol import Signal
from wafermonitor.storage.errors import SchemaTooOld, StorageRejected, StorageUnavailable
from wafermonitor.storage.protocol import SpanQuery

OK = 0
INVALID_ARGUMENT = 3
RESOURCE_EXHAUSTED = 8
UNIMPLEMENTED = 12
UNAVAILABLE = 14
UNAUTHENTICATED = 16
SMALL = 200_000

SIGNALS = [
    pytest.param(signal, id=signal.value, marks=() if signal is Signal.TRACES else pytest.mark.slow) for signal in Signal
]
each_signal = pytest.mark.parametrize("signal", SIGNALS)
only_traces = pytest.mark.parametrize("signal", [Signal.TRACES], ids=str)


def assert_refused(outcome, client, code: int, http: int) -> None:
    """The same refusal in the words of the transport; a hint when and only when another try can help."""
    assert outcome.code == code
    assert outcome.http == (None if client.name == "grpc" else http)
    assert outcome.media == (JSON if client.name == "http/json" else PROTOBUF)
    if code == UNAVAILABLE:
        assert outcome.retry_info_s is not None
        assert outcome.retry_info_s >= 1
        assert client.name == "grpc" or int(outcome.retry_after) >= 1
    else:
        assert outcome.retry_info_s is None
        assert outcome.retry_after is None


def sized(client, signal: Signal, size: int) -> bytes:
    """A good request of exactly `size` bytes in the client's encoding: its first attribute makes up the difference."""
    request = GOOD[signal](1)
    filler = (request.ListFields()[0][1])[0].resource.attributes.add(key="filler")
    filler.value.string_value = "x" * (size // 2)
    filler.value.string_value += "x" * (size - len(client.encode(request)))
    while len(client.encode(request)) > size:
        filler.value.string_value = filler.value.string_value[:-1]
    return client.encode(request)


@each_signal
async def test_a_store_that_is_away_makes_the_sender_wait(start, connect, signal, store):
    store.fail = lambda _: StorageUnavailable("postgresql://secret@db is down")
    async with connect(await start()) as client:
        outcome = await client.send(signal, client.encode(GOOD[signal]()))
        assert_refused(outcome, client, UNAVAILABLE, 503)
        assert "secret" not in outcome.message
        store.fail = lambda _: None
        assert (await client.send(signal, client.encode(GOOD[signal]()))).ok


@each_signal
async def test_a_store_that_must_be_migrated_first_makes_the_sender_wait(start, connect, signal, store):
    store.fail = lambda _: SchemaTooOld("run `wafer storage migrate`")
    async with connect(await start()) as client:
        assert_refused(await client.send(signal, client.encode(GOOD[signal]())), client, UNAVAILABLE, 503)


@each_signal
async def test_a_failure_of_our_own_makes_the_sender_wait(start, connect, signal, store):
    store.fail = lambda _: RuntimeError("/etc/secret")
    async with connect(await start()) as client:
        outcome = await client.send(signal, client.encode(GOOD[signal]()))
    assert_refused(outcome, client, UNAVAILABLE, 503)
    assert "secret" not in outcome.message


@each_signal
async def test_what_the_store_never_takes_is_refused_for_good(start, connect, signal, store):
    store.fail = lambda _: StorageRejected("column secret")
    async with connect(await start()) as client:
        outcome = await client.send(signal, client.encode(GOOD[signal]()))
    assert_refused(outcome, client, INVALID_ARGUMENT, 400)
    assert "secret" not in outcome.message


@each_signal
async def test_a_stopping_receiver_makes_the_sender_wait(start, connect, signal):
    receiver = await start()
    await receiver.outlet.drain(0)
    async with connect(receiver) as client:
        assert_refused(await client.send(signal, client.encode(GOOD[signal]())), client, UNAVAILABLE, 503)


@each_signal
async def test_a_full_queue_makes_the_sender_wait(start, connect, signal, store):
    store.open.clear()
    async with connect(await start(max_request_bytes=4096, queue_bytes=4096)) as client:
        first = asyncio.create_task(client.send(signal, sized(client, signal, 3000)))
        await store.entered.wait()
        assert_refused(await client.send(signal, sized(client, signal, 3000)), client, UNAVAILABLE, 503)
        store.open.set()
        assert (await first).ok


@each_signal
async def test_a_wrong_token_is_refused_and_the_right_one_is_not(start, connect, signal):
    async with connect(await start(token="right")) as client:
        body = client.encode(GOOD[signal]())
        assert_refused(await client.send(signal, body), client, UNAUTHENTICATED, 401)
        assert_refused(await client.send(signal, body, token="wrong"), client, UNAUTHENTICATED, 401)
        assert (await client.send(signal, body, token="right")).ok


@each_signal
async def test_a_request_of_the_largest_size_passes_and_one_byte_more_does_not(start, connect, signal):
    async with connect(await start(max_request_bytes=SMALL, queue_bytes=SMALL)) as client:
        assert (await client.send(signal, sized(client, signal, SMALL))).ok
        assert_refused(await client.send(signal, sized(client, signal, SMALL + 1)), client, RESOURCE_EXHAUSTED, 413)


@each_signal
async def test_the_limit_holds_after_decompression(start, connect, signal):
    async with connect(await start(max_request_bytes=SMALL, queue_bytes=SMALL)) as client:
        assert (await client.send(signal, sized(client, signal, SMALL), compressed=True)).ok
        outcome = await client.send(signal, sized(client, signal, SMALL + 1), compressed=True)
        assert_refused(outcome, client, RESOURCE_EXHAUSTED, 413)


@each_signal
async def test_an_item_that_can_never_be_stored_is_counted_and_kept_as_a_dead_letter(start, connect, signal, store):
    request = GOOD[signal](4)
    item = last_item(request)
    if signal is Signal.METRICS:
        item.gauge.data_points[-1].time_unix_nano = 2**63
    else:
        item.trace_id = b"12345"
    async with connect(await start()) as client:
        outcome = await client.send(signal, client.encode(request))
    assert outcome.ok
    assert outcome.partial
    assert outcome.rejected == 1
    assert "for good" in outcome.reason
    assert len(store.letters) == 1


@only_traces
async def test_the_same_span_twice_is_accepted_and_stored_once(start, connect, signal, store):
    async with connect(await start()) as client:
        for _ in range(2):
            assert (await client.send(signal, client.encode(spans()))).ok
    assert await store.span_names() == ["span 1"]


@only_traces
@pytest.mark.parametrize("depth", [MAX_DEPTH, MAX_DEPTH + 1, 200])
async def test_depth_of_values_is_bounded_without_harm_to_the_neighbours(start, connect, signal, store, depth):
    request = spans(3)
    value = last_item(request).attributes.add(key="nested").value
    for _ in range(depth):
        value = value.array_value.values.add()
    value.int_value = 1
    async with connect(await start()) as client:
        outcome = await client.send(signal, client.encode(request))
    assert outcome.ok
    assert outcome.rejected == (1 if depth > MAX_DEPTH else 0)
    assert len(await store.span_names()) == 3 - outcome.rejected


HTTP = pytest.mark.parametrize("kind", [HttpProtobuf, HttpJson], ids=[HttpProtobuf.name, HttpJson.name])


@each_signal
@HTTP
async def test_a_body_without_a_length_is_bounded_too(start, signal, kind):
    receiver = await start(max_request_bytes=SMALL, queue_bytes=SMALL)

    async def pieces():
        for _ in range(15):
            yield b" " * (SMALL // 10)

    async with kind("", receiver.http_address) as client:
        answer = await client.client.post(f"/v1/{signal.value}", content=pieces(), headers={"content-type": kind.media})
    assert_refused(http_refusal(answer), client, RESOURCE_EXHAUSTED, 413)


JSON_FORMS = {
    "hex ids in capitals": ("traceId", "0102030405060708090A0B0C0D0E0F10", 0),
    "time as a number": ("startTimeUnixNano", START_NS, 0),
    "unknown field": ("someNewField", {"a": [1, {"b": None}]}, 0),
    "null field": ("droppedAttributesCount", None, 0),
    "snake case is an unknown field": ("dropped_events_count", 5, 0),
    "name of an enum": ("kind", "SPAN_KIND_SERVER", 1),
    "base64 id": ("traceId", "AQIDBAUGBwgJCgsMDQ4PEA==", 1),
    "text for a number": ("startTimeUnixNano", "soon", 1),
    "number beyond 64 bits": ("startTimeUnixNano", "99999999999999999999", 1),
    "negative time": ("startTimeUnixNano", "-5", 1),
    "object for a name": ("name", {}, 1),
}


@only_traces
@pytest.mark.parametrize("form", JSON_FORMS)
async def test_json_is_read_as_otlp_says(start, signal, store, form):
    field, value, rejected = JSON_FORMS[form]
    receiver = await start()
    async with HttpJson("", receiver.http_address) as client:
        request = json.loads(client.encode(spans(2)))
        request["resourceSpans"][0]["scopeSpans"][0]["spans"][1][field] = value
        outcome = await client.send(signal, json.dumps(request).encode())
    assert outcome.ok
    assert outcome.rejected == rejected
    page = await store.reader.spans(SpanQuery(limit=10))
    assert len(page.items) == 2 - rejected
    assert all(span.dropped_events == 0 for span in page.items)


@only_traces
async def test_many_senders_at_once_become_few_transactions(start, signal, store):
    store.open.clear()
    receiver = await start(writers=1)
    async with Grpc(receiver.grpc_address, "") as client:
        first = asyncio.create_task(client.send(signal, client.encode(spans(1))))
        await store.entered.wait()
        others = [asyncio.create_task(client.send(signal, client.encode(spans(1, first=number)))) for number in range(2, 22)]
        async with asyncio.timeout(60):
            while receiver.outlet.waiting < 20:
                await asyncio.sleep(0.01)  # a loop that never rests starves the thread that reads gRPC's sockets
        store.open.set()
        assert all(outcome.ok for outcome in await asyncio.gather(first, *others))
    assert store.groups == [1, 20]
    assert len(await store.span_names()) == 21
