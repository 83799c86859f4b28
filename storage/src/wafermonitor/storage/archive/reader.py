"""Questions about archived days, answered from their files: only what can hold an answer is opened, and of that only what does.

In: entries of the manifest, and questions of `storage.protocol`. Out: records. Called by: `merged`, in threads.

Site and time choose the files, statistics and Bloom filters choose row groups, and a few columns choose rows, before whole rows
are read. Of a run that several files have, the last file says most.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wafermonitor.runs.records import LogRecord, MetricPoint, Run, Span
from wafermonitor.runs.state import BAD_RESULTS, State
from wafermonitor.storage.archive.files import Opened
from wafermonitor.storage.archive.protocol import Entry, Signal
from wafermonitor.storage.archive.shelf import Shelf
from wafermonitor.storage.archive.tables import TABLES
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.matching import matches
from wafermonitor.storage.protocol import LogQuery, MetricQuery, RunQuery, SpanQuery, StoredRun

_AT_ONCE = 256
"""Rows that are made whole at a time."""
_IDS = ("trace_id", "span_id")
_TIES = {Signal.SPANS: "span_id", Signal.LOGS: "digest"}
"""What orders rows of a trace that have the same time."""
_FOOTERS = 512
"""Footers kept: a file never changes."""
_WORDS = (("job", "job"), ("result", "result"), ("app", "service"), ("equipment", "equipment"))
_MORE_WORDS = (("recipe", "recipe"), ("product", "product"), ("run_id", "run_id"))
"""Field of `RunQuery` → column, of those that are compared as they are."""
_LISTS = (("lot", "lot_ids"), ("substrate", "substrate_ids"))


class Files:
    """The files of one archive. All calls block."""

    def __init__(self, shelf: Shelf, *, max_files: int = 2_000) -> None:
        self._shelf = shelf
        self.max_files = max_files
        self._footers: OrderedDict[str, Any] = OrderedDict()
        self._lock = threading.Lock()

    def runs(
        self,
        entries: Iterable[Entry],
        query: RunQuery,
        complete: Callable[[Run], Run | None],
        *,
        limit: int,
        bad: bool | None = None,
        newest_ns: int | None = None,
    ) -> list[Run]:
        """Ended runs that match, as `complete` makes them, newest first; those of which it makes None are left out.

        `bad`: True only those that ended badly, False only the others. Runs that began after `newest_ns` are left out. Days are
        read from the newest on, and of a day a few columns; whole runs are made of the newest rows until there are `limit`.
        """
        chosen = sorted(_between(entries, Signal.RUNS, query.site, query.from_ns, query.to_ns), key=_newest_day)
        names, mask = _run_mask(query, bad)
        words = _words(query)
        found: list[Run] = []
        for _, same in groupby(self._bounded(chosen), key=lambda one: one.place.day):
            day = list(same)
            places = self._candidates(day, names, mask, newest_ns, words)
            for start in range(0, places.num_rows, _AT_ONCE):
                if len(found) >= limit:
                    break
                made = (complete(run) for run in self._made(day, places.slice(start, _AT_ONCE)) if _wanted(run, query))
                found += [run for run in made if run is not None and (bad is None or bad == (run.result in BAD_RESULTS))]
            if len(found) >= limit:
                break
        found.sort(key=lambda run: (-(run.start_ns or 0), run.trace_id, run.span_id, run.site))
        return found[:limit]

    def runs_of_trace(self, entries: Iterable[Entry], trace_id: bytes, site: str | None) -> list[Run]:
        """Every archived run of a trace, oldest first."""
        chosen = _between(entries, Signal.RUNS, _sites(site), None, None)
        found: list[Run] = []
        for _, place in groupby(self._bounded(sorted(chosen, key=_by_place)), key=lambda one: one.place):
            found += self._newest(list(place), lambda opened: self._of_trace(opened, trace_id))
        return sorted(found, key=lambda run: (run.start_ns or 0, run.span_id, run.site))

    def spans_of_trace(
        self, entries: Iterable[Entry], query: SpanQuery, limit: int, after: tuple[Any, ...] | None
    ) -> list[Span]:
        """The first `limit` spans of a trace behind `after` (start, span, site), oldest first; no others are made."""
        chosen = _between(entries, Signal.SPANS, _sites(query.site), query.from_ns, query.to_ns)
        return self._page_of_trace(chosen, query.trace_id, _span_mask(query), limit, after)

    def span(self, entries: Iterable[Entry], trace_id: bytes, span_id: bytes, site: str | None) -> Span | None:
        """One span."""
        chosen = _between(entries, Signal.SPANS, _sites(site), None, None)
        found = self._page_of_trace(chosen, trace_id, (["span_id"], lambda t: pc.equal(t["span_id"], span_id)), 1, None)
        return found[0] if found else None

    def newest_spans(
        self, entries: Iterable[Entry], query: SpanQuery, limit: int, after: tuple[int, str, str, str] | None
    ) -> list[Span]:
        """The first `limit` root spans behind `after` (start, trace, span, site), newest first; days are read as for `runs`."""
        chosen = sorted(_between(entries, Signal.SPANS, _sites(query.site), query.from_ns, query.to_ns), key=_newest_day)
        names, mask = _root_mask(query)
        found: list[Span] = []
        for _, same in groupby(self._bounded(chosen), key=lambda one: one.place.day):
            day = list(same)
            places = self._candidates(day, names, mask, None if after is None else after[0], {})
            for start in range(0, places.num_rows, _AT_ONCE):
                if len(found) >= limit:
                    break
                for one in self._made(day, places.slice(start, _AT_ONCE)):
                    here = (-one.start_ns, one.trace_id.hex(), one.span_id.hex(), one.resource.site)
                    if after is None or here > (-after[0], *after[1:]):
                        found.append(one)
            if len(found) >= limit:
                break
        return found[:limit]

    def logs(self, entries: Iterable[Entry], query: LogQuery, limit: int, after: tuple[Any, ...] | None) -> list[LogRecord]:
        """The first `limit` log records that match behind `after` (time, digest), oldest first; no others are made."""
        chosen = _between(entries, Signal.LOGS, _sites(query.site), None, None)
        return self._page_of_trace(chosen, query.trace_id, _log_mask(query), limit, after)

    def points(self, entries: Iterable[Entry], query: MetricQuery) -> list[MetricPoint]:
        """Every archived point that matches, in order of series and time."""
        chosen = _between(entries, Signal.METRICS, (query.site,), query.from_ns, query.to_ns + 1)
        found: list[MetricPoint] = []
        for entry in self._bounded(chosen):
            rows = self._rows(entry, lambda opened: _point_mask(opened, query))
            found += [one for one in rows if query.from_ns <= one.time_ns <= query.to_ns]
        return sorted(found, key=lambda one: (one.series.name, one.series.key, one.time_ns))

    def _bounded(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for count, entry in enumerate(entries):
            if count >= self.max_files:
                raise StorageRejected(f"more than {self.max_files} archived files would have to be read: narrow the time")
            yield entry

    def _page_of_trace(
        self,
        chosen: Iterable[Entry],
        trace_id: bytes | None,
        choice: tuple[Sequence[str], Callable[[Any], Any]],
        limit: int,
        after: tuple[Any, ...] | None,
    ) -> list[Any]:
        """A trace may have a million rows: a few columns put them in order, and one page of them is made whole."""
        entries = list(self._bounded(chosen))
        if trace_id is None or not entries:
            return []
        tie = _TIES[entries[0].place.signal]
        names, mask = choice

        def of_trace(table: Any) -> Any:
            return pc.and_(pc.equal(table["trace_id"], trace_id), mask(table))

        places = self._places(entries, names, of_trace, lambda opened: opened.groups_of(trace_id), ("trace_id", tie))
        if not places.num_rows:
            return []
        places = places.take(pc.sort_indices(places, sort_keys=[(name, "ascending") for name in ("at", tie, "site")]))

        def place(row: int) -> tuple[Any, ...]:
            whole = (places["at"][row].as_py(), places[tie][row].as_py().hex(), places["site"][row].as_py())
            return whole[: len(after or ())]

        first = 0 if after is None else bisect_right(range(places.num_rows), after, key=place)
        return self._made(entries, places.slice(first, limit))

    @staticmethod
    def _of_trace(opened: Opened, trace_id: bytes) -> Any:
        """Of the row groups that can hold the trace the rows that do."""
        return _filtered(opened, opened.groups_of(trace_id), ["trace_id"], lambda t: pc.equal(t["trace_id"], trace_id))

    def _candidates(
        self,
        day: Sequence[Entry],
        names: Sequence[str],
        mask: Callable[[Any], Any],
        newest_ns: int | None,
        words: Mapping[str, Sequence[bytes]],
    ) -> Any:
        """Where the rows of a day's files are that `mask` chooses by these columns, newest first: file, group, row.

        Of a run that several files of a place have, the one of the newest. Row groups that lack all of the `words` of a column
        are not read.
        """
        time = TABLES[day[0].place.signal].time

        def until(table: Any) -> Any:
            chosen = mask(table)
            return chosen if newest_ns is None else pc.and_(chosen, pc.less_equal(pc.cast(table[time], pa.int64()), newest_ns))

        def groups(opened: Opened) -> list[int]:
            return [one for one in range(opened.groups) if opened.may_hold(one, words)]

        table = self._places(day, names, until, groups, _IDS)
        if not table.num_rows:
            return table
        if day[0].place.signal is Signal.RUNS:
            table = self._without_older(day, table)
        return table.take(
            pc.sort_indices(table, sort_keys=[("at", "descending"), *((name, "ascending") for name in (*_IDS, "site"))])
        )

    def _places(
        self,
        entries: Sequence[Entry],
        names: Sequence[str],
        mask: Callable[[Any], Any],
        groups: Callable[[Opened], Iterable[int]],
        ids: Sequence[str],
    ) -> Any:
        """Where the rows are that `mask` chooses by these columns (file, group, row), with their time, site and `ids`."""
        found = []
        for number, entry in enumerate(entries):
            time = TABLES[entry.place.signal].time
            with self._open(entry) as opened:
                for group in groups(opened):
                    table = opened.table([group], list({*names, *ids, time}))
                    rows = pc.indices_nonzero(pc.fill_null(mask(table), fill_value=False))
                    columns = {"at": pc.cast(table[time], pa.int64()).take(rows), "row": rows}
                    columns |= {name: table[name].take(rows) for name in ids}
                    columns |= {
                        "file": pa.array([number] * len(rows), pa.int32()),
                        "group": pa.array([group] * len(rows), pa.int32()),
                    }
                    found.append(pa.table(columns | {"site": pa.array([entry.place.site] * len(rows), pa.string())}))
        return pa.concat_tables(found) if found else pa.table({"file": pa.array([], pa.int32())})

    def _without_older(self, day: Sequence[Entry], table: Any) -> Any:
        """Without the rows whose run a newer file of the same place has as well, chosen or not."""
        for number, entry in enumerate(day):
            newer = [one for one in day if one.place == entry.place and one.version > entry.version]
            if newer:
                known = {key for one in newer for key in self._keys(one)}
                keys = zip(table["file"].to_pylist(), table["trace_id"].to_pylist(), table["span_id"].to_pylist(), strict=True)
                keep = [file != number or (trace_id, span_id) not in known for file, trace_id, span_id in keys]
                table = table.filter(pa.array(keep, pa.bool_()))
        return table

    def _made(self, day: Sequence[Entry], places: Any) -> list[Any]:
        """Whole rows, in the order of `places`."""
        made: dict[int, Any] = {}
        order = list(zip(*(places[name].to_pylist() for name in ("file", "group", "row")), range(places.num_rows), strict=True))
        for file, of_file in groupby(sorted(order), key=lambda one: one[0]):
            with self._open(day[file]) as opened:
                for group, of_group in groupby(of_file, key=lambda one: one[1]):
                    rows = list(of_group)
                    records = opened.made(opened.table([group]).take([row for _, _, row, _ in rows]))
                    made |= dict(zip((place for *_, place in rows), records, strict=True))
        return [made[place] for place in range(places.num_rows)]

    def _newest(self, entries: Sequence[Entry], choose: Callable[[Opened], Any]) -> list[Run]:
        """The chosen runs of one place; a run of an earlier file counts only if no later file has it."""
        found: dict[tuple[bytes, bytes], Run] = {}
        for entry in sorted(entries, key=lambda one: one.version):
            if found:
                for key in self._keys(entry):
                    found.pop(key, None)
            found |= {(run.trace_id, run.span_id): run for run in self._rows(entry, choose)}
        return list(found.values())

    def _keys(self, entry: Entry) -> list[tuple[bytes, bytes]]:
        with self._open(entry) as opened:
            table = opened.table(range(opened.groups), ["trace_id", "span_id"])
            return list(zip(table["trace_id"].to_pylist(), table["span_id"].to_pylist(), strict=True))

    def _rows(self, entry: Entry, choose: Callable[[Opened], Any]) -> list[Any]:
        with self._open(entry) as opened:
            table = choose(opened)
            return opened.made(table) if table.num_rows else []

    def _open(self, entry: Entry) -> Opened:
        with self._lock:
            known = self._footers.get(entry.path)
        opened = Opened(self._shelf.open(entry.path), entry.place.signal, entry.place.site, footer=known)
        with self._lock:
            self._footers[entry.path] = opened.footer
            self._footers.move_to_end(entry.path)
            if len(self._footers) > _FOOTERS:
                self._footers.popitem(last=False)
        return opened


def _between(
    entries: Iterable[Entry], signal: Signal, sites: Sequence[str], from_ns: int | None, to_ns: int | None
) -> list[Entry]:
    return [
        one
        for one in entries
        if one.place.signal is signal
        and (not sites or one.place.site in sites)
        and (from_ns is None or one.to_ns >= from_ns)
        and (to_ns is None or one.from_ns < to_ns)
    ]


def _sites(site: str | None) -> tuple[str, ...]:
    return () if site is None else (site,)


def _newest_day(entry: Entry) -> tuple[Any, ...]:
    return (-entry.place.day.toordinal(), entry.place.site, entry.version)


def _by_place(entry: Entry) -> tuple[Any, ...]:
    return (*entry.place, entry.version)


def _filtered(opened: Opened, groups: Sequence[int], names: Sequence[str], mask: Callable[[Any], Any]) -> Any:
    """Rows of these row groups that `mask` chooses by these columns; whole rows are read only where there are any."""
    found = []
    for group in groups:
        chosen = mask(opened.table([group], names))
        if pc.any(chosen).as_py():
            found.append(opened.table([group]).filter(chosen))
    return pa.concat_tables(found) if found else opened.table([])


def _run_mask(query: RunQuery, bad: bool | None) -> tuple[list[str], Callable[[Any], Any]]:
    """The columns that tell most of what a question leaves out, and what they tell."""
    words = {column: getattr(query, field) for field, column in (*_WORDS, *_MORE_WORDS) if getattr(query, field)}
    lists = {column: set(getattr(query, field)) for field, column in _LISTS if getattr(query, field)}
    names = [*words, *lists, *(["result"] if bad is not None else [])]

    def mask(table: Any) -> Any:
        chosen = pa.array([True] * table.num_rows)
        for column, values in words.items():
            chosen = pc.and_(chosen, pc.is_in(table[column], pa.array(values)))
        for column, wanted in lists.items():
            held = [not wanted.isdisjoint(values or ()) for values in table[column].to_pylist()]
            chosen = pc.and_(chosen, pa.array(held, type=pa.bool_()))
        if bad is not None:
            chosen = pc.and_(chosen, pc.equal(pc.is_in(table["result"], pa.array(sorted(BAD_RESULTS))), bad))
        return chosen

    return names, mask


def _words(query: RunQuery) -> dict[str, list[bytes]]:
    """The columns with a Bloom filter that a question names values of."""
    fields = {"run_id": query.run_id, "job": query.job, "equipment": query.equipment}
    fields |= {"lot_ids.list.element": query.lot, "substrate_ids.list.element": query.substrate}
    return {column: [value.encode() for value in values] for column, values in fields.items() if values}


def _span_mask(query: SpanQuery) -> tuple[list[str], Callable[[Any], Any]]:
    def mask(table: Any) -> Any:
        at_ns = pc.cast(table["start_time"], pa.int64())
        chosen = pa.array([True] * table.num_rows)
        if query.app is not None:
            chosen = pc.and_(chosen, pc.equal(table["service"], query.app))
        if query.from_ns is not None:
            chosen = pc.and_(chosen, pc.greater_equal(at_ns, query.from_ns))
        return chosen if query.to_ns is None else pc.and_(chosen, pc.less(at_ns, query.to_ns))

    return ["service"], mask


def _root_mask(query: SpanQuery) -> tuple[list[str], Callable[[Any], Any]]:
    names, mask = _span_mask(query)
    return ["parent_span_id", *names], lambda table: pc.and_(pc.is_null(table["parent_span_id"]), mask(table))


def _log_mask(query: LogQuery) -> tuple[list[str], Callable[[Any], Any]]:
    def mask(table: Any) -> Any:
        chosen = pc.greater_equal(table["severity"], query.min_severity)
        if query.span_id is not None:
            chosen = pc.and_(chosen, pc.equal(table["span_id"], query.span_id))
        return pc.and_(chosen, pc.is_in(table["event_name"], pa.array(query.event_names))) if query.event_names else chosen

    return ["severity", "span_id", "event_name"], mask


def _point_mask(opened: Opened, query: MetricQuery) -> Any:
    def mask(table: Any) -> Any:
        if query.process_key is not None:
            chosen = pc.equal(table["process_key"], query.process_key)
        else:
            chosen = pc.equal(table["service"], query.service or "")
        if query.names:
            chosen = pc.and_(chosen, pc.is_in(table["name"], pa.array(query.names)))
        return pc.fill_null(chosen, fill_value=False)

    return _filtered(opened, range(opened.groups), ["process_key", "service", "name"], mask)


def _wanted(run: Run, query: RunQuery) -> bool:
    return matches(StoredRun(run, State.ENDED, overdue=False), query)
