"""What a site may send, when it may again, and which site a request is of."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import pytest

from tests.receiver.otlp import GOOD, Grpc, HttpJson, as_json, spans
from wafermonitor.receiver.errors import QueueFull, Throttled
from wafermonitor.receiver.quota import BURST_S, MAX_SITES, Quotas
from wafermonitor.receiver.rate import Rate
from wafermonitor.receiver.sites import MAX_PEEK_BYTES, peek
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.runs.records import UNSET_SITE

RESOURCE_EXHAUSTED = 8


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_nothing_is_counted_without_a_quota():
    assert not Quotas(Rate(), {}).enabled
    assert Quotas(Rate(1), {}).enabled
    assert Quotas(Rate(), {"f1": Rate(1)}).enabled


def test_a_burst_passes_and_then_the_rate_holds(clock):
    quotas = Quotas(Rate(bytes_per_s=100), {}, clock)
    quotas.take("f1", int(100 * BURST_S) + 300)
    with pytest.raises(Throttled) as refused:
        quotas.take("f1", 1)
    assert refused.value.retry_s == pytest.approx(3.0)
    clock.now += 3.1
    quotas.take("f1", 1)


def test_sites_have_accounts_of_their_own_and_rates_of_their_own(clock):
    quotas = Quotas(Rate(bytes_per_s=1), {"large": Rate(bytes_per_s=1e6), "free": Rate()}, clock)
    quotas.take("small", 1000)
    with pytest.raises(Throttled):
        quotas.take("small", 1)
    for site in ("large", "free", "other"):
        quotas.take(site, 1000)


def test_items_are_charged_after_they_were_decoded(clock):
    quotas = Quotas(Rate(items_per_s=10), {}, clock)
    quotas.take("f1", 10**9)
    quotas.charge_items("f1", 200)
    with pytest.raises(Throttled) as refused:
        quotas.take("f1", 1)
    assert refused.value.retry_s == pytest.approx(10.0)


def test_names_of_sites_cannot_fill_the_memory(clock):
    quotas = Quotas(Rate(bytes_per_s=1), {}, clock)
    for number in range(MAX_SITES + 100):
        quotas.take(f"site {number}", 1)
    assert len(quotas._accounts) == MAX_SITES


@pytest.mark.parametrize("signal", list(Signal))
def test_the_site_is_seen_in_both_encodings(signal):
    request = GOOD[signal](2)
    assert peek(Request(signal, Encoding.PROTOBUF, request.SerializeToString(), 1)) == "f1"
    assert peek(Request(signal, Encoding.JSON, as_json(request), 1)) == "f1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x0a\xff",
        b"wafer.site.id",
        b"\x0a\x0dwafer.site.id",
        b"\x0a\x0dwafer.site.id\x12\x04\x18\x01",
        bytes(MAX_PEEK_BYTES) + spans().SerializeToString(),
    ],
)
def test_a_site_that_is_not_where_it_belongs_is_unset(body):
    assert peek(Request(Signal.TRACES, Encoding.PROTOBUF, body, 1)) == UNSET_SITE
    assert peek(Request(Signal.TRACES, Encoding.JSON, body, 1)) == UNSET_SITE


def test_to_look_for_the_site_costs_less_than_ten_microseconds():
    request = Request(Signal.TRACES, Encoding.PROTOBUF, spans(512).SerializeToString(), 1)
    began = time.process_time()
    for _ in range(2000):
        peek(request)
    assert (time.process_time() - began) / 2000 < 10e-6


async def test_s04_a_site_over_its_quota_is_told_when_to_come_back_and_others_are_not(start, connect):
    body = spans(50)
    other = spans(50)
    other.resource_spans[0].resource.attributes[0].value.string_value = "f2"
    receiver = await start(quota_by_site={"f1": {"bytes_per_s": len(body.SerializeToString()) / BURST_S / 2}})
    async with connect(receiver) as client:
        assert (await client.send(Signal.TRACES, client.encode(body))).ok
        refused = await client.send(Signal.TRACES, client.encode(body))
        assert refused.code == RESOURCE_EXHAUSTED
        assert refused.http in (None, 429)
        assert refused.retry_info_s >= 1
        assert client.name == "grpc" or int(refused.retry_after) >= 1
        assert (await client.send(Signal.TRACES, client.encode(other))).ok


async def test_s04_older_bodies_fill_the_share_of_their_site_too(start, store):
    event = {"app": {"name": "a"}, "entity": {"type": "job", "id": "0" * 31 + "1"}, "event": {"kind": "started", "at": 1.7e9}}
    body = json.dumps({"site_id": "f1", "events": [event]}).encode()
    receiver = await start(max_request_bytes=4096, queue_bytes=4096)
    store.open.clear()
    async with httpx.AsyncClient(base_url=f"http://{receiver.http_address}") as client:
        first = asyncio.create_task(client.post("/v1/event", content=body, headers={"content-type": "application/json"}))
        await store.entered.wait()
        assert receiver.budget._of_site == {"f1": len(body)}
        store.open.set()
        assert (await first).status_code == 200
    assert receiver.budget._of_site == {}


async def test_what_is_refused_for_want_of_room_is_not_charged(start):
    request = Request(Signal.TRACES, Encoding.PROTOBUF, spans(5).SerializeToString(), 1)
    receiver = await start(quota_by_site={"f1": {"bytes_per_s": 1}})
    with receiver.budget.hold() as before, receiver.budget.hold() as share:
        before.add(receiver.budget.limit_bytes - len(request.body))
        before.assign("f1")
        share.add(len(request.body))
        for _ in range(3):
            with pytest.raises(QueueFull):
                await receiver.outlet.submit(request, share)
    assert (await receiver.outlet.submit(request)).rejected == 0


async def test_s04_a_noisy_site_fills_its_share_of_the_queue_and_not_the_others(start, store):
    size = len(spans(50).SerializeToString())
    receiver = await start(max_request_bytes=16 * size, queue_bytes=16 * size, writers=1)
    store.open.clear()
    quiet = spans(5, first=10_000)
    quiet.resource_spans[0].resource.attributes[0].value.string_value = "quiet"
    outcomes = []
    async with Grpc(receiver.grpc_address, "") as noisy, HttpJson("", receiver.http_address) as client:
        tasks: list[asyncio.Task] = []
        async with asyncio.timeout(10):
            for n in range(40):  # one after the other: all at once might fill the queue before anybody knows whose they are
                tasks.append(asyncio.create_task(noisy.send(Signal.TRACES, spans(50, first=100 * n).SerializeToString())))
                while sum(task.done() for task in tasks) + len(receiver.outlet._open) <= n:
                    await asyncio.sleep(0.001)
        late = asyncio.create_task(client.send(Signal.TRACES, client.encode(quiet)))
        async with asyncio.timeout(10):
            while not any(one.site == "quiet" for one in receiver.outlet._open):
                await asyncio.sleep(0.001)
        store.open.set()
        outcomes = await asyncio.gather(*tasks)
        assert (await late).ok
    assert {outcome.code for outcome in outcomes} == {0, 14}
    assert any("share" in outcome.message for outcome in outcomes if not outcome.ok)
