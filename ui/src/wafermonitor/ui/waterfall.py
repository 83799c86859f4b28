"""The waterfall of a run: which rows there are, and which few of them a page sends.

In: spans as the API gives them (in order of start, runs that have not ended among them). Out: `Trace`, rows, a `Window` of at
most 160 rows, and a map of at most 300 marks. Called by: pages.run.

A trace is kept once per process and shared by its viewers; a session holds no more than the window it shows.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from wafermonitor.query.models import RunModel, SpanModel
from wafermonitor.ui.clock import epoch_ms
from wafermonitor.ui.states import look_of

MOST_ROWS = 160
ROWS_ABOVE = 60
MOST_MARKS = 300
FEW_ROWS = 24
MAP_HEIGHT = 30
_LATE = 0.85


class TraceSpan(NamedTuple):
    """One span, small: times in ms since 1970, everything else of it as JSON in `detail`."""

    span_id: str
    parent: str | None
    name: str
    run: bool
    look: str
    failing: bool
    open: bool
    start: str
    start_ms: float
    end_ms: float | None
    service: str | None
    note: str
    detail: bytes


class Trace(NamedTuple):
    """The spans of one run in order of start, and whether the API had more."""

    spans: list[TraceSpan]
    truncated: bool


class Row(NamedTuple):
    """One line of the waterfall; seconds since the run's start.

    `end_s` None grows to now; `gone_ms` is the last sign of a run that gives none.
    """

    span_id: str
    name: str
    depth: int
    run: bool
    look: str
    failing: bool
    open: bool
    start: str
    start_s: float
    end_s: float | None
    took_s: float
    service: str | None
    note: str
    gone_ms: float | None
    children: bool
    folded: bool
    orphan: bool


class Mark(NamedTuple):
    """One line of the map, in percent of its width and pixels from its top."""

    look: str
    left: float
    width: float
    top: int


class Window(NamedTuple):
    """What one page shows: some rows of `total`, from `first` on."""

    rows: list[Row]
    first: int
    total: int
    spans: int
    begin_ms: float
    length_s: float
    open: bool
    truncated: bool
    map: list[Mark]


def trace_span(span: SpanModel) -> TraceSpan:
    """A span as the API gives it, made small."""
    if span.job is not None:
        look = look_of(span.state, span.result)
        key, failing = look.key, look.failing
    else:
        failing = span.status == "error"
        key = "span-error" if failing else "span"
    return TraceSpan(
        span_id=span.span_id,
        parent=span.parent_span_id,
        name=span.name,
        run=span.job is not None,
        look=key,
        failing=failing,
        open=span.open,
        start=span.start,
        start_ms=epoch_ms(span.start) or 0.0,
        end_ms=epoch_ms(span.end),
        service=span.service,
        note="",
        detail=span.model_dump_json(exclude_defaults=True).encode(),
    )


def with_signs(spans: Iterable[TraceSpan], runs: Iterable[RunModel]) -> list[TraceSpan]:
    """Open bars of runs that give no sign end at their last sign; overdue runs get their own look."""
    known = {run.span_id: run for run in runs}
    joined = []
    for span in spans:
        run = known.get(span.span_id)
        if run is None:
            joined.append(span)
            continue
        look = look_of(run.state, run.result, overdue=run.overdue)
        gone = span.open and run.state in {"silent", "lost"}
        end_ms = epoch_ms(run.last_sign) if gone and span.end_ms is None else span.end_ms
        note = run.substrate_ids[0] if len(run.substrate_ids) == 1 else ""
        joined.append(span._replace(look=look.key, failing=look.failing, end_ms=end_ms, note=note))
    return joined


def rows(spans: Sequence[TraceSpan], root: str, *, mode: str, toggled: Collection[str]) -> list[Row]:
    """All rows in the order of the tree, each before its children; those below a folded row are left out.

    `mode`: `all`, `runs` (only runs), or `focus` (runs that ended well are folded where there are many rows). `toggled` names
    the rows that are the other way round.
    """
    folded = set(toggled)
    if mode == "runs":
        spans = _runs(spans)
    elif mode == "focus" and len(spans) > FEW_ROWS:
        folded ^= {span.span_id for span in spans if span.run and not span.open and not span.failing and span.span_id != root}
    if not spans:
        return []
    known = {span.span_id for span in spans}
    children: dict[str | None, list[TraceSpan]] = {}
    for span in spans:
        inside = span.span_id != root and span.parent in known and span.parent != span.span_id
        children.setdefault(span.parent if inside else None, []).append(span)
    begin_ms = _begin_ms(spans, root)
    found: list[Row] = []
    seen: set[str] = set()
    tops = sorted(children.get(None, []), key=lambda span: span.span_id != root)
    service = tops[0].service if tops else None
    waiting = [(span, 0) for span in reversed(tops)]
    while waiting:
        span, depth = waiting.pop()
        if span.span_id in seen:
            continue
        seen.add(span.span_id)
        below = children.get(span.span_id, [])
        orphan = depth == 0 and span.span_id != root and span.parent is not None and mode != "runs"
        closed = span.span_id in folded
        found.append(_row(span, depth, begin_ms, service=service, children=bool(below), folded=closed, orphan=orphan))
        if span.span_id not in folded:
            waiting.extend((child, depth + 1) for child in reversed(below))
    return found


def window(all_rows: list[Row], trace: Trace, *, top: int, begin_ms: float, now_ms: float) -> Window:
    """The rows around line `top`, with the map of all of them."""
    is_open = any(row.open for row in all_rows)
    now_s = max((now_ms - begin_ms) / 1_000, 0.0)
    length_s = max([row.end_s for row in all_rows if row.end_s is not None] + ([now_s] if is_open else []), default=now_s)
    first = min(max(top - ROWS_ABOVE, 0), max(len(all_rows) - 1, 0))
    return Window(
        rows=all_rows[first : first + MOST_ROWS],
        first=first,
        total=len(all_rows),
        spans=len(trace.spans),
        begin_ms=begin_ms,
        length_s=max(length_s, 1e-6),
        open=is_open,
        truncated=trace.truncated,
        map=_marks(all_rows, length_s, now_s),
    )


def begin_of(trace: Trace, root: str) -> float:
    """The start of the run, ms since 1970; 0 for an empty trace."""
    return _begin_ms(trace.spans, root) if trace.spans else 0.0


def _begin_ms(spans: Sequence[TraceSpan], root: str) -> float:
    return next((span.start_ms for span in spans if span.span_id == root), spans[0].start_ms)


def _row(
    span: TraceSpan, depth: int, begin_ms: float, *, service: str | None, children: bool, folded: bool, orphan: bool
) -> Row:
    start_s = round((span.start_ms - begin_ms) / 1_000, 7)
    end_s = None if span.end_ms is None else round((span.end_ms - begin_ms) / 1_000, 7)
    return Row(
        span_id=span.span_id,
        name=span.name,
        depth=depth,
        run=span.run,
        look=span.look,
        failing=span.failing,
        open=span.open,
        start=span.start,
        start_s=start_s,
        end_s=end_s,
        took_s=0.0 if end_s is None else max(end_s - start_s, 0.0),
        service=span.service if span.service != service else None,
        note=span.note,
        gone_ms=span.end_ms if span.open else None,
        children=children,
        folded=folded,
        orphan=orphan,
    )


def _runs(spans: Sequence[TraceSpan]) -> list[TraceSpan]:
    """Only the runs, each below its nearest run."""
    known = {span.span_id: span for span in spans}

    def nearest(span: TraceSpan) -> str | None:
        seen = {span.span_id}
        parent = span.parent
        while parent is not None and parent in known and parent not in seen and not known[parent].run:
            seen.add(parent)
            parent = known[parent].parent
        return parent

    return [span._replace(parent=nearest(span)) for span in spans if span.run]


def _marks(all_rows: Sequence[Row], length_s: float, now_s: float) -> list[Mark]:
    """Every k-th row, failing ones first, so that a long trace keeps its shape and its failures."""
    if length_s <= 0:
        return []
    bad = [index for index, row in enumerate(all_rows) if row.failing][: MOST_MARKS // 3]
    step = max(math.ceil(len(all_rows) / (MOST_MARKS - len(bad))), 1)
    chosen = sorted({*range(0, len(all_rows), step), *bad})
    last = max(len(all_rows) - 1, 1)

    def place(seconds: float) -> float:
        return round(min(max(seconds / length_s, 0.0), 1.0) * 100, 3)

    marks = []
    for index in chosen:
        row = all_rows[index]
        left = place(row.start_s)
        width = place(now_s if row.end_s is None else row.end_s) - left
        marks.append(Mark(row.look, left, round(max(width, 0.1), 3), 1 + index * (MAP_HEIGHT - 2) // last))
    return marks
