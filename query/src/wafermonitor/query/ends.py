"""When open runs will end: what is usual for their jobs, read from history as seldom as is good enough.

In: runs of an answer. Out: an `EtaModel` for each that is open. Called by: the lists of runs, a run's own page; `usual` by the
route of that name.

What is usual for a job is learned anew after ten minutes. How the last runs of a job went (their progress, or the ends of
their subjobs) is read for runs that tell how far they are; in lists for a few jobs per answer, so that none waits for it long.
A list of many jobs learns for a second what is usual for them, and the next one goes on.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import NamedTuple

from wafermonitor.query.answers import instant, mapping
from wafermonitor.query.models import EtaModel
from wafermonitor.runs.bands import HISTORY, Profile, profile
from wafermonitor.runs.eta import Eta, Mark, Way, eta
from wafermonitor.runs.expectations import true_start
from wafermonitor.runs.lifecycle import origin_of, run_of_event
from wafermonitor.runs.records import LogRecord, Run, RunKey
from wafermonitor.runs.state import SECOND_NS, State
from wafermonitor.semconv import events
from wafermonitor.storage.protocol import MAX_PAGE, LogQuery, PastRun, Reader, RunQuery, StoredRun

_AGAIN_NS = 600 * SECOND_NS
_MOST_JOBS = 5_000
_AT_ONCE = 20
"""Jobs whose history is read by one statement: what it has read stays, if the answer takes too long."""
_PATIENCE_S = 1.0
"""A list begins no further statement after this."""
_WAYS = 16
"""How many runs tell how runs of a job go."""
_WAYS_OF_A_LIST = 2
"""For how many jobs a list reads that; the next list reads it for others."""
_MARKS = 200
_BASES = {
    "history": "the duration of {count} runs before it",
    "progress": "its progress and that of {count} runs before it",
    "subjobs": "its subjobs that have ended and those of {count} runs before it",
}

_JobKey = tuple[str, str]


class _Known(NamedTuple):
    made_ns: int
    usual: Profile
    good: tuple[PastRun, ...]


class _Ways(NamedTuple):
    made_ns: int
    ways: tuple[Way, ...]


class Ends:
    """What one read API has learned of jobs."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: OrderedDict[_JobKey, _Known] = OrderedDict()
        self._ways: OrderedDict[tuple[_JobKey, str], _Ways] = OrderedDict()

    async def of_list(self, listed: Iterable[StoredRun], now_ns: int) -> dict[RunKey, EtaModel]:
        """Of the open runs among `listed`."""
        waiting = [stored for stored in listed if not stored.run.ended]
        await self._learn({_job(stored.run) for stored in waiting}, now_ns, _PATIENCE_S)
        may_read = _WAYS_OF_A_LIST
        found = {}
        for stored in waiting:
            run = stored.run
            if _job(run) not in self._known:
                found[run.key] = EtaModel(why_not="the history of its job has not been read yet: ask again")
                continue
            mark = _progress_mark(run)
            ways: Sequence[Way] = ()
            if mark is not None:
                fresh = self._fresh_ways(_job(run), "progress", now_ns)
                if fresh is None and may_read:
                    may_read -= 1
                    fresh = await self._read_ways(_job(run), "progress", now_ns)
                ways = fresh or ()
            found[run.key] = self._foresee(stored, now_ns, mark, ways, "progress")
        return found

    async def of_run(self, stored: StoredRun, subjobs: Sequence[StoredRun], now_ns: int) -> EtaModel | None:
        """Of one run with its subjobs; None when it has ended."""
        run = stored.run
        if run.ended:
            return None
        await self._learn({_job(run)}, now_ns)
        mark, basis = _progress_mark(run), "progress"
        if mark is None:
            mark, basis = _subjob_mark(run, [subjob.run for subjob in subjobs]), "subjobs"
        ways: Sequence[Way] = ()
        if mark is not None:
            fresh = self._fresh_ways(_job(run), basis, now_ns)
            ways = await self._read_ways(_job(run), basis, now_ns) if fresh is None else fresh
        return self._foresee(stored, now_ns, mark, ways, basis)

    async def usual(self, site: str, job: str, now_ns: int) -> Profile:
        """What is usual for one job at one site."""
        await self._learn({(site, job)}, now_ns)
        return self._known[site, job].usual

    async def _learn(self, jobs: set[_JobKey], now_ns: int, patience_s: float = math.inf) -> None:
        """Those of which nothing is known first; with `patience_s` perhaps not all."""
        due = sorted((job in self._known, job) for job in jobs if not _is_fresh(self._known.get(job), now_ns))
        until_s = time.monotonic() + patience_s
        for place in range(0, len(due), _AT_ONCE):
            some = [job for _, job in due[place : place + _AT_ONCE]]
            for job, past in zip(some, await self._reader.history(some, HISTORY), strict=True):
                good = tuple(run for run in past if run.result == "success" and run.duration_s)[:_WAYS]
                self._known[job] = _Known(now_ns, profile(past, now_ns), good)
                self._known.move_to_end(job)
            if time.monotonic() >= until_s:
                break
        while len(self._known) > max(_MOST_JOBS, len(jobs)):
            self._known.popitem(last=False)

    def _fresh_ways(self, job: _JobKey, basis: str, now_ns: int) -> Sequence[Way] | None:
        known = self._ways.get((job, basis))
        return known.ways if known is not None and _is_fresh(known, now_ns) else None

    async def _read_ways(self, job: _JobKey, basis: str, now_ns: int) -> Sequence[Way]:
        read: Callable[[PastRun], Awaitable[tuple[Mark, ...]]]
        read = self._progress_of if basis == "progress" else self._subjobs_of
        ways = [Way(await read(run), run.duration_s or 0.0) for run in self._known[job].good]
        self._ways[job, basis] = _Ways(now_ns, tuple(way for way in ways if way.marks))
        self._ways.move_to_end((job, basis))
        while len(self._ways) > _MOST_JOBS:
            self._ways.popitem(last=False)
        return self._ways[job, basis].ways

    async def _progress_of(self, past: PastRun) -> tuple[Mark, ...]:
        key = past.key
        query = LogQuery(
            site=key.site, trace_id=key.trace_id, span_id=key.span_id, event_names=(events.WAFER_JOB_PROGRESS,), limit=_MARKS
        )
        page = await self._reader.logs(query)
        return _rising(_mark_of(record, past.start_ns) for record in page.items)

    async def _subjobs_of(self, past: PastRun) -> tuple[Mark, ...]:
        key = past.key
        query = RunQuery(site=(key.site,), parent=(key.trace_id, key.span_id), limit=MAX_PAGE)
        page = await self._reader.runs(query)
        return _rising(_end_marks([stored.run for stored in page.items], past.start_ns))

    def _foresee(self, stored: StoredRun, now_ns: int, mark: Mark | None, ways: Sequence[Way], basis: str) -> EtaModel:
        run = stored.run
        start_ns = true_start(run, None)
        if run.start_ns is None or start_ns is None:
            return EtaModel(why_not="when it started is not known")
        if stored.state is State.LOST or run.inferred:
            return EtaModel(why_not="it is lost: it may have ended without a word")
        found = eta(
            self._known[_job(run)].usual,
            start_ns,
            now_ns,
            recipe=run.recipe,
            product=run.product,
            equipment=run.equipment,
            mark=mark,
            ways=ways,
            basis=basis,
        )
        if not isinstance(found, Eta):
            return EtaModel(why_not=found.why)
        low, mid, high = (instant(at_ns) for at_ns in found[:3])
        return EtaModel(low=low, mid=mid, high=high, basis=_BASES[found.basis].format(count=found.count))


def _job(run: Run) -> _JobKey:
    return (run.site, run.job or "")


def _is_fresh(known: _Known | _Ways | None, now_ns: int) -> bool:
    return known is not None and now_ns - known.made_ns < _AGAIN_NS


def _progress_mark(run: Run) -> Mark | None:
    """How far the run was when it last said so."""
    if run.progress is None or run.progress.ratio is None or run.start_ns is None:
        return None
    return Mark(run.progress.ratio, (run.progress.at_ns - run.start_ns) / SECOND_NS)


def _subjob_mark(run: Run, subjobs: Sequence[Run]) -> Mark | None:
    """How many of its subjobs have ended, and when the last of them did."""
    marks = [] if run.start_ns is None else list(_end_marks(subjobs, run.start_ns))
    return marks[-1] if marks else None


def _end_marks(subjobs: Sequence[Run], start_ns: int) -> Iterable[Mark]:
    ends = sorted(run.end_ns for run in subjobs if run.end_ns is not None)
    return (Mark(float(place), (end_ns - start_ns) / SECOND_NS) for place, end_ns in enumerate(ends, 1))


def _mark_of(record: LogRecord, start_ns: int) -> Mark | None:
    """A progress event as a mark; None where it tells no ratio."""
    told = run_of_event(
        origin_of({}),
        record.event_name,
        mapping(record.attributes),
        record.attributes,
        trace_id=record.trace_id or b"",
        span_id=record.span_id or b"",
        time_ns=record.time_ns,
        received_ns=record.received_ns,
    )
    ratio = told.progress.ratio if told is not None and told.progress is not None else None
    return None if ratio is None else Mark(ratio, (record.time_ns - start_ns) / SECOND_NS)


def _rising(marks: Iterable[Mark | None]) -> tuple[Mark, ...]:
    """Those that are further than all before them, and after the start."""
    kept: list[Mark] = []
    for mark in marks:
        if mark is not None and mark.elapsed_s > 0.0 and mark.position > (kept[-1].position if kept else 0.0):
            kept.append(mark)
    return tuple(kept)
