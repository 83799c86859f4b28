"""Old rows of two sites over several days, and a round of the archive over them: what the tests of the archive start from.

Run as a program it is an archiver that ends itself by kill -9 at a given step:

    python -m tests.storage.archive.history DSN FOLDER NOW_NS STEP NTH
"""

from __future__ import annotations

import asyncio
import os
import signal as signals
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import asyncpg

from tests.storage.contract.builders import (
    DAY,
    HOUR,
    NOW,
    SECOND,
    digest,
    ended,
    log,
    point,
    resource,
    series,
    span,
    trace_id,
)
from wafermonitor.runs.records import Batch
from wafermonitor.storage.archive import files
from wafermonitor.storage.archive.archiver import Archiver, Done, compact_once, run_once
from wafermonitor.storage.archive.config import Config
from wafermonitor.storage.archive.protocol import Entry, Place, Signal, day_of
from wafermonitor.storage.archive.shelf import Folder, Shelf
from wafermonitor.storage.timescale import codecs
from wafermonitor.storage.timescale.days import Days
from wafermonitor.storage.timescale.session import SETTINGS
from wafermonitor.storage.timescale.writer import Writer

TODAY = NOW // DAY * DAY
OLD = tuple(TODAY - days * DAY for days in (6, 5))
"""Midnights of days that are to be archived and dropped at NOW."""
SITES = ("f1", "f2 / east")
ROWS = 30
"""Of each signal, site and day."""


def batch(site: str, midnight: int, first: int, count: int = ROWS) -> Batch:
    """Rows of all signals, spread over a day; `first` makes them differ from others."""
    where = resource(site)
    numbers = range(first, first + count)

    def at(number: int) -> int:
        return midnight + 2 * HOUR + number % 1000 * 60 * SECOND + number

    return Batch(
        spans=[
            span(
                number,
                resource=where,
                trace_id=trace_id(number // 5),
                start_ns=at(number),
                attributes=f'{{"lot":"L{number % 7}","n":{number},"ratio":{number / 7}}}',
                events=f'[{{"attributes":{{}},"name":"checked","time_ns":{at(number) + 7}}}]' if number % 3 else None,
            )
            for number in numbers
        ],
        logs=[
            log(
                number,
                resource=where,
                time_ns=at(number),
                trace_id=trace_id(number // 5) if number % 4 else None,
                digest=digest(site, number),
            )
            for number in numbers
        ],
        points=[point(number, series=series(resource=where), time_ns=at(number)) for number in numbers],
        runs=[
            ended(number, site=site, trace_id=trace_id(number // 5), start_ns=at(number), end_ns=at(number) + SECOND)
            for number in numbers
        ],
    )


def history() -> list[Batch]:
    """All of it."""
    return [batch(site, midnight, 100 * place) for place, midnight in enumerate(OLD) for site in SITES]


def settings(folder: Path, **given: object) -> Config:
    """An archive in a folder."""
    return Config.load(**{"folder": folder, "hot_hours": 72} | given)


@asynccontextmanager
async def opened(dsn: str):
    """A pool as the store's own."""
    pool = await asyncpg.create_pool(dsn, min_size=1, max_size=4, init=codecs.register, server_settings=SETTINGS)
    try:
        yield pool
    finally:
        await pool.close()


async def prepare(pool: asyncpg.Pool, oldest_ns: int = OLD[0]) -> None:
    """Partitions for the old days, as they were made when these days were new."""
    await pool.execute(
        "SELECT wafer_data.keep_partitions($1::date, $2::date, $1::date)", day_of(oldest_ns), day_of(NOW) + timedelta(days=7)
    )


async def fill(pool: asyncpg.Pool) -> None:
    """The history, written as a receiver writes it."""
    await prepare(pool)
    await Writer(pool).write(history())


async def in_store(pool: asyncpg.Pool) -> dict[Signal, list]:
    """Every row that the store has, hot or late, as records."""
    found: dict[Signal, list] = {}
    days = Days(pool)
    for signal in Signal:
        found[signal] = []
        sites = [row["name"] for row in await pool.fetch("SELECT name FROM wafer_data.site")]
        for day in sorted({day_of(midnight) for midnight in range(TODAY - 7 * DAY, TODAY + DAY, DAY)}):
            for site in sites:
                async for records in days.rows(Place(signal, site, day)):
                    found[signal] += records
        found[signal] += await late_rows(pool, signal)
    return found


async def late_rows(pool: asyncpg.Pool, signal: Signal) -> list:
    """What stands in a late table, whatever its day; runs have none."""
    from wafermonitor.storage.timescale.days import _SOURCES
    from wafermonitor.storage.timescale.statements import statement

    if signal is Signal.RUNS:
        return []
    rows = await pool.fetch(statement(f"archive_late_{signal}"), day_of(NOW + 365 * DAY), [], 100_000, [], [])
    return [_SOURCES[signal].record(row) for row in rows]


async def in_archive(pool: asyncpg.Pool, shelf: Shelf, *, dropped: bool = True) -> dict[Signal, list]:
    """Every row that the archive answers with: files of the manifest whose day was dropped."""
    found: dict[Signal, list] = {signal: [] for signal in Signal}
    for entry in (await Days(pool).manifest()).entries:
        if entry.dropped or not dropped:
            found[entry.place.signal] += rows_of(shelf, entry)
    return found


def rows_of(shelf: Shelf, entry: Entry) -> Iterator:
    with shelf.open(entry.path) as source:
        for records in files.Opened(source, entry.place.signal, entry.place.site).records():
            yield from records


def told(batches: Sequence[Batch]) -> dict[Signal, set]:
    """What was written, as the archive should have it."""
    return {
        Signal.SPANS: {one for item in batches for one in item.spans},
        Signal.LOGS: {one for item in batches for one in item.logs},
        Signal.METRICS: {one for item in batches for one in item.points},
        Signal.RUNS: {one for item in batches for one in item.runs},
    }


async def everything(pool: asyncpg.Pool, shelf: Shelf) -> dict[Signal, list]:
    """Store and archive together: each row must be there once."""
    hot, archived = await in_store(pool), await in_archive(pool, shelf)
    return {signal: hot[signal] + archived[signal] for signal in Signal}


async def archive(pool: asyncpg.Pool, folder: Path, now_ns: int = NOW, **given: object) -> Done | None:
    """One round."""
    return await run_once(Days(pool), Folder(folder), settings(folder, **given), now_ns=now_ns)


def archiver(pool: asyncpg.Pool, folder: Path, now_ns: int = NOW) -> Archiver:
    """Single steps."""
    return Archiver(Days(pool), Folder(folder), settings(folder), now_ns)


def killed(pool: asyncpg.Pool, folder: Path, last: str) -> Archiver:
    """As `archiver`, but it is cancelled as soon as it has done a step of this kind."""

    def end(step: str, where: str, rows: int) -> None:
        if step == last:
            raise asyncio.CancelledError

    return Archiver(Days(pool), Folder(folder), settings(folder), NOW, end)


async def _until(dsn: str, folder: Path, now_ns: int, last: tuple[str, int]) -> None:
    counts: Counter[str] = Counter()

    def count(step: str, where: str, rows: int) -> None:
        counts[step] += 1
        if (step, counts[step]) == last:
            os.kill(os.getpid(), signals.SIGKILL)

    config, quiet_ns = settings(folder, grace_hours=0), time.time_ns() + 8 * DAY
    async with opened(dsn) as pool:
        await run_once(Days(pool), Folder(folder), config, now_ns=now_ns, on_step=count)
        await compact_once(Days(pool), Folder(folder), config, now_ns=quiet_ns, on_step=count)


if __name__ == "__main__":
    asyncio.run(_until(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), (sys.argv[4], int(sys.argv[5]))))
