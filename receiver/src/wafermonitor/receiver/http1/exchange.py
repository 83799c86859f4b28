"""A complete HTTP request and its answer, as the routes see them.

In: what `connection` has read. Out: what it writes. Called by: every module with a route (`otlp_http`, `legacy`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

JSON = "application/json"


class Head(NamedTuple):
    """A request before its body: names of headers in small letters, `length` is None when the sender does not say."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    length: int | None


class Call(NamedTuple):
    """A whole request: its token is right, its body is inflated and within bounds. `received_ns` is when it was complete."""

    head: Head
    body: bytes
    received_ns: int


class Reply(NamedTuple):
    """An answer; lengths and `connection` are the connection's business."""

    status: int
    media: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


Handler = Callable[[Call], Awaitable[Reply]]
"""A route. What it raises of ReceiverError is answered with its status and a `google.rpc.Status`; it logs nothing itself."""

Routes = Mapping[tuple[str, str], Handler]
"""(method, path) → handler."""
