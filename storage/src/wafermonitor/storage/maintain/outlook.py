"""What maintenance will do next, and how much disk the store takes in 90 days; whether maintenance is alive.

In: an opened store, settings, now. Out: `Outlook`, `Standing` rows. Called by: `wafer maintain plan`, `status`.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

from wafermonitor.storage.archive.config import Config as ArchiveConfig
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.maintain.config import Config
from wafermonitor.storage.maintain.keeper import patience_s
from wafermonitor.storage.maintain.steps import NO_EXTRA, STEPS, extra
from wafermonitor.storage.timescale import maintenance
from wafermonitor.storage.timescale.failures import border
from wafermonitor.storage.timescale.store import Storage

if TYPE_CHECKING:
    from wafermonitor.storage.archive.archiver import Archiver

AHEAD_DAYS = 90
_BY_DAY = frozenset({"span", "log_record", "metric_point"})


class Room(NamedTuple):
    """One table: bytes now, bytes a day, bytes in 90 days."""

    table: str
    bytes: int
    daily_bytes: float
    later_bytes: float


class Outlook(NamedTuple):
    """What the next round archives (with rows), drops and merges (archived days), and the room that everything takes.

    `rooms`: the largest tables first. `free_bytes`: of the embedded store's disk. `full_in_days`: None: not in 90.
    """

    archive: tuple[tuple[str, int], ...]
    drop: tuple[str, ...]
    merge: int
    keeps: str
    rooms: tuple[Room, ...]
    bytes: int
    later_bytes: float
    archive_daily_bytes: float
    free_bytes: int | None
    full_in_days: int | None


class Standing(NamedTuple):
    """How a step stands: never, late, failing or good."""

    step: str
    does: str
    standing: str
    last_success: str | None
    report: str


async def outlook(
    store: Storage, config: Config, archive: ArchiveConfig, now_ns: int, *, ahead_days: int = AHEAD_DAYS
) -> Outlook:
    """What will be done at the next round, and the disk `ahead_days` from now. Raises StorageUnavailable."""
    archiver = _archiver(store, archive, now_ns)
    drop: tuple[str, ...] = ()
    with border("look ahead"):
        async with store.pool.acquire() as connection:
            parts = await maintenance.growth(connection, now_ns)
            archive_daily = await maintenance.archived_daily_bytes(connection) if archiver is not None else 0.0
            oldest = await maintenance.oldest_day(connection)
            if not archive.enabled and config.drop_unarchived_days is not None:
                drop = await maintenance.unarchived(
                    connection, config.drop_unarchived_days, config.drop_unarchived_run_days, now_ns
                )
    stays_days = await _stays_days(config, archive, archiver)
    today = datetime.fromtimestamp(now_ns / 1e9, UTC).date()
    stored_days = (today - oldest).days if oldest is not None else 0
    rooms = tuple(Room(*part, _later(part, stays_days, stored_days, ahead_days)) for part in parts)
    plan = await archiver.plan() if archiver is not None else None
    merge = len(await archiver.worth_merging()) if archiver is not None else 0
    free = shutil.disk_usage(store.server.folder.data).free if store.server is not None else None
    on_disk = archive_daily if not archive.bucket else 0.0
    total = sum(part.bytes for part in parts)
    full = None
    if free is not None:
        for day in range(1, ahead_days + 1):
            if sum(_later(part, stays_days, stored_days, day) for part in parts) - total + on_disk * day > free:
                full = day
                break
    return Outlook(
        plan.archive if plan is not None else (),
        plan.drop if plan is not None else drop,
        merge,
        _keeps(config, archive, stays_days),
        rooms,
        total,
        sum(room.later_bytes for room in rooms),
        archive_daily,
        free,
        full,
    )


async def standings(store: Storage, archive: ArchiveConfig, now_ns: int) -> list[Standing]:
    """Every step; those that may take hours only where they ever ran or must run (the archive, while it is on)."""
    with border("read the maintenance log"):
        async with store.pool.acquire() as connection:
            states = await maintenance.states(connection)
    now_s = now_ns / 1e9
    found = []
    for step in STEPS:
        state = states.get(step.name)
        if state is None and step.long and (step.name != "archive" or not archive.enabled):
            continue
        longest_s = patience_s(step, archive, store.config.maintain_interval_s)
        last_s = state.last_success_s if state is not None else None
        if state is None:
            standing = "never"
        elif state.failing:
            standing = "failing"
        else:
            standing = "late" if last_s is None or now_s - last_s > longest_s else "good"
        last = datetime.fromtimestamp(last_s, UTC).isoformat(timespec="seconds") if last_s is not None else None
        found.append(Standing(step.name, step.does, standing, last, state.report if state is not None else ""))
    return found


async def _stays_days(config: Config, archive: ArchiveConfig, archiver: Archiver | None) -> float | None:
    """How long spans, log records and points stay in the store; None: for ever."""
    if archive.enabled:
        return await archiver.hot_hours() / 24 + 1 if archiver is not None else None
    return float(config.drop_unarchived_days) if config.drop_unarchived_days is not None else None


def _later(part: maintenance.Part, stays_days: float | None, stored_days: int, ahead: int) -> float:
    """Bytes of a table `ahead` days from now: tables by day shed what is older than it stays."""
    if part.table not in _BY_DAY or stays_days is None or part.daily_bytes == 0:
        return part.bytes + part.daily_bytes * ahead
    return part.daily_bytes * min(stays_days, stored_days + ahead)


def _keeps(config: Config, archive: ArchiveConfig, stays_days: float | None) -> str:
    if stays_days is None:
        return NO_EXTRA if archive.enabled else "nothing is ever dropped: the archive is off"
    where = f"archived to {archive.bucket or archive.folder}" if archive.enabled else "not archived"
    runs = archive.hot_run_days if archive.enabled else config.drop_unarchived_run_days
    return (
        f"spans, log records and metrics stay {stays_days:g} days ({where}), runs {runs} days, "
        f"rollups {config.rollup_years:g} years"
    )


def _archiver(store: Storage, archive: ArchiveConfig, now_ns: int) -> Archiver | None:
    """None while archiving is off, or where its extra is not installed."""
    if not archive.enabled:
        return None
    try:
        with extra():
            from wafermonitor.storage.archive.archiver import Archiver
            from wafermonitor.storage.archive.shelf import open_shelf
    except StorageRejected:
        return None
    from wafermonitor.storage.timescale.days import Days

    return Archiver(Days(store.pool), open_shelf(archive), archive, now_ns)
