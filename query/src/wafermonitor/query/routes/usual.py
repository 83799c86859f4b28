"""What is usual for one job at one site: the band by which durations are judged, over time.

In: site, job, a stretch of time. Out: one document.  Called by: app.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from wafermonitor.query.answers import instant
from wafermonitor.query.filters import UsualFilters, parse_time
from wafermonitor.query.models import BandModel, ShiftModel, UsualModel
from wafermonitor.query.problems import responses
from wafermonitor.query.routes.context import Ctx, Route
from wafermonitor.runs.bands import Profile

router = APIRouter(prefix="/v1", route_class=Route)
POINTS = 120


@router.get("/usual", responses=responses(400, 422, 500, 503))
async def usual(ctx: Ctx, filters: Annotated[UsualFilters, Query()]) -> UsualModel:
    """How long runs of a job at a site usually take, as learned from its history by now. Little history gives no bands."""
    from_ns, to_ns = (parse_time(text, ctx.now_ns) for text in (filters.from_, filters.to))
    profile = await ctx.ends.usual(filters.site, filters.job, ctx.now_ns)
    step_ns = max((to_ns - from_ns) // POINTS, 1)
    shift = profile.shift
    return UsualModel(
        site=filters.site,
        job=filters.job,
        runs=profile.runs,
        mid_s=profile.mid_s,
        memory_bytes=profile.memory_bytes,
        error_types=sorted(profile.error_types),
        shift=None if shift is None else ShiftModel(since=instant(shift.since_ns), factor=shift.factor, runs=shift.runs),
        bands=_bands(profile, range(from_ns, to_ns, step_ns)),
        server_time=ctx.server_time,
    )


def _bands(profile: Profile, starts_ns: range) -> list[BandModel]:
    found = ((start_ns, profile.band(start_ns)) for start_ns in starts_ns)
    return [
        BandModel(start=instant(start_ns), low_s=band.low_s, mid_s=band.mid_s, high_s=band.high_s)
        for start_ns, band in found
        if band is not None
    ]
