"""Rows of the waterfall: their order, what is folded, how few are sent."""

from __future__ import annotations

import time

from wafermonitor.query.models import RunModel, SpanModel
from wafermonitor.ui import waterfall
from wafermonitor.ui.waterfall import MOST_MARKS, Trace

TRACE = "0" * 31 + "1"


def at(seconds):
    return f"2026-05-29T08:{int(seconds) // 60:02d}:{seconds % 60:06.3f}Z"


def span(number, parent=None, start=0.0, end=10.0, **fields):
    values = {"name": f"s{number}", "kind": "internal", "status": "unset", "open": end is None} | fields
    return waterfall.trace_span(
        SpanModel(
            site="F12",
            trace_id=TRACE,
            span_id=f"{number:016x}",
            parent_span_id=None if parent is None else f"{parent:016x}",
            start=at(start),
            end=None if end is None else at(end),
            **values,
        )
    )


def job(number, parent=None, state="ended", result="success", **fields):
    return span(number, parent, job="j", state=state, result=result if state == "ended" else None, **fields)


def names(rows):
    return [(row.name, row.depth) for row in rows]


def lines(spans, mode="all", toggled=()):
    return waterfall.rows(spans, f"{1:016x}", mode=mode, toggled=toggled)


def test_rows_are_the_tree_in_order_of_start():
    spans = [job(1), span(2, 1, start=1), span(4, 2, start=2), span(3, 1, start=3), span(9, 77, start=4)]
    rows = lines(spans)
    assert names(rows) == [("s1", 0), ("s2", 1), ("s4", 2), ("s3", 1), ("s9", 0)]
    assert [row.orphan for row in rows] == [False, False, False, False, True]
    assert [row.children for row in rows] == [True, True, False, False, False]


def test_a_circle_of_parents_ends():
    assert len(lines([job(1, parent=2), span(2, 1), span(3, 3)])) == 3


def test_focus_folds_what_ended_well_and_a_toggle_turns_it_round():
    spans = [job(1, end=None, state="running")]
    for number in range(2, 32, 2):
        spans += [job(number, 1, result="failure" if number == 6 else "success"), span(number + 1, number)]
    focus = lines(spans, "focus")
    assert [row.name for row in focus if not row.run] == ["s7"]
    toggled = lines(spans, "focus", toggled=[f"{4:016x}", f"{6:016x}"])
    assert [row.name for row in toggled if not row.run] == ["s5"]
    assert [row.name for row in lines(spans, "runs")] == [row.name for row in focus if row.run]


def test_runs_only_hangs_a_run_on_the_nearest_run_above():
    rows = lines([job(1), span(2, 1), span(3, 2), job(4, 3)], "runs")
    assert names(rows) == [("s1", 0), ("s4", 1)]


def test_a_silent_run_ends_at_its_last_sign_and_an_open_one_does_not_end():
    spans = [job(1, end=None, state="running"), job(2, 1, end=None, state="silent")]
    run = {"site": "F12", "trace_id": TRACE, "last_sign": at(30)}
    told = [
        RunModel(run=f"{TRACE}-{1:016x}", span_id=f"{1:016x}", state="running", overdue=True, **run),
        RunModel(run=f"{TRACE}-{2:016x}", span_id=f"{2:016x}", state="silent", substrate_ids=["W-02"], **run),
    ]
    first, second = lines(waterfall.with_signs(spans, told))
    assert (first.end_s, first.look, first.gone_ms) == (None, "overdue", None)
    assert (second.end_s, second.look, second.note) == (30.0, "silent", "W-02")
    assert second.gone_ms is not None


def test_u03_a_long_trace_sends_one_window_and_a_bounded_map():
    spans = [job(1, end=3000)] + [
        span(number, 1 + number // 9, start=number / 10, end=number / 10 + 3) for number in range(2, 10_009)
    ]
    trace = Trace(spans, truncated=False)
    begin_s = time.perf_counter()
    rows = lines(spans)
    window = waterfall.window(rows, trace, top=5_000, begin_ms=waterfall.begin_of(trace, f"{1:016x}"), now_ms=0)
    took_s = time.perf_counter() - begin_s
    assert window.total == 10_008
    assert len(window.rows) == waterfall.MOST_ROWS
    assert window.first < 5_000 < window.first + len(window.rows)
    assert len(window.rows) + len(window.map) <= 2_000
    assert len(window.map) <= MOST_MARKS
    assert took_s < 2.0


def test_an_empty_trace_has_no_rows():
    window = waterfall.window([], Trace([], truncated=False), top=7, begin_ms=0, now_ms=1_000)
    assert (window.total, window.rows, window.map) == (0, [], [])
