"""Clients that begin a request and never come to its end, many at once, on one loop: bounded, and on the loopback only.

    async with attack(header, server.otlp_http, 60) as slow:
        await slow.ended(within_s=15)        # the server has let go of every one

What each does is a coroutine that ends when its server has ended it.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

DRIP_S = 0.5
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, HEADERS, DATA, RST_STREAM, GOAWAY = 4, 1, 0, 3, 7
END_STREAM, END_HEADERS = 0x1, 0x4
GONE = (ConnectionError, asyncio.IncompleteReadError, TimeoutError)

Mode = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def header(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A header that never ends: one more line every half second."""
    await _drip(reader, writer, b"POST /v1/traces HTTP/1.1\r\nhost: x\r\n", b"x-slow: 1\r\n")


async def body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A body of which one more byte comes every half second."""
    head = b"POST /v1/traces HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-protobuf\r\ncontent-length: 100000\r\n\r\n"
    await _drip(reader, writer, head, b"\x0a")


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A connection on which nothing is ever said."""
    await reader.read()


async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Many requests at once, whose answers are not read."""
    writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's transport
    # The kernel takes some megabytes of answers for us before the server notices that nobody reads.
    while not writer.transport.is_closing():
        writer.write(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n" * 500)
        await asyncio.sleep(DRIP_S)


async def stream(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An HTTP/2 call whose message is announced and never comes."""
    writer.write(PREFACE + _frame(SETTINGS, 0, 0, b"") + _frame(HEADERS, END_HEADERS, 1, _CALL))
    writer.write(_frame(DATA, 0, 1, struct.pack(">BI", 0, 100_000) + b"\x0a"))
    while True:
        size, kind, flags, number = await _next_frame(reader)
        await reader.readexactly(size)
        ended = kind == RST_STREAM or (kind in (HEADERS, DATA) and flags & END_STREAM)
        if kind == GOAWAY or (number == 1 and ended):
            return


async def _drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, head: bytes, drop: bytes) -> None:
    writer.write(head)
    over = asyncio.ensure_future(reader.read())
    try:
        while not (await asyncio.wait([over], timeout=DRIP_S))[0]:
            writer.write(drop)
        over.result()
    finally:
        over.cancel()


def _frame(kind: int, flags: int, number: int, payload: bytes) -> bytes:
    """RFC 9113, section 4.1."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, number) + payload


async def _next_frame(reader: asyncio.StreamReader) -> tuple[int, int, int, int]:
    head = await reader.readexactly(9)
    kind, flags, number = struct.unpack(">BBI", head[3:])
    return int.from_bytes(head[:3], "big"), kind, flags, number


def _text(value: bytes) -> bytes:
    """RFC 7541, section 5.2, without Huffman coding and below 127 bytes."""
    return bytes([len(value)]) + value


_CALL = b"".join(
    [
        b"\x83\x86",  # :method POST, :scheme http, of the static table
        b"\x04" + _text(b"/opentelemetry.proto.collector.trace.v1.TraceService/Export"),
        b"\x01" + _text(b"localhost"),
        b"\x0f\x10" + _text(b"application/grpc"),
        b"\x00" + _text(b"te") + _text(b"trailers"),
    ]
)


class Attack:
    """The connections of one mode."""

    def __init__(self, name: str, tasks: list[asyncio.Task[None]], began_s: float) -> None:
        self._name = name
        self._tasks = tasks
        self._began_s = began_s

    async def ended(self, within_s: float) -> None:
        """Until the server has ended every one; AssertionError when it has not in time."""
        left_s = within_s - (asyncio.get_running_loop().time() - self._began_s)
        done, open_ones = await asyncio.wait(self._tasks, timeout=max(left_s, 0.01))
        for task in done:
            task.result()
        assert not open_ones, f"{len(open_ones)} of {len(self._tasks)} are open after {within_s:g} s: {self._name}"


@asynccontextmanager
async def attack(mode: Mode, address: str, number: int) -> AsyncIterator[Attack]:
    """`number` connections in that mode; all are closed at the end."""
    host, _, port = address.rpartition(":")
    began_s = asyncio.get_running_loop().time()
    tasks = [asyncio.create_task(_one(mode, host, int(port))) for _ in range(number)]
    try:
        yield Attack(mode.__name__, tasks, began_s)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _one(mode: Mode, host: str, port: int) -> None:
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.setblocking(False)
    await asyncio.get_running_loop().sock_connect(small, (host, port))
    reader, writer = await asyncio.open_connection(sock=small)
    try:
        with suppress(*GONE):
            await mode(reader, writer)
    finally:
        writer.transport.abort()
