"""Too long, while it goes and when it has ended, and too short: one run is told of by one rule."""

from __future__ import annotations

import pytest

from tests.alerting.judges.world import (
    DAY,
    HOUR,
    JOB,
    MINUTE,
    NOW,
    SECOND,
    SITE,
    Ticks,
    ended,
    evidence,
    expectation,
    feed,
    feeds,
    found,
    rule,
    run,
    usual,
)  # fmt: skip
from wafermonitor.alerting.expecting import Wish
from wafermonitor.alerting.schedule import Cron
from wafermonitor.runs.bands import Shift

LONG = expectation(Wish(Cron("0 2 * * *"), max_duration_s=1800.0, min_duration_s=60.0, owner="yield-team"))


def going(for_s: float, name: str = "a", **fields):
    return run(name, start=NOW - round(for_s * SECOND), **fields)


def took(duration_s: float, name: str = "a", *, end: int = NOW - SECOND, **fields):
    return ended(name, start=end - round(duration_s * SECOND), end=end, **fields)


@pytest.mark.parametrize(("for_s", "told"), [(3600, 0), (3615, 0), (3616, 1)])
def test_a_run_of_unknown_duration_may_take_an_hour(for_s, told):
    """The feed told of now; what it may still have on its way is the margin of 15 s."""
    sure = [one for one in found(rule("running_long"), open_runs=[going(for_s)]) if one.sure]
    assert len(sure) == told


def test_it_is_told_with_its_numbers():
    (one,) = found(rule("running_long"), open_runs=[going(7200, owner="etch")])
    assert one.summary == "lot_yield of fab1 has been running for 2 h; more than 1 h"
    assert (one.since_ns, one.owner) == (NOW - HOUR, "etch")
    assert evidence(one) == {"running_s": 7200.0, "until": "2026-09-21T13:13:20Z", "state": "running"}


def test_an_hour_does_not_count_where_somebody_or_history_knows_better():
    long = going(7200)
    assert not found(rule("running_long"), open_runs=[going(7200, expected_duration_s=9000.0)])
    assert not found(rule("running_long"), open_runs=[going(7200, deadline_ns=NOW + HOUR)])
    assert not found(rule("running_long"), open_runs=[long], expectations=LONG)
    assert not found(rule("running_long"), open_runs=[long], profiles=usual(9000))
    assert not found(rule("running_long"), open_runs=[going(7200, parent=run("p"))]), "a subjob is its run's"
    assert found(rule("running_long", subjobs=1), open_runs=[going(7200, parent=run("p"))])


@pytest.mark.parametrize("fields", [{"expected_duration_s": 600.0}, {"deadline_ns": NOW - 600 * SECOND}])
def test_a_run_past_what_its_own_attributes_say_is_overdue(fields):
    (one,) = found(rule("overdue"), open_runs=[going(1200, **fields)])
    assert one.since_ns == NOW - 600 * SECOND
    assert one.sure
    assert not found(rule("duration_anomaly"), open_runs=[going(1200, **fields)], profiles=usual(60)), "one alert for one run"


def test_the_earlier_of_deadline_and_duration_counts():
    both = going(1200, expected_duration_s=600.0, deadline_ns=NOW - 100 * SECOND)
    assert found(rule("overdue"), open_runs=[both])[0].since_ns == NOW - 600 * SECOND


def test_an_expectations_longest_duration_counts_more_than_the_runs_own():
    one = going(1200, expected_duration_s=600.0)
    assert not found(rule("overdue"), open_runs=[one], expectations=LONG)
    (late,) = found(rule("overdue"), open_runs=[going(1900)], expectations=LONG)
    assert (late.owner, late.since_ns) == ("yield-team", NOW - 100 * SECOND)
    elsewhere = expectation(Wish(Cron("0 2 * * *"), max_duration_s=60.0), site="fab2")
    assert not found(rule("overdue"), open_runs=[going(1200)], expectations=elsewhere)
    everywhere = expectation(Wish(Cron("0 2 * * *"), max_duration_s=60.0), site=None)
    assert found(rule("overdue"), open_runs=[going(1200)], expectations=everywhere)


def test_of_several_expectations_the_loosest_counts():
    night = expectation(Wish(Cron("0 2 * * *"), max_duration_s=7200.0), name="night")
    assert not found(rule("overdue"), open_runs=[going(3600)], expectations=LONG | night)
    assert found(rule("overdue"), open_runs=[going(7300)], expectations=LONG | night)
    any_length = expectation(Wish(Cron("0 2 * * *")), name="any")
    assert not found(rule("overdue"), open_runs=[going(7300)], expectations=LONG | any_length)


def test_a_run_behind_a_cut_link_may_have_ended():
    ticks = Ticks(rule("overdue"))
    late = going(1200, expected_duration_s=600.0)
    assert not ticks.tick(open_runs=[late], feeds=feeds(feed(700)))
    assert ticks.tick(open_runs=[late], feeds=feeds(feed(500)), now=NOW), "the feed told of a time after its limit"
    assert ticks.tick(open_runs=[late], feeds=feeds(feed(700)))


def test_a_lost_run_is_not_overdue():
    gone = run(start=NOW - HOUR, last_sign_ns=NOW - 30 * MINUTE, expected_duration_s=600.0)
    assert not found(rule("overdue"), open_runs=[gone])


@pytest.mark.parametrize(("skew_s", "sure"), [(86_400, True), (-7200, False)])
def test_a_wrong_clock_makes_no_run_long(skew_s, sure):
    """What a clock that is ahead says has been told, has not: nobody can know yet."""
    skew = skew_s * SECOND
    wrong = feeds(feed(skew_ns=skew))
    assert not found(rule("overdue"), open_runs=[going(300 + skew_s, expected_duration_s=600.0)], feeds=wrong)
    (one,) = found(rule("overdue"), open_runs=[going(900 + skew_s, expected_duration_s=600.0)], feeds=wrong)
    assert (evidence(one)["running_s"], one.sure) == (900.0, sure)


def test_an_alert_about_a_run_that_goes_ends_with_it():
    ticks = Ticks(rule("overdue"))
    assert ticks.tick(open_runs=[going(1200, expected_duration_s=600.0)])
    assert not ticks.tick(ended=[took(1250, expected_duration_s=600.0)])
    assert ticks.opened == 1


def test_a_run_that_ended_late_between_two_ticks_is_told_until_the_next_good_one():
    ticks = Ticks(rule("overdue"))
    late = took(900, expected_duration_s=600.0)
    (alert,) = ticks.tick(ended=[late])
    assert alert.summary == "lot_yield of fab1 ended 5 min late: expected are 10 min"
    assert evidence(alert)["over_s"] == 300.0
    assert ticks.tick(NOW + HOUR)
    assert ticks.tick(NOW + HOUR, ended=[took(60, "bad", end=NOW + 100 * SECOND, result="failure")])
    assert ticks.tick(NOW + HOUR, ended=[took(60, "older", end=NOW - 2 * SECOND)])
    assert ticks.tick(NOW + HOUR, ended=[took(60, "other", end=NOW + SECOND, job="other")])
    assert not ticks.tick(NOW + HOUR, ended=[took(60, "next", end=NOW + SECOND)])
    assert ticks.opened == 1


def test_what_was_told_of_an_ended_run_is_over_after_a_day():
    ticks = Ticks(rule("overdue"))
    assert ticks.tick(ended=[took(900, expected_duration_s=600.0)])
    assert ticks.tick(NOW + DAY - SECOND)
    assert not ticks.tick(NOW + DAY)


def test_a_replayed_spool_of_last_week_wakes_nobody():
    assert not found(rule("overdue"), ended=[took(900, end=NOW - 2 * DAY, expected_duration_s=600.0)])


def test_a_cancelled_run_is_not_overdue():
    assert not found(rule("overdue"), ended=[took(900, expected_duration_s=600.0, result="cancellation")])


def band():
    known = usual(600)[SITE, JOB].band(NOW)
    assert known is not None
    return known


def test_a_run_beyond_its_jobs_band_is_unusual_while_it_goes():
    high_s = max(band().high_s, band().mid_s + 10)
    assert not [one for one in found(rule("duration_anomaly"), open_runs=[going(high_s + 14)], profiles=usual()) if one.sure]
    (one,) = found(rule("duration_anomaly"), open_runs=[going(high_s + 16)], profiles=usual())
    assert one.sure
    assert one.summary.startswith("lot_yield of fab1 has been running for ")
    assert "(30 runs)" in one.summary
    assert not found(rule("duration_anomaly"), open_runs=[going(9000)]), "no history"
    assert not found(rule("duration_anomaly"), open_runs=[going(9000)], profiles=usual(runs=3))


def test_a_run_that_took_twice_as_long_is_unusual_when_it_has_ended():
    ticks = Ticks(rule("duration_anomaly"))
    (alert,) = ticks.tick(ended=[took(1200)], profiles=usual())
    assert alert.summary.startswith("lot_yield of fab1 took 20 min; usual are ")
    assert evidence(alert)["duration_s"] == 1200.0
    assert ticks.tick(NOW + MINUTE, profiles=usual())
    assert not ticks.tick(NOW + HOUR, ended=[took(600, "next", end=NOW + HOUR)], profiles=usual())


def test_a_job_that_is_slower_of_late_is_told_of_once_though_each_run_is_within_its_band():
    wide = usual()[SITE, JOB]._replace(high=3.0, shift=Shift(NOW - 5 * HOUR, 2.0, 6))
    ticks = Ticks(rule("duration_anomaly"))
    (alert,) = ticks.tick(ended=[took(1200)], profiles={(SITE, JOB): wide})
    assert "is slower since 2026-09-" in alert.summary
    assert "its last 6 good runs took about 2.0 times what is usual" in alert.summary
    assert (alert.subject.run, alert.since_ns) == (None, NOW - 5 * HOUR)
    later = NOW + HOUR
    assert [alert.id] == [one.id for one in ticks.tick(later, ended=[took(1200, "b", end=later)], profiles={(SITE, JOB): wide})]
    assert not ticks.tick(later + HOUR, ended=[took(600, "c", end=later + HOUR)], profiles=usual())
    faster = wide._replace(shift=Shift(NOW - 5 * HOUR, 0.5, 6))
    assert not found(rule("duration_anomaly"), ended=[took(300)], profiles={(SITE, JOB): faster})


def test_seconds_more_of_a_short_job_are_not_unusual():
    assert not found(rule("duration_anomaly"), ended=[took(14)], profiles=usual(5))
    assert found(rule("duration_anomaly"), ended=[took(16)], profiles=usual(5))


def test_a_run_that_failed_is_not_called_slow():
    assert not found(rule("duration_anomaly"), ended=[took(1200, result="timeout")], profiles=usual())


def test_a_run_that_was_over_too_soon():
    (one,) = found(rule("too_short"), ended=[took(100)], profiles=usual())
    assert one.summary.startswith("lot_yield of fab1 ended after 1 min 40 s already; usual are ")
    assert not found(rule("too_short"), ended=[took(125)], profiles=usual()), "a fifth of what is usual is enough"
    assert not found(rule("too_short"), ended=[took(100, result="failure")], profiles=usual())
    assert not found(rule("too_short"), ended=[took(0.1)], profiles=usual(5)), "short jobs are not judged"
    assert not found(rule("too_short"), ended=[took(0.1)])


def test_an_expectation_says_how_long_a_run_takes_at_least():
    (one,) = found(rule("too_short"), ended=[took(59)], expectations=LONG)
    assert one.summary.endswith("already; expected are 1 min or more")
    assert not found(rule("too_short"), ended=[took(60)], expectations=LONG, profiles=usual())
