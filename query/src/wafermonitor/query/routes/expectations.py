"""Expectations, new ones, a person's answer to a proposed one, and the runs that they wait for.

In: filters, names, specs, who answers. Out: lists and pages.  Called by: app.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from wafermonitor.query.errors import Conflicting, NotFound
from wafermonitor.query.filters import ExpectationFilters, ExpectedFilters, Strict
from wafermonitor.query.formats import listing, rows
from wafermonitor.query.models import ExpectationModel, ExpectedRunModel, NewExpectationModel, PageModel, WhoModel
from wafermonitor.query.problems import responses
from wafermonitor.query.routes.alerts import CHANGE_RESPONSES, WATCH_LIST_RESPONSES, run_key
from wafermonitor.query.routes.changes import ChangeRoute
from wafermonitor.query.routes.context import Context, Ctx
from wafermonitor.query.specs import canonical
from wafermonitor.query.watched import expectation_model, expected_run_model
from wafermonitor.runs.alerts import Expectation, Origin

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1", route_class=ChangeRoute)
NamePath = Annotated[str, Path(min_length=1, max_length=1000, pattern=r"^[^\x00]+$", description="its name")]
ANSWER_RESPONSES = CHANGE_RESPONSES | responses(409)


@router.get("/expectations", responses=WATCH_LIST_RESPONSES, response_model=PageModel[ExpectationModel])
async def expectations(request: Request, ctx: Ctx, filters: Annotated[ExpectationFilters, Query()]) -> Response:
    """Every expectation in order of name: those of files, those a person accepted, and those that are proposed."""
    origin = None if filters.origin is None else Origin(filters.origin)
    found = [one for one in await ctx.watch.expectations(origin) if _wanted(one, filters)]
    return rows(request, ExpectationModel, filters, [expectation_model(one) for one in found], ctx.server_time)


@router.post("/expectations", responses=ANSWER_RESPONSES)
async def expect(ctx: Ctx, body: NewExpectationModel, _: Annotated[Strict, Query()]) -> ExpectationModel:
    """Wait for runs of a job from now on, or change what was made here before. What is the same already keeps its times."""
    spec = canonical(body.spec)
    known = await _find(ctx, body.name)
    if known is not None:
        _undeclared(known)
        if known.origin is Origin.API and (known.site, known.job, known.spec) == (body.site, body.job, spec):
            return expectation_model(known)
    now_ns = ctx.now_ns
    made = Expectation(body.name, body.site, body.job, Origin.API, spec, since_ns=now_ns, watched_ns=now_ns, changed_ns=now_ns)
    await ctx.watch.save(made)
    log.info("expectation %r was set by %s", made.name, body.by)
    return expectation_model(made)


@router.post("/expectations/{expectation}/accept", responses=ANSWER_RESPONSES)
async def accept(ctx: Ctx, expectation: NamePath, body: WhoModel, _: Annotated[Strict, Query()]) -> ExpectationModel:
    """Let a proposed one wait for runs from now on."""
    found = await _changeable(ctx, expectation)
    if found.origin is Origin.PROPOSED:
        now_ns = ctx.now_ns
        found = found._replace(origin=Origin.API, since_ns=now_ns, watched_ns=now_ns, changed_ns=now_ns)
        await ctx.watch.save(found)
        log.info("expectation %r was accepted by %s", expectation, body.by)
    return expectation_model(found)


@router.post("/expectations/{expectation}/decline", responses=ANSWER_RESPONSES)
async def decline(ctx: Ctx, expectation: NamePath, body: WhoModel, _: Annotated[Strict, Query()]) -> ExpectationModel:
    """Delete one that was proposed, or accepted before. The answer is what it was."""
    found = await _changeable(ctx, expectation)
    if not await ctx.watch.forget(expectation):
        raise _no_expectation(expectation)
    log.info("expectation %r was declined by %s", expectation, body.by)
    return expectation_model(found)


@router.get("/expected-runs", responses=WATCH_LIST_RESPONSES, response_model=PageModel[ExpectedRunModel])
async def expected_runs(request: Request, ctx: Ctx, filters: Annotated[ExpectedFilters, Query()]) -> Response:
    """Runs that expectations wait for, or waited for, with what became of them; the newest nominal time first."""
    watch = ctx.watch
    query = filters.question(ctx.now_ns, await run_key(ctx, filters))

    async def fetch(cursor: str | None, limit: int) -> PageModel[ExpectedRunModel]:
        page = await watch.expected_runs(dataclasses.replace(query, cursor=cursor, limit=limit))
        items = [expected_run_model(one) for one in page.items]
        return PageModel(items=items, cursor=page.cursor, server_time=ctx.server_time)

    return await listing(request, ExpectedRunModel, filters, fetch)


def _wanted(one: Expectation, filters: ExpectationFilters) -> bool:
    at_site = not filters.site or one.site is None or one.site in filters.site
    return at_site and (not filters.job or one.job in filters.job)


async def _find(ctx: Context, name: str) -> Expectation | None:
    return next((one for one in await ctx.watch.expectations() if one.name == name), None)


async def _changeable(ctx: Context, name: str) -> Expectation:
    """The expectation of this name; Conflicting where its file decides."""
    found = await _find(ctx, name)
    if found is None:
        raise _no_expectation(name)
    _undeclared(found)
    return found


def _undeclared(found: Expectation) -> None:
    if found.origin is Origin.DECLARED:
        raise Conflicting(f"expectation {found.name!r} is declared in a file: change it there")


def _no_expectation(name: str) -> NotFound:
    return NotFound(f"no expectation {name!r}: `/v1/expectations` lists them")
