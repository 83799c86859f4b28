"""An alert about a lost run is over when its job has run well since, and stays so."""

from __future__ import annotations

from dataclasses import replace

from tests.alerting.fabs import MINUTE, T0, Fab, when
from wafermonitor.alerting.mending import dumps, loads, mend
from wafermonitor.alerting.snapshot import Snapshot
from wafermonitor.runs.state import Limits


async def lost(fab: Fab) -> None:
    """A run that died at T0, told to be lost by the 10th minute."""
    await fab.runs()
    await fab.go(fab.evaluator(), 10 * MINUTE)
    assert when(await fab.alerts("lost")) == [("lost", 5, None)]


async def test_a_lost_run_is_over_with_the_next_good_run_for_good():
    fab = Fab()
    await lost(fab)
    await fab.ran(began=11 * MINUTE)
    await fab.go(fab.evaluator(), 13 * MINUTE)
    assert when(await fab.alerts("lost")) == [("lost", 5, 10)]
    await fab.go(fab.evaluator(), 60 * MINUTE)
    assert when(await fab.alerts("silent", "lost")) == [("silent", 1, 5), ("lost", 5, 10)]


async def test_what_says_nothing_of_its_loss_leaves_a_lost_run_lost():
    """A run that failed, one of another job, and one that had begun before."""
    fab = Fab()
    await lost(fab)
    await fab.ran(began=11 * MINUTE, result="failure")
    await fab.ran(job="other", began=11 * MINUTE)
    await fab.ran(began=-MINUTE, took=12 * MINUTE)
    await fab.go(fab.evaluator(), 14 * MINUTE)
    assert when(await fab.alerts("lost")) == [("lost", 5, None)]


async def test_a_loss_is_told_though_another_run_ended_well_before_it_was_known():
    fab = Fab()
    await fab.runs()
    await fab.go(fab.evaluator(), 2 * MINUTE)
    await fab.ran(began=MINUTE)
    await fab.go(fab.evaluator(), 10 * MINUTE)
    assert when(await fab.alerts("lost")) == [("lost", 5, None)]


async def test_a_run_that_came_back_and_died_again_is_told_again():
    fab = Fab()
    await lost(fab)
    await fab.ran(began=11 * MINUTE)
    await fab.go(fab.evaluator(), 20 * MINUTE)
    await fab.write(1, {"last_sign_ns": fab.now(), "heartbeat_interval_s": 30.0})
    await fab.go(fab.evaluator(), 40 * MINUTE)
    assert when(await fab.alerts("lost")) == [("lost", 5, 10), ("lost", 25, None)]


async def test_the_note_says_again_what_it_was_given():
    fab = Fab()
    key = await fab.runs()
    assert loads(dumps({key: 5})) == {key: 5}
    assert loads(None) == {}


async def test_a_run_is_forgotten_when_it_is_not_open_any_more_and_all_that_are_were_read():
    key = await Fab().runs()
    seen = Snapshot(now_ns=T0, ticked_ns=None, limits=Limits())
    assert mend({key: 5}, {key}, seen) == {}
    assert mend({key: 5}, {key}, replace(seen, cut=True)) == {key: 5}
