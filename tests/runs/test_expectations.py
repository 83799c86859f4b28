"""Has the expected run come: judged by the feeds of its job, so that a cut link never makes it missed."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.runs.strategies import SITE, SPAN_ID, T0, TRACE_ID
from wafermonitor.runs.expectations import Expected, ExpectedState, expectation_state, known_until, state_known, true_start
from wafermonitor.runs.records import Feed, Run
from wafermonitor.runs.state import Limits

SECOND = 1_000_000_000
LIMITS = Limits(margin_s=1, behind_s=5, dark_s=1000)


def at(seconds: float) -> int:
    return T0 + int(seconds * SECOND)


DUE = Expected(at(0), at(0), at(60), at(120))


def feed(watermark_s: float | None, skew_s: float = 0) -> Feed:
    return Feed(SITE, "host-1", None if watermark_s is None else at(watermark_s), None, int(skew_s * SECOND))


def state(now_s: float, *feeds: Feed, start: int | None = None) -> str:
    return expectation_state(DUE, start, feeds, at(now_s), LIMITS).value


@pytest.mark.parametrize(
    ("now_s", "expected"),
    [(-5, "expected"), (61, "expected"), (61.5, "late"), (121, "late"), (121.5, "missed"), (9999, "missed")],
)
def test_with_a_living_feed_the_wait_ends_in_late_and_missed(now_s, expected):
    assert state(now_s, feed(now_s)) == expected


def test_without_a_feed_the_receivers_clock_decides():
    assert [state(61.5), state(121.5)] == ["late", "missed"]


def test_a_run_meets_it_however_late():
    assert state(5000, feed(5000), start=at(4000)) == "met"


def test_a_feed_cut_off_before_the_time_makes_it_unknown_never_missed():
    assert [state(now, feed(-10)) for now in (59, 61, 500)] == ["expected", "unknown", "unknown"]


def test_what_was_late_before_the_cut_stays_late():
    assert state(500, feed(70)) == "late"


def test_one_dark_feed_of_several_is_waited_for():
    assert state(500, feed(500), feed(-10)) == "unknown"


def test_a_feed_given_up_is_not_waited_for():
    assert state(1001, feed(-10)) == "missed"


def test_after_an_outage_the_backlog_decides_tick_by_tick():
    later = Expected(at(300), at(300), at(360), at(420))
    assert expectation_state(DUE, None, [feed(200)], at(500), LIMITS) is ExpectedState.MISSED
    assert expectation_state(later, None, [feed(200)], at(500), LIMITS) is ExpectedState.UNKNOWN


def test_a_feed_whose_clock_is_behind_is_judged_by_its_own_clock():
    assert state(121.5, feed(121.5 - 3600, skew_s=3600)) == "missed"
    assert state(121.5, feed(50 - 3600, skew_s=3600)) == "unknown"


@given(st.lists(st.floats(-100, 500), max_size=3), st.floats(0, 400), st.floats(0, 300))
def test_as_time_goes_on_without_news_a_verdict_is_never_taken_back(watermarks, now_s, later_s):
    feeds = [feed(min(mark, now_s)) for mark in watermarks]
    order = ["expected", "unknown", "late", "missed"]
    assert order.index(state(now_s, *feeds)) <= order.index(state(now_s + later_s, *feeds))


def test_the_slowest_feed_tells_how_much_is_known():
    assert known_until([feed(100), feed(40), feed(None)], at(200), LIMITS) == at(39)


def test_a_start_from_the_future_counts_from_when_it_was_heard_of():
    run = Run(site=SITE, trace_id=TRACE_ID, span_id=SPAN_ID, start_ns=at(86_400), received_ns=at(2))
    assert true_start(run, None) == at(2)
    over = dataclasses.replace(run, end_ns=at(86_460), received_ns=at(62))
    assert true_start(over, None) == at(2)
    assert true_start(dataclasses.replace(run, start_ns=at(-3600)), feed(10, skew_s=3600)) == at(0)


def test_a_job_that_announces_nothing_is_waited_for_as_long_as_its_runs_stay_unheard_of():
    def judged(now_s: float) -> str:
        return state_known(DUE, None, at(now_s), at(now_s), LIMITS, unheard_ns=100 * SECOND).value

    assert [judged(now) for now in (61, 160, 161, 220, 221)] == ["expected", "expected", "late", "late", "missed"]
