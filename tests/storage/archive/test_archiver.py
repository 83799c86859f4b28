"""Days leave the store for the archive: whole, verified, once; and whatever comes for them later finds its place."""

from __future__ import annotations

import dataclasses
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest

from tests.storage.archive import history
from tests.storage.archive.history import NOW, OLD, SITES, TODAY, Folder, archive, archiver, everything, told
from tests.storage.contract.builders import DAY, HOUR, SECOND, beat, ended, resource, span
from wafermonitor.runs.merge import merge
from wafermonitor.runs.records import Batch
from wafermonitor.storage.archive import archiver as archiving
from wafermonitor.storage.archive import copies, files, owner
from wafermonitor.storage.archive.archiver import Archiver, Done, Plan, compact_once, run_once
from wafermonitor.storage.archive.config import Config
from wafermonitor.storage.archive.protocol import Place, Signal, day_of
from wafermonitor.storage.archive.tables import TABLES
from wafermonitor.storage.errors import ArchiveDamaged, StorageUnavailable
from wafermonitor.storage.timescale.days import Days
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.postgres
BY_DAY = (Signal.SPANS, Signal.LOGS, Signal.METRICS)
FIRST, SECOND_DAY = (day_of(midnight) for midnight in OLD)


@pytest.fixture
async def filled(pool):
    await history.fill(pool)
    return pool


async def exact(pool, folder, batches):
    """Store and archive have each row of `batches` once, and nothing else."""
    found, wanted = await everything(pool, Folder(folder)), told(batches)
    for signal in Signal:
        assert len(found[signal]) == len(wanted[signal]), signal
        assert set(found[signal]) == wanted[signal], signal


async def counts(pool):
    tables = ("span", "log_record", "metric_point", "run", "span_late", "log_late", "metric_late", "run_default")
    return {table: await pool.fetchval(f"SELECT count(*) FROM wafer_data.{table}") for table in tables}


async def test_days_that_are_over_for_72_h_leave_the_store_and_the_archive_has_them_row_by_row(filled, folder):
    young = history.batch(SITES[0], TODAY - 3 * DAY, 900)  # over for less than 72 h
    await Writer(filled).write([young])
    done = await archive(filled, folder)
    assert done.failed == ()
    assert {f"{signal} {day}" for signal in BY_DAY for day in (FIRST, SECOND_DAY)} <= set(done.dropped)
    assert (await counts(filled))["span"] == history.ROWS
    await exact(filled, folder, [*history.history(), young])
    folders = {path.parent.relative_to(folder).as_posix() for path in folder.rglob("*.parquet")}
    assert f"signal=spans/site=f2%20%2F%20east/date={FIRST}" in folders


async def test_a_second_round_finds_nothing_to_do(filled, folder):
    await archive(filled, folder)
    files = sorted(folder.rglob("*"))
    done = await archive(filled, folder)
    assert (done.archived, done.dropped, done.rows, done.late) == ((), (), 0, 0)
    assert sorted(folder.rglob("*")) == files


async def test_archived_days_stay_in_the_store_as_long_as_they_are_hot(filled, folder):
    done = await archive(filled, folder, hot_hours=2000)
    assert done.archived
    assert done.dropped == ()
    assert (await counts(filled))["span"] == 4 * history.ROWS
    assert {len(rows) for rows in (await history.in_archive(filled, Folder(folder))).values()} == {0}  # the store answers
    assert len((await history.in_archive(filled, Folder(folder), dropped=False))[Signal.SPANS]) == 4 * history.ROWS


async def test_with_archiving_switched_off_nothing_is_archived_or_dropped_and_the_plan_says_so(filled, folder):
    assert await archive(filled, folder, enabled=False) == Done()
    assert (await counts(filled))["span"] == 4 * history.ROWS
    assert not list(folder.rglob("*.parquet"))
    off = Archiver(Days(filled), Folder(folder), history.settings(folder, enabled=False), NOW)
    assert await off.plan() == Plan((), (), ())


async def test_days_with_many_files_are_merged_a_few_rows_at_a_time_and_the_others_when_they_are_quiet(filled, folder):
    await archive(filled, folder)
    for number in range(5):
        late = [history.batch(SITES[0], OLD[0], 5_000 + 10 * number, 2)]
        late += [history.batch(SITES[1], OLD[0], 5_000, 2)] if number == 0 else []
        await Writer(filled).write(late)
        await archive(filled, folder)
    steps = archiver(filled, folder)
    worth = await steps.worth_merging()
    assert [(place, rows) for place, rows in worth if place.signal is Signal.SPANS] == [
        (Place(Signal.SPANS, SITES[0], FIRST), history.ROWS + 10)
    ]
    before = await everything(filled, Folder(folder))
    days, shelf, config = Days(filled), Folder(folder), history.settings(folder)
    first = await compact_once(days, shelf, config, now_ns=NOW, most_rows=1)
    assert first is not None
    assert (len(first.merged), first.rows, first.failed) == (1, history.ROWS + 10, ())
    rest = await compact_once(days, shelf, config, now_ns=NOW)
    assert len(rest.merged) == len(worth) - 1
    assert await steps.worth_merging() == []
    a_week_on = time.time_ns() + 8 * DAY  # when files were recorded is told by the server's clock
    quiet = await compact_once(days, shelf, config, now_ns=a_week_on)
    assert len(quiet.merged) == len(BY_DAY)
    after = await everything(filled, Folder(folder))
    assert {signal: sorted(map(repr, rows)) for signal, rows in before.items()} == {
        signal: sorted(map(repr, rows)) for signal, rows in after.items()
    }
    async with days.leading():
        assert await compact_once(Days(filled), shelf, config, now_ns=NOW) is None


async def test_redelivery_after_archiving_stores_nothing_twice(filled, folder):
    await archive(filled, folder)
    await Writer(filled).write(history.history())
    assert (await counts(filled))["span_late"] == 4 * history.ROWS
    done = await archive(filled, folder)
    assert done.late == 3 * 4 * history.ROWS
    assert done.rows == 0
    assert (await counts(filled)) | {"run": 0} == dict.fromkeys(await counts(filled), 0)
    await exact(filled, folder, history.history())


async def test_what_comes_late_becomes_a_file_of_its_own_that_compacting_merges(filled, folder):
    await archive(filled, folder)
    late = history.batch(SITES[0], OLD[0], 5_000)
    await Writer(filled).write([late, history.history()[0]])
    await archive(filled, folder)
    await exact(filled, folder, [*history.history(), late])
    days = Days(filled)
    place = Place(Signal.SPANS, SITES[0], FIRST)
    before = [entry for entry in (await days.manifest()).entries if entry.place == place]
    assert [entry.rows for entry in before] == [history.ROWS, history.ROWS]

    made = await archiver(filled, folder).compact(place)
    assert made.rows == 2 * history.ROWS
    await exact(filled, folder, [*history.history(), late])
    keys = [(one.trace_id, one.span_id) for one in history.rows_of(Folder(folder), made)]
    assert keys == sorted(keys)
    assert all((folder / entry.path).exists() for entry in before)  # for readers that have just asked
    assert [entry.path for entry in (await days.manifest()).entries if entry.place == place] == [made.path]

    await archive(filled, folder, grace_hours=0)
    assert not any((folder / entry.path).exists() for entry in before)
    await exact(filled, folder, [*history.history(), late])


async def test_a_row_of_a_day_that_was_never_here_goes_to_the_archive(filled, folder):
    stray = span(77, start_ns=5 * DAY)
    await Writer(filled).write([Batch(spans=[stray])])
    await archive(filled, folder)
    assert (await counts(filled))["span_late"] == 0
    await exact(filled, folder, [*history.history(), Batch(spans=[stray])])


async def test_a_writer_that_has_not_heard_of_the_fence_loses_nothing(filled, folder):
    slow = Writer(filled, window_age_s=3600)
    await slow.write([Batch(spans=[span(1)])])  # knows the days that are prepared
    await archive(filled, folder)
    late = span(500, start_ns=OLD[0] + HOUR)
    await slow.write([Batch(spans=[late])])
    assert await filled.fetchval("SELECT count(*) FROM wafer_data.span") == 2
    await archive(filled, folder)
    assert await filled.fetchval("SELECT count(*) FROM wafer_data.span") == 1
    await exact(filled, folder, [*history.history(), Batch(spans=[span(1), late])])


async def test_a_day_that_changes_while_it_is_dropped_stays_and_is_dropped_whole_later(filled, folder):
    days, shelf = Days(filled), Folder(folder)
    await archive(filled, folder, hot_hours=2000)
    meddled = []

    class Meddled(Days):
        async def drop(self, signal, day, fingerprint):
            if (signal, day) == (Signal.SPANS, FIRST) and not meddled:
                meddled.append(day)
                await filled.execute(
                    "INSERT INTO wafer_data.span SELECT (s).* FROM (SELECT jsonb_populate_record(s, "
                    "jsonb_build_object('span_id', 600)) AS s FROM wafer_data.span s WHERE start_time < $1 LIMIT 1) q",
                    (OLD[1]) // 1000,
                )
            return await super().drop(signal, day, fingerprint)

    done = await run_once(Meddled(filled), shelf, history.settings(folder), now_ns=NOW)
    assert f"spans {FIRST}" not in done.dropped
    assert f"spans {SECOND_DAY}" in done.dropped
    assert await filled.fetchval("SELECT count(*) FROM wafer_data.span") == 2 * history.ROWS + 1
    again = await run_once(days, shelf, history.settings(folder), now_ns=NOW)
    assert f"spans {FIRST}" in again.dropped
    found = await everything(filled, shelf)
    assert len(found[Signal.SPANS]) == len(set(found[Signal.SPANS])) == 4 * history.ROWS + 1


class Spoiled(Folder):
    """A folder whose disk changes one byte of every file."""

    @contextmanager
    def create(self, path):
        with super().create(path) as sink:
            yield sink
        if not path.endswith(".parquet"):
            return
        file = self._root / path
        content = bytearray(file.read_bytes())
        content[len(content) // 3] ^= 1
        file.write_bytes(content)


class Broken(Folder):
    """A folder whose disk is full."""

    @contextmanager
    def create(self, path):
        if path.endswith(".parquet"):
            raise StorageUnavailable("cannot write to the archive now: no space left on device")
        with super().create(path) as sink:
            yield sink


@pytest.mark.parametrize("shelf", [Spoiled, Broken])
async def test_what_does_not_read_back_is_not_recorded_and_nothing_is_dropped(filled, folder, shelf):
    done = await run_once(Days(filled), shelf(folder), history.settings(folder), now_ns=NOW)
    assert len([name for name in done.failed if name.startswith("spans")]) == len(SITES) * len(OLD)
    assert (await Days(filled).manifest()).entries == ()
    assert (await counts(filled))["span"] == 4 * history.ROWS
    healed = await archive(filled, folder)
    assert healed.failed == ()
    await exact(filled, folder, history.history())
    known = {entry.path for entry in (await Days(filled).manifest()).entries}
    assert set(Folder(folder).all()) == known | {owner.FILE}


async def test_a_day_whose_file_is_gone_stays_in_the_store(filled, folder):
    first = await run_once(Days(filled), Folder(folder), history.settings(folder), now_ns=NOW, drop=False)
    assert first is not None
    assert first.failed == ()
    lost = next(entry for entry in (await Days(filled).manifest()).entries if entry.place.signal is Signal.SPANS)
    (folder / lost.path).unlink()
    done = await archive(filled, folder)
    assert f"spans {lost.place.day}" not in done.dropped
    assert [failure for failure in done.failed if lost.path in failure]
    assert f"logs {lost.place.day}" in done.dropped
    assert await filled.fetchval("SELECT count(*) FROM wafer_data.span WHERE start_time::date = $1", lost.place.day) > 0


async def test_late_rows_of_a_day_whose_file_is_damaged_wait_and_hold_up_no_others(filled, folder):
    await archive(filled, folder)
    damaged = next(entry for entry in (await Days(filled).manifest()).entries if entry.place == _spans_of(SITES[0], FIRST))
    kept = (folder / damaged.path).read_bytes()
    (folder / damaged.path).write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    late = [history.batch(site, midnight, 5_000 + 10 * place, 3) for site in SITES for place, midnight in enumerate(OLD)]
    await Writer(filled).write(late)
    done = await archive(filled, folder)
    assert [failure for failure in done.failed if f"spans {FIRST} of {SITES[0]}" in failure]
    assert (await counts(filled))["span_late"] == 3
    assert (await counts(filled))["log_late"] == 0
    (folder / damaged.path).write_bytes(kept)
    assert (await archive(filled, folder)).failed == ()
    await exact(filled, folder, [*history.history(), *late])


async def test_a_place_that_fails_in_whatever_way_holds_up_no_other_and_its_day_stays(filled, folder):
    class Strange(Folder):
        @contextmanager
        def create(self, path):
            if f"spans/site={SITES[0]}" in path:
                raise ArithmeticError("of a library")
            with super().create(path) as sink:
                yield sink

    done = await run_once(Days(filled), Strange(folder), history.settings(folder), now_ns=NOW)
    assert f"spans {FIRST} of {SITES[0]}: ArithmeticError" in done.failed
    assert f"spans {FIRST}" not in done.dropped
    assert f"logs {FIRST}" in done.dropped
    sites = {entry.place.site for entry in (await Days(filled).manifest()).entries if entry.place.signal is Signal.SPANS}
    assert sites == {SITES[1]}
    assert (await archive(filled, folder)).failed == ()
    await exact(filled, folder, history.history())


async def test_rows_that_cannot_be_archived_keep_their_day_in_the_store_and_keep_no_late_rows_out(filled, folder, monkeypatch):
    monkeypatch.setattr(archiving, "LATE_ROWS", 5)
    odd = [
        Batch(spans=[span(number, resource=resource("odd"), start_ns=at + number)])
        for at in (OLD[0], 5 * DAY)
        for number in range(20)
    ]
    await Writer(filled).write(odd)
    key = await filled.fetchval("DELETE FROM wafer_data.resource WHERE site_id = $1 RETURNING resource_id", await _site(filled))
    stray = span(99, start_ns=5 * DAY + 1)
    await Writer(filled).write([Batch(spans=[stray])])
    done = await archive(filled, folder)
    assert [failure for failure in done.failed if failure.startswith(f"spans {FIRST}: 20 rows of it name a site, resource")]
    assert f"spans {FIRST}" not in done.dropped
    assert f"spans {SECOND_DAY}" in done.dropped
    left = await filled.fetch("SELECT DISTINCT resource_id FROM wafer_data.span_late")
    assert [row["resource_id"] for row in left] == [key]
    assert stray in (await history.in_archive(filled, Folder(folder)))[Signal.SPANS]


async def _site(pool):
    return await pool.fetchval("SELECT site_id FROM wafer_data.site WHERE name = 'odd'")


def _spans_of(site, day):
    return Place(Signal.SPANS, site, day)


async def test_runs_of_months_that_never_had_a_table_leave_when_they_are_old_enough(filled, folder):
    at = NOW - 900 * DAY
    old = [dataclasses.replace(ended(700 + n, site="f1"), start_ns=at + n, end_ns=at + SECOND) for n in range(3)]
    young = dataclasses.replace(ended(709, site="f1"), start_ns=NOW - 200 * DAY, end_ns=NOW - 199 * DAY)
    await Writer(filled).write([Batch(runs=[*old, young])])
    assert (await counts(filled))["run_default"] == 4
    done = await archive(filled, folder)
    assert done.failed == ()
    assert (await counts(filled))["run_default"] == 1
    assert set((await history.in_archive(filled, Folder(folder)))[Signal.RUNS]) == set(old)
    # What comes for that month later, on another day of it, follows.
    later = dataclasses.replace(ended(710, site="f1"), start_ns=at + DAY, end_ns=at + 2 * DAY)
    await Writer(filled).write([Batch(runs=[later])])
    await archive(filled, folder)
    assert set((await history.in_archive(filled, Folder(folder)))[Signal.RUNS]) == {*old, later}
    assert (await counts(filled))["run_default"] == 1


async def test_verifying_finds_a_changed_byte(filled, folder):
    await archive(filled, folder)
    steps = archiver(filled, folder)
    (*_, entry) = (await Days(filled).manifest()).entries
    await steps.verify(entry)
    path = folder / entry.path
    content = bytearray(path.read_bytes())
    content[40] ^= 1
    path.write_bytes(content)
    with pytest.raises(ArchiveDamaged):
        await steps.verify(entry)


async def test_a_day_that_is_brought_back_is_answered_by_the_store_until_it_may_leave_again(filled, folder):
    await archive(filled, folder)
    steps = archiver(filled, folder)
    for signal in BY_DAY:
        assert await steps.restore(signal, FIRST, day_of(NOW) + timedelta(days=3)) == 2 * history.ROWS
    await exact(filled, folder, history.history())
    assert (await counts(filled))["span"] == 2 * history.ROWS
    assert (await archive(filled, folder)).dropped == ()
    assert len((await archive(filled, folder, NOW + 3 * DAY)).dropped) >= 3
    assert (await counts(filled))["span"] == 0
    await exact(filled, folder, history.history())


async def test_redelivery_to_a_day_that_was_brought_back_is_kept_apart_and_taken_when_it_leaves(filled, folder):
    await archive(filled, folder)
    await archiver(filled, folder).restore(Signal.SPANS, FIRST, day_of(NOW) + timedelta(days=3))
    await Writer(filled).write([history.history()[0]])
    await archive(filled, folder, NOW + 3 * DAY)
    await exact(filled, folder, history.history())


async def test_files_of_days_older_than_ten_years_are_removed(filled, folder):
    await archive(filled, folder)
    later = NOW + 3660 * DAY
    assert (await archive(filled, folder, later - 20 * DAY, grace_hours=0, hot_run_days=36_500)).removed == 0
    done = await archive(filled, folder, later, grace_hours=0, hot_run_days=36_500)
    assert done.removed == len(BY_DAY) * len(SITES) * len(OLD)
    assert not list(folder.rglob("signal=spans/**/*.parquet"))


async def test_runs_leave_by_the_month_and_late_truth_is_merged_into_what_was_archived(filled, folder):
    later = NOW + 800 * DAY
    done = await archive(filled, folder, later, hot_hours=72)
    month = FIRST.replace(day=1)
    assert f"runs {month}" in done.dropped
    assert (await counts(filled))["run"] == 0
    told_before = {one.key: one for item in history.history() for one in item.runs}
    known = next(iter(told_before.values()))
    later_word = dataclasses.replace(ended(1), site=known.site, trace_id=known.trace_id, span_id=known.span_id)
    later_word = dataclasses.replace(
        later_word, start_ns=known.start_ns, end_ns=known.end_ns + SECOND, cpu_s=9.5, lot_ids=("L9",)
    )
    await Writer(filled).write([Batch(runs=[later_word, *list(told_before.values())[1:3]])])
    assert (await counts(filled))["run_default"] == 3
    await archive(filled, folder, later)
    assert (await counts(filled))["run_default"] == 0
    place = Place(Signal.RUNS, known.site, day_of(known.start_ns))
    await archiver(filled, folder, later).compact(place)
    found = {one.key: one for one in (await history.in_archive(filled, Folder(folder)))[Signal.RUNS]}
    assert found == told_before | {known.key: merge(known, later_word)}


async def test_a_run_that_changed_after_it_was_archived_is_archived_again_before_it_is_dropped(filled, folder):
    await archive(filled, folder)
    known = history.history()[0].runs[0]
    more = dataclasses.replace(known, cpu_s=77.0)
    await Writer(filled).write([Batch(runs=[more])])
    await archive(filled, folder, NOW + 800 * DAY)
    place = Place(Signal.RUNS, known.site, day_of(known.start_ns))
    await archiver(filled, folder).compact(place)
    found = {one.key: one for one in (await history.in_archive(filled, Folder(folder)))[Signal.RUNS]}
    assert found[known.key] == merge(known, more)
    assert len(found) == 4 * history.ROWS


async def test_a_run_in_two_files_is_printed_once_as_it_is_known_by_now(filled, folder):
    known = history.history()[0].runs[4]
    for runs in ([], [dataclasses.replace(known, cpu_s=7.25)]):
        await Writer(filled).write([Batch(runs=runs)])
        await archive(filled, folder, NOW + 45 * DAY, hot_run_days=1)
    entries = (await archiver(filled, folder).copies.entries(Signal.RUNS, FIRST))["f1"]
    assert len(entries) == 2
    found = archiver(filled, folder).some(entries, known.trace_id, 100)
    assert [run.cpu_s for run in found if run.key == known.key] == [7.25]
    assert len(found) == 5


async def test_one_archiver_works_at_a_time(filled, folder):
    async with Days(filled).leading() as leading:
        assert leading
        assert await archive(filled, folder) is None
    assert await archive(filled, folder) is not None


async def test_a_plan_names_what_a_round_then_does(filled, folder):
    steps = archiver(filled, folder)
    plan = await steps.plan()
    done = await archive(filled, folder)
    assert tuple(name for name, _ in plan.archive) == done.archived
    assert plan.drop == done.dropped
    assert sum(rows for _, rows in plan.archive) == done.rows == 16 * history.ROWS
    assert not list((await steps.plan()).archive)


async def test_a_large_day_becomes_several_files_of_several_row_groups(filled, folder, monkeypatch):
    monkeypatch.setattr(copies, "FILE_ROWS", 12)
    monkeypatch.setattr(files, "GROUP_ROWS", 5)
    monkeypatch.setattr(Days, "rows", _in_sevens(Days.rows))
    await archive(filled, folder)
    await exact(filled, folder, history.history())
    place = Place(Signal.SPANS, SITES[0], FIRST)
    entries = [entry for entry in (await Days(filled).manifest()).entries if entry.place == place]
    assert sorted(entry.rows for entry in entries) == [2, 14, 14]
    large = max(entries, key=lambda entry: entry.rows)
    rows = list(history.rows_of(Folder(folder), large))
    with Folder(folder).open(large.path) as source, files.Opened(source, Signal.SPANS, SITES[0]) as opened:
        assert opened.groups == 3
        groups = opened.groups_between(rows[0].trace_id, rows[0].trace_id)
        assert groups == [0]
        assert rows[0] in opened.made(opened.table(groups))


async def test_late_rows_are_compared_with_the_keys_of_a_row_group_at_a_time(filled, folder, monkeypatch):
    monkeypatch.setattr(files, "GROUP_ROWS", 5)
    await archive(filled, folder)
    looked = []

    def table(self, groups, columns=None):
        looked.append((self.signal, len(groups), columns))
        return whole(self, groups, columns)

    whole = files.Opened.table
    monkeypatch.setattr(files.Opened, "table", table)
    late = history.batch(SITES[0], OLD[0], 5_000, 3)
    await Writer(filled).write([late, history.history()[0]])
    await archive(filled, folder)
    assert {count for _, count, _ in looked} == {1}
    assert {(signal, columns) for signal, _, columns in looked} == {(one, TABLES[one].key_columns) for one in BY_DAY}
    monkeypatch.setattr(files.Opened, "table", whole)
    await exact(filled, folder, [*history.history(), late])


def _in_sevens(whole):
    async def rows(self, place):
        async for records in whole(self, place):
            for first in range(0, len(records), 7):
                yield records[first : first + 7]

    return rows


async def test_days_stay_longer_where_the_store_compresses_them(filled, folder):
    class Compressing(Days):
        async def hot_hours(self):
            return 24 * 90

    config = Config.load(folder=folder)
    done = await run_once(Compressing(filled), Folder(folder), config, now_ns=NOW)
    assert done.archived
    assert done.dropped == ()
    later = await run_once(Compressing(filled), Folder(folder), config, now_ns=NOW + 90 * DAY)
    assert f"spans {FIRST}" in later.dropped


async def test_the_last_beat_of_a_runs_process_is_archived_with_the_run_and_makes_no_new_version(filled, folder):
    beats = [beat(NOW - DAY), beat(NOW - DAY // 2)]
    known = dataclasses.replace(ended(3, site="f1"), process_key=beats[0].key, start_ns=OLD[0], end_ns=OLD[0] + SECOND)
    await Writer(filled).write([Batch(runs=[known], processes=beats[:1])])
    await archive(filled, folder)
    await Writer(filled).write([Batch(processes=beats[1:])])
    before = (await Days(filled).manifest()).entries
    await archive(filled, folder, NOW + 800 * DAY)
    assert len((await Days(filled).manifest()).entries) == len(before)
    (found,) = [run for run in (await history.in_archive(filled, Folder(folder)))[Signal.RUNS] if run.key == known.key]
    assert found.process_beat_ns == beats[0].beat_ns
