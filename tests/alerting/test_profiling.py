"""What is usual is read from history when it is needed, without the runs that are judged by it."""

from __future__ import annotations

import pytest

from tests.alerting.fabs import MINUTE, SECOND, T0, Fab
from wafermonitor.alerting.profiling import Profiles
from wafermonitor.alerting.tallying import Tallies, WindowWanted


async def test_a_run_that_just_ended_is_not_history_yet():
    fab = Fab()
    for minute in range(20):
        fab.at = minute * MINUTE
        await fab.ran()
    profiles = Profiles(fab.storage.reader)
    key = await fab.ran(result="failure", error_type="IOError")
    failed = (await fab.storage.reader.run(*key[1:])).run
    before = (await profiles.of([], [failed], fab.now()))["f1", "etch"]
    assert before.error_types == frozenset()
    assert before.runs == 20
    profiles.ended([failed])
    assert (await profiles.of([failed], [], fab.now()))["f1", "etch"].error_types == {"IOError"}


async def test_history_is_read_again_when_runs_ended_and_ten_minutes_are_over():
    fab = Fab()
    await fab.ran()
    (open_run,) = [(await fab.storage.reader.run(*(await fab.runs())[1:])).run]
    profiles = Profiles(fab.storage.reader)
    await profiles.of([open_run], [], fab.now())
    ended = (await fab.storage.reader.run(*(await fab.ran())[1:])).run
    profiles.ended([ended])
    assert (await profiles.of([open_run], [], fab.now() + 599 * SECOND))["f1", "etch"].runs == 1
    assert (await profiles.of([open_run], [], fab.now() + 600 * SECOND))["f1", "etch"].runs == 2
    profiles.forget()
    assert (await profiles.of([], [], fab.now())) == {}


async def test_a_window_is_read_when_a_judge_asks_and_not_again_within_its_step():
    fab = Fab()
    fab.at = 10 * MINUTE
    await fab.ran()
    tallies = Tallies(fab.storage.reader)
    tallies.begin(fab.now())
    with pytest.raises(WindowWanted) as wanted:
        tallies(3600.0)
    await tallies.read(wanted.value.window_s)
    assert [(one.job, one.ended) for one in tallies(3600.0)] == [("etch", 1)]
    tallies.begin(T0 + 10 * MINUTE + 29 * SECOND)
    assert tallies(3600.0)
    for forgets in (lambda: tallies.begin(T0 + 11 * MINUTE), tallies.forget):
        forgets()
        with pytest.raises(WindowWanted):
            tallies(3600.0)
        await tallies.read(3600.0)
