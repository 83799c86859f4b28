"""A month of days with maintenance on each: every row is kept once, and nothing grows that should not. At length, a year."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from datetime import date, timedelta

import pytest

from tests.storage.contract.builders import DAY, HOUR
from tests.storage.maintain.passing import DEAD_A_DAY, PROGRAMS_A_DAY, SITES, Life, Size
from wafermonitor.storage.archive.config import Config as ArchiveConfig
from wafermonitor.storage.archive.protocol import day_of
from wafermonitor.storage.config import Config as StorageConfig
from wafermonitor.storage.connect import connect
from wafermonitor.storage.maintain.config import Config
from wafermonitor.storage.maintain.outlook import Outlook, outlook
from wafermonitor.storage.maintain.steps import STEPS
from wafermonitor.storage.timescale.store import Storage

pytestmark = [pytest.mark.postgres, pytest.mark.servers]
STEADY = 12
"""By this day everything that is kept for some days has begun to leave."""
KEPT_DAYS = 7
"""Of dead letters, of the log, and of what the manifest says of removed files."""
NAMED_DAYS = 16, 23
"""So many days after they were last sent names are there at least, and at most: the oldest day that is stored counts."""
FULL = ("span", "log_record", "metric_point")
BUFFERS = ("span_late", "log_late", "metric_late", "run_replaced", "arrival")


@pytest.fixture
async def own(dsn: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Storage]:
    """The store, whose archive is a folder of the test's."""
    for name, value in {
        "ARCHIVE_ENABLED": "true",
        "ARCHIVE_GRACE_HOURS": "12",
        "ARCHIVE_HOT_RUN_DAYS": "60",
        "MAINTAIN_DEAD_LETTER_DAYS": str(KEPT_DAYS),
        "MAINTAIN_LOG_DAYS": str(KEPT_DAYS),
    }.items():
        monkeypatch.setenv(f"WAFER_{name}", value)
    opened = await connect(StorageConfig.load(dsn=dsn))
    assert isinstance(opened, Storage)
    yield opened
    await opened.close()


def first_kept(life: Life, days: int) -> date:
    """The first of the oldest month of runs that is still in the store after so many days."""
    last = day_of(life.first_ns + days * DAY + HOUR // 4)
    return (last - timedelta(days=ArchiveConfig.load().hot_run_days)).replace(day=1)


async def live(life: Life, days: int) -> tuple[Size, Outlook]:
    """All days, each without a step that fails; what stood there on the steady day, and what was said then of the last one."""
    await life.begin()
    for day in range(days):
        done = await life.live(day)
        assert [one for one in done if one.outcome == "failed"] == []
        if day == STEADY:
            now_ns = life.first_ns + (day + 1) * DAY + HOUR
            planned = await outlook(life.store, Config.load(), ArchiveConfig.load(), now_ns, ahead_days=days - 1 - day)
            steady = await life.size()
    return steady, planned


async def check_rows(life: Life) -> None:
    """Every row that was taken is in the store or in the archive, once, and nothing else is."""
    held = await life.in_store() + await life.in_archive()
    assert {name for name, count in held.items() if count > 1} == set()
    assert held.keys() == life.accepted


async def check_rollups(life: Life) -> None:
    """Every run that ended is counted once in hours, days, weeks and months, whether it is still here or archived."""
    ended = sum(name.startswith("run ") for name in life.accepted) - life.unended
    for unit in ("hourly", "daily", "weekly", "monthly"):
        assert await life.store.pool.fetchval(f"SELECT sum(ended) FROM wafer.job_{unit}_stats") == ended


async def check_sizes(life: Life, days: int, steady: Size, now: Size) -> None:
    """What must not grow did not, and the rest grew as it should."""
    # As many days stand ready as ever; months of runs come and go.
    assert {table: now.parts[table] for table in FULL} == {table: steady.parts[table] for table in FULL}
    assert all(now.rows[table] <= 1.1 * steady.rows[table] for table in FULL)
    assert all(now.bytes[table] <= 1.3 * steady.bytes[table] for table in FULL)
    # What rows pass through is empty, and does not keep the room of a bad day many times over.
    assert {table: now.rows[table] for table in BUFFERS} == dict.fromkeys(BUFFERS, 0)
    assert all(now.bytes[table] <= 2 * steady.bytes[table] + 2**20 for table in BUFFERS)
    # What is kept for a while.
    assert now.rows["dead_letter"] <= (KEPT_DAYS + 1) * DEAD_A_DAY * len(SITES)
    assert now.rows["maintenance_log"] <= (KEPT_DAYS + 2) * len(STEPS)
    assert now.files <= 5 * now.places
    assert now.rows["archive_manifest"] - now.files <= 80 * KEPT_DAYS
    # Names go some days after they were last sent, and with them nothing that is stored. Processes of runs that never end stay.
    some, all_ = (sum(last >= days - kept for last in life.last_sent.values()) for kept in NAMED_DAYS)
    for table in ("resource", "metric_series"):
        assert some <= now.rows[table] <= all_, (table, some, now.rows[table], all_)
    assert now.rows["scope"] == 1
    assert now.rows["process"] <= all_ + life.unended
    # What grows, and at which rate: runs that never told their end, archived days.
    assert life.unended == days * len(SITES)
    assert now.rows["run_open"] == life.unended_since(first_kept(life, days))
    # Numbers of names are used up by nothing but names.
    programs = days * PROGRAMS_A_DAY * len(SITES)
    for table, column, ever in (
        ("resource", "resource_id", programs + len(SITES)),
        ("metric_series", "series_id", programs + len(SITES)),
        ("app", "app_id", now.rows["app"]),
    ):
        assert await life.store.pool.fetchval(f"SELECT max({column}) FROM wafer_data.{table}") == ever
    # The catalog, which every day made and dropped goes through.
    assert now.catalog_rows <= 1.05 * steady.catalog_rows
    assert now.catalog_bytes <= 1.5 * steady.catalog_bytes


@pytest.mark.timeout(900)
async def test_a_month(own, monkeypatch):
    monkeypatch.setenv("WAFER_ARCHIVE_HOT_RUN_DAYS", "10")  # the month before leaves, unless today is the last of a long one
    life, days = Life(own, 30, a_day=1200, late=6), 30
    steady, planned = await live(life, days)
    await check_rows(life)
    await check_rollups(life)
    now = await life.size()
    await check_sizes(life, days, steady, now)
    # The disk was foreseen within a fifth, and each table of days within a third.
    assert planned.later_bytes == pytest.approx(sum(now.bytes.values()), rel=0.2)
    rooms = {room.table: room.later_bytes for room in planned.rooms}
    assert {table: rooms[table] for table in FULL} == pytest.approx({table: now.bytes[table] for table in FULL}, rel=0.33)


@pytest.mark.skipif(not os.environ.get("WAFER_TEST_SOAK"), reason="takes a quarter of an hour: `make soak`")
@pytest.mark.timeout(3600)
async def test_a_year_at_a_hundredth(own):
    life, days = Life(own, 365, a_day=12, late=1), 365
    steady, _ = await live(life, days)
    await check_rows(life)
    await check_rollups(life)
    now = await life.size()
    await check_sizes(life, days, steady, now)
    # Months of runs leave after 60 days.
    assert now.parts["run"] <= 6
    assert now.rows["run"] <= 0.3 * sum(name.startswith("run ") for name in life.accepted)
