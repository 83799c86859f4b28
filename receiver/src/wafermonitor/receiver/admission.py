"""Who may send, how much of it may be held, and how much it may be after decompression.

In: headers and bytes of a request. Out: nothing or an error, inflated bytes, a share of the byte budget.
Called by: `otlp_grpc`, `otlp_http`, before `pipeline`, which says whose share it is.
"""

from __future__ import annotations

import asyncio
import hmac
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from isal import isal_zlib

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from wafermonitor.receiver.errors import MediaRejected, QueueFull, RequestRejected, RequestTooLarge, TokenRejected

GZIP_WINDOW = 31
MAX_GZIP_MEMBERS = 64
"""Concatenated gzip members of one body; nobody needs more, and each costs the sender 20 bytes only."""
INLINE_BYTES = 32 * 1024
"""Compressed bodies up to this size are inflated in the loop; a thread costs more than they do."""
MAX_INFLATING = 2
"""What comes out is counted only when it is there: each of these may be a whole request that nobody knows of yet."""
ZSTD_WINDOW_LOG = 23
"""8 MiB, the window that RFC 9659 asks of HTTP receivers; a larger one is memory that the sender chooses."""
ENCODINGS = ("gzip", "zstd", "identity")
GZIP_MAGIC = b"\x1f\x8b"
_THREADS = ThreadPoolExecutor(MAX_INFLATING, thread_name_prefix="inflate")
SITE_SHARE = 3
"""One site alone may fill three quarters of the queue; two together six sevenths."""


class Hold:
    """The bytes that one request occupies until it is answered."""

    __slots__ = ("_budget", "_site", "held_bytes")

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._site: str | None = None
        self.held_bytes = 0

    def add(self, number: int) -> None:
        """Occupy `number` bytes more, or QueueFull."""
        self._budget.take(number)
        self.held_bytes += number

    def drop(self, number: int) -> None:
        """Give `number` bytes back."""
        self._budget.held_bytes -= number
        self.held_bytes -= number

    def assign(self, site: str) -> None:
        """What is held counts for `site` from now on, once; QueueFull when the site holds more than its share already."""
        if self._site is not None:
            return
        self._budget.assign(site, self.held_bytes)
        self._site = site

    def release(self) -> None:
        """Give everything back; once is enough, twice does no harm."""
        if self._site is not None:
            self._budget.unassign(self._site, self.held_bytes)
            self._site = None
        self._budget.held_bytes -= self.held_bytes
        self.held_bytes = 0


class Budget:
    """At most `limit_bytes` of requests that are not yet answered, wherever they are: arriving, waiting, or being written.

    One site may hold SITE_SHARE times what is free, so that there is room for others however much it sends (dynamic
    thresholds; Choudhury and Hahne, 1998). `crowded` is set while the process itself has no room, whatever is counted here; it
    says nothing any more once nothing is held, and none of the `arriving` messages, which nobody can count yet, is left.
    """

    def __init__(self, limit_bytes: int, retry_s: Callable[[], float]) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.crowded = False
        self.arriving = 0
        self._of_site: dict[str, int] = {}
        self._retry_s = retry_s

    def check(self, number: int = 0) -> None:
        """QueueFull, with a hint, when `number` bytes more would be too many."""
        if (self.crowded and (self.held_bytes or self.arriving)) or self.held_bytes + number > self.limit_bytes:
            raise self.full()

    def full(self) -> QueueFull:
        """The refusal when there is no room."""
        return QueueFull(f"{self.limit_bytes} bytes of requests wait for the store; try again", self._retry_s())

    def take(self, number: int) -> None:
        """Count `number` bytes, or QueueFull with a hint when they would be too many."""
        if self.held_bytes + number > self.limit_bytes:
            raise self.full()
        self.held_bytes += number

    def assign(self, site: str, number: int) -> None:
        """Count `number` of the held bytes for `site`, or QueueFull when that is more than its share."""
        mine = self._of_site.get(site, 0)
        if mine and mine + number > SITE_SHARE * (self.limit_bytes - self.held_bytes):
            raise QueueFull("this site's requests fill its share of the queue; try again", self._retry_s())
        self._of_site[site] = mine + number

    def unassign(self, site: str, number: int) -> None:
        """They are answered."""
        left = self._of_site.get(site, 0) - number
        if left:
            self._of_site[site] = left
        else:
            self._of_site.pop(site, None)  # gone already, where one of several requests was empty

    @contextmanager
    def hold(self) -> Iterator[Hold]:
        """A share that is given back when the request is answered."""
        share = Hold(self)
        try:
            yield share
        finally:
            share.release()


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
    if len(body) <= INLINE_BYTES:
        return inflated(body, encoding, limit_bytes)
    return await asyncio.get_running_loop().run_in_executor(_THREADS, inflated, body, encoding, limit_bytes)


def inflated(body: bytes, encoding: str, limit_bytes: int) -> bytes:
    """As `inflate`, here and now."""
    if encoding in ("", "identity"):
        return body
    if encoding == "gzip":
        return gunzip(body, limit_bytes)
    if encoding == "zstd":
        return unzstd(body, limit_bytes)
    raise MediaRejected(f"content-encoding must be one of {', '.join(ENCODINGS)}")


def gunzip(body: bytes, limit_bytes: int) -> bytes:
    """Inflate one or several gzip members. RequestTooLarge beyond the limit, RequestRejected for what is no gzip."""

    def member() -> Any:
        return isal_zlib.decompressobj(wbits=GZIP_WINDOW)

    try:
        return _inflate(body, limit_bytes, member, ("gzip", "members"))
    except isal_zlib.error:  # type: ignore[misc]  # the stub takes the class for an instance
        raise RequestRejected("the body is not valid gzip") from None


def unzstd(body: bytes, limit_bytes: int) -> bytes:
    """Inflate one or several zstd frames. RequestTooLarge beyond the limit, RequestRejected for what is no zstd."""

    def frame() -> Any:
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: ZSTD_WINDOW_LOG})

    try:
        return _inflate(body, limit_bytes, frame, ("zstd", "frames"))
    except zstd.ZstdError:
        raise RequestRejected("the body is not valid zstd, or needs a window above 8 MiB") from None


def _inflate(body: bytes, limit_bytes: int, part: Callable[[], Any], words: tuple[str, str]) -> bytes:
    """All parts of `body`, each through a decompressor of its own: no more than the limit and one byte is ever made."""
    encoding, parts = words
    pieces: list[bytes] = []
    room = limit_bytes
    for _ in range(MAX_GZIP_MEMBERS):
        inflating = part()
        piece = inflating.decompress(body, room + 1)
        room -= len(piece)
        if room < 0:
            raise too_large(limit_bytes)
        if not inflating.eof:
            raise RequestRejected(f"the {encoding} body ends in the middle")
        pieces.append(piece)
        body = inflating.unused_data
        if not body:
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)
    raise RequestRejected(f"the {encoding} body has more than {MAX_GZIP_MEMBERS} {parts}")
