"""Days go to the archive, are verified there, and only then leave the store. Killed anywhere, nothing is lost or doubled.

In: a store (`Days`), a shelf, the settings, now. Out: files, manifest rows, dropped days. Called by: `wafer archive`, and
`wafer maintain` by `run_once`.

What makes each step safe: the archive is this store's own, and no other database has used it since (`owner`); a file is read
back before the manifest has it; a file that the manifest does not have is deleted only when all its rows are in one that it
has; a day is fenced before it is archived, so that what comes later is late; it is dropped only under its fingerprint, in the
transaction that says who answers from then on; late rows are deleted in the transaction that records the file they went to.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncGenerator, Coroutine, Sequence
from dataclasses import replace
from datetime import date, timedelta
from itertools import groupby, islice
from typing import Any, NamedTuple, TypeVar

from wafermonitor.runs.records import Run
from wafermonitor.storage.archive import copies
from wafermonitor.storage.archive.config import Config
from wafermonitor.storage.archive.copies import Copies, batches_of, merged, once, order_of
from wafermonitor.storage.archive.protocol import Days, Entry, Late, Place, Signal, Step, day_of
from wafermonitor.storage.archive.shelf import Shelf
from wafermonitor.storage.archive.tables import TABLES
from wafermonitor.storage.errors import ArchiveDamaged, StorageError, StorageRejected

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
LATE_ROWS = 20_000
"""Late rows taken at a time."""
_HOUR_NS = 3_600_000_000_000
_DAYS_A_YEAR = 365.25
_MANY_FILES = 4
"""A day is merged at once when it has so many files more than it needs: sooner would write it anew for each handful of rows."""
_QUIET_DAYS = 7
"""With fewer it is merged when nothing has come for so long."""
COMPACTED_ROWS = 20_000_000
"""Rows that one round of merging reads and writes at most: half an hour or so; the next round goes on."""


class Done(NamedTuple):
    """What one round did: days as `signal date`, rows written, late rows taken, files removed, what failed and why."""

    archived: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    rows: int = 0
    late: int = 0
    removed: int = 0
    failed: tuple[str, ...] = ()


class Plan(NamedTuple):
    """What a round would do: days to archive with their rows, days to drop, files to remove for their age."""

    archive: tuple[tuple[str, int], ...]
    drop: tuple[str, ...]
    expire: tuple[str, ...]


class Compacted(NamedTuple):
    """What a round of merging did: the new files, the rows in them, what failed and why."""

    merged: tuple[str, ...] = ()
    rows: int = 0
    failed: tuple[str, ...] = ()


def quiet(step: str, where: str, rows: int) -> None:
    """Tell nobody."""


async def run_once(
    days: Days, shelf: Shelf, config: Config, *, now_ns: int, drop: bool = True, on_step: Step = quiet
) -> Done | None:
    """One round: archive what has been over for `after_hours`, take late rows, drop what has been over for `hot_hours`.

    None when another process is at it; nothing is done while `config.enabled` is False. `drop=False` leaves every day in the
    store. A day that fails is told of in `failed` and tried again in the next round; the others go on. Files that are too old,
    or were compacted away, are removed. Raises StorageUnavailable when the store does not answer, or the lock was lost;
    ArchiveForeign when the archive is another store's.
    """
    if not config.enabled:
        return Done()
    async with days.leading() as leading:
        if not leading:
            return None
        return await Archiver(days, shelf, config, now_ns, on_step).round(drop=drop)


async def compact_once(
    days: Days, shelf: Shelf, config: Config, *, now_ns: int, most_rows: int = COMPACTED_ROWS, on_step: Step = quiet
) -> Compacted | None:
    """Merge the files of days that have left the store and have more than they need, `most_rows` at most, or one day.

    The files that were merged stay for `grace_hours`; the next `run_once` deletes them. None when another process is at it.
    Raises StorageUnavailable when the store does not answer.
    """
    async with days.leading() as leading:
        if not leading:
            return None
        return await Archiver(days, shelf, config, now_ns, on_step).compact_due(most_rows)


class Archiver:
    """The steps of a round. Only the leader may take them."""

    def __init__(self, days: Days, shelf: Shelf, config: Config, now_ns: int, on_step: Step = quiet) -> None:
        self.days = days
        self.copies = Copies(days, shelf, on_step)
        self.failed: list[str] = []
        self._stuck: dict[Signal, list[Place]] = {signal: [] for signal in Signal}
        self._shelf = shelf
        self._config = config
        self._now_ns = now_ns
        self._step = on_step

    async def plan(self) -> Plan:
        """What `round` would do now: nothing while archiving is switched off."""
        archive: list[tuple[str, int]] = []
        drop: list[str] = []
        if not self._config.enabled:
            return Plan((), (), ())
        for signal in Signal:
            pending = await self._pending(signal, self.archived_before())
            archive += [(_named(signal, day), sum((await self.days.counts(signal, day)).values())) for day in pending]
            drop += [_named(signal, day) for day in await self._droppable(signal, pending)]
        return Plan(tuple(archive), tuple(drop), tuple(entry.path for entry in await self._expired()))

    async def round(self, *, drop: bool) -> Done:
        """Every step once."""
        archived: list[str] = []
        dropped: list[str] = []
        rows = 0
        await self.copies.claim()
        await self.guarded("what a killed restore left", self.days.forget_restore())
        before = await self.days.fence(self.archived_before())
        self._step("fenced", str(before), 0)
        for signal in Signal:
            for day in await self._pending(signal, before):
                name = _named(signal, day)
                written = await self.guarded(name, self.archive_day(signal, day))
                archived += [name] if written is not None else []
                rows += written or 0
        late = await self.guarded("late rows", self.take_late()) or 0
        if drop:
            for signal in Signal:
                for day in await self._droppable(signal):
                    name = _named(signal, day)
                    dropped += [name] if await self.guarded(name, self.drop_day(signal, day)) else []
            late += await self.guarded("late rows", self.take_late()) or 0
        await self.guarded("old files", self.expire())
        removed = await self.guarded("retired files", self.remove_retired()) or 0
        return Done(tuple(archived), tuple(dropped), rows, late, removed, tuple(self.failed))

    async def hot_hours(self) -> float:
        """What is set, else what the store can afford."""
        config = self._config
        return (
            config.hot_hours if "hot_hours" in config.model_fields_set else max(config.hot_hours, await self.days.hot_hours())
        )

    async def archive_day(self, signal: Signal, day: date) -> int:
        """Write what the archive lacks of a day, for every site; rows written. A site that fails holds up no other one."""
        written = 0
        failed = len(self.failed)
        for site, count in sorted((await self.days.counts(signal, day)).items()):
            place = Place(signal, site, day)
            written += await self.guarded(_placed(place), self._archive_place(place, count)) or 0
        if len(self.failed) > failed:
            raise _Told
        await self.days.record(signal, [], whole=day)
        self._step("archived", _named(signal, day), written)
        return written

    async def _archive_place(self, place: Place, count: int) -> int:
        have = (await self.copies.entries(place.signal, place.day)).get(place.site, [])
        if have and place.signal is not Signal.RUNS and sum(entry.rows for entry in have) == count:
            return 0
        if await self.copies.take_in(place):
            have = (await self.copies.entries(place.signal, place.day)).get(place.site, [])
        rows = self.days.rows(place)
        entries = await self.copies.write(place, self.copies.lacking(have, rows) if have else rows)
        written = sum(entry.rows for entry in entries)
        if entries:
            await self.days.record(place.signal, entries)
            self._step("recorded", entries[0].path, written)
        return written

    async def drop_day(self, signal: Signal, day: date) -> bool:
        """Take a day (of runs: a month) out of the store, if the archive has all of it; False when it changed meanwhile.

        Its files are read back first: ArchiveDamaged or StorageUnavailable when one is gone or changed, and nothing is dropped.
        StorageRejected when rows of it cannot be archived.
        """
        held = await self.days.fingerprint(signal, day)
        if held is None:
            return False
        archivable = 0
        for one in await self._days_of(signal, day):
            await self.archive_day(signal, one)
            archivable += sum((await self.days.counts(signal, one)).values())
            # Days may have passed since the files were written: whoever moved the archive would lose the day here.
            for entries in (await self.copies.entries(signal, one)).values():
                for entry in entries:
                    await self.verify(entry)
        if archivable < held.rows:
            raise StorageRejected(
                f"{held.rows - archivable} rows of it name a site, resource, scope or series that the store does not have: "
                "they cannot be archived, so nothing of it is dropped"
            )
        self._step("complete", _named(signal, day), 0)
        dropped = await self.days.drop(signal, day, held)
        self._step("dropped" if dropped else "changed", _named(signal, day), 0)
        return dropped

    async def take_late(self) -> int:
        """Late rows of days that are dropped, or were never here: what the archive lacks becomes a file; all are deleted.

        So do runs of such months that never told their end leave. Those of a place that fails stay, and hold up no others.
        """
        taken = 0
        for signal in Signal:
            while late := await self.days.late(signal, LATE_ROWS, runs_before=self._runs_before(), without=self._stuck[signal]):
                taken += await self._take(signal, late)
        return taken

    async def expire(self) -> None:
        """Retire files whose day is older than `keep_years`."""
        expired = await self._expired()
        for signal, entries in groupby(
            sorted(expired, key=lambda entry: entry.place.signal), key=lambda entry: entry.place.signal
        ):
            paths = [entry.path for entry in entries]
            await self.days.record(signal, [], retire=paths)
            self._step("expired", signal.value, len(paths))

    async def remove_retired(self) -> int:
        """Delete files that nobody reads any more."""
        paths = await self.days.removable(self._config.grace_hours)
        removed = []
        for path in paths:
            await self.copies.claim()
            await self.days.confirm()
            try:
                await asyncio.to_thread(self._shelf.remove, path)
            except StorageError as error:
                self.failed.append(f"{path}: {error}")  # held by an object lock: the next round tries again
            else:
                removed.append(path)
                self._step("deleted", path, 0)
        await self.days.removed(removed)
        return len(removed)

    async def compact(self, place: Place) -> Entry | None:
        """Merge a place's files into one; None when there is one or none."""
        await self.copies.take_in(place)
        entries = (await self.copies.entries(place.signal, place.day)).get(place.site, [])
        if len(entries) < 2:  # noqa: PLR2004 - one file needs no other
            return None
        made = await self.copies.write(
            place, batches_of(merged(place.signal, [self.copies.records(entry) for entry in entries])), one_file=True
        )
        await self.days.record(place.signal, made, retire=[entry.path for entry in entries])
        self._step("compacted", made[0].path, made[0].rows)
        return made[0]

    async def compact_due(self, most_rows: int = COMPACTED_ROWS) -> Compacted:
        """Merge where it is worth it, those with the most files first, until `most_rows` were read."""
        return await self._compact_places(await self.worth_merging(), most_rows)

    async def compact_all(self) -> Compacted:
        """Merge wherever there are several files. A place that fails holds up no other."""
        places: dict[Place, list[int]] = {}
        for entry in (await self.days.manifest()).entries:
            places.setdefault(entry.place, []).append(entry.rows)
        several = [(place, sum(rows)) for place, rows in sorted(places.items()) if len(rows) > 1]
        return await self._compact_places(several, math.inf)

    async def _compact_places(self, places: Sequence[tuple[Place, int]], most_rows: float) -> Compacted:
        merged: list[str] = []
        rows = 0
        for place, count in places:
            if merged and rows + count > most_rows:
                continue
            entry = await self.guarded(_placed(place), self.compact(place))
            if entry is not None:
                merged.append(entry.path)
                rows += entry.rows
        return Compacted(tuple(merged), rows, tuple(self.failed))

    async def worth_merging(self) -> list[tuple[Place, int]]:
        """Places that have left the store whose files should become one, the most files first, with their rows."""
        places: dict[Place, list[Entry]] = {}
        for entry in (await self.days.manifest()).entries:
            if entry.dropped:
                places.setdefault(entry.place, []).append(entry)
        today = day_of(self._now_ns)
        found = []
        for place, entries in places.items():
            rows = sum(entry.rows for entry in entries)
            surplus = len(entries) - max(1, -(-rows // copies.FILE_ROWS))
            newest = max(entry.recorded or place.day for entry in entries)
            if surplus >= _MANY_FILES or (surplus > 0 and (today - newest).days >= _QUIET_DAYS):
                found.append((surplus, place, rows))
        return [(place, rows) for surplus, place, rows in sorted(found, key=lambda one: (-one[0], one[1]))]

    async def verify(self, entry: Entry) -> None:
        """Read a file and compare it with its entry; ArchiveDamaged says what differs."""
        try:
            found = await asyncio.to_thread(self.copies.read_back, entry.path, entry.place)
        except ArchiveDamaged as error:
            raise ArchiveDamaged(f"{entry.path}: {error}") from None
        if found != _bare(entry):
            raise ArchiveDamaged(
                f"{entry.path} is not what was archived: {found.rows} of {entry.rows} rows, {found.size_bytes} bytes"
            )

    async def restore(self, signal: Signal, day: date, until: date) -> int:
        """Bring a dropped day back, of runs its month, every site of it; rows. Killed or failed, it is just done again."""
        days = [day]
        if signal is Signal.RUNS:
            archived = await self.days.archived(signal)
            days = sorted(one for one, state in archived.items() if state.dropped and one.replace(day=1) == day.replace(day=1))

        async def batches() -> AsyncGenerator[list[Any]]:
            for one in days:
                for _, entries in sorted((await self.copies.entries(signal, one)).items()):
                    async for records in batches_of(merged(signal, [self.copies.records(entry) for entry in entries])):
                        yield records

        rows = await self.days.restore(signal, day, batches(), until)
        self._step("restored", _named(signal, day), rows)
        return rows

    def some(self, entries: Sequence[Entry], trace_id: bytes | None, limit: int) -> list[Any]:
        """The first rows of a place's files, of one trace or of all, each run once. Blocks."""
        signal = entries[0].place.signal
        return list(islice(merged(signal, [self.copies.records(entry, trace_id) for entry in entries]), limit))

    async def _take(self, signal: Signal, late: Sequence[Late]) -> int:
        def place(one: Late) -> Place:
            return Place(signal, _site(one.record), day_of(TABLES[signal].at_ns(one.record)))

        taken = 0
        for where, group in groupby(sorted(late, key=place), key=place):
            done = await self.guarded(f"late rows of {_placed(where)}", self._take_place(where, list(group)))
            if done is None:
                self._stuck[signal].append(where)
            else:
                taken += done
        self._step("late taken", signal.value, taken)
        return taken

    async def _take_place(self, place: Place, late: Sequence[Late]) -> int:
        records = sorted((_left(one.record) for one in late), key=order_of(place.signal))
        await self.copies.take_in(place)
        have = (await self.copies.entries(place.signal, place.day)).get(place.site, [])
        entries = await self.copies.write(place, self.copies.lacking(have, once(records)) if have else once(records))
        await self.days.record(place.signal, entries, late=late, gone=[place.day])
        return len(late)

    async def _pending(self, signal: Signal, before: date) -> list[date]:
        archived = await self.days.archived(signal)
        return [day for day in await self.days.stored(signal, before) if day not in archived]

    async def _droppable(self, signal: Signal, pending: Sequence[date] = ()) -> list[date]:
        """Days (of runs: the first of months) that are archived, or `pending`, and have been over for long enough."""
        today = day_of(self._now_ns)
        runs = signal is Signal.RUNS
        before = self._runs_before() if runs else self._over(await self.hot_hours())
        archived = await self.days.archived(signal)
        days = []
        for day in await self.days.stored(signal, before):
            state = archived.get(day)
            if (state is not None or day in pending) and (
                state is None or state.kept_until is None or state.kept_until <= today
            ):
                days.append(day.replace(day=1) if runs else day)
        return sorted({*days, *(await self.days.empty_months(before) if runs else [])})

    async def _days_of(self, signal: Signal, day: date) -> list[date]:
        if signal is not Signal.RUNS:
            return [day]
        following = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
        return [one for one in await self.days.stored(signal, following) if one >= day]

    async def _expired(self) -> list[Entry]:
        """A row of a wrong clock may say 1970 and be from yesterday: a file is kept that long as well."""
        oldest = day_of(self._now_ns) - timedelta(days=self._config.keep_years * _DAYS_A_YEAR)
        entries = (await self.days.manifest()).entries
        return [one for one in entries if one.dropped and max(one.place.day, one.recorded or one.place.day) < oldest]

    def _runs_before(self) -> date:
        """Months before this first of one leave the store."""
        return (day_of(self._now_ns) - timedelta(days=self._config.hot_run_days)).replace(day=1)

    def archived_before(self) -> date:
        """Days before this one are to be archived."""
        return self._over(self._config.after_hours)

    def _over(self, hours: float) -> date:
        """Days before this one have been over for `hours`."""
        return day_of(max(0, self._now_ns - int(hours * _HOUR_NS)))

    async def guarded(self, name: str, work: Coroutine[Any, Any, _T]) -> _T | None:
        """What `work` gives; None when it fails, which is logged and told of in `failed`. Raises when we lead no more."""
        try:
            await self.days.confirm()
        except BaseException:
            work.close()
            raise
        try:
            return await work
        except _Told:
            _log.info("archive: %s is not whole yet", name)
        except StorageError as error:
            _log.warning("archive: %s: %s", name, error)
            self.failed.append(f"{name}: {error}")
        except Exception as error:  # noqa: BLE001 - whatever it is, the other days go on, and somebody is told
            _log.exception("archive: %s", name)
            self.failed.append(f"{name}: {type(error).__name__}")
        return None


class _Told(Exception):  # noqa: N818 - no error: what failed is logged and told of already
    """A part of it failed."""


def _left(record: Any) -> Any:
    """A run that leaves without having told its end counts as ended from then on, until it gives a sign."""
    return replace(record, inferred=True) if isinstance(record, Run) and not record.ended else record


def _placed(place: Place) -> str:
    return f"{_named(place.signal, place.day)} of {place.site}"


def _named(signal: Signal, day: date) -> str:
    return f"{signal} {day}"


def _site(record: Any) -> str:
    if isinstance(record, Run):
        return record.site
    return str(record.series.resource.site if hasattr(record, "series") else record.resource.site)


def _bare(entry: Entry) -> Entry:
    """Without what the store alone knows."""
    return Entry(
        path=entry.path,
        place=entry.place,
        rows=entry.rows,
        size_bytes=entry.size_bytes,
        sha256=entry.sha256,
        checksum=entry.checksum,
        from_ns=entry.from_ns,
        to_ns=entry.to_ns,
    )
