"""What senders share: the next request, and what became of each.

In: a `Sheet`, a stream. Out: request bytes with fresh ids; a log of answers. Called by: `generator` and
the senders.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Protocol

import numpy as np
from isal import igzip

from benchmarks.corpus import Sheet

_AGO_NS = 2_000_000_000


class Answer(IntEnum):
    """What became of a request."""

    ACKED = 0
    REFUSED = 1
    """To be sent again, and the server said when."""
    REFUSED_WITHOUT_HINT = 2
    REJECTED = 3
    LOST = 4
    """No answer: the connection broke, or the time was over."""


class Supply(Protocol):
    """Where a sender takes its requests from; None when there are no more."""

    def next(self) -> tuple[int, bytes | memoryview] | None:
        """Number of the request in its stream, and its bytes."""
        ...


class Fresh:
    """Requests without end, each sheet filled when the one before is used up. Threads may share it.

    Spans begin now; or, when `gap_ns` says how far apart they are and `limit` how many requests there are, the last begins now.
    """

    def __init__(self, sheet: Sheet, first: int, limit: int | None = None, gap_ns: int = 0) -> None:
        self._sheet = sheet
        self._first = first
        self._limit = limit
        self._gap_ns = gap_ns
        spans = (limit or 0) * (sheet.spans // len(sheet.bounds))
        self._began_ns = time.time_ns() - _AGO_NS - spans * gap_ns
        self._lock = threading.Lock()
        self._turns = self._requests()

    def next(self) -> tuple[int, bytes | memoryview] | None:
        """As `Supply` says."""
        with self._lock:
            return next(self._turns, None)

    def _requests(self) -> Iterator[tuple[int, memoryview]]:
        number = 0
        first = self._first
        while True:
            at_ns = self._began_ns + (first - self._first) * self._gap_ns if self._gap_ns else time.time_ns() - _AGO_NS
            filled = memoryview(self._sheet.fill(first, at_ns))
            for start, end in self._sheet.bounds:
                if number == self._limit:
                    return
                yield number, filled[start:end]
                number += 1
            first += self._sheet.spans


class Compressed:
    """So many requests, made and gzipped before the clock starts: ids cannot be written into compressed bytes.

    `head(length of the compressed body)` is put before each.
    """

    def __init__(self, sheet: Sheet, first: int, count: int) -> None:
        fresh = Fresh(sheet, first, count)
        self._requests = []
        while (turn := fresh.next()) is not None:
            body = igzip.compress(bytes(turn[1]), 1)
            self._requests.append((turn[0], http_head_of(body) + body))
        self._lock = threading.Lock()
        self._turns = iter(self._requests)

    def next(self) -> tuple[int, bytes | memoryview] | None:
        """As `Supply` says."""
        with self._lock:
            return next(self._turns, None)


def http_head_of(body: bytes) -> bytes:
    """The head of a gzipped protobuf request over HTTP."""
    return http_head(len(body), "application/x-protobuf", "content-encoding: gzip\r\n")


def http_head(length: int, media: str = "application/x-protobuf", more: str = "", route: str = "/v1/traces") -> bytes:
    """The head of an OTLP/HTTP request."""
    return (
        f"POST {route} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {media}\r\n{more}content-length: {length}\r\n\r\n"
    ).encode("ascii")


class Log:
    """One line for each request: number, when it was to be sent, when it was answered (monotonic ns), what the answer was."""

    def __init__(self) -> None:
        self._lines: list[tuple[int, int, int, int]] = []
        self.add = self._lines.append

    def save(self, path: Path) -> None:
        """Write it as an array of four columns."""
        np.save(path, np.array(self._lines, dtype=np.int64).reshape(-1, 4))


class Pace:
    """When requests are due: at once whenever a place is free (closed loop), or `rate` per second (open loop)."""

    def __init__(self, rate: float | None, began_ns: int) -> None:
        self._gap_ns = None if rate is None else 1e9 / rate
        self._began_ns = began_ns
        self._due = 0

    @property
    def closed(self) -> bool:
        """Is the next one due as soon as one is answered?"""
        return self._gap_ns is None

    def take(self, now_ns: int) -> int | None:
        """The scheduled time of a request that is due now; None when none is."""
        if self._gap_ns is None:
            return now_ns
        due_ns = self._began_ns + int(self._due * self._gap_ns)
        if due_ns > now_ns:
            return None
        self._due += 1
        return due_ns

    def wait_s(self, now_ns: int) -> float:
        """Seconds until the next one is due."""
        if self._gap_ns is None:
            return 1.0
        return max(0.0, (self._began_ns + self._due * self._gap_ns - now_ns) / 1e9)


class Sender(Protocol):
    """Sends what a `Supply` gives, at a `Pace`, and notes every answer in a `Log`."""

    def run(self, supply: Supply, pace: Pace, log: Log, until_ns: int, grace_s: float) -> None:
        """Send until `until_ns` (monotonic), then wait at most `grace_s` for what is on its way."""
        ...
