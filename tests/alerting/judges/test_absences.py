"""Late, missed, and sites without jobs."""

from __future__ import annotations

from tests.alerting.judges.world import (
    DAY,
    HOUR,
    JOB,
    MINUTE,
    NOW,
    SECOND,
    SITE,
    Ticks,
    evidence,
    expectation,
    expected,
    feed,
    feeds,
    found,
    rule,
    run,
    tallies,
)  # fmt: skip
from wafermonitor.alerting.judges.absences import subject_of
from wafermonitor.runs.expectations import ExpectedState
from wafermonitor.storage.protocol import Tally

LATE, MISSED, UNKNOWN, MET = ExpectedState.LATE, ExpectedState.MISSED, ExpectedState.UNKNOWN, ExpectedState.MET


def test_a_run_that_has_not_started_in_time_is_late_since_its_margin_ended():
    (one,) = found(rule("late"), expected=[expected(LATE)], expectations=expectation())
    assert one.since_ns == NOW - HOUR + 5 * MINUTE
    assert one.subject == subject_of(expected(LATE))
    assert one.subject.detail == "nightly 2026-09-21T13:13:20Z"
    assert one.summary == "lot_yield at fab1 has not started: due 2026-09-21T13:13:20Z, 1 h ago"
    assert (one.owner, one.runbook, one.sure) == ("yield-team", "https://wiki/yield", True)
    assert evidence(one) == {"expectation": "nightly", "nominal": "2026-09-21T13:13:20Z", "late_s": 3600.0}


def test_when_it_is_missed_the_late_one_is_over():
    ticks = Ticks(rule("late"))
    assert ticks.tick(expected=[expected(LATE)])
    assert not ticks.tick(expected=[expected(MISSED)])
    (one,) = found(rule("missed"), expected=[expected(MISSED)])
    assert one.since_ns == NOW - HOUR + 20 * MINUTE
    assert one.subject == subject_of(expected(LATE))


def test_what_is_expected_still_or_has_come_is_neither():
    for state in (ExpectedState.EXPECTED, MET):
        assert not found(rule("late"), expected=[expected(state)])
        assert not found(rule("missed"), expected=[expected(state)])


def test_while_nobody_can_know_nothing_opens_and_what_is_open_stays():
    for kind, state in (("late", LATE), ("missed", MISSED)):
        ticks = Ticks(rule(kind))
        assert not ticks.tick(expected=[expected(UNKNOWN)])
        assert len(ticks.tick(expected=[expected(state)])) == 1
        assert len(ticks.tick(expected=[expected(UNKNOWN)])) == 1
        assert not ticks.tick(expected=[expected(MET)])


def test_lots_of_one_time_are_told_apart():
    two = found(rule("late"), expected=[expected(LATE, lot="L1"), expected(LATE, lot="L2")])
    assert len({one.fingerprint for one in two}) == 2
    assert "lot_yield for L1 at fab1" in two[0].summary


def test_a_missed_run_stays_told_until_the_next_one_comes():
    ticks = Ticks(rule("missed"))
    assert ticks.tick(expected=[expected(MISSED, settled=True)], expectations=expectation())
    assert ticks.tick(NOW + HOUR, expectations=expectation()), "it is settled, so the evaluator shows it no more"
    earlier = expected(MET, nominal=NOW - 2 * HOUR, settled=True)
    assert ticks.tick(NOW + HOUR, expected=[earlier], expectations=expectation())
    other = expected(MET, name="weekly", nominal=NOW, settled=True)
    assert ticks.tick(NOW + HOUR, expected=[other], expectations=expectation())
    assert not ticks.tick(NOW + HOUR, expected=[expected(MET, nominal=NOW, settled=True)], expectations=expectation())


def test_a_missed_run_that_comes_after_all_is_over():
    ticks = Ticks(rule("missed"))
    assert ticks.tick(expected=[expected(MISSED)], expectations=expectation())
    assert not ticks.tick(expected=[expected(MET)], expectations=expectation())


def test_a_missed_run_is_over_after_a_day_or_when_nobody_expects_it_any_more():
    ticks = Ticks(rule("missed"))
    assert ticks.tick(expected=[expected(MISSED, settled=True)], expectations=expectation())
    since = NOW - 40 * MINUTE
    assert ticks.tick(since + DAY - SECOND, expectations=expectation())
    assert not ticks.tick(since + DAY, expectations=expectation())
    assert ticks.tick(expected=[expected(MISSED, settled=True)], expectations=expectation())
    assert not ticks.tick(expectations={})


TEN_AN_HOUR = {"s86400": Tally(SITE, JOB, 240, 0, 0), "s3600_86400": Tally(SITE, JOB, 10, 0, 0)}
QUIET = tallies(**TEN_AN_HOUR)
"""Ten an hour yesterday, none in the last hour."""


def test_a_site_that_usually_has_ten_an_hour_and_had_none():
    (one,) = found(rule("no_jobs"), tallies=QUIET)
    assert one.summary == "No job of site fab1 ended for 1 h; usual are 10 in 1 h"
    assert (one.subject.site, one.since_ns) == (SITE, NOW - HOUR)


def test_a_site_with_fewer_runs_or_with_one_lately_is_well():
    assert not found(rule("no_jobs"), tallies=tallies(s86400=Tally(SITE, JOB, 239, 0, 0)))
    assert not found(rule("no_jobs"), tallies=tallies(s86400=Tally(SITE, JOB, 240, 0, 0), s3600=Tally(SITE, JOB, 1, 0, 0)))
    assert not found(rule("no_jobs"), tallies=QUIET, open_runs=[run()])


def test_a_site_that_was_quiet_at_this_time_yesterday_or_a_week_ago_is_well():
    by_day = tallies(s86400=Tally(SITE, JOB, 2400, 0, 0), s3600_86400=Tally(SITE, JOB, 4, 0, 0))
    assert not found(rule("no_jobs"), tallies=by_day)
    week = {"s86400_561600": Tally(SITE, JOB, 240, 0, 0)}
    assert not found(rule("no_jobs"), tallies=tallies(**TEN_AN_HOUR, **week))
    assert found(rule("no_jobs"), tallies=tallies(**TEN_AN_HOUR, **week, s3600_604800=Tally(SITE, JOB, 5, 0, 0)))


def test_a_site_whose_feed_is_behind_is_not_said_to_have_no_jobs():
    ticks = Ticks(rule("no_jobs"))
    assert not ticks.tick(tallies=QUIET, feeds=feeds(feed(50)))
    assert ticks.tick(tallies=QUIET)
    assert ticks.tick(tallies=QUIET, feeds=feeds(feed(50))), "what is open stays"


def test_a_site_that_is_quiet_for_days_stays_told_until_a_job_comes():
    ticks = Ticks(rule("no_jobs"))
    assert ticks.tick(tallies=QUIET)
    (alert,) = ticks.tick(NOW + 2 * DAY)
    assert alert.since_ns == NOW - HOUR
    assert not ticks.tick(NOW + 2 * DAY, tallies=tallies(s3600=Tally(SITE, JOB, 1, 0, 0)))
