"""The receiver's own pages: alive, ready, and what it measured.

In: GET /healthz, /readyz, /metrics, and the older services' health. Out: JSON and the Prometheus text.
Called by: `server`, which mounts them on every HTTP port.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import CONTENT_TYPE_LATEST

from wafermonitor.receiver import legacy
from wafermonitor.receiver.http1.exchange import JSON, Call, Reply, Routes
from wafermonitor.receiver.telemetry import Telemetry

HTTP_OK = 200
HTTP_UNAVAILABLE = 503

Trouble = Callable[[], Awaitable[str | None]]
"""What keeps the receiver from being ready, or None."""
Ways = Callable[[], Mapping[str, object]]
"""How further ways in do (Kafka), by name; health shows it."""


def routes(telemetry: Telemetry, trouble: Trouble, ways: Ways = dict) -> Routes:
    """The pages; they need no token."""

    async def alive(_: Call) -> Reply:
        return Reply(HTTP_OK, JSON, b'{"status":"ok"}')

    async def ready(_: Call) -> Reply:
        why = await trouble()
        if why is None:
            return Reply(HTTP_OK, JSON, b'{"status":"ready"}')
        return Reply(HTTP_UNAVAILABLE, JSON, json.dumps({"status": "not ready", "reason": why}).encode())

    async def health(_: Call) -> Reply:
        why = await trouble()
        return Reply(HTTP_OK if why is None else HTTP_UNAVAILABLE, JSON, legacy.health(why, ways()))

    async def measures(_: Call) -> Reply:
        return Reply(HTTP_OK, CONTENT_TYPE_LATEST, telemetry.text())

    own = {"/healthz": alive, "/readyz": ready, "/metrics": measures, **dict.fromkeys(legacy.HEALTH_PATHS, health)}
    return {("GET", path): handler for path, handler in own.items()}
