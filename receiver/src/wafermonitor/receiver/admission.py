"""Who may send, how much of it may be held, and how much it may be after decompression.

In: headers and bytes of a request. Out: nothing or an error, inflated bytes, a share of the byte budget.
Called by: `otlp_grpc`, `otlp_http`, before `pipeline`.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from isal import isal_zlib

from wafermonitor.receiver.errors import MediaRejected, QueueFull, RequestRejected, RequestTooLarge, TokenRejected

GZIP_WINDOW = 31
MAX_GZIP_MEMBERS = 64
"""Concatenated gzip members of one body; nobody needs more, and each costs the sender 20 bytes only."""
INLINE_BYTES = 32 * 1024
"""Compressed bodies up to this size are inflated in the loop; a thread costs more than they do."""


class Hold:
    """The bytes that one request occupies until it is answered."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self.held_bytes = 0

    def add(self, number: int) -> None:
        """Occupy `number` bytes more, or QueueFull."""
        self._budget.take(number)
        self.held_bytes += number

    def drop(self, number: int) -> None:
        """Give `number` bytes back."""
        self._budget.held_bytes -= number
        self.held_bytes -= number


class Budget:
    """At most `limit_bytes` of requests that are not yet answered, wherever they are: arriving, waiting, or being written."""

    def __init__(self, limit_bytes: int, retry_s: Callable[[], float]) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self._retry_s = retry_s

    def take(self, number: int) -> None:
        """Count `number` bytes, or QueueFull with a hint when they would be too many."""
        if self.held_bytes + number > self.limit_bytes:
            raise QueueFull(f"{self.limit_bytes} bytes of requests wait for the store; try again", self._retry_s())
        self.held_bytes += number

    @contextmanager
    def hold(self) -> Iterator[Hold]:
        """A share that is given back when the request is answered."""
        share = Hold(self)
        try:
            yield share
        finally:
            share.drop(share.held_bytes)


def authorize(token: str | None, header: str | None) -> None:
    """TokenRejected unless `header` is `Bearer <token>`; without a token everyone is let in."""
    if token is None:
        return
    scheme, _, given = (header or "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), token.encode()):
        raise TokenRejected("send the header `authorization: Bearer <token>` with the token of this receiver")


def too_large(limit_bytes: int) -> RequestTooLarge:
    """The refusal of a request over `limit_bytes`."""
    return RequestTooLarge(f"the request is larger than {limit_bytes} bytes after decompression; send smaller batches")


async def inflate(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """The body as its Content-Encoding says, at most `limit_bytes` long."""
    if encoding in ("", "identity"):
        return body
    if encoding != "gzip":
        raise MediaRejected("content-encoding must be gzip or identity")
    if len(body) <= INLINE_BYTES:
        return gunzip(body, limit_bytes)
    return await asyncio.to_thread(gunzip, body, limit_bytes)


def gunzip(body: bytes, limit_bytes: int) -> bytes:
    """Inflate one or several gzip members. RequestTooLarge beyond the limit, RequestRejected for what is no gzip."""
    pieces: list[bytes] = []
    room = limit_bytes
    for _ in range(MAX_GZIP_MEMBERS):
        member = isal_zlib.decompressobj(wbits=GZIP_WINDOW)
        try:
            piece = member.decompress(body, room + 1)
        except isal_zlib.error:  # type: ignore[misc]  # the stub takes the class for an instance
            raise RequestRejected("the body is not valid gzip") from None
        room -= len(piece)
        if room < 0:
            raise too_large(limit_bytes)
        if not member.eof:
            raise RequestRejected("the gzip body ends in the middle")
        pieces.append(piece)
        body = member.unused_data
        if not body:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    raise RequestRejected(f"the gzip body has more than {MAX_GZIP_MEMBERS} members")
