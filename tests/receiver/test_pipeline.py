"""The queue and its groups: what waits together is committed together, and only the guilty are refused."""

from __future__ import annotations

import asyncio

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.receiver.otlp import START_NS, spans
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.errors import Draining, ReceiverUnavailable, RequestRejected, StoreUnavailable
from wafermonitor.receiver.lanes import Lanes
from wafermonitor.receiver.outlet import EAGER_BYTES, LONGEST_RETRY_S, SHORTEST_RETRY_S
from wafermonitor.receiver.pipeline import Pipeline
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode import json, python
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable

LANES = {Encoding.PROTOBUF: python.Lane(), Encoding.JSON: json.Lane()}


def request(number: int, *, first: int = 1) -> Request:
    return Request(Signal.TRACES, Encoding.PROTOBUF, spans(number, first=first).SerializeToString(), 1)


@pytest.fixture
async def begin(store):
    started = []

    def begin(lanes=LANES, **options) -> Pipeline:
        pipeline = Pipeline(store, Lanes(lanes), Config(**({"writers": 1} | options)), Telemetry(lambda: 0.0))
        pipeline.start()
        started.append(pipeline)
        return pipeline

    yield begin
    store.open.set()
    for pipeline in started:
        await pipeline.drain(1)


async def together(pipeline, store, requests):
    """Hold the first group at the store until all of `requests` wait behind it; the outcomes of `requests`."""
    store.open.clear()
    first = asyncio.create_task(pipeline.submit(request(1, first=100_000)))
    await store.entered.wait()
    tasks = [asyncio.create_task(pipeline.submit(one)) for one in requests]
    await asyncio.sleep(0)
    assert pipeline.waiting == len(requests)
    store.open.set()
    await first
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_what_waited_is_one_group(begin, store):
    outcomes = await together(begin(), store, [request(2, first=10 * number) for number in range(1, 6)])
    assert [outcome.rejected for outcome in outcomes] == [0] * 5
    assert store.groups == [1, 5]


async def test_a_group_ends_at_its_spans(begin, store):
    await together(begin(group_spans=20), store, [request(10, first=10 * number) for number in range(1, 6)])
    assert store.groups == [1, 2, 2, 1]


async def test_what_a_request_says_of_runs_counts_for_its_group(begin, store):
    requests = []
    for number in range(1, 6):
        told = spans(5, first=10 * number)
        for span in told.resource_spans[0].scope_spans[0].spans:
            span.events.add(name="wafer.job.progress", time_unix_nano=START_NS)
        requests.append(Request(Signal.TRACES, Encoding.PROTOBUF, told.SerializeToString(), 1))
    await together(begin(group_spans=20), store, requests)
    assert store.groups == [1, 2, 2, 1]


async def test_a_group_ends_at_its_bytes(begin, store):
    size = len(request(10).body)
    await together(begin(group_bytes=2 * size + 100), store, [request(10, first=100 * number) for number in range(1, 6)])
    assert store.groups == [1, 2, 2, 1]


async def test_what_is_too_much_for_a_group_goes_to_a_writer_that_is_free(begin, store):
    pipeline = begin(writers=2, group_spans=1)
    assert len(request(1000).body) > EAGER_BYTES
    store.open.clear()
    tasks = [asyncio.create_task(pipeline.submit(request(1000, first=1000 * number))) for number in range(1, 4)]
    async with asyncio.timeout(20):
        while store.waiting < 2:
            await asyncio.sleep(0.001)
    assert pipeline.waiting == 1
    store.open.set()
    await asyncio.gather(*tasks)
    assert store.groups == [1, 1, 1]


async def test_a_request_larger_than_a_group_is_a_group_of_its_own(begin, store):
    outcomes = await together(begin(group_bytes=1024, group_spans=5), store, [request(50), request(50, first=60)])
    assert [outcome.rejected for outcome in outcomes] == [0, 0]
    assert store.groups == [1, 1, 1]


def refuse(*numbers: int):
    """A store that never takes the spans with these numbers."""
    guilty = {number.to_bytes(8, "big") for number in numbers}

    def fail(batches):
        return StorageRejected("no") if any(span.span_id in guilty for batch in batches for span in batch.spans) else None

    return fail


async def test_only_the_guilty_row_of_a_group_is_refused_and_becomes_a_dead_letter(begin, store):
    store.fail = refuse(7, 25)
    outcomes = await together(begin(), store, [request(3, first=number) for number in range(1, 31, 3)])
    assert [outcome.rejected for outcome in outcomes] == [0, 0, 1, 0, 0, 0, 0, 0, 1, 0]
    assert outcomes[2].message == "1 refused by the store"
    assert set(await store.span_names()) == {f"span {number}" for number in (*range(1, 31), 100_000)} - {"span 7", "span 25"}
    assert ["span 7" in letter.sample.decode() for letter in store.letters] == [True, False]
    assert {(letter.site, letter.signal, letter.reason) for letter in store.letters} == {
        ("f1", "traces", "the store refuses this row")
    }


async def test_a_request_of_which_the_store_takes_nothing_is_refused_whole(begin, store):
    store.fail = lambda batches: StorageRejected("no") if any(batch.spans for batch in batches) else None
    with pytest.raises(RequestRejected):
        await begin().submit(request(100))
    (letter,) = store.letters
    assert (letter.reason, letter.sample) == ("the store refuses too many rows of this request", request(100).body)


async def test_a_store_that_takes_no_dead_letter_either_ends_the_request_only(begin, store):
    pipeline = begin()
    store.fail = lambda _: StorageRejected("no")
    with pytest.raises(RequestRejected):
        await pipeline.submit(request(1))
    store.fail = lambda _: None
    await pipeline.submit(request(1, first=2))


async def test_a_store_that_goes_away_while_rows_are_sought_makes_the_sender_wait(begin, store):
    calls = []

    def fail(batches):
        calls.append(batches)
        return StorageRejected("no") if len(calls) < 3 else StorageUnavailable("gone")

    store.fail = fail
    with pytest.raises(StoreUnavailable):
        await begin().submit(request(4))


async def test_a_body_that_cannot_be_read_does_not_touch_its_group(begin, store):
    broken = Request(Signal.TRACES, Encoding.PROTOBUF, b"\x0a\xff", 1)
    outcomes = await together(begin(), store, [request(1), broken, request(1, first=2)])
    assert isinstance(outcomes[1], RequestRejected)
    assert store.groups == [1, 2]


async def test_a_store_that_goes_away_while_the_guilty_one_is_sought_makes_the_rest_wait(begin, store):
    calls = []

    def fail(batches):
        calls.append(len(batches))
        if len(batches) == 4:
            return StorageRejected("one of them")
        return StorageUnavailable("gone") if len(calls) > 3 else None

    store.fail = fail
    outcomes = await together(begin(), store, [request(1, first=number) for number in range(1, 5)])
    assert [type(outcome).__name__ for outcome in outcomes] == ["Answer", "Answer", "StoreUnavailable", "StoreUnavailable"]


async def test_requests_without_rows_do_not_trouble_the_store(begin, store):
    store.fail = lambda _: StorageUnavailable("down")
    answer = await begin().submit(Request(Signal.TRACES, Encoding.PROTOBUF, b"", 1))
    assert answer.rejected == 0


async def test_a_fault_in_a_lane_makes_the_sender_wait_and_the_next_group_goes_on(begin, store):
    class Faulty:
        def transcode(self, request):
            raise ZeroDivisionError("secret")

    pipeline = begin(lanes={Encoding.JSON: Faulty(), Encoding.PROTOBUF: python.Lane()})
    with pytest.raises(ReceiverUnavailable) as error:
        await pipeline.submit(Request(Signal.TRACES, Encoding.JSON, b"{}", 1))
    assert "secret" not in str(error.value)
    await pipeline.submit(request(1))


async def test_a_sender_that_went_away_is_not_served(begin, store):
    pipeline = begin()
    store.open.clear()
    first = asyncio.create_task(pipeline.submit(request(1, first=100)))
    await store.entered.wait()
    gone = asyncio.create_task(pipeline.submit(request(1)))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    store.open.set()
    await first
    await pipeline.submit(request(1, first=200))
    assert sorted(await store.span_names()) == ["span 100", "span 200"]


async def test_a_sender_that_leaves_in_the_moment_of_the_commit_harms_nobody_else(begin, store):
    pipeline = begin()
    store.open.clear()
    gone, other = (asyncio.create_task(pipeline.submit(request(1, first=number))) for number in (1, 2))
    await store.entered.wait()
    store.fail = lambda _: gone.cancel() and None
    store.open.set()
    assert (await other).rejected == 0
    assert (await asyncio.gather(gone, return_exceptions=True))[0].__class__ is asyncio.CancelledError


async def test_draining_commits_what_was_accepted_and_refuses_what_is_new(begin, store):
    pipeline = begin()
    store.open.clear()
    accepted = [asyncio.create_task(pipeline.submit(request(1, first=number))) for number in range(1, 6)]
    await store.entered.wait()
    draining = asyncio.create_task(pipeline.drain(5))
    await asyncio.sleep(0)
    with pytest.raises(Draining):
        await pipeline.submit(request(1, first=9))
    store.open.set()
    await draining
    assert [answer.rejected for answer in await asyncio.gather(*accepted)] == [0] * 5
    assert len(await store.span_names()) == 5


async def test_draining_ends_in_time_when_the_store_does_not_answer(begin, store):
    pipeline = begin()
    store.open.clear()
    accepted = asyncio.create_task(pipeline.submit(request(1)))
    await store.entered.wait()
    async with asyncio.timeout(2):
        await pipeline.drain(0.1)
    with pytest.raises(Draining):
        await accepted


async def test_the_hint_follows_the_rate_within_bounds(begin, store):
    pipeline = begin()
    assert pipeline.retry_s() == SHORTEST_RETRY_S
    await pipeline.submit(request(10))
    pipeline._bytes_per_s, pipeline._open_bytes = 10.0, 50
    assert pipeline.retry_s() == 5
    pipeline._open_bytes = 10**9
    assert pipeline.retry_s() == LONGEST_RETRY_S


async def test_a_store_error_is_told_without_its_words(begin, store):
    store.fail = lambda _: StorageUnavailable("postgresql://user:secret@host")
    with pytest.raises(StoreUnavailable) as error:
        await begin().submit(request(1))
    assert "secret" not in str(error.value)


async def test_a_group_of_nothing_but_own_spans_makes_no_span(begin, monkeypatch):
    """Else a receiver that is sent its own spans would make the next one with each."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setenv("OTEL_SERVICE_NAME", "our own")
    pipeline = begin()
    pipeline._tracer = provider.get_tracer("tests")
    own = spans()
    own.resource_spans[0].resource.attributes[1].value.string_value = "our own"
    await pipeline.submit(Request(Signal.TRACES, Encoding.PROTOBUF, own.SerializeToString(), 1))
    assert exporter.get_finished_spans() == ()
    await pipeline.submit(request(1))
    assert [span.name for span in exporter.get_finished_spans()] == ["receiver.group"]
    provider.shutdown()
