"""Answers out: every question of the protocol as one SQL statement, or a few in one snapshot.

In: questions. Out: records, pages with keyset cursors, states judged by the server's twin of `runs.state`. Called by: query.
"""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import asyncpg

from wafermonitor.runs.records import Feed, LogRecord, MetricPoint, Span
from wafermonitor.runs.state import Limits, State
from wafermonitor.storage.cursors import (
    DEAD_LETTER,
    FAILING_RUN,
    LOG,
    NEWEST_RUN,
    NEWEST_SPAN,
    SPAN,
    id_of,
    read_cursor,
    write_cursor,
)
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
    StepHealth,
    StoredDeadLetter,
    StoredRun,
    StoredStart,
    StoreHealth,
    Tally,
    page_limit,
)
from wafermonitor.storage.timescale import pasts
from wafermonitor.storage.timescale.codecs import MINUS_INFINITY, Connection
from wafermonitor.storage.timescale.failures import border
from wafermonitor.storage.timescale.records import feed_of, letter_of, log_of, point_of, run_of, span_of
from wafermonitor.storage.timescale.rows import letter_key
from wafermonitor.storage.timescale.statements import statement
from wafermonitor.storage.timescale.tokens import Token, read_token

_NO_TIME = -(2**63)
"""Where a run whose start is not known stands: after every other, newest first."""
_RANK_BAD, _RANK_GOOD = 4, 6
_NEWEST_PARTS = (("runs_open", "newest", None), ("runs_ended", "all", None))
_FAILING_PARTS = (("runs_open", "failing", None), ("runs_ended", "bad", _RANK_BAD), ("runs_ended", "good", _RANK_GOOD))
"""Statement, what of it, and the rank that all its runs have."""
_PLAIN, _SPECIAL, _ESCAPED = re.compile(r"[A-Za-z0-9_.:@ -]+\Z"), re.compile(r"([%_])"), r"\\\1"
_FRACTION = re.compile(r"-?[0-9]+[.eE][0-9eE+-]*\Z|-?[0-9]{16,}\Z")


class Reader:
    """Reads PostgreSQL. `clock` gives now in ns; the pool's connections must have been through `codecs.register`."""

    def __init__(self, pool: asyncpg.Pool, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._pool = pool
        self._clock = clock

    async def runs(self, query: RunQuery) -> Page[StoredRun]:
        """A page of runs; `failing` is put together from open runs, bad ends and good ends, each of which has an index."""
        limit = page_limit(query.limit)
        failing = query.order == "failing"
        after = None
        if query.cursor is not None:
            place = read_cursor(query.cursor, FAILING_RUN if failing else NEWEST_RUN)
            after = place if failing else (None, *place)
        async with self._reading("list runs") as connection:
            rows = await self._page_of_runs(connection, query, after, limit + 1, failing=failing)
        items = [run_of(row) for row in rows[:limit]]
        if len(rows) <= limit:
            return Page(items, None)
        return Page(items, write_cursor(*_run_order(rows[limit - 1], failing=failing)))

    async def run(self, trace_id: bytes, span_id: bytes, site: str | None = None) -> StoredRun | None:
        """The run with these ids; the first site by name where several have it."""
        rows = await self._look_up("read a run", "run", self._clock(), trace_id, _number(span_id), site, MAX_PAGE)
        return run_of(min(rows, key=lambda row: str(row["site"]))) if rows else None

    async def tree(self, trace_id: bytes, site: str | None = None, limit: int = 10_000) -> list[StoredRun]:
        """Every run of the trace, oldest first."""
        rows = await self._look_up("read the runs of a trace", "run", self._clock(), trace_id, None, site, limit)
        return [run_of(row) for row in rows]

    async def spans(self, query: SpanQuery) -> Page[Span]:
        """A trace's spans, oldest first; or root spans, newest first."""
        limit = page_limit(query.limit)
        times = (*_split(query.from_ns), *_split(query.to_ns))
        if query.trace_id is not None:
            arguments = (query.trace_id, None, query.site, query.app, *times, *_span_place(query.cursor), limit + 1)
            rows = await self._look_up("list spans", "spans_of_trace", *arguments)
        else:
            arguments = (query.site, query.app, *times, *_newest_span_place(query.cursor), limit + 1)
            rows = await self._fetch("list spans", "spans_newest", *arguments)
        spans = [span_of(row) for row in rows]
        if len(spans) <= limit:
            return Page(spans, None)
        last = spans[limit - 1]
        trace = () if query.trace_id is not None else (last.trace_id.hex(),)
        return Page(spans[:limit], write_cursor(last.start_ns, *trace, last.span_id.hex(), last.resource.site))

    async def span(self, trace_id: bytes, span_id: bytes, site: str | None = None) -> Span | None:
        """The first span with these ids by start and site."""
        anywhen = (None,) * 9
        rows = await self._look_up("read a span", "spans_of_trace", trace_id, _number(span_id), site, *anywhen, 1)
        return span_of(rows[0]) if rows else None

    async def logs(self, query: LogQuery) -> Page[LogRecord]:
        """A run's or a trace's records, oldest first."""
        limit = page_limit(query.limit)
        span = None if query.span_id is None else _number(query.span_id)
        filters = (query.trace_id, span, query.site, query.min_severity, _wanted(query.event_names))
        rows = await self._look_up("list log records", "logs", *filters, *_log_place(query.cursor), limit + 1)
        records = [log_of(row) for row in rows]
        if len(records) <= limit:
            return Page(records, None)
        last = records[limit - 1]
        return Page(records[:limit], write_cursor(last.time_ns, last.digest.hex()))

    async def metrics(self, query: MetricQuery) -> list[MetricPoint]:
        """Points of the process's series, or of the service's where the process is not known."""
        times = (*_split(query.from_ns), *_split(query.to_ns))
        who = (query.site, query.process_key, query.service)
        rows = await self._look_up("list points", "metrics", *who, *times, _wanted(query.names), query.limit)
        return [point_of(row) for row in rows]

    async def sites(self) -> list[SiteStatus]:
        """Sites by name, with their feeds and open runs."""
        async with self._reading("list sites") as connection:
            names = await connection.fetch(statement("sites"))
            feed_rows = await connection.fetch(statement("feeds"))
            counts = await connection.fetch(statement("open_runs"), self._clock())
        feeds: dict[str, list[Feed]] = {}
        for row in feed_rows:
            feeds.setdefault(row["site"], []).append(feed_of(row))
        open_runs: dict[str, dict[State, int]] = {}
        for row in counts:
            open_runs.setdefault(row["site"], {})[State(row["state"])] = row["runs"]
        return [SiteStatus(row["name"], feeds.get(row["name"], []), open_runs.get(row["name"], {})) for row in names]

    async def apps(self, site: str | None = None) -> list[ServiceApp]:
        """Services by site and name."""
        rows = await self._fetch("list services", "apps", site)
        return [ServiceApp(row["service"], row["service_version"], row["site"], row["last_seen_unix_ns"]) for row in rows]

    async def dead_letters(self, query: DeadLetterQuery) -> Page[StoredDeadLetter]:
        """Dead letters, newest first."""
        limit = page_limit(query.limit)
        text = query.text.lower() if query.text else None
        filters = (_wanted(query.site), _wanted(query.signal), text)
        rows = await self._fetch("list dead letters", "dead_letters", *filters, *_letter_place(query.cursor), limit + 1)
        letters = [letter_of(row) for row in rows]
        if len(letters) <= limit:
            return Page(letters, None)
        last = letters[limit - 1]
        return Page(letters[:limit], write_cursor(-last.letter.received_ns, last.key))

    async def dead_letter(self, key: str) -> StoredDeadLetter | None:
        """The one with this key."""
        rows = await self._fetch("read a dead letter", "dead_letter", letter_key(key))
        return letter_of(rows[0]) if rows else None

    async def changes(self, token: str | None, limit: int = 500) -> Changes:
        """Runs of transactions that `token`, a snapshot of this database, does not show.

        A page that is full ends with a whole transaction, and its token is this moment's snapshot cut behind that one: what was
        still under way, and what came later, is in the next.
        """
        given = None if token is None else read_token(token)
        async with self._reading("read what changed") as connection:
            (row,) = await connection.fetch(statement("snapshot"))
            now = Token(row["origin"], row["snapshot"])
            if given is None:
                return Changes([], str(now))
            rows = await connection.fetch(statement("changes"), self._clock(), now.since(given), max(1, limit))
        upto = now.cut(rows[-1]["changed_xid"]) if len(rows) >= limit else now
        return Changes([run_of(row) for row in rows], str(upto))

    async def starts(self, wanted: Sequence[StartsWanted], limit: int = 1000) -> list[list[StoredStart]]:
        """Of all that is wanted in one statement."""
        async with self._reading("match runs", "begin_matching") as connection:
            return await pasts.starts(connection, wanted, limit)

    async def history(self, jobs: Sequence[tuple[str, str]], limit: int = 200) -> list[list[PastRun]]:
        """Of all jobs in one statement."""
        async with self._reading("read what was", "begin_matching") as connection:
            return await pasts.history(connection, jobs, limit)

    async def tallies(self, from_ns: int, to_ns: int) -> list[Tally]:
        """From the pages that the index of ends names."""
        async with self._reading("tally runs", "begin_matching") as connection:
            return await pasts.tallies(connection, from_ns, to_ns)

    async def limits(self) -> Limits:
        """The rows of `setting` by which states are judged."""
        (row,) = await self._fetch("read the limits", "limits")
        return Limits(**row)

    async def health(self) -> StoreHealth:
        """Which server answers."""
        (row,) = await self._fetch("ask for the store's health", "health")
        rows = await self._fetch("ask for the store's health", "health_steps")
        steps = tuple(StepHealth(one["step"], one["age_s"], one["late"], one["failing"]) for one in rows)
        return StoreHealth("postgresql", row["version"], row["newest_received_ns"], steps)

    async def close(self) -> None:
        """Nothing is kept open: the pool belongs to whoever made it."""

    @asynccontextmanager
    async def _reading(self, doing: str, begin: str = "begin_reading") -> AsyncIterator[Connection]:
        """One snapshot for all that is asked inside."""
        with border(doing):
            async with self._pool.acquire() as connection, connection.transaction(isolation="repeatable_read", readonly=True):
                await connection.execute(statement(begin))
                yield connection

    async def _fetch(self, doing: str, name: str, *arguments: Any) -> list[asyncpg.Record]:
        async with self._reading(doing) as connection:
            return list(await connection.fetch(statement(name), *arguments))

    async def _look_up(self, doing: str, name: str, *arguments: Any) -> list[asyncpg.Record]:
        """Rows by ids that an index has, planned once."""
        async with self._reading(doing, "begin_looking_up") as connection:
            return list(await connection.fetch(statement(name), *arguments))

    async def _page_of_runs(
        self, connection: Connection, query: RunQuery, after: tuple[Any, ...] | None, limit: int, *, failing: bool
    ) -> list[asyncpg.Record]:
        """The first `limit` of what is open and what has ended. Each part has an order that its indexes give."""
        rows: list[asyncpg.Record] = []
        rank = after[0] if after is not None else None
        for name, kind, its_rank in _FAILING_PARTS if failing else _NEWEST_PARTS:
            if its_rank is not None and rank is not None and rank > its_rank:
                continue
            if its_rank == _RANK_GOOD and len(rows) >= limit:
                continue
            place = after if its_rank is None or rank is None or rank == its_rank else None
            arguments = [self._clock(), kind, *_run_filters(query), *_run_place(place), limit, query.inferred, _needles(query)]
            if name == "runs_open":
                arguments.append(rank)
            of_material = name == "runs_ended" and (query.lot or query.substrate)
            rows += await connection.fetch(statement("runs_of_material" if of_material else name), *arguments)
        rows.sort(key=lambda row: _newest_key(_run_order(row, failing=failing)))
        return rows[:limit]


def _run_place(after: tuple[Any, ...] | None) -> tuple[Any, ...]:
    if after is None:
        return (None,) * 5
    _, start_ns, trace_id, span_id, site = after
    return (start_ns, _start_us(start_ns), id_of(trace_id, 16), id_of(span_id, 8), site)


def _run_filters(query: RunQuery) -> list[Any]:
    trace_id, span_id = query.parent or (None, None)
    return [
        *map(_wanted, (query.site, query.job)),
        _wanted(tuple(state.value for state in query.state)),
        *map(_wanted, (query.result, query.app, query.lot, query.substrate, query.equipment, query.recipe, query.product)),
        _wanted(query.run_id),
        _wanted(tuple(name for name, _ in query.attributes)),
        _wanted(tuple(value for _, value in query.attributes)),
        query.text.lower() if query.text else None,
        query.overdue,
        query.subjobs,
        trace_id,
        None if span_id is None else _number(span_id),
        query.from_ns,
        _split(query.from_ns)[0],
        query.to_ns,
        _split(query.to_ns)[0],
        query.min_duration_s,
        query.max_duration_s,
    ]


def _needles(query: RunQuery) -> list[str] | None:
    """LIKE patterns that the text of the attributes matches when it holds those that are asked for.

    Only of what is written in one way as JSON and nowhere escaped: not of fractions, quotes, slashes or letters beyond ASCII.
    """
    plain = [f'"{name}"' for name, _ in query.attributes if _PLAIN.match(name)]
    plain += [value for _, value in query.attributes if _PLAIN.match(value) and not _FRACTION.match(value)]
    return [f"%{_SPECIAL.sub(_ESCAPED, text)}%" for text in plain] or None


def _run_order(row: asyncpg.Record, *, failing: bool) -> tuple[Any, ...]:
    start_ns = _NO_TIME if row["start_unix_ns"] is None else row["start_unix_ns"]
    order = (start_ns, row["trace_id"].hex(), _hex(row["span_id"]), row["site"])
    return (row["rank"], *order) if failing else order


def _newest_key(order: tuple[Any, ...]) -> tuple[Any, ...]:
    """With the newest first: start is the fourth from the end of both orders."""
    return (*order[:-4], -order[-4], *order[-3:])


def _span_place(cursor: str | None) -> tuple[Any, ...]:
    if cursor is None:
        return (None,) * 4
    start_ns, span_id, site = read_cursor(cursor, SPAN)
    return (*_split(start_ns), id_of(span_id, 8), site)


def _newest_span_place(cursor: str | None) -> tuple[Any, ...]:
    if cursor is None:
        return (None,) * 5
    start_ns, trace_id, span_id, site = read_cursor(cursor, NEWEST_SPAN)
    return (*_split(start_ns), id_of(trace_id, 16), id_of(span_id, 8), site)


def _log_place(cursor: str | None) -> tuple[Any, ...]:
    if cursor is None:
        return (None,) * 3
    time_ns, digest = read_cursor(cursor, LOG)
    return (*_split(time_ns), id_of(digest, 32))


def _letter_place(cursor: str | None) -> tuple[Any, ...]:
    if cursor is None:
        return (None,) * 2
    negative_ns, key = read_cursor(cursor, DEAD_LETTER)
    return (-negative_ns, id_of(key, 32))


def _split(time_ns: int | None) -> tuple[int | None, int | None]:
    """Microseconds and the nanoseconds that remain."""
    return (None, None) if time_ns is None else divmod(time_ns, 1000)


def _start_us(start_ns: int) -> int:
    """The run's `start_time`; an unknown start is -infinity, which is PostgreSQL's least number of microseconds."""
    return MINUS_INFINITY if start_ns == _NO_TIME else start_ns // 1000


def _wanted(values: tuple[str, ...]) -> list[str] | None:
    return list(values) or None


def _number(span_id: bytes) -> int:
    return int.from_bytes(span_id, signed=True)


def _hex(span_id: int) -> str:
    return span_id.to_bytes(8, signed=True).hex()
