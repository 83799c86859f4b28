"""Lists over everything: jobs, subjobs, root spans, sites, apps.

In: filters. Out: pages as JSON, rows as CSV or NDJSON.  Called by: app.
"""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from wafermonitor.query.answers import app_model, run_model, site_model, span_model
from wafermonitor.query.filters import Filters, JobFilters, RootSpanFilters, SiteFilters, SubjobFilters, parse_time
from wafermonitor.query.formats import MEDIA_TYPES, Fetch, Format, listing, rows
from wafermonitor.query.models import AppModel, PageModel, RunModel, SiteModel, SpanModel
from wafermonitor.query.problems import responses
from wafermonitor.query.routes.context import Context, Ctx, Route
from wafermonitor.storage.protocol import RunQuery, SpanQuery

router = APIRouter(prefix="/v1", route_class=Route)
_TEXT = {"schema": {"type": "string"}}
LIST_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page as JSON (`Link: rel=next` where there is more), or rows",
        "content": {MEDIA_TYPES[Format.CSV]: _TEXT, MEDIA_TYPES[Format.NDJSON]: _TEXT},
    },
    **responses(400, 406, 422, 500, 503),
}


@router.get("/jobs", responses=LIST_RESPONSES, response_model=PageModel[RunModel])
async def jobs(request: Request, ctx: Ctx, filters: Annotated[JobFilters, Query()]) -> Response:
    """Runs without a parent run, newest or failing first."""
    query = filters.question(ctx.now_ns, subjobs=None if filters.subjobs == "any" else False)
    return await listing(request, RunModel, filters, _runs(ctx, query))


@router.get("/subjobs", responses=LIST_RESPONSES, response_model=PageModel[RunModel])
async def subjobs(request: Request, ctx: Ctx, filters: Annotated[SubjobFilters, Query()]) -> Response:
    """Runs with a parent run, newest or failing first."""
    query = filters.question(ctx.now_ns, subjobs=True, parent=filters.parent)
    return await listing(request, RunModel, filters, _runs(ctx, query))


@router.get("/spans", responses=LIST_RESPONSES, response_model=PageModel[SpanModel])
async def root_spans(request: Request, ctx: Ctx, filters: Annotated[RootSpanFilters, Query()]) -> Response:
    """The newest root spans, of one program or of all: traces of programs that know nothing of jobs are found here."""
    query = SpanQuery(
        site=filters.site,
        app=filters.app,
        from_ns=None if filters.from_ is None else parse_time(filters.from_, ctx.now_ns),
        to_ns=None if filters.to is None else parse_time(filters.to, ctx.now_ns),
    )

    async def fetch(cursor: str | None, limit: int) -> PageModel[SpanModel]:
        page = await ctx.reader.spans(dataclasses.replace(query, cursor=cursor, limit=limit))
        items = [span_model(span) for span in page.items]
        return PageModel(items=items, cursor=page.cursor, server_time=ctx.server_time)

    return await listing(request, SpanModel, filters, fetch)


@router.get("/sites", responses=LIST_RESPONSES, response_model=PageModel[SiteModel])
async def sites(request: Request, ctx: Ctx, filters: Annotated[Filters, Query()]) -> Response:
    """Every site with its feeds, how far behind they are, and how many of its open runs are in which state."""
    limits = await ctx.reader.limits()
    items = [site_model(status, ctx.now_ns, limits) for status in await ctx.reader.sites()]
    return rows(request, SiteModel, filters, items, ctx.server_time)


@router.get("/apps", responses=LIST_RESPONSES, response_model=PageModel[AppModel])
async def apps(request: Request, ctx: Ctx, filters: Annotated[SiteFilters, Query()]) -> Response:
    """Every program that has sent something."""
    items = [app_model(app) for app in await ctx.reader.apps(filters.site)]
    return rows(request, AppModel, filters, items, ctx.server_time)


def _runs(ctx: Context, query: RunQuery) -> Fetch[RunModel]:
    async def fetch(cursor: str | None, limit: int) -> PageModel[RunModel]:
        page = await ctx.reader.runs(dataclasses.replace(query, cursor=cursor, limit=limit))
        ends = await ctx.ends.of_list(page.items, ctx.now_ns)
        items = [run_model(stored, ctx.now_ns, end=ends.get(stored.run.key)) for stored in page.items]
        return PageModel(items=items, cursor=page.cursor, server_time=ctx.server_time)

    return fetch
