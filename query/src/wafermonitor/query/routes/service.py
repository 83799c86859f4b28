"""How the service itself is: alive, ready, and its own metrics.

In: probes. Out: health as JSON, metrics in Prometheus's text format.  Called by: app.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from wafermonitor.query.answers import instant
from wafermonitor.query.models import Health
from wafermonitor.query.problems import responses
from wafermonitor.query.routes.context import Ctx, Route
from wafermonitor.storage.errors import StorageError
from wafermonitor.storage.protocol import StepHealth

_PATIENCE_S = 2.0
"""A scrape waits no longer for the store."""
router = APIRouter(route_class=Route)
METRICS_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {"description": "The service's own metrics", "content": {"text/plain": {"schema": {"type": "string"}}}},
    **responses(500),
}


@router.get("/v1/healthz", responses=responses(500))
async def healthz() -> Health:
    """The process answers; whether the store does is `/readyz`'s question."""
    return Health(status="ok")


@router.get("/readyz", responses=responses(500, 503))
async def readyz(ctx: Ctx) -> Health:
    """The store answers too; 503 otherwise."""
    health = await ctx.reader.health()
    newest = health.newest_received_ns
    return Health(
        status="ok",
        engine=health.engine,
        version=health.version,
        newest_received=None if newest is None else instant(newest),
    )


@router.get("/metrics", responses=METRICS_RESPONSES, response_class=Response)
async def metrics(request: Request, ctx: Ctx) -> Response:
    """For Prometheus. A store that does not answer in time has no metrics; the service's own are told all the same."""
    meters = request.app.state.meters
    meters.maintenance(await _steps(ctx))
    return Response(generate_latest(meters.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _steps(ctx: Ctx) -> tuple[StepHealth, ...]:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return (await ctx.reader.health()).steps
    except (StorageError, TimeoutError):
        return ()
