"""One reader over the store and its archive: nobody who asks can tell which of the two answered.

In: the store's Reader, the files of dropped days. Out: the same answers as if no day had ever left. Called by:
`query.sources.archive`.

The store is asked first, then the manifest, then the files: a day that is dropped in between is found in both, and shown once.
A cursor holds the place of the last item in the store's own words, and the state of the archive with which the walk began:
files that are compacted meanwhile stay for it. Runs that the store still has, or has again, are merged with what the archive
says of them. Rows of a trace are looked for within a day of what the store knows of it; everywhere when it knows nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from wafermonitor.runs.merge import merge
from wafermonitor.runs.records import LogRecord, MetricPoint, Run, Span
from wafermonitor.runs.state import Limits, State, failing_rank
from wafermonitor.storage.archive.protocol import DAY_NS, Choice, Days, Entry, Signal
from wafermonitor.storage.archive.reader import Files
from wafermonitor.storage.cursors import FAILING_RUN, LOG, NEWEST_RUN, NEWEST_SPAN, SPAN, read_cursor, write_cursor
from wafermonitor.storage.errors import ArchiveDamaged, StorageUnavailable
from wafermonitor.storage.protocol import (
    MAX_PAGE,
    Changes,
    DeadLetterQuery,
    LogQuery,
    MetricQuery,
    Page,
    Reader,
    RunQuery,
    ServiceApp,
    SiteStatus,
    SpanQuery,
    StoredDeadLetter,
    StoredRun,
    StoreHealth,
    page_limit,
)

T = TypeVar("T")
_NO_TIME = -(2**63)
_BAD, _GOOD = 4, 6
_AROUND_NS = DAY_NS
"""How far from what is known of a trace its other rows are looked for."""


class MergedReader:
    """Implements `storage.protocol.Reader`. `hot` is the reader of `storage.timescale`, in whose words cursors are."""

    def __init__(self, hot: Reader, days: Days, files: Files) -> None:
        self._hot = hot
        self._days = days
        self._files = files

    async def runs(self, query: RunQuery) -> Page[StoredRun]:
        """A page of runs, from both."""
        limit = page_limit(query.limit)
        failing = query.order == "failing"
        version, inner, place = _split(query.cursor, FAILING_RUN if failing else NEWEST_RUN)
        hot = await self._hot.runs(replace(query, cursor=inner, limit=limit))
        found = {stored.run.key: stored for stored in await self._completed(hot.items)}
        last = _run_place(hot.items[-1], failing=failing) if hot.cursor is not None else None

        def wanted(run: Run) -> bool:
            here = _run_order(_run_place(_ended(run), failing=failing), failing=failing)
            after = place is None or here > _run_order(place, failing=failing)
            return after and (last is None or here < _run_order(last, failing=failing))

        for bad, newest_ns, oldest_ns in _run_parts(place, last, failing=failing) if _asks_for_ended(query) else ():
            choice = _narrowed(Choice(Signal.RUNS, query.site, query.from_ns, query.to_ns), newest_ns, oldest_ns)
            version, entries = await self._chosen(choice, version)
            archived = await _ask(self._files.runs, entries, query, before=wanted, limit=limit + 1, bad=bad)
            found |= {run.key: _joined(found.get(run.key), run) for run in archived}
        items = sorted(found.values(), key=lambda one: _run_order(_run_place(one, failing=failing), failing=failing))
        more = len(items) > limit or hot.cursor is not None
        return _page(items[:limit], version, more=more, place=lambda one: _run_place(one, failing=failing))

    async def run(self, trace_id: bytes, span_id: bytes, site: str | None = None) -> StoredRun | None:
        """From the store, and completed by the archive when its month was dropped."""
        found = await self._hot.run(trace_id, span_id, site)
        if found is not None:
            return (await self._completed([found]))[0]
        _, entries = await self._chosen(Choice(Signal.RUNS, _sites(site)), None)
        archived = await _ask(self._files.runs_of_trace, entries, trace_id, site)
        same = sorted((run for run in archived if run.span_id == span_id), key=lambda run: run.site)
        return _ended(same[0]) if same else None

    async def tree(self, trace_id: bytes, site: str | None = None, limit: int = 10_000) -> list[StoredRun]:
        """Every run of a trace, from both."""
        hot = await self._hot.tree(trace_id, site, limit)
        around = _around(Choice(Signal.RUNS, _sites(site)), [stored.run.start_ns for stored in hot])
        _, entries = await self._chosen(around, None)
        found = {stored.run.key: stored for stored in hot}
        for run in await _ask(self._files.runs_of_trace, entries, trace_id, site):
            found[run.key] = _joined(found.get(run.key), run)
        order = sorted(found.values(), key=lambda one: (_start(one.run), one.run.span_id, one.run.site))
        return order[:limit]

    async def spans(self, query: SpanQuery) -> Page[Span]:
        """Spans of a trace, or root spans, from both."""
        limit = page_limit(query.limit)
        of_trace = query.trace_id is not None
        version, inner, place = _split(query.cursor, SPAN if of_trace else NEWEST_SPAN)
        hot = await self._hot.spans(replace(query, cursor=inner, limit=limit))
        order, name = (_span_order, _span_place) if of_trace else (_newest_span_order, _newest_span_place)
        last = order(name(hot.items[-1])) if hot.cursor is not None else None

        def wanted(span: Span) -> bool:
            here = order(name(span))
            return (place is None or here > order(place)) and (last is None or here < last)

        if of_trace:
            assert query.trace_id is not None
            choice = Choice(Signal.SPANS, _sites(query.site), query.from_ns, query.to_ns)
            around = await self._around_trace(choice, query.trace_id, [one.start_ns for one in hot.items])
            version, entries = await self._chosen(around, version)
            archived = await _ask(self._files.spans_of_trace, entries, query)
        else:
            choice = Choice(Signal.SPANS, _sites(query.site), query.from_ns, query.to_ns)
            oldest_ns = hot.items[-1].start_ns if last is not None else None
            version, entries = await self._chosen(_narrowed(choice, _first(place), oldest_ns), version)
            archived = await _ask(self._files.newest_spans, entries, query, limit + 1, wanted)
        items = list({_span_key(one): one for one in [*filter(wanted, archived), *hot.items]}.values())
        items.sort(key=lambda one: order(name(one)))
        more = len(items) > limit or hot.cursor is not None
        return _page(items[:limit], version, more=more, place=name)

    async def span(self, trace_id: bytes, span_id: bytes, site: str | None = None) -> Span | None:
        """From the store, else from the archive."""
        found = await self._hot.span(trace_id, span_id, site)
        if found is not None:
            return found
        around = await self._around_trace(Choice(Signal.SPANS, _sites(site)), trace_id, [])
        _, entries = await self._chosen(around, None)
        query = SpanQuery(site=site, trace_id=trace_id)
        archived = await _ask(self._files.spans_of_trace, entries, query)
        return next((one for one in archived if one.span_id == span_id), None)

    async def logs(self, query: LogQuery) -> Page[LogRecord]:
        """Log records of a run or a trace, from both."""
        limit = page_limit(query.limit)
        version, inner, place = _split(query.cursor, LOG)
        hot = await self._hot.logs(replace(query, cursor=inner, limit=limit))
        choice = Choice(Signal.LOGS, _sites(query.site))
        around = await self._around_trace(choice, query.trace_id, [one.time_ns for one in hot.items])
        version, entries = await self._chosen(around, version)
        last = _log_place(hot.items[-1]) if hot.cursor is not None else None
        archived = [
            one
            for one in await _ask(self._files.logs, entries, query)
            if (place is None or _log_place(one) > place) and (last is None or _log_place(one) < last)
        ]
        items = sorted({_log_place(one): one for one in [*archived, *hot.items]}.values(), key=_log_place)
        more = len(items) > limit or hot.cursor is not None
        return _page(items[:limit], version, more=more, place=_log_place)

    async def metrics(self, query: MetricQuery) -> list[MetricPoint]:
        """Points, from both."""
        hot = await self._hot.metrics(query)
        _, entries = await self._chosen(Choice(Signal.METRICS, (query.site,), query.from_ns, query.to_ns), None)
        archived = await _ask(self._files.points, entries, query)
        found = {(one.series.key, one.time_ns): one for one in [*archived, *hot]}
        return sorted(found.values(), key=lambda one: (one.series.name, one.series.key, one.time_ns))[: query.limit]

    async def sites(self) -> list[SiteStatus]:
        """The store's: it keeps every name."""
        return await self._hot.sites()

    async def apps(self, site: str | None = None) -> list[ServiceApp]:
        """The store's: it keeps every name."""
        return await self._hot.apps(site)

    async def changes(self, token: str | None, limit: int = 500) -> Changes:
        """The store's: what is archived changes no more."""
        return await self._hot.changes(token, limit)

    async def dead_letters(self, query: DeadLetterQuery) -> Page[StoredDeadLetter]:
        """The store's."""
        return await self._hot.dead_letters(query)

    async def dead_letter(self, key: str) -> StoredDeadLetter | None:
        """The store's."""
        return await self._hot.dead_letter(key)

    async def limits(self) -> Limits:
        """The store's."""
        return await self._hot.limits()

    async def health(self) -> StoreHealth:
        """The store's."""
        return await self._hot.health()

    async def close(self) -> None:
        """Closes the store's reader; files are closed after each answer."""
        await self._hot.close()

    async def _chosen(self, choice: Choice, version: int | None) -> tuple[int, tuple[Entry, ...]]:
        """The state of the archive, and the files of it that can hold an answer."""
        manifest = await self._days.files(choice, version, self._files.max_files + 1)
        return manifest.version, manifest.entries

    async def _completed(self, items: Sequence[StoredRun]) -> list[StoredRun]:
        """Runs that came again after their month was dropped say less than the archive does: both are merged."""
        starts = [stored.run.start_ns for stored in items if stored.run.start_ns is not None]
        if not starts:
            return list(items)
        _, entries = await self._chosen(Choice(Signal.RUNS, (), min(starts), max(starts)), None)
        made = []
        for stored in items:
            near = [
                one for one in entries if stored.run.start_ns is not None and one.from_ns <= stored.run.start_ns <= one.to_ns
            ]
            archived = await _ask(self._files.runs_of_trace, near, stored.run.trace_id, stored.run.site) if near else []
            same = [run for run in archived if run.key == stored.run.key]
            made.append(_joined(stored, same[0]) if same else stored)
        return made

    async def _around_trace(self, choice: Choice, trace_id: bytes, times_ns: Sequence[int]) -> Choice:
        """The days around what is known of a trace; as it was when nothing is."""
        site = choice.sites[0] if choice.sites else None
        known: list[int | None] = [*times_ns]
        runs = await self._hot.tree(trace_id, site, MAX_PAGE)
        if not runs and not known:
            runs = await self.tree(trace_id, site, MAX_PAGE)
        for stored in runs:
            known += [stored.run.start_ns, stored.run.end_ns]
        return _around(choice, known)


async def _ask(question: Callable[..., T], *arguments: Any, **named: Any) -> T:
    """In a thread. A file that is missing or damaged is nobody's fault who asks: others may still have their answers."""
    try:
        return await asyncio.to_thread(question, *arguments, **named)
    except ArchiveDamaged as error:
        raise StorageUnavailable(f"{error}: `wafer archive verify` names it") from None


def _narrowed(choice: Choice, newest_ns: int | None, oldest_ns: int | None) -> Choice:
    """To what lies between the last item of the page before and the last item that the store gave."""
    to_ns = [one for one in (choice.to_ns, newest_ns) if one is not None]
    from_ns = [one for one in (choice.from_ns, oldest_ns) if one is not None]
    return choice._replace(from_ns=max(from_ns, default=None), to_ns=min(to_ns, default=None))


def _run_parts(
    place: tuple[Any, ...] | None, last: tuple[Any, ...] | None, *, failing: bool
) -> list[tuple[bool | None, int | None, int | None]]:
    """What to ask the archive for, one after the other: which results, and from which time down to which."""
    if not failing:
        return [(None, _first(place), _first(last))]
    parts: list[tuple[bool | None, int | None, int | None]] = []
    for bad, rank in ((True, _BAD), (False, _GOOD)):
        begins = place is None or place[0] <= rank
        if begins and (last is None or last[0] >= rank):
            newest_ns = place[1] if place is not None and place[0] == rank else None
            parts.append((bad, newest_ns, last[1] if last is not None and last[0] == rank else None))
    return parts


def _first(place: tuple[Any, ...] | None) -> int | None:
    """The time in a place that begins with one."""
    return None if place is None else int(place[0])


def _around(choice: Choice, times_ns: Sequence[int | None]) -> Choice:
    known = [at_ns for at_ns in times_ns if at_ns is not None]
    return _narrowed(choice, max(known) + _AROUND_NS, min(known) - _AROUND_NS) if known else choice


def _sites(site: str | None) -> tuple[str, ...]:
    return () if site is None else (site,)


def _page(items: list[T], version: int | None, *, more: bool, place: Callable[[T], tuple[Any, ...]]) -> Page[T]:
    return Page(items, write_cursor(version or 0, *place(items[-1])) if more and items else None)


def _split(cursor: str | None, shape: tuple[type, ...]) -> tuple[int | None, str | None, tuple[Any, ...] | None]:
    """A cursor of ours as the state of the archive, the store's own cursor, and the place."""
    if cursor is None:
        return None, None, None
    version, *place = read_cursor(cursor, (int, *shape))
    return version, write_cursor(*place), tuple(place)


def _asks_for_ended(query: RunQuery) -> bool:
    return (not query.state or State.ENDED in query.state) and query.overdue is not True


def _ended(run: Run) -> StoredRun:
    return StoredRun(run, State.ENDED, overdue=False)


def _joined(stored: StoredRun | None, run: Run) -> StoredRun:
    return _ended(run if stored is None else merge(stored.run, run))


def _start(run: Run) -> int:
    return _NO_TIME if run.start_ns is None else run.start_ns


def _run_place(stored: StoredRun, *, failing: bool) -> tuple[Any, ...]:
    """As the store's cursors name it."""
    run = stored.run
    place = (_start(run), run.trace_id.hex(), run.span_id.hex(), run.site)
    return (failing_rank(*stored), *place) if failing else place


def _run_order(place: tuple[Any, ...], *, failing: bool) -> tuple[Any, ...]:
    """Smaller is earlier: by rank, then the newest."""
    rank, (start_ns, *rest) = (place[:1], place[1:]) if failing else ((), place)
    return (*rank, -start_ns, *rest)


def _span_place(span: Span) -> tuple[Any, ...]:
    return (span.start_ns, span.span_id.hex(), span.resource.site)


def _newest_span_place(span: Span) -> tuple[Any, ...]:
    return (span.start_ns, span.trace_id.hex(), span.span_id.hex(), span.resource.site)


def _span_order(place: tuple[Any, ...]) -> tuple[Any, ...]:
    return place


def _newest_span_order(place: tuple[Any, ...]) -> tuple[Any, ...]:
    return (-place[0], *place[1:])


def _span_key(span: Span) -> tuple[Any, ...]:
    return (span.trace_id, span.span_id, span.start_ns, span.resource.site)


def _log_place(record: LogRecord) -> tuple[int, str]:
    return (record.time_ns, record.digest.hex())
