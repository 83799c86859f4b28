"""What the receiver answers when it cannot accept, each with its gRPC code and HTTP status.

In: limits reached, bytes that are not OTLP, a store that is away. Out: these, on the wire as `google.rpc.Status`.
Called by: every module here; `answers` writes them. The text of an error is what the sender reads.

ReceiverError
├── ReceiverUnavailable        retry: UNAVAILABLE / 503, with a hint when
│   ├── QueueFull              as many bytes wait for the store as may wait
│   ├── TooSlow                a body does not arrive in time
│   ├── Throttled              RESOURCE_EXHAUSTED / 429: the site sends more than its quota
│   ├── Draining               this process is stopping
│   ├── StoreUnavailable       the store cannot commit now
│   ├── BackendUnavailable     the backend that a bridge writes to takes nothing now
│   └── ChildUnavailable       one of several processes does not get ready; stops the start
└── ReceiverRejected           permanent: INVALID_ARGUMENT / 400 unless said otherwise
    ├── RequestRejected        the body is no OTLP request of its signal, or cannot be inflated
    ├── ItemRejected           one span, log record or point can never be stored; its neighbours can
    ├── RequestTooLarge        RESOURCE_EXHAUSTED without RetryInfo / 413
    ├── TokenRejected          UNAUTHENTICATED / 401
    ├── RouteRejected          UNIMPLEMENTED / 404: no such path
    ├── MethodRejected         UNIMPLEMENTED / 405: the paths take POST
    ├── MediaRejected          INVALID_ARGUMENT / 415: content type or encoding
    ├── AddressRejected        a listening address that cannot be had; stops the start
    └── LaneRejected           a lane that is demanded and cannot be had; stops the start

Source: opentelemetry-proto docs/specification.md, "Failures"; a Collector drops whatever is not retryable there.
"""

from __future__ import annotations

from enum import IntEnum
from typing import ClassVar, Self


class Code(IntEnum):
    """Those of gRPC's status codes that the receiver gives (google/rpc/code.proto)."""

    INVALID_ARGUMENT = 3
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class ReceiverError(Exception):
    """The receiver could not do it."""

    code: ClassVar[Code] = Code.UNAVAILABLE
    http_status: ClassVar[int] = 503
    retry_s: float | None = None

    def without_frames(self) -> Self:
        """Itself, without the frames it came through: they hold bodies, and what holds it would keep them."""
        self.__cause__ = self.__context__ = None
        return self.with_traceback(None)


class ReceiverUnavailable(ReceiverError):  # noqa: N818 - the pair Unavailable/Rejected is named alike in every component
    """Not now; the sender keeps the data and tries again after `retry_s` seconds."""

    def __init__(self, message: str, retry_s: float = 1.0) -> None:
        super().__init__(message)
        self.retry_s = retry_s


class QueueFull(ReceiverUnavailable):
    """As many bytes wait for the store as may wait."""


class TooSlow(ReceiverUnavailable):
    """The body holds a share of the queue for too long while it arrives."""


class Throttled(ReceiverUnavailable):
    """The site is over its quota; with the hint in it a Collector tries again, as OTLP wants it."""

    code = Code.RESOURCE_EXHAUSTED
    http_status = 429


class Draining(ReceiverUnavailable):
    """This process is stopping; another one, or the next one, takes it."""


class StoreUnavailable(ReceiverUnavailable):
    """The store cannot commit now."""


class BackendUnavailable(ReceiverUnavailable):
    """The backend that a bridge writes to takes nothing now."""


class ChildUnavailable(ReceiverUnavailable):
    """A process of `processes` does not get ready."""


class ReceiverRejected(ReceiverError):  # noqa: N818 - as above
    """The same request will fail again."""

    code = Code.INVALID_ARGUMENT
    http_status = 400


class RequestRejected(ReceiverRejected):
    """The body is no OTLP request."""


class ItemRejected(ReceiverRejected):
    """One span, log record or point can never be stored."""


class RequestTooLarge(ReceiverRejected):
    """More bytes than one request may have after decompression."""

    code = Code.RESOURCE_EXHAUSTED
    http_status = 413


class TokenRejected(ReceiverRejected):
    """The bearer token is missing or wrong."""

    code = Code.UNAUTHENTICATED
    http_status = 401


class RouteRejected(ReceiverRejected):
    """No such path."""

    code = Code.UNIMPLEMENTED
    http_status = 404


class MethodRejected(ReceiverRejected):
    """The path exists, the method does not."""

    code = Code.UNIMPLEMENTED
    http_status = 405


class MediaRejected(ReceiverRejected):
    """A content type or content encoding that this receiver does not read."""

    http_status = 415


class AddressRejected(ReceiverRejected):
    """An address that the receiver cannot listen on."""


class LaneRejected(ReceiverRejected):
    """The native lane is demanded, and is not installed or of no use to the store."""
