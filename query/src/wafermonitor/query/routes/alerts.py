"""Alerts: which there are, one with its messages, what stands behind it, an acknowledgement; and silences.

In: filters, ids, who acknowledges or silences. Out: pages and documents.  Called by: app.
"""

from __future__ import annotations

import dataclasses
import logging
import uuid
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from wafermonitor.query.answers import instant
from wafermonitor.query.errors import NotFound, ParameterRejected
from wafermonitor.query.filters import AlertFilters, Filters, Strict, WatchedFilters, parse_time
from wafermonitor.query.formats import document, listing, rows
from wafermonitor.query.models import (
    AcknowledgeModel,
    AlertDetail,
    AlertModel,
    AlertPage,
    ExplainModel,
    NewSilenceModel,
    PageModel,
    SilenceModel,
    WhoModel,
)
from wafermonitor.query.problems import responses
from wafermonitor.query.routes.changes import ChangeRoute
from wafermonitor.query.routes.context import Context, Ctx
from wafermonitor.query.routes.lists import LIST_RESPONSES
from wafermonitor.query.watched import DEAD_AFTER_S, alert_fields, alert_model, delivery_model, explain_model, silence_model
from wafermonitor.runs.alerts import Alert, Silence
from wafermonitor.runs.explain import Explanation
from wafermonitor.runs.records import RunKey, parse_run_id
from wafermonitor.runs.state import SECOND_NS
from wafermonitor.storage.causes import explain_subject

log = logging.getLogger(__name__)
router = APIRouter(prefix="/v1", route_class=ChangeRoute)
IdPath = Annotated[str, Path(pattern=r"^[0-9a-f]{32}$", description="32 hex digits")]
WATCH_LIST_RESPONSES = LIST_RESPONSES | responses(501)
WATCH_RESPONSES = responses(400, 404, 422, 500, 501, 503)
CHANGE_RESPONSES = WATCH_RESPONSES | responses(403, 413, 415)
LONGEST_SILENCE_S = 366 * 86_400
"""A silence is for a time; what should never be told is a rule to be taken out."""


@router.get("/alerts", responses=WATCH_LIST_RESPONSES, response_model=AlertPage)
async def alerts(request: Request, ctx: Ctx, filters: Annotated[AlertFilters, Query()]) -> Response:
    """Alerts, the newest opened first. `evaluating` false: nobody judges the rules, so no alert means nothing.

    In CSV and NDJSON the headers `Wafer-Evaluated-At` and `Wafer-Evaluating` say so.
    """
    watch = ctx.watch
    evaluated_ns = await watch.ticked_ns()
    evaluating = evaluated_ns is not None and ctx.now_ns - evaluated_ns <= DEAD_AFTER_S * SECOND_NS
    silences = await watch.silences()
    run = await run_key(ctx, filters)
    query = filters.question(ctx.now_ns, run)

    async def fetch(cursor: str | None, limit: int) -> PageModel[AlertModel]:
        page = await watch.alerts(dataclasses.replace(query, cursor=cursor, limit=limit))
        return AlertPage(
            items=[alert_model(alert, silences, ctx.now_ns) for alert in page.items],
            cursor=page.cursor,
            server_time=ctx.server_time,
            evaluated_at=None if evaluated_ns is None else instant(evaluated_ns),
            evaluating=evaluating,
        )

    response = await listing(request, AlertModel, filters, fetch)
    response.headers["Wafer-Evaluating"] = str(evaluating).lower()
    if evaluated_ns is not None:
        response.headers["Wafer-Evaluated-At"] = instant(evaluated_ns)
    return response


@router.get(
    "/alerts/{alert}",
    responses=WATCH_RESPONSES | responses(406) | {304: {"description": "Not changed since the ETag given"}},
    response_model=AlertDetail,
)
async def alert_detail(request: Request, ctx: Ctx, alert: IdPath, _: Annotated[Strict, Query()]) -> Response:
    """One alert with the messages about it, oldest first."""
    found = await find_alert(ctx, alert)
    deliveries = await ctx.watch.alert_deliveries(alert)
    model = AlertDetail(
        **alert_fields(found, await ctx.watch.silences(), ctx.now_ns),
        deliveries=[delivery_model(delivery) for delivery in deliveries],
        server_time=ctx.server_time,
    )
    return document(request, model, ended=found.resolved_ns is not None)


@router.get("/alerts/{alert}/explain", responses=WATCH_RESPONSES)
async def explain_alert(ctx: Ctx, alert: IdPath, _: Annotated[Strict, Query()]) -> ExplainModel:
    """What stands behind an alert as of now: its run, its expected run, its feed, its job, explained by rules."""
    found = await find_alert(ctx, alert)
    cause = await explain_subject(ctx.reader, ctx.watch, found.subject, ctx.now_ns)
    told, truncated = (Explanation(found.summary), False) if cause is None else cause
    return explain_model(told, found.subject.run, ctx.now_ns, truncated=truncated)


@router.post("/alerts/{alert}/acknowledge", responses=CHANGE_RESPONSES)
async def acknowledge(ctx: Ctx, alert: IdPath, body: AcknowledgeModel, _: Annotated[Strict, Query()]) -> AlertModel:
    """Somebody looks after it: it is not escalated any more."""
    found = await ctx.watch.acknowledge(alert, body.by, body.note)
    if found is None:
        raise _no_alert(alert)
    return alert_model(found, await ctx.watch.silences(), ctx.now_ns)


@router.get("/silences", responses=WATCH_LIST_RESPONSES, response_model=PageModel[SilenceModel])
async def silences(request: Request, ctx: Ctx, filters: Annotated[Filters, Query()]) -> Response:
    """The silences in force now."""
    items = [silence_model(silence) for silence in await ctx.watch.silences()]
    return rows(request, SilenceModel, filters, items, ctx.server_time)


@router.post("/silences", responses=CHANGE_RESPONSES)
async def silence(ctx: Ctx, body: NewSilenceModel, _: Annotated[Strict, Query()]) -> SilenceModel:
    """Tell nobody of matching alerts until then. They open and end all the same."""
    if body.site is None and body.job is None and body.rule is None:
        raise ParameterRejected("site", "a silence of everything is refused: give at least one of site, job and rule")
    made = Silence(
        id=uuid.uuid4().hex,
        until_ns=_until(body.until, ctx.now_ns),
        by=body.by,
        why=body.why,
        created_ns=ctx.now_ns,
        site=body.site,
        job=body.job,
        rule=body.rule,
    )
    await ctx.watch.silence(made)
    return silence_model(made)


@router.post("/silences/{silence}/end", responses=CHANGE_RESPONSES)
async def unsilence(ctx: Ctx, silence: IdPath, body: WhoModel, _: Annotated[Strict, Query()]) -> SilenceModel:
    """End a silence now."""
    found = next((one for one in await ctx.watch.silences() if one.id == silence), None)
    if found is None or not await ctx.watch.unsilence(silence):
        raise NotFound(f"no silence {silence} is in force: it may have ended")
    log.info("silence %s was ended by %s", silence, body.by)
    return silence_model(found._replace(until_ns=ctx.now_ns))


async def run_key(ctx: Context, filters: WatchedFilters) -> RunKey | None:
    """The run that is asked about, with the site that the caller gave or the store knows."""
    if filters.run is None:
        return None
    trace_id, span_id = parse_run_id(filters.run)
    if len(filters.site) == 1:
        return RunKey(filters.site[0], trace_id, span_id)
    stored = await ctx.reader.run(trace_id, span_id)
    return RunKey("", trace_id, span_id) if stored is None else stored.run.key


async def find_alert(ctx: Context, alert: str) -> Alert:
    """The alert of this id, or NotFound."""
    found = await ctx.watch.alert(alert)
    if found is None:
        raise _no_alert(alert)
    return found


def _no_alert(alert: str) -> NotFound:
    return NotFound(f"no alert {alert}: what was resolved long ago is not kept")


def _until(text: str, now_ns: int) -> int:
    try:
        until_ns = parse_time(text, now_ns)
    except ValueError as error:
        raise ParameterRejected("until", str(error)) from None
    if not now_ns < until_ns <= now_ns + LONGEST_SILENCE_S * SECOND_NS:
        raise ParameterRejected("until", "expected a time after now and within a year, such as +2h")
    return until_ns
