"""HTTP/1.1 connections: slow and half-open senders, pipelines, limits of a header, and how a connection ends."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.receiver.otlp import METHODS, PROTOBUF, Grpc, HttpProtobuf, spans
from wafermonitor.receiver.http1 import connection
from wafermonitor.receiver.http1.connection import MAX_FIELDS, MAX_HEAD_BYTES, MAX_PIPELINED
from wafermonitor.receiver.transcode.protocol import Signal

SOON = {"receive_s": 0.2}
BODY = spans().SerializeToString()
HEAD = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\n"
GOOD = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY


@asynccontextmanager
async def raw(receiver):
    reader, writer = await asyncio.open_connection("127.0.0.1", receiver.http_port)
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.close()


async def closed(receiver) -> dict[str, float]:
    async with httpx.AsyncClient(base_url=f"http://{receiver.http_address}") as client:
        text = (await client.get("/metrics")).text
    name = 'wafer_receiver_connections_closed_total{reason="'
    lines = [line.removeprefix(name) for line in text.splitlines() if line.startswith(name)]
    return {line.partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


@pytest.mark.parametrize("sent", [b"", b"P", HEAD, b"GET /healthz HTTP/1.1\r\nhost"], ids=["nothing", "letter", "head", "get"])
async def test_r09_a_header_that_does_not_arrive_ends_the_connection(start, sent):
    receiver = await start(**SOON)
    async with raw(receiver) as (reader, writer):
        writer.write(sent)
        assert await reader.read() == b""
    assert (await closed(receiver))["slow_header"] == 1


async def test_r09_a_body_that_stalls_is_answered_with_a_hint_and_the_connection_ends(start):
    receiver = await start(**SOON)
    async with raw(receiver) as (reader, writer):
        writer.write(HEAD + b"content-length: 100\r\n\r\nabc")
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1\r\n" in answer
    assert b"connection: close\r\n" in answer
    assert (await closed(receiver))["slow_body"] == 1


async def test_r09_a_connection_without_a_request_ends(start):
    receiver = await start(idle_s=0.2)
    async with raw(receiver) as (reader, writer):
        writer.write(GOOD)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        assert await reader.read() == b""
    assert (await closed(receiver))["idle"] >= 1


async def test_r09_grpc_calls_without_a_message_end(start):
    receiver = await start(**SOON)
    async with Grpc(receiver.grpc_address, "") as client:
        call = client._channel.stream_unary(METHODS[Signal.TRACES])()
        async with asyncio.timeout(10):
            assert (await call.code()).value[0] == 14
        assert "did not arrive within" in await call.details()
        assert (await client.send(Signal.TRACES, BODY)).ok


async def test_a_grpc_call_that_ends_without_a_message_is_refused(start):
    receiver = await start()
    async with Grpc(receiver.grpc_address, "") as client:

        async def none():
            return
            yield

        call = client._channel.stream_unary(METHODS[Signal.TRACES])(none())
        assert (await call.code()).value[0] == 3


async def test_at_the_limit_of_connections_the_longest_idle_one_goes(start):
    receiver = await start(max_connections=2)
    async with raw(receiver) as (first, one), raw(receiver) as (second, two), HttpProtobuf("", receiver.http_address) as client:
        one.write(GOOD)
        await first.readuntil(b"\r\n\r\n")
        two.write(GOOD)
        await second.readuntil(b"\r\n\r\n")
        assert (await client.send(Signal.TRACES, BODY)).ok
        gone, pending = await asyncio.wait(
            [asyncio.create_task(reader.read()) for reader in (first, second)], return_when=asyncio.FIRST_COMPLETED
        )
        assert len(gone) == 1
        for task in pending:
            task.cancel()


async def test_answers_of_pipelined_requests_keep_their_order(start):
    receiver = await start()
    async with raw(receiver) as (reader, writer):
        pieces = [GOOD, b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n", b"GET /nothing HTTP/1.1\r\nhost: x\r\n\r\n"] * 10
        writer.write(b"".join(pieces) + b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
    codes = [int(code) for code in re.findall(rb"HTTP/1\.1 (\d{3}) ", answer)]
    assert codes == [200, 200, 404] * 10 + [200]


async def test_a_header_without_end_is_refused(start):
    receiver = await start()
    async with raw(receiver) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\nx: " + b"a" * (MAX_HEAD_BYTES + 1))
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"GET\r\n\r\n"], ids=["tls", "h2", "none"]
)
async def test_what_is_no_http_1_is_refused(start, sent):
    receiver = await start()
    async with raw(receiver) as (reader, writer):
        writer.write(sent)
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")


async def test_a_request_to_upgrade_is_answered_in_http_1(start):
    receiver = await start()
    async with raw(receiver) as (reader, writer):
        ask = b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
        writer.write(HEAD + ask + b"content-length: %d\r\n\r\n" % len(BODY) + BODY)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(GOOD)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


UPGRADE = HEAD + b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n"
CHUNKED = b"transfer-encoding: chunked\r\n\r\n"


def chunks(body: bytes, size: int = 50) -> bytes:
    pieces = [body[begin : begin + size] for begin in range(0, len(body), size)]
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


@pytest.mark.parametrize("pause", [False, True], ids=["at once", "in pieces"])
async def test_a_chunked_body_behind_a_request_to_upgrade_is_stored(start, store, pause):
    """llhttp takes it for another protocol; answered without it, the sender would drop what was never stored."""
    receiver = await start()
    sent = UPGRADE + CHUNKED + chunks(BODY) + b"GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    async with raw(receiver) as (reader, writer):
        for begin in range(0, len(sent), 40 if pause else len(sent)):
            writer.write(sent[begin : begin + (40 if pause else len(sent))])
            await asyncio.sleep(0)
        answer = await reader.read()
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", answer) == [b"200", b"404"]
    assert await store.span_names() == ["span 1"]


async def test_an_upgrade_hides_no_body_whose_end_is_unknown(start, store):
    receiver = await start()
    async with raw(receiver) as (reader, writer):
        writer.write(UPGRADE + b"transfer-encoding: identity\r\n\r\n" + GOOD)
        answer = await reader.read()
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", answer) == [b"400"]
    assert not await store.span_names()


async def test_many_requests_to_upgrade_in_a_row_are_answered(start):
    receiver = await start()
    async with raw(receiver) as (reader, writer):
        writer.write(b"GET /nothing HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n" * 1500)
        for _ in range(1500):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
            await reader.readuntil(b"}")


@pytest.mark.parametrize("garbage", [b"\0\0\0", b"GET / HTTP/1.1\r\nhost x\r\n\r\n"], ids=["bytes", "header"])
async def test_what_is_owed_is_answered_before_garbage_is_refused(start, store, garbage):
    receiver = await start()
    store.open.clear()
    async with raw(receiver) as (reader, writer):
        writer.write(GOOD)
        await store.entered.wait()
        writer.write(garbage + GOOD)
        await asyncio.sleep(0.05)  # it is read while the first one waits
        store.open.set()
        answer = await reader.read()
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", answer) == [b"200", b"400"]
    assert receiver.budget.held_bytes == 0


async def test_bytes_behind_the_last_request_of_a_connection_change_nothing(start):
    receiver = await start()
    async with raw(receiver) as (reader, writer):
        writer.write(GOOD.replace(b"host: x", b"host: x\r\nconnection: close") + GOOD)
        answer = await reader.read()
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", answer) == [b"200"]


async def test_trailers_say_nothing_and_have_an_end(start, store):
    receiver = await start()
    async with raw(receiver) as (reader, writer):
        trailer = b"content-encoding: gzip\r\nhost: y\r\n\r\n"
        writer.write(HEAD + CHUNKED + chunks(BODY)[:-2] + trailer)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(HEAD + CHUNKED + chunks(BODY)[:-2] + b"x: ")
        for _ in range(16):
            writer.write(b"a" * MAX_HEAD_BYTES)
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
    assert await store.span_names() == ["span 1"]
    assert receiver.budget.held_bytes == 0


async def test_a_header_of_too_many_fields_is_refused(start):
    receiver = await start()
    async with raw(receiver) as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: x\r\n" + b"a:\r\n" * (MAX_FIELDS + 1) + b"\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")


AMBIGUOUS = {
    "both lengths": b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": b"content-length: 5\r\ncontent-length: 6\r\n\r\nabcdef",
    "a list": b"content-length: 5, 5\r\n\r\nabcde",
    "a sign": b"content-length: +5\r\n\r\nabcde",
    "folded": b"x: a\r\n content-length: 5\r\n\r\nabcde",
    "bare line feed": b"x: a\ncontent-length: 5\r\n\r\nabcde",
    "bare return": b"x: a\rcontent-length: 5\r\n\r\nabcde",
    "space before the colon": b"content-length : 5\r\n\r\nabcde",
    "chunked is not last": b"transfer-encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "chunk in hex": b"transfer-encoding: chunked\r\n\r\n0x5\r\nabcde\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("rest", AMBIGUOUS.values(), ids=AMBIGUOUS)
async def test_what_others_may_read_in_another_way_is_refused(start, rest):
    """Two servers that see different requests in the same bytes let one hide behind the other."""
    receiver = await start()
    async with raw(receiver) as (reader, writer):
        writer.write(HEAD + rest + GOOD)
        answer = await reader.read()
    assert re.findall(rb"HTTP/1\.1 (\d{3}) ", answer) == [b"400"]


async def test_a_store_that_takes_long_ends_no_connection_that_waits_for_it(start, store):
    receiver = await start(**SOON)
    store.open.clear()
    async with raw(receiver) as (reader, writer):
        writer.write(GOOD * (MAX_PIPELINED + 1) + GOOD[:-1])
        await store.entered.wait()
        await asyncio.sleep(0.5)  # longer than a sender may take, but it is not the sender that takes it
        writer.write(GOOD[-1:])
        store.open.set()
        for _ in range(MAX_PIPELINED + 2):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


async def test_requests_without_a_byte_at_once_are_all_answered(start, store):
    receiver = await start()
    store.open.clear()
    empty = HEAD + b"content-length: 0\r\n\r\n"
    async with raw(receiver) as (first, one), raw(receiver) as (second, two):
        one.write(GOOD.replace(b"wafer.site.id", b"wafer.site.no") + empty)
        two.write(empty)
        async with asyncio.timeout(10):
            while len(receiver.outlet._open) < 3:
                await asyncio.sleep(0)
        store.open.set()
        for reader in (first, first, second):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    assert receiver.budget._of_site == {}


async def test_many_connections_at_once_do_not_get_past_the_limit(start):
    receiver = await start(max_connections=4)
    streams = [await asyncio.open_connection("127.0.0.1", receiver.http_port) for _ in range(4)]
    async with asyncio.timeout(10):
        while len(receiver._http["http_address"].connections) < 4:
            await asyncio.sleep(0)
    # In one turn of the loop, so that all of them are accepted in another.
    sockets = [socket.create_connection(("127.0.0.1", receiver.http_port)) for _ in range(8)]
    async with asyncio.timeout(10):
        for reader, _ in streams:
            assert await reader.read() == b""
    for _ in range(10):
        await asyncio.sleep(0)
    assert len(receiver._http["http_address"].connections) <= 4
    for one in sockets:
        one.close()
    for _, writer in streams:
        writer.close()


async def test_a_sender_that_asks_first_is_told_to_go_on_or_not(start):
    receiver = await start(max_request_bytes=2048, queue_bytes=4096)
    expecting = HEAD + b"expect: 100-continue\r\n"
    async with raw(receiver) as (reader, writer):
        writer.write(expecting + b"content-length: %d\r\n\r\n" % len(BODY))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(BODY)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        writer.write(expecting + b"content-length: 999999\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 413 ")


async def test_an_old_connection_ends_between_two_requests(start):
    receiver = await start(connection_age_s=0.001, receive_s=0.2)
    async with raw(receiver) as (reader, writer):
        await asyncio.sleep(0.1)  # the clock of the listener goes every 50 ms
        writer.write(GOOD)
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close\r\n" in answer


async def test_a_body_in_pieces_and_in_chunks_is_whole(start, store):
    receiver = await start()
    body = spans(9000).SerializeToString()  # above what is read at once, and above what is kept in pieces

    async def pieces():
        for begin in range(0, len(body), 100_000):
            yield body[begin : begin + 100_000]

    async with HttpProtobuf("", receiver.http_address) as client:
        assert (await client.client.post("/v1/traces", content=body, headers={"content-type": PROTOBUF})).status_code == 200
        assert (await client.client.post("/v1/traces", content=pieces(), headers={"content-type": PROTOBUF})).status_code == 200
    assert store.groups == [1, 1]
    assert receiver.budget.held_bytes == 0


async def test_the_metrics_port_serves_pages_alone(start):
    receiver = await start(metrics_address="127.0.0.1:0")
    async with httpx.AsyncClient(base_url=f"http://{receiver.metrics_address}") as client:
        assert (await client.get("/metrics")).status_code == 200
        assert (await client.post("/v1/traces", content=BODY, headers={"content-type": PROTOBUF})).status_code == 404


async def answer(reader) -> int:
    """The next answer's status."""
    head = await reader.readuntil(b"\r\n\r\n")
    length = re.search(rb"content-length: (\d+)", head)
    await reader.readexactly(int(length[1]) if length else 0)
    return int(head[9:12])


def sized(first: int, number: int = 1) -> bytes:
    """A whole request; all with the same number of spans have the same header."""
    body = spans(number, first=first).SerializeToString()
    return HEAD + b"content-length: %d\r\n\r\n" % len(body) + body


async def test_a_header_that_was_read_before_says_the_same_again_however_its_request_comes(start, store):
    receiver = await start()
    listener = receiver._http["http_address"]
    async with raw(receiver) as (reader, writer):
        for first in (101, 102, 103):
            writer.write(sized(first))
            assert await answer(reader) == 200
        assert len(listener.heads) == 1
        writer.write(sized(104) + sized(105))  # two at once
        assert [await answer(reader), await answer(reader)] == [200, 200]
        whole = sized(106)
        for piece in (whole[:-7], whole[-7:] + sized(107)[:20], sized(107)[20:]):  # cut anywhere
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.02)
        assert [await answer(reader), await answer(reader)] == [200, 200]
        writer.write(sized(108))
        assert await answer(reader) == 200
    async with raw(receiver) as (reader, writer):
        writer.write(sized(109))  # another connection
        assert await answer(reader) == 200
    assert sorted(await store.span_names()) == [f"span {number}" for number in range(101, 110)]
    assert len(listener.heads) == 1


async def test_a_header_that_was_read_before_lets_nobody_in(start, store):
    receiver = await start(token="right", max_request_bytes=1024 * 1024)
    right = sized(101).replace(b"host: x", b"host: x\r\nauthorization: Bearer right")
    wrong = sized(102).replace(b"host: x", b"host: x\r\nauthorization: Bearer wrong")
    async with raw(receiver) as (reader, writer):
        for request, status in ((right, 200), (wrong, 401), (wrong, 401), (right, 200), (sized(103), 401)):
            writer.write(request)
            assert await answer(reader) == status
    assert await store.span_names() == ["span 101"]


@pytest.mark.parametrize("before", [b"\n\r\n\r\n", b"\r\n\r\n\r\n", b"\r\n"])
async def test_empty_lines_before_a_request_make_nothing_known_of_what_follows(start, store, before):
    receiver = await start()
    body = spans(1, first=101).SerializeToString()
    first = HEAD + b"content-length: %d\r\n\r\n"
    length = len(first) + len(body) + 1  # of all behind the empty lines, with a length of three digits
    async with raw(receiver) as (_, writer):
        writer.write(before + first % length + body)
        async with asyncio.timeout(10):
            while not any(connection.current for connection in receiver._http["http_address"].connections):
                await asyncio.sleep(0.005)
    other = b"GET /healthz HTTP/1.1\r\nhost: x\r\nx-padding: %s\r\n\r\n"
    async with raw(receiver) as (reader, writer):
        writer.write(before + other % (b"x" * (length - len(other) + 2)))
        assert await answer(reader) == 200
    assert receiver._http["http_address"].heads == {}
    assert await store.span_names() == []


@pytest.mark.parametrize("wish", [b"connection: close", b"expect: 100-continue", b"connection: upgrade\r\nupgrade: h2c"])
async def test_a_header_that_asks_for_more_is_read_each_time(start, wish):
    receiver = await start()
    for _ in range(2):
        async with raw(receiver) as (reader, writer):
            writer.write(sized(101).replace(b"host: x", b"host: x\r\n" + wish))
            status = await answer(reader)
            assert (await answer(reader) if status == 100 else status) == 200
    assert receiver._http["http_address"].heads == {}


async def test_heads_are_remembered_within_bounds(start, monkeypatch):
    monkeypatch.setattr(connection, "MOST_HEADS", 3)
    receiver = await start()
    async with raw(receiver) as (reader, writer):
        for number in range(1, 9):
            writer.write(sized(100, number))
            assert await answer(reader) == 200
        long = sized(200).replace(b"host: x", b"host: x\r\nx-long: " + b"x" * connection.LONGEST_HEAD_BYTES)
        writer.write(long)
        assert await answer(reader) == 200
    assert 1 <= len(receiver._http["http_address"].heads) <= 3
    assert all(len(head) <= connection.LONGEST_HEAD_BYTES for head in receiver._http["http_address"].heads)


async def test_a_deadline_that_fails_ends_its_connection_and_keeps_those_of_others(start, monkeypatch):
    receiver = await start(**SOON)
    listener = receiver._http["http_address"]
    overdue = connection.Connection.overdue

    def failing(self, now):
        if self is victim:
            raise RuntimeError("a fault")
        return overdue(self, now)

    async with raw(receiver) as (first, _), raw(receiver) as (second, writer):
        async with asyncio.timeout(10):
            while len(listener.connections) < 2:
                await asyncio.sleep(0.005)
        victim = next(iter(listener.connections))
        monkeypatch.setattr(connection.Connection, "overdue", failing)
        writer.write(b"P")
        for reader in (first, second):
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
