"""Whose archive it is: a store touches no other's files, and one that came from a backup deletes none that it does not know."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from tests.storage.archive import history
from tests.storage.archive.history import NOW, OLD, SITES, Folder, archive, archiver, everything, told
from tests.storage.contract.builders import DAY
from wafermonitor.storage.archive import owner
from wafermonitor.storage.archive.adopting import adopt
from wafermonitor.storage.archive.protocol import Place, Signal, day_of
from wafermonitor.storage.errors import ArchiveDamaged, ArchiveForeign
from wafermonitor.storage.timescale.days import Days
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.postgres
FIRST, SECOND_DAY = (day_of(midnight) for midnight in OLD)
BY_DAY = (Signal.SPANS, Signal.LOGS, Signal.METRICS)


def first_day():
    return [history.batch(site, OLD[0], 100) for site in SITES]


def second_day():
    return [history.batch(site, OLD[1], 200) for site in SITES]


def late():
    return [history.batch(SITES[0], OLD[0], 5_000, 7)]


@pytest.fixture
async def filled(pool):
    await history.prepare(pool)
    await Writer(pool).write(first_day())
    return pool


async def exact(pool, folder, batches):
    found, wanted = await everything(pool, Folder(folder)), told(batches)
    for signal in Signal:
        assert len(found[signal]) == len(wanted[signal]), signal
        assert set(found[signal]) == wanted[signal], signal
    for entry in (await Days(pool).manifest()).entries:
        await archiver(pool, folder).verify(entry)


async def test_a_second_store_in_the_same_place_is_refused_with_both_names_and_deletes_nothing(filled, folder, postgres):
    await archive(filled, folder)
    before = Folder(folder).all()
    dsn = postgres.migrated()
    async with history.opened(dsn) as other:
        await history.fill(other)
        with pytest.raises(ArchiveForeign, match="none yet"):
            await archive(other, folder)
        elsewhere = folder / "elsewhere"
        await archive(other, elsewhere)
        names = [(await Days(pool).identity()).archive for pool in (filled, other)]
        with pytest.raises(ArchiveForeign) as refused:
            await archive(other, folder)
        assert all(name in str(refused.value) for name in names)
        with pytest.raises(ArchiveForeign):
            await adopt(archiver(other, folder))
        with pytest.raises(ArchiveForeign):  # nor by a step on its own
            await archiver(other, folder).compact(Place(Signal.SPANS, SITES[0], FIRST))
        shutil.rmtree(elsewhere)
    postgres.drop(dsn)
    assert Folder(folder).all() == before
    await exact(filled, folder, first_day())


async def test_files_of_another_store_that_stand_among_ours_stay(filled, folder):
    await archive(filled, folder, hot_hours=2000)
    ours = next(path for path in Folder(folder).all() if path.startswith("signal=spans"))
    others = [
        folder / ours.replace(ours.rpartition("/")[2], name) for name in ("deadbeef-00.parquet", "0000.parquet", ".x.part")
    ]
    for path in others:
        shutil.copy(folder / ours, path)
    await Writer(filled).write([history.batch(SITES[0], OLD[0], 7_000, 3)])
    await archive(filled, folder)
    assert all(path.exists() for path in others)


@pytest.fixture
async def restored(filled, dsn, postgres, folder):
    """A pool of the database as it was when its first day had left. The archive went on meanwhile.

    Late rows came and were merged, the second day left, files that were merged are deleted.
    """
    await archive(filled, folder, NOW - DAY)
    copy = postgres.database()
    await _copy(postgres, dsn, copy)
    await Writer(filled).write([*late(), *second_day()])
    await archive(filled, folder)
    await archiver(filled, folder).compact(Place(Signal.SPANS, SITES[0], FIRST))
    assert (await archive(filled, folder, grace_hours=0)).removed == 2
    await exact(filled, folder, [*first_day(), *late(), *second_day()])
    async with history.opened(copy) as pool:
        yield pool
    postgres.drop(copy)


async def _copy(postgres, dsn, copy):
    import asyncio
    import subprocess

    def copied():
        dumped = subprocess.run([postgres.program("pg_dump"), "--format=custom", dsn], capture_output=True, check=True)
        subprocess.run(
            [postgres.program("pg_restore"), "--dbname", copy, "--exit-on-error"],
            input=dumped.stdout,
            check=True,
            capture_output=True,
        )

    await asyncio.to_thread(copied)


async def test_after_an_older_backup_was_restored_no_newer_file_is_touched_until_it_is_adopted(restored, folder):
    before = Folder(folder).all()
    with pytest.raises(ArchiveForeign, match="wafer archive adopt"):
        await archive(restored, folder)
    assert Folder(folder).all() == before
    unknown = await archiver(restored, folder).copies.unknown()
    assert len(unknown) == 3 + 8  # of the late rows, and of the second day with its runs
    adopted = await adopt(archiver(restored, folder))
    assert adopted.failed == ()
    assert await archiver(restored, folder).copies.unknown() == []
    found = await everything(restored, Folder(folder))
    wanted = told([*first_day(), *late(), *second_day()])
    for signal in BY_DAY:
        assert set(found[signal]) == wanted[signal]
        assert len(found[signal]) == len(wanted[signal])
    assert (await archive(restored, folder)).failed == ()
    assert (await archive(restored, folder, NOW + 800 * DAY)).failed == ()
    # Runs that came after the backup and were not archived yet are lost with the database.
    without_runs = [dataclasses.replace(batch, runs=()) for batch in late()]
    await exact(restored, folder, [*first_day(), *without_runs, *second_day()])


async def test_the_database_that_the_archive_was_taken_from_is_refused_from_then_on(filled, restored, folder):
    await adopt(archiver(restored, folder))
    with pytest.raises(ArchiveForeign, match="another database"):
        await archive(filled, folder)


async def test_a_new_store_takes_an_archive_over_whose_database_is_lost(filled, folder, postgres):
    await Writer(filled).write(second_day())
    await archive(filled, folder, NOW + 800 * DAY)
    dsn = postgres.migrated()
    async with history.opened(dsn) as pool:
        await history.prepare(pool, NOW)
        adopted = await adopt(archiver(pool, folder))
        assert adopted.failed == ()
        assert adopted.rows == 16 * history.ROWS
        await exact(pool, folder, [*first_day(), *second_day()])
        await archive(pool, folder)
        await exact(pool, folder, [*first_day(), *second_day()])
    postgres.drop(dsn)


async def test_a_backup_from_the_midst_of_a_round_loses_nothing_of_what_that_round_wrote(filled, folder):
    await archive(filled, folder)
    await Writer(filled).write(late())
    await archive(filled, folder)
    place = Place(Signal.SPANS, SITES[0], FIRST)
    (*_, newest) = [entry for entry in (await Days(filled).manifest()).entries if entry.place == place]
    await filled.execute("DELETE FROM wafer_data.archive_manifest WHERE path = $1", newest.path)  # as the manifest was before
    await Writer(filled).write(late())
    await archive(filled, folder)
    await exact(filled, folder, [*first_day(), *late()])


async def test_a_place_without_the_archives_file_is_not_the_archive(filled, folder):
    await archive(filled, folder)
    (folder / owner.FILE).unlink()
    with pytest.raises(ArchiveForeign, match=r"there is no archive\.json"):
        await archive(filled, folder)
    await adopt(archiver(filled, folder))
    assert (await archive(filled, folder)).failed == ()
    (folder / owner.FILE).write_text("{}")
    with pytest.raises(ArchiveDamaged, match=r"archive\.json"):
        await archive(filled, folder)


async def test_where_there_is_no_archive_there_is_none_to_adopt(filled, folder):
    with pytest.raises(ArchiveForeign, match="no archive here"):
        await adopt(archiver(filled, folder))


async def test_whoever_lost_the_lock_publishes_and_deletes_nothing_more(filled, folder, dsn):
    from wafermonitor.storage.archive.archiver import run_once
    from wafermonitor.storage.errors import StorageUnavailable

    cut = []

    def cut_the_lock(step, where, rows):
        if step == "verified" and not cut:
            cut.append(where)

    class Cut(Days):
        async def record(self, *words, **given):
            if cut == cut[:1] and len(cut) == 1:
                cut.append("cut")
                await filled.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND objid = 1912602640"
                    " AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                    " AND pid <> pg_backend_pid()"
                )
            return await super().record(*words, **given)

    with pytest.raises(StorageUnavailable):
        await run_once(Cut(filled), Folder(folder), history.settings(folder), now_ns=NOW, on_step=cut_the_lock)
    assert cut
    assert (await Days(filled).manifest()).entries == ()
    assert await filled.fetchval("SELECT count(*) FROM wafer_data.span") == 2 * history.ROWS
    assert (await archive(filled, folder)).failed == ()
    await exact(filled, folder, first_day())
