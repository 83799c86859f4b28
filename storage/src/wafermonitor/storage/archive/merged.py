"""One reader over the store and its archive: nobody who asks can tell which of the two answered.

In: the store's Reader, the files of dropped days. Out: the same answers as if no day had ever left. Called by:
`query.sources.archive`.

The store is asked first, then the manifest, then the files: a day that is dropped in between is found in both, and shown once;
when one comes back in between, all is asked again. A cursor is the place of the last item, in the store's own words, and the
newest manifest is right for every page: partition, late table and files hand rows to each other, but no row ever changes its
place. Runs that the store still has, or has again, are merged with what the archive says of them, and stand where both together
belong. Rows of a trace are looked for within a day of what the store knows of it; everywhere when it knows nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from wafermonitor.runs.merge import merge
from wafermonitor.runs.records import LogRecord, MetricPoint, Run, Span
from wafermonitor.runs.state import Limits, State, failing_rank
from wafermonitor.storage.archive.protocol import DAY_NS, Choice, Days, Entry, Signal
from wafermonitor.storage.archive.reader import Files
from wafermonitor.storage.cursors import FAILING_RUN, LOG, NEWEST_RUN, NEWEST_SPAN, SPAN, read_cursor, write_cursor
from wafermonitor.storage.errors import ArchiveDamaged, StorageUnavailable
from wafermonitor.storage.matching import matches
from wafermonitor.storage.protocol import (
    MAX_PAGE,
    Changes,
    DeadLetterQuery,
    LogQuery,
    MetricQuery,
    Page,
    PastRun,
    Reader,
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

T = TypeVar("T")
_NO_TIME = -(2**63)
_BAD, _GOOD = 4, 6
_AROUND_NS = DAY_NS
"""How far from what is known of a trace its other rows are looked for."""
_ATTEMPTS = 5
_LATE_RUNS = 20_000
"""Runs of dropped months that came again since the last round."""


class MergedReader:
    """Implements `storage.protocol.Reader`. `hot` is the reader of `storage.timescale`, in whose words cursors are."""

    def __init__(self, hot: Reader, days: Days, files: Files) -> None:
        self._hot = hot
        self._days = days
        self._files = files

    async def runs(self, query: RunQuery) -> Page[StoredRun]:
        """A page of runs, from both."""
        return await self._settled(self._runs, query)

    async def run(self, trace_id: bytes, span_id: bytes, site: str | None = None) -> StoredRun | None:
        """From the store, and completed by the archive when its month was dropped."""
        return await self._settled(self._run, trace_id, span_id, site)

    async def tree(self, trace_id: bytes, site: str | None = None, limit: int = 10_000) -> list[StoredRun]:
        """Every run of a trace, from both."""
        return await self._settled(self._tree, trace_id, site, limit)

    async def spans(self, query: SpanQuery) -> Page[Span]:
        """Spans of a trace, or root spans, from both."""
        return await self._settled(self._spans, query)

    async def span(self, trace_id: bytes, span_id: bytes, site: str | None = None) -> Span | None:
        """From the store, else from the archive."""
        return await self._settled(self._span, trace_id, span_id, site)

    async def logs(self, query: LogQuery) -> Page[LogRecord]:
        """Log records of a run or a trace, from both."""
        return await self._settled(self._logs, query)

    async def metrics(self, query: MetricQuery) -> list[MetricPoint]:
        """Points, from both."""
        return await self._settled(self._metrics, query)

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

    async def starts(self, wanted: Sequence[StartsWanted], limit: int = 1000) -> list[list[StoredStart]]:
        """The store's: nothing is expected of days that were dropped."""
        return await self._hot.starts(wanted, limit)

    async def history(self, jobs: Sequence[tuple[str, str]], limit: int = 200) -> list[list[PastRun]]:
        """The store's: what is usual now is learned from what was usual lately."""
        return await self._hot.history(jobs, limit)

    async def tallies(self, from_ns: int, to_ns: int) -> list[Tally]:
        """The store's: they are of the last hours or days."""
        return await self._hot.tallies(from_ns, to_ns)

    async def limits(self) -> Limits:
        """The store's."""
        return await self._hot.limits()

    async def health(self) -> StoreHealth:
        """The store's."""
        return await self._hot.health()

    async def close(self) -> None:
        """Closes the store's reader; files are closed after each answer."""
        await self._hot.close()

    async def _settled(self, question: Callable[..., Awaitable[T]], *asked: Any) -> T:
        """Its answer, asked anew when a day came back to the store, or a file went, while it was being made."""
        for attempt in range(_ATTEMPTS):
            restores = await self._days.restores()
            try:
                return await question(restores, *asked)
            except _Moved:
                continue
            except ArchiveDamaged as error:
                # A file that was merged into another one is in no newer manifest. Others may still have their answers.
                if attempt:
                    raise StorageUnavailable(f"{error}: `wafer archive verify` names it") from None
        raise StorageUnavailable("days are just being brought back from the archive: ask again")

    async def _runs(self, restores: int, query: RunQuery) -> Page[StoredRun]:
        limit = page_limit(query.limit)
        failing = query.order == "failing"
        place = _place(query.cursor, FAILING_RUN if failing else NEWEST_RUN)
        hot = await self._hot.runs(replace(query, limit=limit))
        last = _run_place(hot.items[-1], failing=failing) if hot.cursor is not None else None

        def wanted(stored: StoredRun) -> bool:
            here = _run_order(_run_place(stored, failing=failing), failing=failing)
            after = place is None or here > _run_order(place, failing=failing)
            return after and (last is None or here <= _run_order(last, failing=failing)) and matches(stored, query)

        found = {}
        for stored, completed in zip(hot.items, await self._completed(restores, hot.items), strict=True):
            if completed is stored or wanted(completed):
                found[stored.run.key] = completed
        again = {one.record.key: one.record for one in await self._days.late(Signal.RUNS, _LATE_RUNS)}

        def complete(run: Run) -> Run | None:
            """What the archive and the store say together, where a page shows that."""
            joined = merge(run, again[run.key]) if run.key in again else run
            if run.key in again and not joined.ended:
                return None  # it gave a sign after it had left: the store shows it, among the open ones
            return joined if wanted(_ended(joined)) else None

        for bad, newest_ns, oldest_ns in _run_parts(place, last, failing=failing) if _asks_for_ended(query) else ():
            choice = _narrowed(Choice(Signal.RUNS, query.site, query.from_ns, query.to_ns), newest_ns, oldest_ns)
            entries = await self._chosen(restores, choice)
            archived = await asyncio.to_thread(
                self._files.runs, entries, query, complete, limit=limit + 1, bad=bad, newest_ns=newest_ns
            )
            found |= {run.key: _joined(found.get(run.key), run) for run in archived}
        items = sorted(found.values(), key=lambda one: _run_order(_run_place(one, failing=failing), failing=failing))
        more = len(items) > limit or hot.cursor is not None
        # A page of nothing but runs that stand elsewhere: on from where the store is.
        return _page(items[:limit], hot.cursor, more=more, place=lambda one: _run_place(one, failing=failing))

    async def _run(self, restores: int, trace_id: bytes, span_id: bytes, site: str | None) -> StoredRun | None:
        found = await self._hot.run(trace_id, span_id, site)
        if found is not None:
            return (await self._completed(restores, [found]))[0]
        entries = await self._chosen(restores, Choice(Signal.RUNS, _sites(site)))
        archived = await asyncio.to_thread(self._files.runs_of_trace, entries, trace_id, site)
        same = sorted((run for run in archived if run.span_id == span_id), key=lambda run: run.site)
        return _ended(same[0]) if same else None

    async def _tree(self, restores: int, trace_id: bytes, site: str | None, limit: int) -> list[StoredRun]:
        hot = await self._hot.tree(trace_id, site, limit)
        around = _around(Choice(Signal.RUNS, _sites(site)), [stored.run.start_ns for stored in hot])
        entries = await self._chosen(restores, around)
        found = {stored.run.key: stored for stored in hot}
        for run in await asyncio.to_thread(self._files.runs_of_trace, entries, trace_id, site):
            found[run.key] = _joined(found.get(run.key), run)
        order = sorted(found.values(), key=lambda one: (_start(one.run), one.run.span_id, one.run.site))
        return order[:limit]

    async def _spans(self, restores: int, query: SpanQuery) -> Page[Span]:
        limit = page_limit(query.limit)
        of_trace = query.trace_id is not None
        place = _place(query.cursor, SPAN if of_trace else NEWEST_SPAN)
        hot = await self._hot.spans(replace(query, limit=limit))
        order, name = (_span_order, _span_place) if of_trace else (_newest_span_order, _newest_span_place)
        last = order(name(hot.items[-1])) if hot.cursor is not None else None

        def wanted(span: Span) -> bool:
            here = order(name(span))
            return (place is None or here > order(place)) and (last is None or here < last)

        choice = Choice(Signal.SPANS, _sites(query.site), query.from_ns, query.to_ns)
        if of_trace:
            assert query.trace_id is not None
            around = await self._around_trace(restores, choice, query.trace_id, [one.start_ns for one in hot.items])
            entries = await self._chosen(restores, around)
            archived = await asyncio.to_thread(self._files.spans_of_trace, entries, query, limit + 1, place)
        else:
            oldest_ns = hot.items[-1].start_ns if last is not None else None
            entries = await self._chosen(restores, _narrowed(choice, _first(place), oldest_ns))
            archived = await asyncio.to_thread(self._files.newest_spans, entries, query, limit + 1, place)
        items = list({_span_key(one): one for one in [*filter(wanted, archived), *hot.items]}.values())
        items.sort(key=lambda one: order(name(one)))
        more = len(items) > limit or hot.cursor is not None
        return _page(items[:limit], None, more=more, place=name)

    async def _span(self, restores: int, trace_id: bytes, span_id: bytes, site: str | None) -> Span | None:
        found = await self._hot.span(trace_id, span_id, site)
        if found is not None:
            return found
        around = await self._around_trace(restores, Choice(Signal.SPANS, _sites(site)), trace_id, [])
        entries = await self._chosen(restores, around)
        return await asyncio.to_thread(self._files.span, entries, trace_id, span_id, site)

    async def _logs(self, restores: int, query: LogQuery) -> Page[LogRecord]:
        limit = page_limit(query.limit)
        place = _place(query.cursor, LOG)
        hot = await self._hot.logs(replace(query, limit=limit))
        choice = Choice(Signal.LOGS, _sites(query.site))
        around = await self._around_trace(restores, choice, query.trace_id, [one.time_ns for one in hot.items])
        entries = await self._chosen(restores, around)
        last = _log_place(hot.items[-1]) if hot.cursor is not None else None
        archived = [
            one
            for one in await asyncio.to_thread(self._files.logs, entries, query, limit + 1, place)
            if (place is None or _log_place(one) > place) and (last is None or _log_place(one) < last)
        ]
        items = sorted({_log_place(one): one for one in [*archived, *hot.items]}.values(), key=_log_place)
        more = len(items) > limit or hot.cursor is not None
        return _page(items[:limit], None, more=more, place=_log_place)

    async def _metrics(self, restores: int, query: MetricQuery) -> list[MetricPoint]:
        hot = await self._hot.metrics(query)
        entries = await self._chosen(restores, Choice(Signal.METRICS, (query.site,), query.from_ns, query.to_ns))
        archived = await asyncio.to_thread(self._files.points, entries, query)
        found = {(one.series.key, one.time_ns): one for one in [*archived, *hot]}
        return sorted(found.values(), key=lambda one: (one.series.name, one.series.key, one.time_ns))[: query.limit]

    async def _chosen(self, restores: int, choice: Choice) -> tuple[Entry, ...]:
        """The files that can hold an answer. _Moved: what the store has said does not belong to them."""
        manifest = await self._days.files(choice, self._files.max_files + 1)
        if manifest.restores != restores:
            raise _Moved
        return manifest.entries

    async def _completed(self, restores: int, items: Sequence[StoredRun]) -> list[StoredRun]:
        """Runs that came again after their month was dropped say less than the archive does: both are merged."""
        starts = [stored.run.start_ns for stored in items if stored.run.start_ns is not None]
        if not starts:
            return list(items)
        entries = await self._chosen(restores, Choice(Signal.RUNS, (), min(starts), max(starts)))
        made = []
        for stored in items:
            near = [
                one for one in entries if stored.run.start_ns is not None and one.from_ns <= stored.run.start_ns <= one.to_ns
            ]
            run = stored.run
            archived = await asyncio.to_thread(self._files.runs_of_trace, near, run.trace_id, run.site) if near else []
            same = [one for one in archived if one.key == run.key]
            made.append(_joined(stored, same[0]) if same else stored)
        return made

    async def _around_trace(self, restores: int, choice: Choice, trace_id: bytes, times_ns: Sequence[int]) -> Choice:
        """The days around what is known of a trace; as it was when nothing is."""
        site = choice.sites[0] if choice.sites else None
        known: list[int | None] = [*times_ns]
        runs = await self._hot.tree(trace_id, site, MAX_PAGE)
        if not runs and not known:
            runs = await self._tree(restores, trace_id, site, MAX_PAGE)
        for stored in runs:
            known += [stored.run.start_ns, stored.run.end_ns]
        return _around(choice, known)


class _Moved(Exception):  # noqa: N818 - nobody sees it
    """A day came back to the store between the store's answer and the manifest's."""


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


def _page(items: list[T], otherwise: str | None, *, more: bool, place: Callable[[T], tuple[Any, ...]]) -> Page[T]:
    if not more:
        return Page(items, None)
    return Page(items, write_cursor(*place(items[-1])) if items else otherwise)


def _place(cursor: str | None, shape: tuple[type, ...]) -> tuple[Any, ...] | None:
    """Where the page before ended."""
    return None if cursor is None else read_cursor(cursor, shape)


def _asks_for_ended(query: RunQuery) -> bool:
    return (not query.state or State.ENDED in query.state) and query.overdue is not True


def _ended(run: Run) -> StoredRun:
    return StoredRun(run, State.ENDED, overdue=False)


def _joined(stored: StoredRun | None, run: Run) -> StoredRun:
    """What never told its end counts as ended while only the archive has it; else it is in the state that the store says."""
    if stored is None:
        return _ended(run)
    joined = merge(stored.run, run)
    return _ended(joined) if joined.ended else stored._replace(run=joined)


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
