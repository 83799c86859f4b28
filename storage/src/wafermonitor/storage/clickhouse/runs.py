"""Runs out: candidates from ClickHouse, judged and chosen by the same functions that every engine means.

In: questions about runs. Out: `StoredRun`s in order. Called by: `reader`, `changes`.

SQL finds and orders runs by what is stored, and may find too many; `runs.state` says what state each is in and
`storage.matching` whether it is asked for. Newest first, a scan goes back by windows that hold about a page of the runs asked
for, then eight times as many, so that a page of the newest costs what it holds. Past the last window only what is rare is left.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from wafermonitor.runs.records import Feed, ProcessBeat, Run, RunKey
from wafermonitor.runs.state import Limits, State, close_due, failing_rank, overdue, run_state
from wafermonitor.storage.clickhouse.client import Client
from wafermonitor.storage.clickhouse.lists import slices
from wafermonitor.storage.clickhouse.records import Row, feed_of, run_of
from wafermonitor.storage.clickhouse.statements import statement, with_parts
from wafermonitor.storage.cursors import id_of
from wafermonitor.storage.errors import CursorRejected
from wafermonitor.storage.matching import NO_TIME, failing_order, matches, newest_order, start_or_least, with_process
from wafermonitor.storage.protocol import RunQuery, StoredRun

LISTING = "list runs"
LATEST = 2**63 - 1
LIMITS_AGE_S = 10.0
"""How old the known limits may be."""
MAX_BATCH = 5000
"""Runs that one statement gives."""
LAST_WINDOW = 32_000
"""Runs in the last window at most: a set of their keys is small."""
MAX_WINDOWS = 4
_GROWTH = 8
_RANK_BAD, _RANK_RUNNING, _RANK_GOOD = 4, 5, 6
_ANY_DURATION_S = 1e12
_LISTS = ("site", "job", "result", "app", "equipment", "recipe", "product", "run_id", "lot", "substrate")
_SELECTIVE = ("lot", "substrate", "run_id", "parent")
"""Filters that few runs pass, which `run_word` or the key finds: no window narrows them further."""
_RARE = ("equipment", "recipe", "product", "job", "app", "result")
"""Filters that `run_start` has a column for, what leaves the fewest runs first."""


class _Window(NamedTuple):
    """Starts from `least` to `most`; what narrows it, of which `word`; whether it holds few runs, to be read once and whole."""

    least: int
    most: int
    narrowing: list[str]
    word: str = ""
    few: bool = False


class Runs:
    """Everything about runs that the Reader answers."""

    def __init__(self, client: Client, clock: Callable[[], int]) -> None:
        self._client = client
        self._clock = clock
        self._limits: tuple[float, Limits] | None = None

    async def limits(self) -> Limits:
        """The defaults, and what the table `setting` says instead."""
        now_s = time.monotonic()
        if self._limits is None or now_s - self._limits[0] > LIMITS_AGE_S:
            rows = await self._client.query("read the limits", statement("limits"))
            told = {name: float(value) for name, value in rows if name in Limits._fields}
            self._limits = (now_s, Limits(**told))
        return self._limits[1]

    async def newest(self, query: RunQuery, after: tuple[Any, ...] | None, count: int) -> list[StoredRun]:
        """The first `count` behind `after`, newest first."""
        found: list[StoredRun] = []
        async for stored in self._scan(query, after, _kind(query)):
            found.append(stored)
            if len(found) == count:
                break
        return found

    async def failing(self, query: RunQuery, after: tuple[Any, ...] | None, count: int) -> list[StoredRun]:
        """The first `count` behind `after`, what failed first: open runs by rank, and bad and good ends where they belong."""
        kind = _kind(query)
        found: list[StoredRun] = []
        open_runs: list[StoredRun] = []
        if kind != "ended":
            open_runs = sorted([stored async for stored in self._scan(query, None, "open", MAX_BATCH)], key=failing_order)
        open_runs = [stored for stored in open_runs if after is None or failing_order(stored) > after]
        found += [stored for stored in open_runs if failing_rank(*stored) < _RANK_BAD]
        for rank, ends in ((_RANK_BAD, "bad"), (_RANK_RUNNING, None), (_RANK_GOOD, "good")):
            if ends is None:
                found += [stored for stored in open_runs if failing_rank(*stored) == rank]
            elif kind != "open" and (after is None or after[0] <= rank) and len(found) < count:
                place = None if after is None or after[0] < rank else after[1:]
                async for stored in self._scan(query, place, ends):
                    found.append(stored)
                    if len(found) == count:
                        break
        return found[:count]

    async def open(self) -> list[StoredRun]:
        """Every run that has not ended."""
        return [stored async for stored in self._scan(RunQuery(), None, "open", MAX_BATCH)]

    async def of_trace(
        self, doing: str, trace_id: bytes, span_id: bytes | None, site: str | None, limit: int
    ) -> list[StoredRun]:
        """Runs of a trace, oldest first."""
        given = {
            "trace": trace_id.hex(),
            "span": "" if span_id is None else span_id.hex(),
            "site": [] if site is None else [site],
            "limit": limit,
        }
        return await self.judge(doing, await self._client.query(doing, statement("runs_of_trace"), given))

    async def of_keys(self, doing: str, keys: Sequence[RunKey]) -> list[StoredRun]:
        """The runs with these keys, in any order."""
        rows: list[Row] = []
        for part in slices(keys, lambda key: key.site):
            given = {
                "traces": [key.trace_id.hex() for key in part],
                "spans": [key.span_id.hex() for key in part],
                "sites": [key.site for key in part],
            }
            rows += await self._client.query(doing, statement("runs_of_keys"), given)
        return await self.judge(doing, rows)

    async def judge(self, doing: str, rows: Iterable[Row]) -> list[StoredRun]:
        """Join what their processes and feeds say, and decide on their states at this moment."""
        runs = [run_of(row) for row in rows]
        if not runs:
            return []
        now_ns = self._clock()
        limits, processes, feeds = await asyncio.gather(self.limits(), self._processes(doing, runs), self._feeds(doing, runs))
        stored = []
        for run in runs:
            beat = processes.get(run.process_key) if run.process_key is not None else None
            known = run if beat is None else with_process(run, beat)
            feed = feeds.get((run.site, run.feed)) if run.feed is not None else None
            if close_due(known, feed, now_ns, limits):
                known = dataclasses.replace(known, inferred=True)
            stored.append(StoredRun(known, run_state(known, feed, now_ns, limits), overdue(known, now_ns)))
        return stored

    async def feeds(self, doing: str, sites: Iterable[str] = (), names: Iterable[str] = ()) -> list[Feed]:
        """Feeds of these sites with these names; of all where none is given, or so many that most are wanted."""
        given = {"sites": _few(sites), "feeds": _few(names)}
        return [feed_of(row) for row in await self._client.query(doing, statement("feeds"), given)]

    async def _feeds(self, doing: str, runs: Sequence[Run]) -> dict[tuple[str, str], Feed]:
        names = {run.feed for run in runs if run.feed is not None}
        if not names:
            return {}
        return {(feed.site, feed.feed): feed for feed in await self.feeds(doing, {run.site for run in runs}, names)}

    async def _processes(self, doing: str, runs: Sequence[Run]) -> dict[bytes, ProcessBeat]:
        keys = sorted({run.process_key.hex() for run in runs if run.process_key is not None})
        rows: list[Row] = []
        for part in slices(keys):
            rows += await self._client.query(doing, statement("processes"), {"keys": part})
        return {
            bytes.fromhex(key): ProcessBeat(
                bytes.fromhex(key), "", "", 0, "", beat_ns, None if interval_s is None else float(interval_s)
            )
            for key, beat_ns, interval_s in rows
        }

    async def _scan(
        self, query: RunQuery, after: tuple[Any, ...] | None, kind: str, batch: int | None = None
    ) -> AsyncIterator[StoredRun]:
        """What `query` finds of one kind, newest first, behind `after` (order of `matching.newest_order`)."""
        asked = _asked(query)
        given = {name: value for values in asked.values() for name, value in values.items()}
        place = after
        size = batch or min(max(query.limit, 1) + 1, MAX_BATCH)
        async for window in self._windows(query, after, kind, asked):
            chosen = " AND ".join(
                with_parts(statement(f"candidates_{name}"), {window.word}).strip() for name in window.narrowing
            )
            while True:
                parts = {*asked, kind, *(["after"] if place else [])}
                text = with_parts(statement("runs_few" if window.few else "runs"), parts)
                sql = text.replace("-- candidates", f"PREWHERE {chosen}" if chosen else "")
                bounds = {"least": window.least, "most": window.most, "limit": size} | _place(place)
                stored = await self.judge(LISTING, await self._client.query(LISTING, sql, given | bounds))
                for one in stored:
                    if matches(one, query):
                        yield one
                if len(stored) < size:
                    break
                place = newest_order(stored[-1])
                size = min(size * _GROWTH, MAX_BATCH)

    async def _windows(
        self, query: RunQuery, after: tuple[Any, ...] | None, kind: str, asked: Mapping[str, Mapping[str, Any]]
    ) -> AsyncIterator[_Window]:
        """From the newest on; the last has the runs of unknown start, too."""
        first = start_or_least(query.from_ns)
        last = LATEST if query.to_ns is None else query.to_ns - 1
        if after is not None:
            last = min(last, -after[0])
        selective = [name for name in _SELECTIVE if name in asked] + (["open"] if kind == "open" else [])
        word = next((name for name in _RARE if name in asked), "")
        narrowing = ["claimed" if word else "window"]
        given = {name: value for name in ("site", *_RARE) if name in asked for name, value in asked[name].items()}
        sql = with_parts(statement("nth_start"), {*given, kind})
        count = min(max(query.limit, 1) + 1, LAST_WINDOW)
        for number in range(0 if selective else MAX_WINDOWS):
            if first > last or last == NO_TIME:
                break
            rows = await self._client.query(LISTING, sql, given | {"least": first, "most": last, "count": count})
            low = rows[0][0] if rows else max(first, NO_TIME + 1)
            yield _Window(low, last, narrowing, word, few=number == 0)
            last = low - 1
            count = min(count * _GROWTH, LAST_WINDOW)
        if selective and first <= last:
            yield _Window(first, last, selective, few=kind != "open")
        elif first <= last:
            # What the windows did not find is rare, or of unknown start.
            known = narrowing if word and last != NO_TIME else ["window"] if last == NO_TIME else []
            yield _Window(first, last, known, word)


def _few(names: Iterable[str]) -> list[str]:
    """The names, or none where they are too many for one question."""
    parts = list(slices(sorted(set(names)), str))
    return parts[0] if len(parts) == 1 else []


def _kind(query: RunQuery) -> str:
    """Which runs can be found at all: open, ended, or both."""
    if query.state and State.ENDED not in query.state:
        return "open"
    return "ended" if query.state and set(query.state) == {State.ENDED} else "any"


def _asked(query: RunQuery) -> dict[str, dict[str, Any]]:
    """The parts of `runs.sql` that this question needs, each with its parameters."""
    asked: dict[str, dict[str, Any]] = {name: {name: list(values)} for name in _LISTS if (values := getattr(query, name))}
    if query.subjobs is not None:
        asked["subjobs"] = {"subjobs": query.subjobs}
    if query.parent is not None:
        asked["parent"] = {"parent_trace": query.parent[0].hex(), "parent_span": query.parent[1].hex()}
    if query.min_duration_s is not None or query.max_duration_s is not None:
        asked["timed"] = {
            "min_duration_s": -_ANY_DURATION_S if query.min_duration_s is None else query.min_duration_s,
            "max_duration_s": _ANY_DURATION_S if query.max_duration_s is None else query.max_duration_s,
        }
    if query.attributes:
        asked["attributes"] = {
            "names": [name for name, _ in query.attributes],
            "values": [value for _, value in query.attributes],
        }
    if query.text:
        asked["text"] = {"text": query.text}
    return asked


def _place(after: tuple[Any, ...] | None) -> dict[str, Any]:
    if after is None:
        return {}
    negative_ns, trace_id, span_id, site = after
    if not NO_TIME <= -negative_ns <= LATEST:
        raise CursorRejected("this cursor was not given for this question: start again without one")
    id_of(trace_id, 16)
    id_of(span_id, 8)
    return {"after_start": -negative_ns, "after_trace": trace_id, "after_span": span_id, "after_site": site}
