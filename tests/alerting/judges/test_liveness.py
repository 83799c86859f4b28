"""Silent, lost, stalled and left behind, by the watermark of a run's own feed."""

from __future__ import annotations

import pytest

from tests.alerting.judges.world import (
    DAY,
    HOUR,
    LIMITS,
    NOW,
    SECOND,
    Ticks,
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
from wafermonitor.runs.records import Progress


def quiet(for_s: float, name: str = "a", **fields):
    return run(name, start=NOW - HOUR, last_sign_ns=NOW - round(for_s * SECOND), **fields)


@pytest.mark.parametrize(
    ("for_s", "silent", "lost"),
    [(105, 0, 0), (105.1, 1, 0), (315, 1, 0), (315.1, 0, 1), (90_000, 0, 1)],
)
def test_silent_after_three_intervals_and_lost_after_ten(for_s, silent, lost):
    """30 s intervals; the feed told of now, less the margin of 15 s. Five minutes is the least for lost."""
    assert LIMITS.margin_s == 15
    assert len(found(rule("silent"), open_runs=[quiet(for_s)])) == silent
    assert len(found(rule("lost"), open_runs=[quiet(for_s)])) == lost


def test_a_lost_run_is_told_since_its_last_sign_with_numbers():
    (one,) = found(rule("lost"), open_runs=[quiet(600, owner="etch")])
    assert one.summary == "lot_yield of fab1 is lost: no sign for 10 min"
    assert (one.since_ns, one.owner, one.subject.run) == (NOW - 600 * SECOND, "etch", quiet(600).key)
    assert evidence(one) == {"quiet_s": 600.0, "interval_s": 30.0, "feed": "etch-pc"}


def test_a_cut_link_opens_nothing_and_closes_nothing():
    for kind, for_s in (("silent", 200), ("lost", 600)):
        ticks = Ticks(rule(kind))
        cut = feeds(feed(for_s - 5))
        assert not ticks.tick(open_runs=[quiet(for_s)], feeds=cut)
        assert ticks.tick(open_runs=[quiet(for_s)])
        assert ticks.tick(open_runs=[quiet(for_s)], feeds=cut), "nobody can know whether it came back"
        assert not ticks.tick(open_runs=[quiet(5)])
        assert ticks.opened == 1


def test_a_feed_that_is_dark_for_a_day_gives_its_runs_up():
    assert not found(rule("lost"), open_runs=[quiet(86_000)], feeds=feeds(feed(86_000)))[0].sure
    (one,) = found(rule("lost"), open_runs=[quiet(86_500)], feeds=feeds(feed(86_500)))
    assert one.sure


def test_another_feed_of_the_site_says_nothing_of_a_run():
    other = feeds(feed(600, name="litho-pc"), feed())
    assert len(found(rule("lost"), open_runs=[quiet(600)], feeds=other)) == 1


@pytest.mark.parametrize("skew_s", [-7200, 7200])
def test_a_wrong_clock_of_the_host_is_taken_out(skew_s):
    """The host's clock is two hours off, and so are its run's stamps."""
    skew = skew_s * SECOND
    wrong = feeds(feed(skew_ns=skew))
    alive = quiet(5)
    assert not found(rule("lost"), open_runs=[run(last_sign_ns=(alive.last_sign_ns or 0) - skew)], feeds=wrong)
    (one,) = found(rule("lost"), open_runs=[run(last_sign_ns=NOW - 600 * SECOND - skew)], feeds=wrong)
    assert one.since_ns == NOW - 600 * SECOND


def test_a_run_that_announced_no_interval_is_never_lost():
    shell = quiet(90_000, heartbeat_interval_s=None)
    assert not found(rule("lost"), open_runs=[shell])
    assert not found(rule("silent"), open_runs=[shell])


def test_an_expectation_may_say_how_long_a_job_may_be_quiet():
    wish = expectation(Wish(Cron("0 2 * * *"), silence_s=60.0, owner="yield-team"))
    shell = quiet(80, heartbeat_interval_s=None)
    (one,) = found(rule("silent"), open_runs=[shell], expectations=wish)
    assert (one.sure, one.owner) == (True, "yield-team")
    assert not found(rule("silent"), open_runs=[quiet(74, heartbeat_interval_s=None)], expectations=wish)
    (unsure,) = found(rule("silent"), open_runs=[shell], expectations=wish, feeds=feeds(feed(60)))
    assert not unsure.sure


def test_a_process_that_dies_with_its_subjobs_is_one_alert():
    parent = quiet(600)
    children = [quiet(600, f"child-{i}", parent=parent, job="wafer_yield") for i in range(20)]
    (one,) = found(rule("lost"), open_runs=[parent, *children])
    assert one.subject.run == parent.key
    (one,) = found(rule("lost"), open_runs=[quiet(5), quiet(600, "child", parent=parent)])
    assert one.subject.run != parent.key, "its parent lives"


def test_a_lost_run_that_counts_as_ended_is_told_no_more():
    assert not found(rule("lost"), open_runs=[quiet(90_000, inferred=True)])


def test_subjobs_of_a_run_that_ended_are_one_alert_of_their_own():
    parent = run("parent")
    left = [quiet(700, f"child-{i}", parent=parent, job="wafer_yield") for i in range(3)]
    assert not found(rule("lost"), open_runs=left)
    (one,) = found(rule("subjobs_left"), open_runs=left)
    assert one.summary == "3 × wafer_yield of fab1 never ended, though the run they belong to has"
    assert (one.subject.run, one.since_ns) == (parent.key, NOW - 700 * SECOND)
    assert evidence(one)["runs"] == sorted(child.key.id for child in left)
    assert not found(rule("subjobs_left"), open_runs=[parent, *left]), "its parent is going"
    assert not found(rule("subjobs_left"), open_runs=[quiet(600, "child", parent=parent)])
    (unsure,) = found(rule("subjobs_left"), open_runs=left, feeds=feeds(feed(650)))
    assert not unsure.sure


def stuck(for_s: float, **fields):
    """Alive, at 40 % for `for_s`; each heartbeat repeats the progress with its own time."""
    one = run(start=NOW - 2 * HOUR, progress=Progress(NOW, 0.4, **fields))
    return {"open_runs": [one], "advanced": {one.key: NOW - round(for_s * SECOND)}}


def test_a_run_that_is_alive_and_makes_no_progress_is_stalled():
    assert not found(rule("progress_stalled"), **stuck(1800))
    (one,) = found(rule("progress_stalled"), **stuck(2100, stage="merge"))
    assert one.summary == "lot_yield of fab1 makes no progress at 40% (merge) for 34 min 45 s"
    assert one.since_ns == NOW - 2100 * SECOND


def test_what_one_item_takes_is_waited_for_five_times():
    """Started two hours ago: ten items within 5100 s are 510 s each, four within 3500 s 875 s each."""
    assert not found(rule("progress_stalled"), **stuck(2100, completed=10))
    (one,) = found(rule("progress_stalled"), **stuck(3700, completed=10))
    assert evidence(one)["limit_s"] == 1800.0
    assert not found(rule("progress_stalled"), **stuck(3700, completed=4))


def test_whether_a_run_stalled_behind_a_cut_link_is_not_known():
    (one,) = found(rule("progress_stalled"), **stuck(2100), feeds=feeds(feed(600)))
    assert not one.sure
    assert not found(rule("progress_stalled"), open_runs=[run()])
    assert not found(rule("progress_stalled"), open_runs=[run(progress=Progress(NOW - DAY, 0.1))], profiles=usual())


def test_an_alert_ends_when_progress_goes_on():
    ticks = Ticks(rule("progress_stalled"))
    assert ticks.tick(**stuck(2100))
    assert not ticks.tick(**stuck(1))
