"""The state of a run, judged by its own feed's clock."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given

from tests.runs import strategies
from tests.runs.strategies import SITE, SPAN_ID, T0, TRACE_ID
from wafermonitor.runs.records import Feed, Run
from wafermonitor.runs.state import Limits, State, clock_skew, close_due, failing_rank, overdue, run_state

SECOND = 1_000_000_000
LIMITS = Limits(margin_s=1, behind_s=5, loss_floor_s=60, close_after_s=600, dark_s=1000)
RUN = Run(site=SITE, trace_id=TRACE_ID, span_id=SPAN_ID, start_ns=T0, heartbeat_interval_s=10, last_sign_ns=T0)


def at(seconds: float) -> int:
    return T0 + int(seconds * SECOND)


def feed(watermark_s: float, skew_s: float = 0) -> Feed:
    return Feed(SITE, "host-1", at(watermark_s), at(watermark_s), int(skew_s * SECOND))


@pytest.mark.parametrize(
    ("now_s", "state"),
    [(31, State.RUNNING), (31.1, State.SILENT), (101, State.SILENT), (101.1, State.LOST)],
)
def test_with_a_living_feed_silence_grows_into_loss(now_s, state):
    assert run_state(RUN, feed(now_s), at(now_s), LIMITS) is state


def test_without_a_feed_the_receivers_clock_is_the_watermark():
    assert run_state(RUN, None, at(40), LIMITS) is State.SILENT


def test_a_cut_link_makes_a_run_unknown_not_lost():
    assert run_state(RUN, feed(2), at(500), LIMITS) is State.UNKNOWN


def test_a_run_already_silent_stays_so_when_its_feed_stops():
    assert run_state(RUN, feed(40), at(500), LIMITS) is State.SILENT


def test_a_feed_dark_for_too_long_is_given_up():
    assert run_state(RUN, feed(2), at(1003), LIMITS) is State.LOST


def test_a_short_lag_of_the_feed_is_still_running():
    assert run_state(dataclasses.replace(RUN, last_sign_ns=at(30)), feed(58), at(62), LIMITS) is State.RUNNING


def test_a_quiet_subjob_of_a_living_process_keeps_running():
    run = dataclasses.replace(RUN, process_beat_ns=at(490), process_interval_s=10)
    assert run_state(run, feed(500), at(500), LIMITS) is State.RUNNING


def test_a_run_that_announced_no_interval_is_never_silent():
    run = dataclasses.replace(RUN, heartbeat_interval_s=None)
    assert run_state(run, feed(10**6), at(10**6), LIMITS) is State.RUNNING


def test_a_skewed_feed_is_judged_by_its_own_clock():
    behind_by_an_hour = feed(20, skew_s=3600)
    assert run_state(RUN, behind_by_an_hour, at(3620), LIMITS) is State.RUNNING


def test_a_clock_that_was_ahead_and_is_right_again_does_not_make_runs_unknown():
    corrected = feed(3600)._replace(skew_ns=-60 * SECOND, received_ns=at(3600.2))
    assert run_state(dataclasses.replace(RUN, last_sign_ns=at(3599)), corrected, at(3601), LIMITS) is State.RUNNING
    still_ahead = feed(3600)._replace(skew_ns=-60 * SECOND)
    assert run_state(dataclasses.replace(RUN, last_sign_ns=at(3599)), still_ahead, at(3601), LIMITS) is State.UNKNOWN


def test_a_beat_that_an_outage_delayed_by_more_than_the_lead_does_not_put_the_clock_right():
    """A minute ahead, cut off at 0 for two: what was said at 0 bears 60 and comes at 120."""
    draining = feed(60)._replace(skew_ns=-60 * SECOND, received_ns=at(120))
    assert clock_skew(draining) == -60 * SECOND
    assert run_state(dataclasses.replace(RUN, last_sign_ns=at(50)), draining, at(121), LIMITS) is State.UNKNOWN


def test_a_feed_is_not_dark_because_its_clock_is_far_ahead():
    lead_s = 3 * LIMITS.dark_s
    cut_off = feed(0)._replace(skew_ns=-int(lead_s) * SECOND)
    signed = dataclasses.replace(RUN, last_sign_ns=at(lead_s - 5))
    assert run_state(signed, cut_off, at(500), LIMITS) is State.UNKNOWN
    assert run_state(signed, cut_off, at(1100), LIMITS) is State.LOST


def test_ended_beats_everything():
    assert run_state(dataclasses.replace(RUN, end_rank=1, end_ns=at(1)), feed(500), at(500), LIMITS) is State.ENDED


def test_overdue_by_expectation_and_by_deadline():
    assert not overdue(dataclasses.replace(RUN, expected_duration_s=60), at(60))
    assert overdue(dataclasses.replace(RUN, expected_duration_s=60), at(61))
    assert overdue(dataclasses.replace(RUN, deadline_ns=at(5)), at(6))
    assert not overdue(dataclasses.replace(RUN, deadline_ns=at(5), end_rank=1), at(6))


def test_a_lost_run_is_closed_only_after_the_limit():
    assert not close_due(RUN, feed(600), at(600), LIMITS)
    assert close_due(RUN, feed(601), at(601), LIMITS)
    assert not close_due(RUN, feed(2), at(602), LIMITS)


def test_failing_first():
    order = [
        failing_rank(RUN, state, late) for state, late in ((State.LOST, False), (State.SILENT, False), (State.UNKNOWN, False))
    ]
    order += [failing_rank(RUN, State.RUNNING, True)]
    order += [failing_rank(dataclasses.replace(RUN, end_rank=2, result="failure"), State.ENDED, False)]
    order += [failing_rank(RUN, State.RUNNING, False)]
    order += [failing_rank(dataclasses.replace(RUN, end_rank=2, result="success"), State.ENDED, False)]
    assert order == sorted(set(order))


@given(strategies.runs(), strategies.feeds, strategies.times, strategies.limits)
def test_every_run_has_exactly_one_state_and_ended_runs_are_ended(run, run_feed, now_ns, limits):
    state = run_state(run, run_feed, now_ns, limits)
    assert (state is State.ENDED) == run.ended
