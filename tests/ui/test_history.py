"""One job over time as numbers: what is usual, what is not, why runs failed, by what they differ."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as some

from wafermonitor.query.models import BandModel, RunModel
from wafermonitor.ui import history
from wafermonitor.ui.clock import epoch_ms

BEGIN = datetime(2026, 5, 1, tzinfo=UTC)
BEGIN_MS, END_MS = BEGIN.timestamp() * 1_000, (BEGIN + timedelta(days=30)).timestamp() * 1_000


def a_run(number, took_s=600.0, result="success", **fields):
    start = BEGIN + timedelta(hours=8 * number)
    values = {"state": "ended", "result": result, "job": "audit", "start": start.isoformat(), "duration_s": took_s, **fields}
    return RunModel(
        run=f"{number:032x}-{number:016x}", site="F12", trace_id=f"{number:032x}", span_id=f"{number:016x}", **values
    )


def alike(count, took_s=600.0):
    return [a_run(number, took_s + number % 7) for number in range(count)]


def test_nine_of_ten_good_runs_are_usual_and_twice_as_long_is_not():
    runs = [*alike(40), a_run(40, 1_200.0), a_run(41, 100.0, "failure")]
    norm = history.usual(runs)
    assert norm is not None
    assert 600 <= norm.low_s <= norm.mid_s <= norm.high_s <= 606
    chart = history.chart(runs, BEGIN_MS, END_MS, UTC)
    assert [dot.run for dot in chart.dots if dot.outlier] == [runs[40].run]
    assert [dot.look for dot in chart.dots if dot.run == runs[41].run] == ["failure"]


def test_too_few_good_runs_say_nothing_about_the_next():
    runs = [*alike(7), *(a_run(10 + number, result="failure") for number in range(9))]
    assert history.usual(runs) is None
    chart = history.chart(runs, BEGIN_MS, END_MS, UTC)
    assert (chart.area, chart.middle, chart.limit) == ("", "", "")
    assert len(chart.dots) == 16
    assert not any(dot.outlier for dot in chart.dots)


def test_runs_within_a_tenth_are_never_outliers_however_alike_the_others_were():
    runs = [a_run(number) for number in range(20)] + [a_run(20, 655.0), a_run(21, 700.0)]
    chart = history.chart(runs, BEGIN_MS, END_MS, UTC)
    assert [dot.run for dot in chart.dots if dot.outlier] == [runs[21].run]


def test_the_band_by_which_runs_are_judged_stands_beside_what_is_usual():
    runs = [*alike(20), a_run(20, 640.0), a_run(40, 640.0)]
    late = (BEGIN + timedelta(hours=8 * 30)).isoformat()
    bands = [
        BandModel(start=BEGIN.isoformat(), low_s=500, mid_s=600, high_s=630),
        BandModel(start=late, low_s=300, mid_s=600, high_s=9_000),
    ]
    chart = history.chart(runs, BEGIN_MS, END_MS, UTC, bands)
    assert [dot.run for dot in chart.dots if dot.outlier] == [runs[20].run]
    corners = [tuple(map(float, pair.split(","))) for pair in chart.limit.split()]
    assert [left for left, _ in corners] == [0, 33.33, 33.33, 100, 100, 33.33, 33.33, 0]
    top_s = 640 * 1.08
    assert corners[0][1] == pytest.approx(100 - 100 * 630 / top_s, abs=0.01)
    assert corners[-1][1] == pytest.approx(100 - 100 * 500 / top_s, abs=0.01)
    assert corners[2][1] < 0, "a limit beyond the field is not drawn on its edge"
    assert min(dot.bottom for dot in chart.dots) > 80, "the chart is as high as its runs, not as the limit"


def test_one_that_took_much_longer_stands_at_the_edge_and_leaves_the_others_readable():
    runs = [*alike(20), a_run(20, 60_000.0)]
    dots = history.chart(runs, BEGIN_MS, END_MS, UTC).dots
    beyond = [dot for dot in dots if dot.beyond]
    assert [(dot.run, dot.bottom) for dot in beyond] == [(runs[20].run, 100.0)]
    assert min(dot.bottom for dot in dots) > 25


def test_what_failed_or_is_unusual_is_never_thinned_out():
    runs = [
        a_run(number, 600 + number % 5, start=(BEGIN + timedelta(minutes=20 * number)).isoformat()) for number in range(2_000)
    ]
    runs[100] = runs[100].model_copy(update={"result": "failure"})
    runs[200] = runs[200].model_copy(update={"duration_s": 1_800.0})
    chart = history.chart(runs, BEGIN_MS, END_MS, UTC)
    assert len(chart.dots) <= history.DOTS_MOST + 2
    assert len(chart.dots) + chart.thinned == 2_000
    assert {runs[100].run, runs[200].run} <= {dot.run for dot in chart.dots}


@given(some.lists(some.floats(1e-6, 1e7), max_size=60))
def test_every_dot_is_inside_the_chart_whatever_the_durations(took_s):
    chart = history.chart([a_run(number, value) for number, value in enumerate(took_s)], BEGIN_MS, END_MS, UTC)
    assert all(0 <= dot.left <= 100 and 0 <= dot.bottom <= 100 for dot in chart.dots)
    assert all(0 <= tick.at <= 100 and tick.words for tick in chart.durations)
    assert len(chart.durations) <= 5


def test_days_are_the_viewers_even_where_the_clock_is_put_back():
    berlin = ZoneInfo("Europe/Berlin")
    begin, end = datetime(2026, 10, 24, 12, tzinfo=berlin), datetime(2026, 10, 27, 12, tzinfo=berlin)
    run = a_run(0).model_copy(update={"start": "2026-10-25T22:59:00Z"})
    late = a_run(1, result="error").model_copy(update={"start": "2026-10-25T23:00:00Z"})
    days = history.by_day([run, late], begin.timestamp() * 1_000, end.timestamp() * 1_000, berlin)
    assert [(day.date, day.ended, day.failed) for day in days] == [
        ("2026-10-24", 0, 0),
        ("2026-10-25", 1, 0),
        ("2026-10-26", 1, 1),
        ("2026-10-27", 0, 0),
    ]


def test_reasons_are_counted_with_their_newest_run():
    runs = [a_run(1, result="failure", error_type="A"), a_run(3, result="error", error_type="A"), a_run(2, result="timeout")]
    found = history.reasons([*runs, a_run(4)])
    assert [(reason.words, reason.runs, reason.last.run) for reason in found] == [
        ("A", 2, runs[1].run),
        ("timeout, no reason given", 1, runs[2].run),
    ]
    assert found[0].share == pytest.approx(2 / 3)


def test_groups_compare_with_all_runs_and_name_those_without():
    runs = [a_run(number, 600.0, equipment="E1") for number in range(10)]
    runs += [a_run(20 + number, 900.0, equipment="E2") for number in range(4)]
    runs += [a_run(30, 600.0), a_run(31, 10.0, "failure", equipment="E2")]
    first, second, third = history.groups(runs, "equipment")
    assert (first.name, first.runs, first.failed, first.against) == ("E1", 10, 0, 1.0)
    assert (second.name, second.runs, second.failed, second.against) == ("E2", 5, 1, 1.5)
    assert third.name == ""


def test_open_runs_and_runs_without_a_duration_are_not_counted():
    runs = [a_run(0, state="running", result=None), a_run(1, took_s=None)]
    assert history.ended(runs) == []
    assert history.chart(runs, BEGIN_MS, END_MS, UTC).dots == []


def test_ticks_of_time_are_midnights_of_the_viewer():
    ticks = history.chart(alike(9), BEGIN_MS, END_MS, ZoneInfo("Asia/Kolkata")).times
    assert 5 <= len(ticks) <= 7
    assert ticks[0].words == "2 May"
    at_ms = BEGIN_MS + ticks[0].at / 100 * (END_MS - BEGIN_MS)
    assert at_ms == pytest.approx(epoch_ms("2026-05-02T00:00:00+05:30"), abs=1)
