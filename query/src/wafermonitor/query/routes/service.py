"""How the service itself is: alive, ready, and its own metrics.

In: probes. Out: health as JSON, metrics in Prometheus's text format.  Called by: app.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from wafermonitor.query.answers import moment
from wafermonitor.query.models import Health
from wafermonitor.query.problems import responses
from wafermonitor.query.routes.context import Context, Ctx, Route
from wafermonitor.runs.state import SECOND_NS
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
    """The store answers too; 503 otherwise. That alerting evaluates is told, and is no part of it."""
    health = await ctx.reader.health()
    return Health(
        status="ok",
        engine=health.engine,
        version=health.version,
        newest_received=moment(health.newest_received_ns),
        evaluated_at=moment(await _evaluated_ns(ctx)),
    )


@router.get("/metrics", responses=METRICS_RESPONSES, response_class=Response)
async def metrics(request: Request, ctx: Ctx) -> Response:
    """For Prometheus. A store that does not answer in time has no metrics; the service's own are told all the same."""
    meters = request.app.state.meters
    meters.maintenance(await _steps(ctx))
    evaluated_ns = await _evaluated_ns(ctx)
    if evaluated_ns is not None:
        meters.evaluated.set(evaluated_ns / SECOND_NS)
    return Response(generate_latest(meters.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})


async def _steps(ctx: Ctx) -> tuple[StepHealth, ...]:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return (await ctx.reader.health()).steps
    except (StorageError, TimeoutError):
        return ()


async def _evaluated_ns(ctx: Context) -> int | None:
    """When the rules were last judged; None: never, nobody keeps it, or it is not known in time."""
    if ctx.kept is None:
        return None
    try:
        async with asyncio.timeout(_PATIENCE_S):
            return await ctx.kept.ticked_ns()
    except (StorageError, TimeoutError):
        return None
