"""Answers out: every question of the protocol, deduplicated when it is read.

In: questions. Out: records, pages with keyset cursors, states judged by `runs.state`. Called by: query.

What is stored twice stands in two rows until ClickHouse merges them. Spans, records and points are taken once per key (LIMIT 1
BY, the first that was written); runs, feeds, processes and letters are read with FINAL, which merges while reading.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from wafermonitor.runs.records import Feed, LogRecord, MetricPoint, Span
from wafermonitor.runs.state import Limits, State
from wafermonitor.storage.clickhouse import pasts
from wafermonitor.storage.clickhouse.changes import changes
from wafermonitor.storage.clickhouse.client import Client
from wafermonitor.storage.clickhouse.lists import slices
from wafermonitor.storage.clickhouse.names import Names
from wafermonitor.storage.clickhouse.records import Row, letter_of, log_of, point_of, resource_of, scope_of, series_of, span_of
from wafermonitor.storage.clickhouse.rows import KEY, NO_TIME, SPAN, TRACE
from wafermonitor.storage.clickhouse.runs import LATEST, Runs
from wafermonitor.storage.clickhouse.statements import statement
from wafermonitor.storage.cursors import (
    DEAD_LETTER,
    FAILING_RUN,
    LOG,
    NEWEST_RUN,
    NEWEST_SPAN,
    id_of,
    read_cursor,
    write_cursor,
)
from wafermonitor.storage.cursors import SPAN as SPAN_ORDER
from wafermonitor.storage.errors import CursorRejected
from wafermonitor.storage.matching import failing_order, newest_order
from wafermonitor.storage.protocol import (
    MAX_PAGE,
    Changes,
    DeadLetterQuery,
    LogQuery,
    MetricQuery,
    Page,
    PastRun,
    RunQuery,
    ServiceApp,
    SiteStatus,
    SpanQuery,
    StartsWanted,
    StoredDeadLetter,
    StoredRun,
    StoredStart,
    StoreHealth,
    Tally,
    page_limit,
)


class Reader:
    """Reads ClickHouse. `clock` gives now in ns."""

    def __init__(self, client: Client, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._client = client
        self._clock = clock
        self._runs = Runs(client, clock)
        self._resources = Names(client, "resources", resource_of)
        self._scopes = Names(client, "scopes", scope_of)

    async def runs(self, query: RunQuery) -> Page[StoredRun]:
        """A page of runs."""
        limit = page_limit(query.limit)
        failing = query.order == "failing"
        after = None if query.cursor is None else read_cursor(query.cursor, FAILING_RUN if failing else NEWEST_RUN)
        found = await (self._runs.failing if failing else self._runs.newest)(query, after, limit + 1)
        if len(found) <= limit:
            return Page(found, None)
        order = (failing_order if failing else newest_order)(found[limit - 1])
        return Page(found[:limit], write_cursor(*order))

    async def run(self, trace_id: bytes, span_id: bytes, site: str | None = None) -> StoredRun | None:
        """The run with these ids; the first site by name where several have it."""
        found = await self._runs.of_trace("read a run", trace_id, span_id, site, MAX_PAGE)
        return min(found, key=lambda stored: stored.run.site) if found else None

    async def tree(self, trace_id: bytes, site: str | None = None, limit: int = 10_000) -> list[StoredRun]:
        """Every run of the trace, oldest first."""
        return await self._runs.of_trace("read the runs of a trace", trace_id, None, site, limit)

    async def spans(self, query: SpanQuery) -> Page[Span]:
        """A trace's spans, oldest first; or root spans, newest first."""
        limit = page_limit(query.limit)
        given = {
            "site": query.site or "",
            "app": query.app or "",
            "least": NO_TIME if query.from_ns is None else query.from_ns,
            "most": LATEST if query.to_ns is None else query.to_ns - 1,
            "limit": limit + 1,
        }
        if query.trace_id is not None:
            given |= {"trace": query.trace_id.hex(), "span": ""} | _span_place(query.cursor)
            spans = await self._spans("list spans", "spans_of_trace", given)
        else:
            spans = await self._spans("list spans", "spans_newest", given | _newest_span_place(query.cursor))
        if len(spans) <= limit:
            return Page(spans, None)
        last = spans[limit - 1]
        trace = () if query.trace_id is not None else (last.trace_id.hex(),)
        return Page(spans[:limit], write_cursor(last.start_ns, *trace, last.span_id.hex(), last.resource.site))

    async def span(self, trace_id: bytes, span_id: bytes, site: str | None = None) -> Span | None:
        """The first span with these ids by start and site."""
        given = {"trace": trace_id.hex(), "span": span_id.hex(), "site": site or "", "app": ""}
        given |= {"least": NO_TIME, "most": LATEST, "limit": 1} | _span_place(None)
        spans = await self._spans("read a span", "spans_of_trace", given)
        return spans[0] if spans else None

    async def logs(self, query: LogQuery) -> Page[LogRecord]:
        """A run's or a trace's records, oldest first."""
        doing = "list log records"
        limit = page_limit(query.limit)
        given = {
            "trace": query.trace_id.hex(),
            "span": "" if query.span_id is None else query.span_id.hex(),
            "site": query.site or "",
            "severity": query.min_severity,
            "events": list(query.event_names),
            "limit": limit + 1,
        }
        rows = await self._client.query(doing, statement("logs"), given | _log_place(query.cursor))
        resources = await self._resources.of(doing, (row[9] for row in rows))
        scopes = await self._scopes.of(doing, (row[10] for row in rows))
        records = [log_of(row, resources, scopes) for row in rows]
        if len(records) <= limit:
            return Page(records, None)
        last = records[limit - 1]
        return Page(records[:limit], write_cursor(last.time_ns, last.digest.hex()))

    async def metrics(self, query: MetricQuery) -> list[MetricPoint]:
        """Points of the process's series, or of the service's where the process is not known."""
        doing = "list points"
        if query.process_key is None and query.service is None:
            return []
        who = {
            "site": query.site,
            "process": "" if query.process_key is None else query.process_key.hex(),
            "service": query.service or "",
            "names": list(query.names),
        }
        rows = await self._client.query(doing, statement("series"), who)
        if not rows:
            return []
        resources = await self._resources.of(doing, (row[1] for row in rows))
        scopes = await self._scopes.of(doing, (row[2] for row in rows))
        series = {row[0]: series_of(row, resources, scopes) for row in rows}
        points: list[Row] = []
        for part in slices(series):
            if len(points) < query.limit:
                given = {"keys": part, "least": query.from_ns, "most": query.to_ns, "limit": query.limit - len(points)}
                points += await self._client.query(doing, statement("points"), given)
        return [point_of(row, series) for row in points]

    async def sites(self) -> list[SiteStatus]:
        """Sites by name, with their feeds and open runs."""
        doing = "list sites"
        names = [name for (name,) in await self._client.query(doing, statement("sites"))]
        feeds: dict[str, list[Feed]] = {}
        for feed in await self._runs.feeds(doing):
            feeds.setdefault(feed.site, []).append(feed)
        counts: dict[str, dict[State, int]] = {}
        for stored in await self._runs.open():
            if not stored.run.inferred:
                of_site = counts.setdefault(stored.run.site, {})
                of_site[stored.state] = of_site.get(stored.state, 0) + 1
        return [SiteStatus(name, feeds.get(name, []), counts.get(name, {})) for name in names]

    async def apps(self, site: str | None = None) -> list[ServiceApp]:
        """Services by site and name."""
        rows = await self._client.query("list services", statement("apps"), {"site": site or ""})
        return [
            ServiceApp(service, version if has else None, name, received_ns)
            for name, service, (received_ns, version, has) in rows
        ]

    async def dead_letters(self, query: DeadLetterQuery) -> Page[StoredDeadLetter]:
        """Dead letters, newest first."""
        limit = page_limit(query.limit)
        given = {"site": list(query.site), "signal": list(query.signal), "text": query.text or "", "limit": limit + 1}
        rows = await self._client.query("list dead letters", statement("dead_letters"), given | _letter_place(query.cursor))
        letters = [letter_of(row) for row in rows]
        if len(letters) <= limit:
            return Page(letters, None)
        last = letters[limit - 1]
        return Page(letters[:limit], write_cursor(-last.letter.received_ns, last.key))

    async def dead_letter(self, key: str) -> StoredDeadLetter | None:
        """One dead letter by its key."""
        try:
            id_of(key, KEY)
        except CursorRejected:
            return None
        rows = await self._client.query("read a dead letter", statement("dead_letter"), {"key": key})
        return letter_of(rows[0]) if rows else None

    async def changes(self, token: str | None, limit: int = 500) -> Changes:
        """Runs that a writer announced since `token`."""
        return await changes(self._client, self._runs, token, max(1, limit))

    async def starts(self, wanted: Sequence[StartsWanted], limit: int = 1000) -> list[list[StoredStart]]:
        """A statement for each thousand jobs."""
        return await pasts.starts(self._client, wanted, limit)

    async def history(self, jobs: Sequence[tuple[str, str]], limit: int = 200) -> list[list[PastRun]]:
        """Of the last days, and of longer ago for jobs that ran too seldom."""
        return await pasts.history(self._client, jobs, limit, self._clock())

    async def tallies(self, from_ns: int, to_ns: int) -> list[Tally]:
        """Of runs that were heard of since then."""
        return await pasts.tallies(self._client, from_ns, to_ns)

    async def limits(self) -> Limits:
        """The limits by which states are judged."""
        return await self._runs.limits()

    async def health(self) -> StoreHealth:
        """Which server answers."""
        ((version, newest_ns),) = await self._client.query("ask for the store's health", statement("health"))
        return StoreHealth("clickhouse", version, newest_ns)

    async def close(self) -> None:
        """Nothing is kept open: the client belongs to whoever made it."""

    async def _spans(self, doing: str, name: str, given: dict[str, Any]) -> list[Span]:
        rows: list[Row] = await self._client.query(doing, statement(name), given)
        resources = await self._resources.of(doing, (row[12] for row in rows))
        scopes = await self._scopes.of(doing, (row[13] for row in rows))
        return [span_of(row, resources, scopes) for row in rows]


def _span_place(cursor: str | None) -> dict[str, Any]:
    if cursor is None:
        return {"after": 0, "after_start": 0, "after_span": "", "after_site": ""}
    start_ns, span_id, site = read_cursor(cursor, SPAN_ORDER)
    id_of(span_id, SPAN)
    return {"after": 1, "after_start": _time(start_ns), "after_span": span_id, "after_site": site}


def _newest_span_place(cursor: str | None) -> dict[str, Any]:
    if cursor is None:
        return _span_place(None) | {"after_trace": ""}
    start_ns, trace_id, span_id, site = read_cursor(cursor, NEWEST_SPAN)
    id_of(trace_id, TRACE)
    id_of(span_id, SPAN)
    given = {"after": 1, "after_start": _time(start_ns), "after_span": span_id, "after_site": site}
    return given | {"after_trace": trace_id}


def _log_place(cursor: str | None) -> dict[str, Any]:
    if cursor is None:
        return {"after": 0, "after_time": 0, "after_digest": ""}
    time_ns, digest = read_cursor(cursor, LOG)
    id_of(digest, KEY)
    return {"after": 1, "after_time": _time(time_ns), "after_digest": digest}


def _letter_place(cursor: str | None) -> dict[str, Any]:
    if cursor is None:
        return {"after": 0, "after_received": 0, "after_key": ""}
    negative_ns, key = read_cursor(cursor, DEAD_LETTER)
    id_of(key, KEY)
    return {"after": 1, "after_received": _time(-negative_ns), "after_key": key}


def _time(time_ns: int) -> int:
    """A time inside a cursor."""
    if not NO_TIME <= time_ns <= LATEST:
        raise CursorRejected("this cursor was not given for this question: start again without one")
    return time_ns
