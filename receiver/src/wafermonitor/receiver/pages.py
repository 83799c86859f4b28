"""The receiver's own pages: alive, ready, and what it measured.

In: GET /healthz, /readyz, /metrics, and the older services' health. Out: JSON and the Prometheus text.
Called by: `server`, which mounts them on every HTTP port.

They need no token, and one connection may ask for eight at once: so whoever asks in the same moment gets the same answer, and
the store and the processor are asked `1 / PAUSE_S` times a second at most. No answer is older than its request.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

from prometheus_client import CONTENT_TYPE_LATEST

from wafermonitor.receiver import legacy
from wafermonitor.receiver.http1.exchange import JSON, Call, Reply, Routes
from wafermonitor.receiver.telemetry import Telemetry

HTTP_OK = 200
HTTP_UNAVAILABLE = 503
PAUSE_S = 0.02
"""A page of measures costs half a millisecond of the event loop, readiness a connection to the store."""

T = TypeVar("T")
Trouble = Callable[[], Awaitable[str | None]]
"""What keeps the receiver from being ready, or None."""
Ways = Callable[[], Mapping[str, object]]
"""How further ways in do (Kafka), by name; health shows it."""


class _Together(Generic[T]):
    """One answer for all who asked before it was begun."""

    def __init__(self, ask: Callable[[], Awaitable[T]]) -> None:
        self._ask = ask
        self._next: asyncio.Task[T] | None = None
        self._asked_s = 0.0

    async def __call__(self) -> T:
        if self._next is None:
            self._next = asyncio.create_task(self._soon())
        return await asyncio.shield(self._next)

    async def _soon(self) -> T:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(self._asked_s + PAUSE_S - loop.time(), 0.0))
        self._asked_s = loop.time()
        self._next = None
        return await self._ask()


def routes(telemetry: Telemetry, trouble: Trouble, ways: Ways = dict) -> Routes:
    """The pages; they need no token."""

    async def text() -> bytes:
        return telemetry.text()

    troubles, texts = _Together(trouble), _Together(text)

    async def alive(_: Call) -> Reply:
        return Reply(HTTP_OK, JSON, b'{"status":"ok"}')

    async def ready(_: Call) -> Reply:
        why = await troubles()
        if why is None:
            return Reply(HTTP_OK, JSON, b'{"status":"ready"}')
        return Reply(HTTP_UNAVAILABLE, JSON, json.dumps({"status": "not ready", "reason": why}).encode())

    async def health(_: Call) -> Reply:
        why = await troubles()
        return Reply(HTTP_OK if why is None else HTTP_UNAVAILABLE, JSON, legacy.health(why, ways()))

    async def measures(_: Call) -> Reply:
        return Reply(HTTP_OK, CONTENT_TYPE_LATEST, await texts())

    own = {"/healthz": alive, "/readyz": ready, "/metrics": measures, **dict.fromkeys(legacy.HEALTH_PATHS, health)}
    return {("GET", path): handler for path, handler in own.items()}
