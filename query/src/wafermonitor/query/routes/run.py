"""One run: what it is, its subjobs, spans, logs and metrics, and why it is as it is. A plain span opens in the same way.

In: `{run}` = `<trace id>-<span id>`. Out: documents and lists.  Called by: app.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response

from wafermonitor.query import waterfall
from wafermonitor.query.answers import cut_from, log_model, plain_detail, run_detail, run_model, series_models
from wafermonitor.query.family import find
from wafermonitor.query.filters import RUN_PATTERN, SEVERITIES, DocumentFilters, LogFilters, MetricFilters, SpanFilters
from wafermonitor.query.formats import document, listing, rows
from wafermonitor.query.models import (
    ExplainModel,
    LogModel,
    MetricSeriesModel,
    PageModel,
    RunDetail,
    RunModel,
    SpanModel,
    TreeNode,
)
from wafermonitor.query.problems import responses
from wafermonitor.query.routes.context import Context, Ctx, Route
from wafermonitor.query.routes.lists import LIST_RESPONSES
from wafermonitor.query.watched import explain_model
from wafermonitor.runs.completeness import completeness
from wafermonitor.runs.explain import Explanation, explain
from wafermonitor.runs.records import parse_run_id
from wafermonitor.storage import cohort
from wafermonitor.storage.family import Family, Member, family
from wafermonitor.storage.protocol import LogQuery, MetricQuery, StoredRun

router = APIRouter(prefix="/v1/jobs/{run}", route_class=Route)
RunPath = Annotated[str, Path(pattern=RUN_PATTERN, description="<trace id, 32 hex>-<span id, 16 hex>")]
DOCUMENT_RESPONSES = {304: {"description": "Not changed since the ETag given"}} | responses(400, 404, 406, 422, 500, 503)
RUN_LIST_RESPONSES = LIST_RESPONSES | responses(404)
MAX_DEPTH = 100
MAX_POINTS = 10_000


@router.get("", responses=DOCUMENT_RESPONSES, response_model=RunDetail)
async def detail(request: Request, ctx: Ctx, run: RunPath, filters: Annotated[DocumentFilters, Query()]) -> Response:
    """One run, or a plain span (`plain` is true then), with its completeness and resource."""
    member = await find(ctx.reader, *parse_run_id(run), filters.site)
    kin = await family(ctx.reader, member, ctx.config.max_trace_spans)
    parent = kin.parent_run(member.key.span_id)
    if member.stored is None:
        assert member.span is not None
        return document(request, plain_detail(member.span, ctx.now_ns, parent), ended=True)
    children = kin.children().get(member.key.span_id, [])
    subjobs = [(stored.run, stored.state) for stored in children]
    model = run_detail(
        member.stored,
        completeness(member.stored.run, subjobs, cut_from(member.span)),
        ctx.now_ns,
        parent=parent,
        resource=await _resource(ctx, member),
        name=member.span.name if member.span else None,
        truncated=kin.truncated,
        end=await ctx.ends.of_run(member.stored, children, ctx.now_ns),
    )
    return document(request, model, ended=member.stored.run.ended)


@router.get("/tree", responses=DOCUMENT_RESPONSES, response_model=TreeNode)
async def tree(request: Request, ctx: Ctx, run: RunPath, filters: Annotated[DocumentFilters, Query()]) -> Response:
    """The run and all its subjobs, in order of start."""
    member = await find(ctx.reader, *parse_run_id(run), filters.site)
    kin = await family(ctx.reader, member, ctx.config.max_trace_spans)
    parent = kin.parent_run(member.key.span_id)
    top = _plain(member, ctx) if member.stored is None else run_model(member.stored, ctx.now_ns, parent)
    node = TreeNode(run=top, truncated=kin.truncated)
    _grow(node, member.key.span_id, kin.children(), ctx.now_ns)
    everyone_ended = all(stored.run.ended for stored in kin.runs.values())
    return document(request, node, ended=everyone_ended)


@router.get("/explain", responses=DOCUMENT_RESPONSES, response_model=ExplainModel)
async def explain_run(request: Request, ctx: Ctx, run: RunPath, filters: Annotated[DocumentFilters, Query()]) -> Response:
    """Why the run failed, is slow, late, silent or lost: sentences with numbers, by comparison with its job's runs before it.

    Worked out by rules: the same data gives the same words. A plain span has no job, so nothing to compare with.
    """
    member = await find(ctx.reader, *parse_run_id(run), filters.site)
    if member.stored is None:
        assert member.span is not None
        outcome = plain_detail(member.span, ctx.now_ns).result
        told = Explanation(f"{member.span.name} is a plain span, no run of a job; it ended with {outcome}.")
        return document(request, explain_model(told, member.key, ctx.now_ns), ended=True)
    gathered = await cohort.gather(ctx.reader, member.stored, ctx.now_ns)
    model = explain_model(explain(gathered.case), member.key, ctx.now_ns, truncated=gathered.truncated)
    return document(request, model, ended=member.stored.run.ended)


@router.get("/spans", responses=RUN_LIST_RESPONSES, response_model=PageModel[SpanModel])
async def spans(request: Request, ctx: Ctx, run: RunPath, filters: Annotated[SpanFilters, Query()]) -> Response:
    """The run's span and all below it in order of start; runs whose span has not arrived stand among them.

    `limit` counts arrived spans; announced runs of the same stretch of time come in addition. A page may be short: only a null
    `cursor` means the end.
    """
    member = await find(ctx.reader, *parse_run_id(run), filters.site)
    kin = await family(ctx.reader, member, ctx.config.max_trace_spans, spans=True)

    async def fetch(cursor: str | None, limit: int) -> PageModel[SpanModel]:
        items, following = await waterfall.page(ctx.reader, member.key, kin, cursor, limit, now_ns=ctx.now_ns)
        return PageModel(items=items, cursor=following, server_time=ctx.server_time)

    return await listing(request, SpanModel, filters, fetch)


@router.get("/logs", responses=RUN_LIST_RESPONSES, response_model=PageModel[LogModel])
async def logs(request: Request, ctx: Ctx, run: RunPath, filters: Annotated[LogFilters, Query()]) -> Response:
    """Log records and lifecycle events of the run and what is below it, oldest first. A page may be short."""
    member = await find(ctx.reader, *parse_run_id(run), filters.site)
    kin: Family | None = None
    if filters.scope == "below":
        kin = await family(ctx.reader, member, ctx.config.max_trace_spans, spans=True)

    async def fetch(cursor: str | None, limit: int) -> PageModel[LogModel]:
        items: list[LogModel] = []
        for _ in range(waterfall.MAX_READS):
            query = LogQuery(
                site=member.key.site,
                trace_id=member.key.trace_id,
                span_id=None if kin else member.key.span_id,
                min_severity=SEVERITIES[filters.severity] if filters.severity else 0,
                event_names=tuple(filters.event),
                cursor=cursor,
                limit=limit - len(items),
            )
            page = await ctx.reader.logs(query)
            items += [log_model(record) for record in page.items if kin is None or waterfall.belongs(kin, record.span_id)]
            cursor = page.cursor
            if cursor is None or len(items) >= limit:
                break
        return PageModel(items=items, cursor=cursor, server_time=ctx.server_time)

    return await listing(request, LogModel, filters, fetch)


@router.get("/metrics", responses=RUN_LIST_RESPONSES, response_model=PageModel[MetricSeriesModel])
async def metrics(request: Request, ctx: Ctx, run: RunPath, filters: Annotated[MetricFilters, Query()]) -> Response:
    """The metric series of the run's process between the run's start and end (now, while it is open).

    At most 10,000 points: `truncated` (in rows the header `Wafer-Truncated`) says that there are more; ask by `name`.
    """
    member = await find(ctx.reader, *parse_run_id(run), filters.site)
    from_ns, to_ns = _window(member, ctx.now_ns)
    stored, span = member.stored, member.span
    query = MetricQuery(
        site=member.key.site,
        process_key=stored.run.process_key if stored else span.resource.process_key if span else None,
        service=stored.run.service if stored else span.resource.service if span else None,
        from_ns=from_ns,
        to_ns=to_ns,
        names=tuple(filters.name),
        limit=MAX_POINTS + 1,
    )
    points = await ctx.reader.metrics(query)
    items = series_models(points[:MAX_POINTS])
    return rows(request, MetricSeriesModel, filters, items, ctx.server_time, truncated=len(points) > MAX_POINTS)


def _window(member: Member, now_ns: int) -> tuple[int, int]:
    if member.stored is not None and member.stored.run.start_ns is not None:
        run = member.stored.run
        return run.start_ns or 0, now_ns if run.end_ns is None else run.end_ns
    if member.span is not None:
        return member.span.start_ns, member.span.start_ns + member.span.duration_ns
    return 0, now_ns


async def _resource(ctx: Context, member: Member) -> str | None:
    """The resource's attributes as JSON: from the span, or while there is none from the run's first event."""
    if member.span is not None:
        return member.span.resource.attributes
    key = member.key
    page = await ctx.reader.logs(LogQuery(site=key.site, trace_id=key.trace_id, span_id=key.span_id, limit=1))
    return page.items[0].resource.attributes if page.items else None


def _plain(member: Member, ctx: Context) -> RunModel:
    assert member.span is not None
    detail = plain_detail(member.span, ctx.now_ns)
    return RunModel.model_validate(detail.model_dump(include=set(RunModel.model_fields)))


def _grow(top: TreeNode, span_id: bytes, children: dict[bytes, list[StoredRun]], now_ns: int) -> None:
    """Hang every descendant on `top`. Not recursive: depth is the sender's choice, and so may be a circle."""
    seen = {span_id}
    waiting = [(top, span_id, 0)]
    while waiting:
        node, parent, depth = waiting.pop()
        for stored in children.get(parent, []):
            if stored.run.span_id in seen:
                continue
            seen.add(stored.run.span_id)
            child = TreeNode(run=run_model(stored, now_ns, parent))
            node.subjobs.append(child)
            deep = depth + 1 >= MAX_DEPTH
            waiting.append((node if deep else child, stored.run.span_id, depth if deep else depth + 1))
