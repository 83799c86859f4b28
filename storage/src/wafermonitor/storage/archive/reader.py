"""Questions about archived days, answered from their files: only what can hold an answer is opened, and of that only what does.

In: entries of the manifest, and questions of `storage.protocol`. Out: records. Called by: `merged`, in threads.

Site and time choose the files, the statistics of the first key column choose row groups, and a few columns choose rows,
before whole rows are read. Of a run that several files have, the last file says most.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from wafermonitor.runs.records import LogRecord, MetricPoint, Run, Span
from wafermonitor.runs.state import BAD_RESULTS, State
from wafermonitor.storage.archive.files import Opened
from wafermonitor.storage.archive.protocol import Entry, Signal
from wafermonitor.storage.archive.shelf import Shelf
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.matching import matches
from wafermonitor.storage.protocol import LogQuery, MetricQuery, RunQuery, SpanQuery, StoredRun

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
    ) -> list[Run]:
        """Ended runs that match, as `complete` makes them, newest first; those of which it makes None are left out.

        `bad`: True only those that ended badly, False only the others. Days are read from the newest on until there are
        `limit`.
        """
        chosen = _between(entries, Signal.RUNS, query.site, query.from_ns, query.to_ns)
        found: list[Run] = []
        for _, day in groupby(self._bounded(sorted(chosen, key=_newest_day)), key=lambda one: one.place.day):
            for _, place in groupby(sorted(day, key=_by_place), key=lambda one: one.place):
                versions = self._newest(list(place), lambda opened: _run_mask(opened, query))
                made = (complete(run) for run in versions if _wanted(run, query))
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

    def spans_of_trace(self, entries: Iterable[Entry], query: SpanQuery) -> list[Span]:
        """Every archived span of a trace, oldest first."""
        assert query.trace_id is not None
        chosen = _between(entries, Signal.SPANS, _sites(query.site), query.from_ns, query.to_ns)
        found = [one for one in self._all_of_trace(chosen, query.trace_id) if _span_fits(one, query)]
        return sorted(found, key=lambda one: (one.start_ns, one.span_id, one.resource.site))

    def newest_spans(
        self, entries: Iterable[Entry], query: SpanQuery, limit: int, before: Callable[[Span], bool]
    ) -> list[Span]:
        """Root spans, newest first; days are read from the newest on until there are `limit`."""
        chosen = sorted(_between(entries, Signal.SPANS, _sites(query.site), query.from_ns, query.to_ns), key=_newest_day)
        found: list[Span] = []
        for _, day in groupby(self._bounded(chosen), key=lambda one: one.place.day):
            for entry in day:
                rows = self._rows(entry, lambda opened: _root_mask(opened, query))
                found += [one for one in rows if _span_fits(one, query) and before(one)]
            if len(found) >= limit:
                break
        found.sort(key=lambda one: (-one.start_ns, one.trace_id, one.span_id, one.resource.site))
        return found[:limit]

    def logs(self, entries: Iterable[Entry], query: LogQuery) -> list[LogRecord]:
        """Every archived log record that matches, oldest first."""
        chosen = _between(entries, Signal.LOGS, _sites(query.site), None, None)
        found = [one for one in self._all_of_trace(chosen, query.trace_id) if _log_fits(one, query)]
        return sorted(found, key=lambda one: (one.time_ns, one.digest))

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

    def _all_of_trace(self, entries: Iterable[Entry], trace_id: bytes) -> Iterator[Any]:
        for entry in self._bounded(entries):
            yield from self._rows(entry, lambda opened: self._of_trace(opened, trace_id))

    @staticmethod
    def _of_trace(opened: Opened, trace_id: bytes) -> Any:
        """Of the row groups that can hold the trace the rows that do."""
        return _filtered(
            opened, opened.groups_between(trace_id, trace_id), ["trace_id"], lambda t: pc.equal(t["trace_id"], trace_id)
        )

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


def _run_mask(opened: Opened, query: RunQuery) -> Any:
    words = {column: getattr(query, field) for field, column in (*_WORDS, *_MORE_WORDS) if getattr(query, field)}
    lists = {column: set(getattr(query, field)) for field, column in _LISTS if getattr(query, field)}
    names = [*words, *lists] or ["trace_id"]

    def mask(table: Any) -> Any:
        chosen = pa.array([True] * table.num_rows)
        for column, values in words.items():
            chosen = pc.and_(chosen, pc.is_in(table[column], pa.array(values)))
        for column, wanted in lists.items():
            held = [not wanted.isdisjoint(values or ()) for values in table[column].to_pylist()]
            chosen = pc.and_(chosen, pa.array(held, type=pa.bool_()))
        return chosen

    return _filtered(opened, range(opened.groups), names, mask)


def _root_mask(opened: Opened, query: SpanQuery) -> Any:
    def mask(table: Any) -> Any:
        roots = pc.is_null(table["parent_span_id"])
        return roots if query.app is None else pc.and_(roots, pc.equal(table["service"], query.app))

    return _filtered(opened, range(opened.groups), ["parent_span_id", "service"], mask)


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


def _span_fits(span: Span, query: SpanQuery) -> bool:
    return (
        query.app in {None, span.resource.service}
        and (query.from_ns is None or span.start_ns >= query.from_ns)
        and (query.to_ns is None or span.start_ns < query.to_ns)
    )


def _log_fits(log: LogRecord, query: LogQuery) -> bool:
    return (
        query.span_id in {None, log.span_id}
        and log.severity >= query.min_severity
        and (not query.event_names or log.event_name in query.event_names)
    )
