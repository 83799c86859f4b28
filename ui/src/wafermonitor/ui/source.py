"""What the pages ask of the read API, asked once for all viewers of this process.

In: an `AsyncClient` of `query.client`. Out: its models; UiUnavailable when nobody answers, RunMissing and UiRejected when the
answer is no. Called by: pages, watched, live, session.

Answers are shared: the same question while one is on its way, or within `KEEP_S`, is not asked again. `changed()` (called by
the stream) makes every kept answer old.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar, cast

from wafermonitor.query.client import AsyncClient
from wafermonitor.query.errors import QueryRejected, QueryUnavailable, RunNotFound
from wafermonitor.query.models import (
    AppModel,
    LogModel,
    MetricSeriesModel,
    PageModel,
    RunDetail,
    RunModel,
    SiteModel,
    SpanModel,
    TreeNode,
)
from wafermonitor.semconv import metrics
from wafermonitor.ui.errors import NotKept, RunMissing, UiRejected, UiUnavailable
from wafermonitor.ui.states import BAD_RESULTS, OPEN_STATES, look
from wafermonitor.ui.waterfall import Trace, TraceSpan, trace_span

T = TypeVar("T")
KEEP_S = 1.0
SLOW_KEEP_S = 30.0
OPEN_MOST = 200
FAILED_MOST = 100
TRACE_MOST = 20_000
TRACE_PAGES = 5
LOGS_READ = 5_000
LOGS_SHOWN = 400
_KEPT_MOST = 500
_API_PAGE = 1_000
_EASY_TRACE = 2_000
_NOT_KEPT = frozenset({404, 501})
"""Of a list: an API that does not know it, or a store that keeps nothing of the kind."""
SERIES = (metrics.PROCESS_CPU_TIME, metrics.PROCESS_MEMORY_USAGE)


class Logs(NamedTuple):
    """Some of the `read` events and logs of a run: the newest, or where there are more than could be read the oldest."""

    lines: list[LogModel]
    read: int
    more: bool


class _Kept(NamedTuple):
    task: asyncio.Task[Any]
    version: int
    asked_s: float


class Source:
    """Shared answers. One per process."""

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._kept: OrderedDict[Hashable, _Kept] = OrderedDict()
        self._version = 0
        self._long: set[str] = set()

    async def close(self) -> None:
        """Drop what is on its way and close the client."""
        for kept in self._kept.values():
            kept.task.cancel()
        await asyncio.gather(*(kept.task for kept in self._kept.values()), return_exceptions=True)
        await self._client.close()

    @property
    def client(self) -> AsyncClient:
        """The way to the API, for the stream."""
        return self._client

    def changed(self) -> None:
        """Something happened: what was kept is old."""
        self._version += 1

    async def open_jobs(self, site: str) -> PageModel[RunModel]:
        """Jobs that have not ended and are not given up, failing first."""
        return await self._jobs(site=site, state=OPEN_STATES, inferred="false", order="failing", limit=OPEN_MOST)

    async def open_by_look(self, site: str) -> dict[str, PageModel[RunModel]]:
        """The same jobs apart by how they look, at most 200 of each; for when they are too many for one list."""
        asked: dict[str, dict[str, Any]] = {key: {"state": (key,)} for key in OPEN_STATES} | {
            "running": {"state": ("running",), "overdue": "false"},
            "overdue": {"state": ("running",), "overdue": "true"},
        }
        pages = await asyncio.gather(
            *(self._jobs(site=site, **filters, inferred="false", limit=OPEN_MOST) for filters in asked.values())
        )
        return dict(zip(asked, pages, strict=True))

    async def failed_jobs(self, site: str) -> PageModel[RunModel]:
        """Jobs of the last 24 hours that failed, newest first."""
        return await self._jobs(site=site, result=BAD_RESULTS, from_="-24h", limit=FAILED_MOST)

    async def failing(self) -> int:
        """How many open jobs are overdue, silent or lost, for the page's title."""
        return sum(look(run).failing for run in (await self.open_jobs("")).items)

    async def runs(self, level: str, question: Mapping[str, list[str]], cursor: str, limit: int) -> PageModel[RunModel]:
        """One page of the table. `level` is jobs, subjobs or all."""
        filters = _filters(question) | {"cursor": cursor or None, "limit": limit}
        key = (level, tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in filters.items()))
        if level == "subjobs":
            return await self.ask(("subjobs", key), lambda: self._client.subjobs(**filters))
        if level == "all":
            filters["subjobs"] = "any"
        return await self.ask(("jobs", key), lambda: self._client.jobs(**filters))

    async def plain_traces(self, question: Mapping[str, list[str]], cursor: str, limit: int) -> PageModel[SpanModel]:
        """One page of root spans that are no runs, newest first."""
        filters = _filters(question) | {"limit": limit}
        key = (cursor, tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in filters.items()))
        return await self.ask(("traces", key), lambda: self._read_traces(filters, cursor or None))

    async def sites(self) -> list[SiteModel]:
        """Every site with its feeds."""
        return await self.ask(("sites",), self._client.sites)

    async def apps(self) -> list[AppModel]:
        """Every program that has sent something; kept for 30 s."""
        return await self.ask(("apps",), self._client.apps, keep_s=SLOW_KEEP_S, lasting=True)

    async def run(self, run: str) -> RunDetail:
        """One run or plain span."""
        return await self.ask(("run", run), lambda: self._client.run(run))

    async def parent(self, run: RunModel) -> RunModel | None:
        """The run above, or None where there is none or it has not arrived."""
        if run.parent is None:
            return None
        try:
            return await self.run(run.parent)
        except RunMissing:
            return None

    async def tree(self, run: str) -> TreeNode:
        """The run and all its subjobs."""
        return await self.ask(("tree", run), lambda: self._client.tree(run))

    async def logs(self, run: str, severity: str) -> Logs:
        """The newest events and logs of the run and below, oldest of them first."""
        return await self.ask(("logs", run, severity), lambda: self._read_logs(run, severity))

    async def metrics(self, run: str) -> list[MetricSeriesModel]:
        """CPU and memory of the run's process."""
        return await self.ask(("metrics", run), lambda: self._client.metrics(run, name=SERIES))

    async def trace(self, run: str, *, ended: bool) -> Trace:
        """All spans of a run, at most 20,000. One that has ended, or is long, is read again only every 30 s.

        Reading a long trace that still grows must not cost more than showing it.
        """
        key = ("trace", run, ended)
        slow = ended or run in self._long
        trace = await self.ask(key, lambda: self._read_trace(run), keep_s=SLOW_KEEP_S if slow else KEEP_S, lasting=slow)
        if len(trace.spans) > _EASY_TRACE:
            self._long.add(run)
        return trace

    async def server_time(self) -> str:
        """The API's clock; this host's where it does not answer in time."""
        return (await self.open_jobs("")).server_time or datetime.now(UTC).isoformat()

    async def _read_trace(self, run: str) -> Trace:
        spans: list[TraceSpan] = []
        cursor: str | None = None
        while True:
            page = await self._client.spans(run, cursor=cursor, limit=_API_PAGE)
            spans += [trace_span(span) for span in page.items]
            cursor = page.cursor
            if cursor is None or len(spans) >= TRACE_MOST:
                return Trace(spans, truncated=cursor is not None)

    async def _read_traces(self, filters: dict[str, Any], cursor: str | None) -> PageModel[SpanModel]:
        """Runs are root spans too: where they fill a page, the next one is looked at, a few times."""
        for _ in range(TRACE_PAGES):
            page = await self._client.root_spans(**filters, cursor=cursor)
            plain = [span for span in page.items if span.job is None]
            cursor = page.cursor
            if plain or cursor is None:
                break
        return page.model_copy(update={"items": plain})

    async def _read_logs(self, run: str, severity: str) -> Logs:
        lines: list[LogModel] = []
        cursor: str | None = None
        least = None if severity == "debug" else severity
        while True:
            page = await self._client.logs(run, severity=least, cursor=cursor, limit=_API_PAGE)
            lines += page.items
            cursor = page.cursor
            if cursor is None or len(lines) >= LOGS_READ:
                return Logs(lines[-LOGS_SHOWN:] if cursor is None else lines[:LOGS_SHOWN], len(lines), cursor is not None)

    async def change(self, telling: Callable[[], Awaitable[T]]) -> T:
        """Tell the API what a viewer changes; what was kept is old then."""
        try:
            return await _answer(telling)
        finally:
            self.changed()

    async def _jobs(self, **filters: Any) -> PageModel[RunModel]:
        filters = {name: value or None for name, value in filters.items()}
        return await self.ask(("jobs", tuple(filters.items())), lambda: self._client.jobs(**filters))

    async def ask(
        self, key: Hashable, question: Callable[[], Awaitable[T]], *, keep_s: float = KEEP_S, lasting: bool = False
    ) -> T:
        """The answer to `question`, shared. `lasting` answers outlive changes for `keep_s`."""
        now_s = time.monotonic()
        kept = self._kept.get(key)
        if kept is not None and kept.task.done() and kept.task.exception() is not None:
            kept = None  # a failure is not worth keeping
        fresh = kept is not None and now_s - kept.asked_s < keep_s and (lasting or kept.version == self._version)
        if kept is None or not (fresh or (not kept.task.done() and kept.version == self._version)):
            kept = _Kept(asyncio.ensure_future(_answer(question)), self._version, now_s)
            kept.task.add_done_callback(_seen)
            self._kept[key] = kept
            self._kept.move_to_end(key)
            while len(self._kept) > _KEPT_MOST or now_s - next(iter(self._kept.values())).asked_s > 2 * SLOW_KEEP_S:
                self._kept.popitem(last=False)
        return cast("T", await asyncio.shield(kept.task))


async def _answer(question: Callable[[], Awaitable[T]]) -> T:
    try:
        return await question()
    except QueryUnavailable as error:
        raise UiUnavailable(error.detail) from None
    except RunNotFound as error:
        raise RunMissing(error.detail) from None
    except QueryRejected as error:
        refusal = NotKept if error.status in _NOT_KEPT else UiRejected
        raise refusal(error.detail) from None


def _seen(task: asyncio.Task[Any]) -> None:
    """An answer that nobody waits for any more must not be reported as lost."""
    if not task.cancelled():
        task.exception()


def _filters(question: Mapping[str, list[str]]) -> dict[str, Any]:
    return {"from_" if name == "from" else name: value for name, value in question.items()}
