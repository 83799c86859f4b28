"""Messages that arrive over gRPC are bounded by the memory they take, and something always gets through."""

from __future__ import annotations

import asyncio

import pytest

from tests.receiver.otlp import METHODS, Grpc, HttpProtobuf, spans
from wafermonitor.receiver import memory, otlp_grpc
from wafermonitor.receiver.admission import Budget
from wafermonitor.receiver.config import MIB
from wafermonitor.receiver.errors import QueueFull
from wafermonitor.receiver.otlp_grpc import Readers
from wafermonitor.receiver.transcode.protocol import Signal

BODY = spans().SerializeToString()
UNAVAILABLE = 14


class Open:
    """A call whose message is still to come."""

    def __init__(self, client: Grpc) -> None:
        self._call = client._channel.stream_unary(METHODS[Signal.TRACES])()

    async def begin(self) -> None:
        await self._call.wait_for_connection()

    async def finish(self, body: bytes = BODY) -> int:
        await self._call.write(body)
        await self._call.done_writing()
        return await self.code()

    async def code(self) -> int:
        async with asyncio.timeout(10):
            return (await self._call.code()).value[0]


class Context:
    """A call as `Readers` sees it, whose message comes when the test says so."""

    def __init__(self) -> None:
        self.message: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def read(self) -> bytes:
        return await self.message


def test_what_is_in_use_is_seen_at_once_and_goes_down_again():
    before = memory.used_bytes()
    held = bytes(64 * MIB)
    assert memory.used_bytes() - before >= 60 * MIB
    del held
    assert memory.used_bytes() - before < 4 * MIB
    assert memory.resident_bytes() > 10 * MIB


async def test_r08_above_the_limit_only_the_eldest_message_is_read_on(start, monkeypatch):
    receiver = await start()
    monkeypatch.setattr(memory, "used_bytes", lambda: 10**12)
    async with Grpc(receiver.grpc_address, "") as client:
        calls = {asyncio.create_task(one.code()): one for one in (Open(client), Open(client))}
        (refused,), (goes_on,) = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert refused.result() == UNAVAILABLE
        assert await calls[goes_on].finish() == 0
        assert await goes_on == 0
    assert not receiver.budget.held_bytes


async def test_r08_with_too_much_in_use_all_the_time_one_after_the_other_gets_through(start, monkeypatch):
    receiver = await start()
    monkeypatch.setattr(memory, "used_bytes", lambda: 10**12)
    async with Grpc(receiver.grpc_address, "") as client, HttpProtobuf("", receiver.http_address) as other:
        for number in range(1, 6):
            body = spans(1, first=number).SerializeToString()
            async with asyncio.timeout(10):
                while not (await client.send(Signal.TRACES, body)).ok:
                    await asyncio.sleep(0.01)
                while not (await other.send(Signal.TRACES, body)).ok:
                    await asyncio.sleep(0.01)


async def test_a_grpc_call_is_refused_before_its_message_is_read(start, store):
    receiver = await start()
    await receiver.outlet.drain(0)
    async with Grpc(receiver.grpc_address, "") as client:
        call = Open(client)
        await call.begin()
        assert await call.code() == UNAVAILABLE


@pytest.mark.parametrize("first", ["grpc", "http"])
async def test_what_is_refused_keeps_nothing(start, first, store):
    """A refusal is an exception with frames, and frames hold bodies: none may outlive its answer."""
    receiver = await start()
    body = b"\x0a\xff" + bytes(24 * MIB)
    async with Grpc(receiver.grpc_address, "") as client, HttpProtobuf("", receiver.http_address) as other:
        await client.send(Signal.TRACES, BODY)
        await other.send(Signal.TRACES, BODY)
        before = memory.used_bytes()
        for _ in range(4):
            if first == "grpc":
                assert (await client.send(Signal.TRACES, body)).code == 3
            else:
                assert (await other.send(Signal.TRACES, body)).http == 400
        async with asyncio.timeout(10):
            while memory.used_bytes() - before > 40 * MIB:  # gRPC may keep the last one until the next
                await asyncio.sleep(0.05)


async def test_r08_the_next_message_is_not_refused_for_the_one_before(monkeypatch):
    """One that needed to be read alone is there: whoever comes next begins at once, not only after the next look."""
    used = 0
    monkeypatch.setattr(memory, "used_bytes", lambda: used)
    budget = Budget(96 * MIB, lambda: 1.0)
    readers = Readers(10**12, budget)

    large, early, late = Context(), Context(), Context()
    reading = [asyncio.create_task(readers.read(one, 10)) for one in (large, early)]
    await asyncio.sleep(0)
    used = 60 * MIB
    with pytest.raises(QueueFull):
        await reading[1]
    with pytest.raises(QueueFull):
        await readers.read(late, 10)
    large.message.set_result(b"large")
    assert await reading[0] == b"large"
    late.message.set_result(b"small")
    assert await readers.read(late, 10) == b"small"
    assert not budget.arriving


async def test_r08_what_others_take_over_time_is_not_laid_on_small_messages(monkeypatch):
    """Under load some message is being read at all times: memory is measured from when the eldest of them began."""
    used = 0
    monkeypatch.setattr(memory, "used_bytes", lambda: used)
    monkeypatch.setattr(otlp_grpc, "LOOK_S", 100)
    readers = Readers(10**12, Budget(96 * MIB, lambda: 1.0))
    contexts = [Context() for _ in range(8)]
    reading = []
    for number, context in enumerate(contexts):
        reading.append(asyncio.create_task(readers.read(context, 10)))
        await asyncio.sleep(0)
        used += 20 * MIB
        readers._look()
        if number:
            contexts[number - 1].message.set_result(b"small")
            assert await reading[number - 1] == b"small"
    used += 60 * MIB
    second = asyncio.create_task(readers.read(Context(), 10))
    await asyncio.sleep(0)
    readers._look()
    with pytest.raises(QueueFull):
        await second
    contexts[-1].message.set_result(b"large")
    assert await reading[-1] == b"large"


async def test_r08_what_was_crowded_is_open_again_with_the_last_answer(start, store, monkeypatch, connect):
    receiver = await start()
    monkeypatch.setattr(memory, "used_bytes", lambda: 10**12)
    store.open.clear()
    async with Grpc(receiver.grpc_address, "") as first, connect(receiver) as client:
        waiting = asyncio.create_task(first.send(Signal.TRACES, BODY))
        async with asyncio.timeout(10):
            while not (receiver.budget.crowded and receiver.budget.held_bytes):
                await asyncio.sleep(0.005)
        assert not (await client.send(Signal.TRACES, client.encode(spans(1, first=5)))).ok
        store.open.set()
        assert (await waiting).ok
        assert (await client.send(Signal.TRACES, client.encode(spans(1, first=5)))).ok
