"""A walk through pages misses no row and shows none twice, whatever happens to the archive between its pages or within one."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from tests.storage.archive import history
from tests.storage.archive.history import NOW, OLD, SITES, Folder, archive, archiver
from tests.storage.contract.builders import HOUR, SECOND, ended, log, resource, span, trace_id
from tests.storage.engines import Clock
from wafermonitor.runs.records import Batch
from wafermonitor.storage.archive.merged import MergedReader
from wafermonitor.storage.archive.protocol import Place, Signal, day_of
from wafermonitor.storage.archive.reader import Files
from wafermonitor.storage.archive.tables import TABLES
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.protocol import LogQuery, MetricQuery, RunQuery, SpanQuery
from wafermonitor.storage.timescale.days import Days
from wafermonitor.storage.timescale.reader import Reader
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.postgres
LATER = NOW + 45 * 86_400 * SECOND
LONG = trace_id(0xABC)
"""A trace with rows on both old days."""
QUESTIONS = {
    "newest spans": ("spans", SpanQuery(site="f1")),
    "spans of a trace": ("spans", SpanQuery(trace_id=LONG)),
    "logs of a trace": ("logs", LogQuery(trace_id=LONG)),
    "newest runs": ("runs", RunQuery(site=("f1",))),
    "failing runs": ("runs", RunQuery(order="failing")),
}


def long_trace(first: int, count: int) -> Batch:
    """Rows of one trace on both days; `first` makes them differ from others."""
    where = resource(SITES[0])
    times = [midnight + HOUR + (first + place) * SECOND for midnight in OLD for place in range(count)]
    return Batch(
        spans=[span(first + place, resource=where, trace_id=LONG, start_ns=at) for place, at in enumerate(times)],
        logs=[log(first + place, resource=where, trace_id=LONG, time_ns=at) for place, at in enumerate(times)],
        runs=[ended(first, site=SITES[0], trace_id=LONG, start_ns=times[0], end_ns=times[-1])],
    )


@pytest.fixture
async def filled(pool):
    await history.fill(pool)
    await Writer(pool).write([long_trace(40_000, 12)])
    return pool


class Steps:
    """What an archive goes through, one after the other."""

    def __init__(self, pool, folder, now_ns=NOW, **given):
        self._pool, self._folder, self._now_ns = pool, folder, now_ns
        self._given = {"grace_hours": 0} | given
        self._late = 0
        self.all = [self.keep, self.drop, self.write_late, self.take, self.compact, self.remove, self.restore, self.drop]

    async def keep(self):
        await archive(self._pool, self._folder, self._now_ns, hot_hours=900 * 24)

    async def drop(self):
        await self._pool.execute("UPDATE wafer_data.archive_day SET kept_until = NULL")
        done = await archive(self._pool, self._folder, self._now_ns, **self._given)
        assert done.failed == ()
        assert done.dropped

    async def write_late(self):
        self._late += 1
        again = [history.history()[0], long_trace(40_000, 12)]
        fresh = [history.batch(SITES[0], midnight, 5_000 * self._late + 100 * place, 10) for place, midnight in enumerate(OLD)]
        await Writer(self._pool).write([*again, *fresh, long_trace(50_000, 5)])

    async def take(self):
        done = await archive(self._pool, self._folder, self._now_ns, **self._given)
        assert done.failed == ()
        assert done.late

    async def compact(self):
        steps = archiver(self._pool, self._folder, self._now_ns)
        assert [await steps.compact(Place(signal, SITES[0], day_of(at))) for signal in Signal for at in OLD]

    async def remove(self):
        assert (await archive(self._pool, self._folder, self._now_ns, **self._given)).removed

    async def restore(self):
        steps = archiver(self._pool, self._folder, self._now_ns)
        for signal in (Signal.SPANS, Signal.LOGS, Signal.METRICS):
            for midnight in OLD:
                assert await steps.restore(signal, day_of(midnight), day_of(self._now_ns))


def merged(pool, folder, hot=None):
    return MergedReader(hot or Reader(pool, clock=Clock()), Days(pool), Files(Folder(folder)))


def key(item):
    if hasattr(item, "run"):
        return item.run.key
    return (item.trace_id, getattr(item, "digest", item.span_id), item.resource.site)


async def walk(reader, method, query, limit, between):
    """The keys of a walk's rows; `between` is awaited after each page."""
    keys = []
    while True:
        page = await getattr(reader, method)(dataclasses.replace(query, limit=limit))
        keys += [key(item) for item in page.items]
        if page.cursor is None:
            return keys
        query = dataclasses.replace(query, cursor=page.cursor)
        await between()


async def nothing():
    """Between two pages of a walk at rest."""


@pytest.mark.parametrize("name", QUESTIONS)
async def test_a_walk_crosses_every_step_of_the_archive(filled, folder, name):
    method, query = QUESTIONS[name]
    given = {"now_ns": LATER, "hot_run_days": 1} if method == "runs" else {}
    reader, steps = merged(filled, folder), Steps(filled, folder, **given)
    known = set(await walk(reader, method, query, 1000, nothing))
    assert len(known) >= 12
    waiting = list(steps.all[:-2] if method == "runs" else steps.all)

    async def next_step():
        if waiting:
            await waiting.pop(0)()

    found = await walk(reader, method, query, 5 if len(known) > 50 else 2, next_step)
    assert waiting == []
    assert len(found) == len(set(found))
    assert known - set(found) == set()


@pytest.mark.parametrize("step", ["drop", "take", "compact and remove", "restore"])
@pytest.mark.parametrize("name", [*QUESTIONS, "points"])
async def test_a_step_while_a_page_is_made_changes_nothing(filled, folder, name, step):
    method, query = QUESTIONS.get(name) or (
        "metrics",
        MetricQuery(site="f1", process_key=None, service="yield", from_ns=OLD[0], to_ns=NOW),
    )
    steps = Steps(filled, folder)
    if step != "drop":
        await steps.drop()
        await steps.write_late()
    if step == "compact and remove":
        await steps.take()

    async def compact_and_remove():
        await steps.compact()
        await steps.remove()

    act = compact_and_remove if "remove" in step else getattr(steps, step)

    class Meanwhile(Reader):
        """The store's reader, after whose first answer the step is taken."""

        async def _then(self, answer):
            nonlocal act
            if act is not None:
                acting, act = act, None
                await acting()
            return answer

        async def spans(self, query):
            return await self._then(await super().spans(query))

        async def logs(self, query):
            return await self._then(await super().logs(query))

        async def runs(self, query):
            return await self._then(await super().runs(query))

        async def metrics(self, query):
            return await self._then(await super().metrics(query))

    def keys(answer):
        items = answer if isinstance(answer, list) else answer.items
        return [(one.series.key, one.time_ns) for one in items] if name == "points" else [key(one) for one in items]

    wide = dataclasses.replace(query, limit=1000)
    before = keys(await getattr(merged(filled, folder), method)(wide))
    assert len(before) >= 12
    during = keys(await getattr(merged(filled, folder, Meanwhile(filled, clock=Clock())), method)(wide))
    assert act is None
    assert during == before
    assert keys(await getattr(merged(filled, folder), method)(wide)) == before


async def test_late_rows_that_a_killed_archiver_has_already_copied_are_shown_once(filled, folder):
    """R14: their file is in the manifest by way of the next round, and they are still in the store."""
    steps = Steps(filled, folder)
    await steps.drop()
    await steps.write_late()
    asked = {name: (method, query) for name, (method, query) in QUESTIONS.items() if method != "runs"}
    before = {name: await walk(merged(filled, folder), *asked[name], 1000, nothing) for name in asked}
    points = MetricQuery(site="f1", process_key=None, service="yield", from_ns=OLD[0], to_ns=NOW)
    known = await merged(filled, folder).metrics(points)
    for step in ("written", "taken in"):
        for signal in (Signal.SPANS, Signal.LOGS, Signal.METRICS):
            killed = history.killed(filled, folder, step)
            late = await Days(filled).late(signal, 1000)
            late = [one for one in late if day_of(TABLES[signal].at_ns(one.record)) == day_of(OLD[0])]
            with pytest.raises(asyncio.CancelledError):
                await killed._take(signal, late)
    archived = await history.in_archive(filled, Folder(folder))
    for signal in (Signal.SPANS, Signal.LOGS, Signal.METRICS):
        assert set(await history.late_rows(filled, signal)) & set(archived[signal])
    for limit in (1, 4, 1000):
        for name, keys in before.items():
            assert await walk(merged(filled, folder), *asked[name], limit, nothing) == keys, (name, limit)
    assert await merged(filled, folder).metrics(points) == known
    await steps.take()
    for signal in (Signal.SPANS, Signal.LOGS, Signal.METRICS):
        assert await history.late_rows(filled, signal) == []


async def test_a_file_that_goes_between_the_manifest_and_its_reading_is_looked_for_again(filled, folder):
    steps = Steps(filled, folder)
    await steps.drop()
    await steps.write_late()
    await steps.take()
    reader = merged(filled, folder)
    before = await walk(reader, *QUESTIONS["newest spans"], 1000, nothing)

    class Slow(Days):
        """A manifest that is old when it arrives."""

        slow = True

        async def files(self, *asked):
            found = await super().files(*asked)
            if self.slow:
                self.slow = False
                await steps.compact()
                await steps.remove()
            return found

    late = MergedReader(Reader(filled, clock=Clock()), Slow(filled), Files(Folder(folder)))
    assert await walk(late, *QUESTIONS["newest spans"], 1000, nothing) == before


async def test_a_file_that_is_lost_is_told_of(filled, folder):
    await Steps(filled, folder).drop()
    for path in folder.rglob("signal=spans/**/*.parquet"):
        path.unlink()
    with pytest.raises(StorageUnavailable, match="wafer archive verify"):
        await merged(filled, folder).spans(SpanQuery(site="f1"))


async def test_a_failing_run_that_comes_again_with_less_is_shown_once(filled, folder):
    bad = ended(60_000, site="f1", trace_id=LONG, start_ns=OLD[0] + HOUR, end_ns=OLD[0] + HOUR + SECOND, result="failure")
    await Writer(filled).write([Batch(runs=[bad])])
    await archive(filled, folder, LATER, hot_run_days=1)
    await Writer(filled).write([Batch(runs=[dataclasses.replace(bad, result=None, cpu_s=3.5)])])
    for limit in (1, 7, 1000):
        found = await walk(merged(filled, folder), *QUESTIONS["failing runs"], limit, nothing)
        assert found.count(bad.key) == 1
        assert len(found) == len(set(found))
