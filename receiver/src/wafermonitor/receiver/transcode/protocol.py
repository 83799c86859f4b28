"""What a transcoding lane is: bodies of OTLP requests in, records out. The seam where the native lane stands beside this one.

In: admitted requests. Out: one `Transcoded`, or the error to answer, for each, in the same order.
Implemented by: `transcode.python` (protobuf), `transcode.json`. Called by: `pipeline`, in a worker thread.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, Protocol

from wafermonitor.runs.records import Batch


class Signal(StrEnum):
    """The three signals; the value is the last part of the HTTP path."""

    TRACES = "traces"
    LOGS = "logs"
    METRICS = "metrics"


class Encoding(StrEnum):
    """How a body is written."""

    PROTOBUF = "protobuf"
    JSON = "json"
    EVENTS = "events"
    """Not OTLP: the JSON of the older routes (`receiver.legacy`), which becomes log records."""


_NONE: Mapping[bytes, int] = MappingProxyType({})


class Request(NamedTuple):
    """One admitted request: its body is inflated, its size is within bounds. `received_ns` is when it was complete.

    `arrivals`: when items that say no time of their own arrived for the first time, by their digest, as far as that is known.
    """

    signal: Signal
    encoding: Encoding
    body: bytes
    received_ns: int
    arrivals: Mapping[bytes, int] = _NONE


class Transcoded(NamedTuple):
    """One request's rows, how many items were rejected for good and why, and how many items were mended.

    `timeless`: the digest of every stored item that says no time of its own, in the order of the items.
    """

    batch: Batch
    rejected: int
    message: str
    repaired: int
    timeless: tuple[bytes, ...] = ()


class Lane(Protocol):
    """Decodes one request. Thread-safe, keeps nothing between requests."""

    def transcode(self, request: Request) -> Transcoded:
        """The rows of `request`; RequestRejected when its body is no OTLP request of its signal."""
