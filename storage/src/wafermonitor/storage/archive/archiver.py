"""Days go to the archive, are verified there, and only then leave the store. Killed anywhere, nothing is lost or doubled.

In: a store (`Days`), a shelf, the settings, now. Out: files, manifest rows, dropped days. Called by: `wafer archive`, and
`wafer maintain` by `run_once`.

What makes each step safe: a file is read back before the manifest has it, and what the manifest does not have is thrown away;
a day is fenced before it is archived, so that what comes later is late; it is dropped only under its fingerprint, in the
transaction that says who answers from then on; late rows are deleted in the transaction that records the file they went to.
"""

from __future__ import annotations

import asyncio
import dataclasses
import heapq
import logging
import secrets
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from datetime import date, timedelta
from itertools import groupby, islice
from typing import Any, NamedTuple
from urllib.parse import quote

from wafermonitor.runs.merge import merge
from wafermonitor.runs.records import Run
from wafermonitor.storage.archive import files
from wafermonitor.storage.archive.config import Config
from wafermonitor.storage.archive.protocol import Days, Entry, Late, Place, Signal, Step, day_of
from wafermonitor.storage.archive.shelf import Hashed, Shelf, digest
from wafermonitor.storage.archive.tables import TABLES
from wafermonitor.storage.errors import ArchiveDamaged, StorageError

_log = logging.getLogger(__name__)
FILE_ROWS = 4_000_000
"""A larger day becomes several files; each is read back as a whole before it counts."""
LATE_ROWS = 20_000
"""Late rows taken at a time."""
_BATCH_ROWS = 4_096
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
    or were compacted away, are removed. Raises StorageUnavailable when the store does not answer.
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
        self._days = days
        self._shelf = shelf
        self._config = config
        self._now_ns = now_ns
        self._step = on_step
        self._failed: list[str] = []

    async def plan(self) -> Plan:
        """What `round` would do now: nothing while archiving is switched off."""
        archive: list[tuple[str, int]] = []
        drop: list[str] = []
        if not self._config.enabled:
            return Plan((), (), ())
        for signal in Signal:
            pending = await self._pending(signal, self._over(self._config.after_hours))
            archive += [(_named(signal, day), sum((await self._days.counts(signal, day)).values())) for day in pending]
            drop += [_named(signal, day) for day in await self._droppable(signal, pending)]
        return Plan(tuple(archive), tuple(drop), tuple(entry.path for entry in await self._expired()))

    async def round(self, *, drop: bool) -> Done:
        """Every step once."""
        archived: list[str] = []
        dropped: list[str] = []
        rows = 0
        before = await self._days.fence(self._over(self._config.after_hours))
        self._step("fenced", str(before), 0)
        for signal in Signal:
            for day in await self._pending(signal, before):
                name = _named(signal, day)
                written = await self._guarded(name, self.archive_day(signal, day))
                archived += [name] if written is not None else []
                rows += written or 0
        late = await self._guarded("late rows", self.take_late()) or 0
        if drop:
            for signal in Signal:
                for day in await self._droppable(signal):
                    name = _named(signal, day)
                    dropped += [name] if await self._guarded(name, self.drop_day(signal, day)) else []
            late += await self._guarded("late rows", self.take_late()) or 0
        await self.expire()
        removed = await self.remove_retired()
        return Done(tuple(archived), tuple(dropped), rows, late, removed, tuple(self._failed))

    async def hot_hours(self) -> float:
        """What is set, else what the store can afford."""
        config = self._config
        return (
            config.hot_hours if "hot_hours" in config.model_fields_set else max(config.hot_hours, await self._days.hot_hours())
        )

    async def archive_day(self, signal: Signal, day: date) -> int:
        """Write what the archive lacks of a day, for every site; rows written."""
        written = 0
        known = await self._entries(signal, day)
        for site, count in sorted((await self._days.counts(signal, day)).items()):
            place = Place(signal, site, day)
            have = known.get(site, [])
            if have and signal is not Signal.RUNS and sum(entry.rows for entry in have) == count:
                continue
            await self._throw_away_unknown(place)
            rows = self._days.rows(place)
            entries = await self._write(place, self._lacking(have, rows) if have else rows)
            if entries:
                await self._days.record(signal, entries)
                self._step("recorded", entries[0].path, sum(entry.rows for entry in entries))
            written += sum(entry.rows for entry in entries)
        await self._days.record(signal, [], whole=day)
        self._step("archived", _named(signal, day), written)
        return written

    async def drop_day(self, signal: Signal, day: date) -> bool:
        """Take a day (of runs: a month) out of the store, if the archive has all of it; False when it changed meanwhile.

        Its files are read back first: ArchiveDamaged or StorageUnavailable when one is gone or changed, and nothing is dropped.
        """
        fingerprint = await self._days.fingerprint(signal, day)
        if fingerprint is None:
            return False
        for one in await self._days_of(signal, day):
            await self.archive_day(signal, one)
            # Days may have passed since the files were written: whoever moved the archive would lose the day here.
            for entries in (await self._entries(signal, one)).values():
                for entry in entries:
                    await self.verify(entry)
        self._step("complete", _named(signal, day), 0)
        dropped = await self._days.drop(signal, day, fingerprint)
        self._step("dropped" if dropped else "changed", _named(signal, day), 0)
        return dropped

    async def take_late(self) -> int:
        """Late rows of days that are dropped, or were never here: what the archive lacks becomes a file; all are deleted."""
        taken = 0
        for signal in Signal:
            while late := await self._days.late(signal, LATE_ROWS):
                await self._take(signal, late)
                taken += len(late)
        return taken

    async def expire(self) -> None:
        """Retire files whose day is older than `keep_years`."""
        expired = await self._expired()
        for signal, entries in groupby(
            sorted(expired, key=lambda entry: entry.place.signal), key=lambda entry: entry.place.signal
        ):
            paths = [entry.path for entry in entries]
            await self._days.record(signal, [], retire=paths)
            self._step("expired", signal.value, len(paths))

    async def remove_retired(self) -> int:
        """Delete files that nobody reads any more."""
        paths = await self._days.removable(self._config.grace_hours)
        removed = []
        for path in paths:
            try:
                await asyncio.to_thread(self._shelf.remove, path)
            except StorageError as error:
                self._failed.append(f"{path}: {error}")  # held by an object lock: the next round tries again
            else:
                removed.append(path)
                self._step("deleted", path, 0)
        await self._days.removed(removed)
        return len(removed)

    async def compact(self, place: Place) -> Entry | None:
        """Merge a place's files into one; None when there is one or none."""
        entries = (await self._entries(place.signal, place.day)).get(place.site, [])
        if len(entries) < 2:  # noqa: PLR2004 - one file needs no other
            return None
        await self._throw_away_unknown(place)
        made = await self._write(
            place, _batches(_merged(place.signal, [self._records(entry) for entry in entries])), one_file=True
        )
        await self._days.record(place.signal, made, retire=[entry.path for entry in entries])
        self._step("compacted", made[0].path, made[0].rows)
        return made[0]

    async def compact_due(self, most_rows: int = COMPACTED_ROWS) -> Compacted:
        """Merge where it is worth it, those with the most files first, until `most_rows` were read."""
        merged: list[str] = []
        rows = 0
        for place, count in await self.worth_merging():
            if merged and rows + count > most_rows:
                continue
            entry = await self._guarded(f"{place.signal} {place.day} of {place.site}", self.compact(place))
            if entry is not None:
                merged.append(entry.path)
                rows += entry.rows
        return Compacted(tuple(merged), rows, tuple(self._failed))

    async def worth_merging(self) -> list[tuple[Place, int]]:
        """Places that have left the store whose files should become one, the most files first, with their rows."""
        places: dict[Place, list[Entry]] = {}
        for entry in (await self._days.manifest()).entries:
            if entry.dropped:
                places.setdefault(entry.place, []).append(entry)
        today = day_of(self._now_ns)
        found = []
        for place, entries in places.items():
            rows = sum(entry.rows for entry in entries)
            surplus = len(entries) - max(1, -(-rows // FILE_ROWS))
            newest = max(entry.recorded or place.day for entry in entries)
            if surplus >= _MANY_FILES or (surplus > 0 and (today - newest).days >= _QUIET_DAYS):
                found.append((surplus, place, rows))
        return [(place, rows) for surplus, place, rows in sorted(found, key=lambda one: (-one[0], one[1]))]

    async def verify(self, entry: Entry) -> None:
        """Read a file and compare it with its entry; ArchiveDamaged says what differs."""
        try:
            found = await asyncio.to_thread(self._read_back, entry.path, entry.place)
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
            archived = await self._days.archived(signal)
            days = sorted(one for one, state in archived.items() if state.dropped and one.replace(day=1) == day.replace(day=1))

        async def batches() -> AsyncGenerator[list[Any]]:
            for one in days:
                for _, entries in sorted((await self._entries(signal, one)).items()):
                    async for records in _batches(_merged(signal, [self._records(entry) for entry in entries])):
                        yield records

        rows = await self._days.restore(signal, day, batches(), until)
        self._step("restored", _named(signal, day), rows)
        return rows

    def some(self, entry: Entry, trace_id: bytes | None, limit: int) -> list[Any]:
        """The first rows of a file, of one trace or of all. Blocks."""
        found = (one for one in self._records(entry) if trace_id in {None, getattr(one, "trace_id", None)})
        return list(islice(found, limit))

    async def _take(self, signal: Signal, late: Sequence[Late]) -> None:
        order = _order(signal)

        def place(one: Late) -> Place:
            return Place(signal, _site(one.record), day_of(TABLES[signal].at_ns(one.record)))

        entries: list[Entry] = []
        for where, group in groupby(sorted(late, key=place), key=place):
            records = sorted((one.record for one in group), key=order)
            await self._throw_away_unknown(where)
            have = (await self._entries(signal, where.day)).get(where.site, [])
            entries += await self._write(where, self._lacking(have, _once(records)) if have else _once(records))
        await self._days.record(signal, entries, late=late)
        self._step("late taken", signal.value, len(late))

    async def _write(self, place: Place, batches: AsyncGenerator[list[Any]], *, one_file: bool = False) -> list[Entry]:
        """Files of these rows, each read back; none for no rows."""
        async with aclosing(batches):
            return await self._write_all(place, batches, one_file=one_file)

    async def _write_all(self, place: Place, batches: AsyncGenerator[list[Any]], *, one_file: bool) -> list[Entry]:
        entries: list[Entry] = []
        waiting = await anext(batches, None)
        while waiting is not None:
            path = f"{_folder(place)}/{secrets.token_hex(8)}.parquet"
            sink = self._shelf.create(path)
            target = await asyncio.to_thread(sink.__enter__)
            try:
                hashed = Hashed(target)
                writer = files.Writer(hashed, place.signal)
                while waiting is not None and (one_file or writer.sum.rows < FILE_ROWS):
                    if waiting:
                        await asyncio.to_thread(writer.write, waiting)
                        self._step("writing", path, writer.sum.rows)
                    waiting = await anext(batches, None)
                wanted = await asyncio.to_thread(writer.close) if writer.sum.rows else None
            except BaseException as error:
                await asyncio.to_thread(sink.__exit__, type(error), error, error.__traceback__)
                raise
            await asyncio.to_thread(sink.__exit__, None, None, None)
            if wanted is None:
                await asyncio.to_thread(self._shelf.remove, path)
                continue
            self._step("written", path, wanted.rows)
            found = await asyncio.to_thread(self._read_back, path, place)
            if (found.rows, found.checksum, found.sha256) != (wanted.rows, wanted.checksum, hashed.sha256):
                raise ArchiveDamaged(f"{path} reads back as {found.rows} rows, {wanted.rows} were written, or others")
            self._step("verified", path, wanted.rows)
            entries.append(found)
        return entries

    def _read_back(self, path: str, place: Place) -> Entry:
        """The entry that a file deserves, of nothing but its bytes."""
        with self._shelf.open(path) as source:
            sha256, size = digest(source)
        with self._shelf.open(path) as source:
            total = files.Sum()
            for records in files.Opened(source, place.signal, place.site).records():
                total = total.plus(place.signal, records)
        return Entry(
            path=path,
            place=place,
            rows=total.rows,
            size_bytes=size,
            sha256=sha256,
            checksum=total.checksum,
            from_ns=total.from_ns,
            to_ns=total.to_ns,
        )

    def _records(self, entry: Entry) -> Iterable[Any]:
        with self._shelf.open(entry.path) as source:
            for records in files.Opened(source, entry.place.signal, entry.place.site).records():
                yield from records

    async def _lacking(self, have: Sequence[Entry], batches: AsyncGenerator[list[Any]]) -> AsyncGenerator[list[Any]]:
        """Of rows in the archive's order those that `have` lacks; a run that says more than before, as both say together."""
        async with aclosing(batches):
            async for records in batches:
                lacking = await asyncio.to_thread(self._absent, have, records)
                if lacking:
                    yield lacking

    def _absent(self, have: Sequence[Entry], records: list[Any]) -> list[Any]:
        signal = have[0].place.signal
        key = TABLES[signal].key
        if signal is Signal.RUNS:
            known: dict[Any, Run] = {}
            for entry in have:  # in the order of their versions: the last says most
                known |= {key(run): run for run in self._within(entry, records)}
            joined = [merge(known[key(run)], run) if key(run) in known else run for run in records]
            return [run for run in joined if key(run) not in known or _own(known[key(run)]) != _own(run)]
        keys: set[Any] = set()
        for entry in have:
            keys.update(key(record) for record in self._within(entry, records))
        return [record for record in records if key(record) not in keys]

    def _within(self, entry: Entry, records: Sequence[Any]) -> list[Any]:
        """The archived rows among which these, which are in order, would stand."""
        first, last = (TABLES[entry.place.signal].key(record)[0] for record in (records[0], records[-1]))
        with self._shelf.open(entry.path) as source:
            opened = files.Opened(source, entry.place.signal, entry.place.site)
            groups = opened.groups_between(first, last)
            return opened.made(opened.table(groups)) if groups else []

    async def _entries(self, signal: Signal, day: date) -> dict[str, list[Entry]]:
        found: dict[str, list[Entry]] = {}
        for entry in await self._days.entries(signal, day):
            found.setdefault(entry.place.site, []).append(entry)
        return found

    async def _throw_away_unknown(self, place: Place) -> None:
        """Files that a killed archiver left: nobody else writes here, and the manifest does not have them."""
        names = await asyncio.to_thread(self._shelf.names, _folder(place))
        if names:
            known = await self._days.known(names)
            for path in names:
                if path not in known:
                    await asyncio.to_thread(self._shelf.remove, path)
                    self._step("thrown away", path, 0)

    async def _pending(self, signal: Signal, before: date) -> list[date]:
        archived = await self._days.archived(signal)
        return [day for day in await self._days.stored(signal, before) if day not in archived]

    async def _droppable(self, signal: Signal, pending: Sequence[date] = ()) -> list[date]:
        """Days (of runs: the first of months) that are archived, or `pending`, and have been over for long enough."""
        today = day_of(self._now_ns)
        runs = signal is Signal.RUNS
        before = today - timedelta(days=self._config.hot_run_days) if runs else self._over(await self.hot_hours())
        archived = await self._days.archived(signal)
        days = []
        for day in await self._days.stored(signal, before.replace(day=1) if runs else before):
            state = archived.get(day)
            if (state is not None or day in pending) and (
                state is None or state.kept_until is None or state.kept_until <= today
            ):
                days.append(day.replace(day=1) if runs else day)
        return sorted(set(days))

    async def _days_of(self, signal: Signal, day: date) -> list[date]:
        if signal is not Signal.RUNS:
            return [day]
        following = (day.replace(day=28) + timedelta(days=4)).replace(day=1)
        return [one for one in await self._days.stored(signal, following) if one >= day]

    async def _expired(self) -> list[Entry]:
        """A row of a wrong clock may say 1970 and be from yesterday: a file is kept that long as well."""
        oldest = day_of(self._now_ns) - timedelta(days=self._config.keep_years * _DAYS_A_YEAR)
        entries = (await self._days.manifest()).entries
        return [one for one in entries if one.dropped and max(one.place.day, one.recorded or one.place.day) < oldest]

    def _over(self, hours: float) -> date:
        """Days before this one have been over for `hours`."""
        return day_of(max(0, self._now_ns - int(hours * _HOUR_NS)))

    async def _guarded(self, name: str, work: Any) -> Any:
        try:
            return await work
        except StorageError as error:
            _log.warning("the archive could not take %s: %s", name, error)
            self._failed.append(f"{name}: {error}")
            return None


def _folder(place: Place) -> str:
    return f"signal={place.signal}/site={quote(place.site, safe='')}/date={place.day}"


def _named(signal: Signal, day: date) -> str:
    return f"{signal} {day}"


def _site(record: Any) -> str:
    if isinstance(record, Run):
        return record.site
    return str(record.series.resource.site if hasattr(record, "series") else record.resource.site)


def _own(run: Run) -> Run:
    """Without what its process says, which may live on."""
    return dataclasses.replace(run, process_beat_ns=None, process_interval_s=None)


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


async def _once(records: list[Any]) -> AsyncGenerator[list[Any]]:
    yield records


def _order(signal: Signal) -> Any:
    """A sort key that every row has: the archive's order, rows without a trace first."""
    key = TABLES[signal].key
    return lambda record: tuple(b"" if part is None else part for part in key(record))


def _merged(signal: Signal, sources: Sequence[Iterable[Any]]) -> Iterable[Any]:
    """Rows of several files in order. Of a run that several have, the last says most."""
    order = _order(signal)
    for _, same in groupby(heapq.merge(*sources, key=order), key=order):
        *_, newest = same
        yield newest


async def _batches(records: Iterable[Any]) -> AsyncGenerator[list[Any]]:
    """Pieces of some thousand, read in a thread."""
    source = iter(records)
    while batch := await asyncio.to_thread(lambda: list(islice(source, _BATCH_ROWS))):
        yield batch
