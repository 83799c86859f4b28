"""When the store was not read: what ran without a feed could not be heard, and is not silent for that."""

from __future__ import annotations

from tests.alerting.fabs import MINUTE, SECOND, T0, Fab, when
from wafermonitor.alerting.hearing import LEAST_NS, hear
from wafermonitor.alerting.snapshot import Gap
from wafermonitor.storage.errors import StorageUnavailable


class _Down:
    """A reader of a store that does not answer."""

    def __getattr__(self, name: str):
        raise StorageUnavailable("down")


def test_a_gap_is_remembered_until_the_next():
    note, gap = hear(None, None, T0)
    assert gap is None
    note, gap = hear(note, T0, T0 + LEAST_NS)
    assert gap is None
    began = T0 + LEAST_NS
    back = began + LEAST_NS + 1
    note, gap = hear(note, None, back)
    assert gap == Gap(began, back)
    assert hear(note, None, back + SECOND)[1] == gap
    assert hear(note, None, back + MINUTE)[1] == Gap(back, back + MINUTE)


def test_without_a_note_the_last_tick_counts():
    assert hear(None, T0, T0 + MINUTE)[1] == Gap(T0, T0 + MINUTE)


async def test_a_restart_of_the_database_is_no_silence_of_runs_without_a_feed():
    """Down for ten minutes: nobody ticks, no beat is stored. Then beats come again; of a run that died, none."""
    fab = Fab()
    evaluator = fab.evaluator()
    await fab.runs(feed=None)
    died = await fab.runs(job="other", feed=None)
    await fab.go(evaluator, MINUTE)
    fab.at = 11 * MINUTE
    await fab.go(evaluator, 11 * MINUTE + 30 * SECOND)
    assert not await fab.alerts("silent", "lost")
    for number in range(10):
        await fab.write(1, {"last_sign_ns": fab.now()})
        await fab.go(evaluator, (12 + number) * MINUTE)
    told = await fab.alerts("silent", "lost")
    assert {one.subject.run for one in told} == {died}
    assert when(told) == [("silent", 13, 16), ("lost", 16, None)]


async def test_a_store_of_runs_that_is_down_alone_is_a_gap_too():
    """The alerts' own store is there all the time, and keeps the ticks."""
    fab = Fab()
    evaluator = fab.evaluator()
    await fab.runs(feed=None)
    await fab.go(evaluator, MINUTE)
    reader, evaluator._reader = evaluator._reader, _Down()
    await fab.go(evaluator, 11 * MINUTE)
    evaluator._reader = reader
    await fab.go(evaluator, 12 * MINUTE)
    assert not await fab.alerts("silent", "lost")


async def test_what_was_lost_before_the_gap_stays_lost():
    fab = Fab()
    evaluator = fab.evaluator()
    await fab.runs(feed=None)
    await fab.go(evaluator, 10 * MINUTE)
    fab.at = 20 * MINUTE
    await fab.go(evaluator, 40 * MINUTE)
    assert when(await fab.alerts("silent", "lost")) == [("silent", 1, 5), ("lost", 5, None)]


async def test_with_seldom_ticks_a_lost_run_is_told_a_tick_later():
    fab = Fab()
    evaluator = fab.evaluator()
    await fab.runs(feed=None)
    await fab.go(evaluator, 30 * MINUTE, step=4 * MINUTE)
    assert when(await fab.alerts("silent", "lost")) == [("silent", 4, 12), ("lost", 12, None)]
