"""Failures, their rate, new kinds of error, and error budgets that burn."""

from __future__ import annotations

import pytest

from tests.alerting.judges.world import (
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
    tallies,
    usual,
)  # fmt: skip
from wafermonitor.alerting.rules import Where
from wafermonitor.storage.protocol import Tally


def tally(count: int, bad: int = 0, late: int = 0) -> Tally:
    return Tally(SITE, JOB, count, bad, late)


@pytest.mark.parametrize(
    ("count", "bad", "told"),
    [(10, 1, False), (10, 2, True), (20, 2, False), (20, 3, True), (9, 9, False), (1000, 100, False), (1000, 101, True)],
)
def test_more_than_a_tenth_of_ten_runs_or_more(count, bad, told):
    assert bool(found(rule("failure_rate"), tallies=tallies(s3600=tally(count, bad)))) is told


def test_a_rate_is_told_with_its_numbers_since_it_was_found():
    ticks = Ticks(rule("failure_rate"))
    ticks.tick(tallies=tallies(s3600=tally(10, 5)))
    (alert,) = ticks.tick(NOW + MINUTE, tallies=tallies(s3600=tally(20, 5)))
    assert alert.summary == "5 of 20 runs of lot_yield at fab1 failed within 1 h (25%)"
    assert (alert.since_ns, evidence(alert)) == (NOW, {"bad": 5, "ended": 20, "ratio": 0.25})
    assert not ticks.tick(NOW + HOUR, tallies=tallies(s3600=tally(20, 1)))


def test_who_cares_for_a_job_is_told_of_its_failures_too():
    (failed,) = found(rule("failed"), ended=[ended(result="failure")], expectations=expectation())
    (rate,) = found(rule("failure_rate"), tallies=tallies(s3600=tally(10, 5)), expectations=expectation())
    for one in (failed, rate):
        assert (one.owner, one.runbook) == ("yield-team", "https://wiki/yield")
    (own,) = found(rule("failed"), ended=[ended(result="failure", owner="etch")], expectations=expectation())
    assert own.owner == "etch"
    elsewhere = expectation(site="fab9")
    (other,) = found(rule("failed"), ended=[ended(result="failure")], expectations=elsewhere)
    assert (other.owner, other.runbook) == (None, None)
    routed = rule("failed")._replace(where=Where(owner=("yield-*",)))
    assert found(routed, ended=[ended(result="failure")], expectations=expectation())
    assert not found(routed, ended=[ended(result="failure")], expectations=elsewhere)


def test_while_a_feed_of_the_site_is_behind_a_rate_is_not_said_to_be_well_again():
    ticks = Ticks(rule("failure_rate"))
    ticks.tick(tallies=tallies(s3600=tally(10, 5)))
    assert ticks.tick(NOW + HOUR, feeds=feeds(feed(100, now=NOW + HOUR)))
    assert not ticks.tick(NOW + HOUR)


def test_a_rate_has_a_window_and_numbers_of_its_own():
    mine = rule("failure_rate", window_s=86_400, ratio=0.5, runs_least=2, bad_least=1)
    assert found(mine, tallies=tallies(s86400=tally(3, 2)))
    assert not found(mine, tallies=tallies(s86400=tally(2, 1)))


def bad(name: str = "a", *, end: int = NOW - SECOND, **fields):
    return ended(name, end=end, start=end - MINUTE, result="failure", error_type="ValueError", **fields)


def test_a_failed_run_of_a_seldom_job_is_told_until_the_next_good_one():
    ticks = Ticks(rule("failed"))
    (alert,) = ticks.tick(ended=[bad(owner="etch")])
    assert alert.summary == "lot_yield of fab1 ended in failure with ValueError"
    assert (alert.subject.run, alert.since_ns) == (None, NOW - SECOND)
    (again,) = ticks.tick(NOW + HOUR, ended=[bad("b", end=NOW + HOUR - SECOND)])
    assert again.since_ns == NOW - SECOND, "a job that fails again is one alert"
    assert ticks.tick(NOW + 2 * HOUR)
    assert not ticks.tick(NOW + 3 * HOUR, ended=[ended("c", end=NOW + 3 * HOUR)])
    assert ticks.opened == 1


def test_a_failure_that_a_good_run_followed_at_once_is_told_of_nobody():
    later = ended("b", start=NOW - 30 * SECOND, end=NOW - SECOND)
    assert not found(rule("failed"), ended=[later, bad(end=NOW - MINUTE)])
    assert found(rule("failed"), ended=[bad("c", end=NOW), later])


def test_a_job_that_runs_often_is_judged_by_its_rate():
    assert found(rule("failed"), ended=[bad()], tallies=tallies(s86400=tally(24, 1)))
    assert not found(rule("failed"), ended=[bad()], tallies=tallies(s86400=tally(25, 1)))


@pytest.mark.parametrize(("result", "told"), [("failure", 1), ("error", 1), ("timeout", 1), ("cancellation", 0), ("skip", 0)])
def test_what_counts_as_failed(result, told):
    assert len(found(rule("failed"), ended=[ended(result=result)])) == told


def test_subjobs_fail_with_their_run():
    child = bad("child", parent=run("p"))
    assert not found(rule("failed"), ended=[child])
    assert found(rule("failed", subjobs=1), ended=[child])


def test_an_error_that_the_job_never_had():
    (one,) = found(rule("new_error_type"), ended=[bad()], profiles=usual(errors=("OSError",)))
    assert one.subject.detail == "ValueError"
    assert one.summary == "lot_yield of fab1 failed with ValueError, which it never did before"
    assert evidence(one)["known"] == ["OSError"]
    assert not found(rule("new_error_type"), ended=[bad()], profiles=usual(errors=("ValueError",)))
    assert not found(rule("new_error_type"), ended=[bad()]), "every error of a new job is new"


BURN = rule("success_burn", objective=0.9)
"""A tenth may fail: all runs bad is a burn of 10."""


@pytest.mark.parametrize(
    ("windows", "told"),
    [
        ({"s3600": tally(20, 20), "s300": tally(5, 5)}, False),
        ({"s21600": tally(20, 13), "s1800": tally(5, 4)}, True),
        ({"s21600": tally(20, 12), "s1800": tally(5, 4)}, False),
        ({"s21600": tally(20, 13), "s1800": tally(5, 3)}, False),
        ({"s21600": tally(20, 13)}, False),
        ({"s21600": tally(9, 9), "s1800": tally(5, 5)}, False),
        ({"s21600": tally(20, 7, 6), "s1800": tally(5, 2, 2)}, True),
        ({"s21600": tally(20, 20, 20), "s1800": tally(5, 5, 5)}, True),
    ],
    ids=["fast cannot reach 14.4", "slow", "not over the long", "not over the short", "no more", "few", "late ones", "both"],
)
def test_a_budget_burns_over_a_long_time_and_still(windows, told):
    assert bool(found(BURN, tallies=tallies(**windows))) is told


def test_a_fast_burn_of_a_high_objective():
    """Of 99.5 %: 14.4 times the budget is 7.2 %."""
    strict = rule("success_burn", objective=0.995)
    (one,) = found(strict, tallies=tallies(s3600=tally(100, 8), s300=tally(10, 1)))
    assert evidence(one)["burn"] == 16.0
    assert one.summary == (
        "lot_yield at fab1 uses up its error budget: 8 of 100 runs failed or were late within 1 h, 16.0 times what 99.50%"
        " allows"
    )
    assert not found(strict, tallies=tallies(s3600=tally(100, 7), s300=tally(10, 1)))


def test_a_burn_of_both_kinds_is_one_alert():
    both = tallies(s3600=tally(100, 90), s300=tally(10, 9), s21600=tally(500, 400), s1800=tally(50, 45))
    assert len(found(rule("success_burn"), tallies=both)) == 1
