"""Rows of a place go to files and come back; each file is read back before anybody relies on it.

In: rows in the order of the archive, entries, a store (`Days`), a shelf. Out: entries, rows. Called by: `archiver`, `adopting`.
"""

from __future__ import annotations

import asyncio
import dataclasses
import heapq
import logging
import secrets
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing, contextmanager, suppress
from datetime import date
from itertools import groupby, islice
from typing import Any
from urllib.parse import quote, unquote

from wafermonitor.runs.merge import merge
from wafermonitor.runs.records import Run
from wafermonitor.storage.archive import files, owner
from wafermonitor.storage.archive.protocol import Days, Entry, Place, Signal, Step
from wafermonitor.storage.archive.shelf import Hashed, Shelf, digest
from wafermonitor.storage.archive.tables import TABLES
from wafermonitor.storage.errors import ArchiveDamaged, StorageError

_log = logging.getLogger(__name__)
FILE_ROWS = 4_000_000
"""A larger day becomes several files; each is read back as a whole before it counts."""
_BATCH_ROWS = 4_096


class Copies:
    """The files of one archive, for whoever leads. Before anything is written or deleted, it proves to be this store's."""

    def __init__(self, days: Days, shelf: Shelf, on_step: Step) -> None:
        self._days = days
        self._shelf = shelf
        self._step = on_step
        self._archive: str | None = None

    async def claim(self) -> str:
        """The archive's name; ArchiveForeign when it is not this store's, or not any more."""
        if self._archive is None:
            self._archive = await owner.claim(self._days, self._shelf, self._step)
        return self._archive

    async def name(self) -> str:
        """The name of the archive that this store has, whether it is here or not."""
        return self._archive or (await self._days.identity()).archive

    async def adopt(self) -> str:
        """As `claim`, from whoever used it last."""
        self._archive = await owner.adopt(self._days, self._shelf, self._step)
        return self._archive

    async def write(self, place: Place, batches: AsyncGenerator[list[Any]], *, one_file: bool = False) -> list[Entry]:
        """Files of these rows, each read back; none for no rows."""
        async with aclosing(batches):
            return await self._write_all(place, batches, one_file=one_file)

    async def _write_all(self, place: Place, batches: AsyncGenerator[list[Any]], *, one_file: bool) -> list[Entry]:
        entries: list[Entry] = []
        begins = owner.mark(await self.claim())
        waiting = await anext(batches, None)
        while waiting is not None:
            path = f"{folder_of(place)}/{begins}-{secrets.token_hex(8)}.parquet"
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
                with suppress(StorageError):
                    await asyncio.to_thread(self._shelf.remove, path)  # a bucket may have taken the half that there is
                raise
            await asyncio.to_thread(sink.__exit__, None, None, None)
            if wanted is None:
                await asyncio.to_thread(self._shelf.remove, path)
                continue
            self._step("written", path, wanted.rows)
            try:
                found = await asyncio.to_thread(self._proven, path, place, wanted, hashed.sha256)
            except ArchiveDamaged:
                await asyncio.to_thread(self._shelf.remove, path)
                raise
            self._step("verified", path, wanted.rows)
            entries.append(found)
        return entries

    def _proven(self, path: str, place: Place, wanted: files.Sum, sha256: bytes) -> Entry:
        found = self.read_back(path, place)
        if (found.rows, found.checksum, found.sha256) != (wanted.rows, wanted.checksum, sha256):
            raise ArchiveDamaged(f"{path} reads back as {found.rows} rows, {wanted.rows} were written, or others")
        return found

    def read_back(self, path: str, place: Place) -> Entry:
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

    def records(self, entry: Entry, trace_id: bytes | None = None) -> Iterable[Any]:
        """All rows of a file, or those of one trace, in order. Blocks."""
        return self.records_of(entry.path, entry.place, trace_id)

    def records_of(self, path: str, place: Place, trace_id: bytes | None = None) -> Iterable[Any]:
        """As `records`, of a file that the manifest may not have."""
        try:
            with self._shelf.open(path) as source:
                opened = files.Opened(source, place.signal, place.site)
                for records in opened.records(None if trace_id is None else opened.groups_of(trace_id)):
                    yield from records if trace_id is None else (one for one in records if one.trace_id == trace_id)
        except ArchiveDamaged as error:
            raise ArchiveDamaged(f"{path}: {error}; `wafer archive verify` names all such files") from None

    async def lacking(self, have: Sequence[Entry], batches: AsyncGenerator[list[Any]]) -> AsyncGenerator[list[Any]]:
        """Of rows in the archive's order those that `have` lacks; a run that says more than before, as both say together."""
        async with aclosing(batches):
            async for records in batches:
                lacking = await asyncio.to_thread(self._absent, have, records)
                if lacking:
                    yield lacking

    def _absent(self, have: Sequence[Entry], records: list[Any]) -> list[Any]:
        signal = have[0].place.signal
        key = TABLES[signal].key
        wanted = {key(record) for record in records}
        if signal is Signal.RUNS:
            known: dict[Any, Run] = {}
            for entry in have:  # in the order of their versions: the last says most
                with self._opened(entry) as opened:
                    known |= {key(run): run for run in opened.among(wanted)}
            joined = [merge(known[key(run)], run) if key(run) in known else run for run in records]
            return [run for run in joined if key(run) not in known or own_of(known[key(run)]) != own_of(run)]
        keys: set[Any] = set()
        for entry in have:
            with self._opened(entry) as opened:
                keys |= opened.keys_among(wanted)
        return [record for record in records if key(record) not in keys]

    @contextmanager
    def _opened(self, entry: Entry) -> Iterator[files.Opened]:
        with self._shelf.open(entry.path) as source:
            yield files.Opened(source, entry.place.signal, entry.place.site)

    async def take_in(self, place: Place) -> int:
        """Have the manifest take files of the archive that it lacks; how many rows it has more by that.

        A killed archiver left them, or a newer manifest had them than the one that this database was restored with. What nobody
        else has stays: such a file is recorded, or its rows are written to one that is, before it is deleted. Files that do not
        carry the archive's name, or do not read, are left alone.
        """
        paths = await asyncio.to_thread(self._shelf.names, folder_of(place))
        known = await self._days.known(paths) if paths else set()
        begins = owner.mark(await self.claim())
        taken = 0
        for path in sorted(set(paths) - known):
            name = path.rpartition("/")[2]
            if name.startswith(f".{begins}-"):
                await self.throw_away(path)  # half of a file: it never had its name
            elif name.startswith(f"{begins}-"):
                taken += await self._take_in_file(place, path, frozenset(paths))
        return taken

    async def _take_in_file(self, place: Place, path: str, there: frozenset[str]) -> int:
        try:
            found = await asyncio.to_thread(self.read_back, path, place)
        except ArchiveDamaged as error:
            _log.warning("the archive has the file %s, which its manifest does not have, and it does not read: %s", path, error)
            return 0
        entries = (await self.entries(place.signal, place.day)).get(place.site, [])
        have = [entry for entry in entries if entry.path in there]
        made = await self.write(place, self.lacking(have, batches_of(self.records(found)))) if have else [found]
        # A newer manifest may have had this file in the place of older ones, which were deleted then.
        lost = [entry for entry in entries if entry.path not in there]
        merged = lost and sum(entry.rows for entry in made) >= sum(entry.rows for entry in lost)
        if made:
            await self._days.record(place.signal, made, retire=[entry.path for entry in lost] if merged else [])
            self._step("taken in", path, sum(entry.rows for entry in made))
        if made != [found]:
            await self.throw_away(path)
        return sum(entry.rows for entry in made)

    async def throw_away(self, path: str) -> None:
        """Delete a file that nobody needs."""
        await self._days.confirm()
        await asyncio.to_thread(self._shelf.remove, path)
        self._step("thrown away", path, 0)

    async def unknown(self) -> list[str]:
        """Files with this archive's name that the manifest does not have."""
        begins = f"{owner.mark(await self.name())}-"
        paths = [path for path in await asyncio.to_thread(self._shelf.all) if path.rpartition("/")[2].startswith(begins)]
        return sorted(set(paths) - await self._days.known(paths))

    async def missing(self) -> list[str]:
        """Files that the manifest has and the archive has not."""
        there = set(await asyncio.to_thread(self._shelf.all))
        return [entry.path for entry in (await self._days.manifest()).entries if entry.path not in there]

    async def entries(self, signal: Signal, day: date) -> dict[str, list[Entry]]:
        """The files that the manifest has of a day, by site."""
        found: dict[str, list[Entry]] = {}
        for entry in await self._days.entries(signal, day):
            found.setdefault(entry.place.site, []).append(entry)
        return found


def place_of(path: str) -> Place | None:
    """The place of a file of this path; None when it has none."""
    parts = [part.partition("=") for part in path.split("/")[:-1]]
    if [name for name, _, _ in parts] != ["signal", "site", "date"]:
        return None
    try:
        return Place(Signal(parts[0][2]), unquote(parts[1][2]), date.fromisoformat(parts[2][2]))
    except ValueError:
        return None


def folder_of(place: Place) -> str:
    """Where the files of a place stand."""
    return f"signal={place.signal}/site={quote(place.site, safe='')}/date={place.day}"


def own_of(run: Run) -> Run:
    """Without what its process says, which may live on."""
    return dataclasses.replace(run, process_beat_ns=None, process_interval_s=None)


async def once(records: list[Any]) -> AsyncGenerator[list[Any]]:
    """All at a time."""
    yield records


def order_of(signal: Signal) -> Any:
    """A sort key that every row has: the archive's order, rows without a trace first."""
    key = TABLES[signal].key
    return lambda record: tuple(b"" if part is None else part for part in key(record))


def merged(signal: Signal, sources: Sequence[Iterable[Any]]) -> Iterable[Any]:
    """Rows of several files in order. Of a run that several have, the last says most."""
    order = order_of(signal)
    for _, same in groupby(heapq.merge(*sources, key=order), key=order):
        *_, newest = same
        yield newest


async def batches_of(records: Iterable[Any]) -> AsyncGenerator[list[Any]]:
    """Pieces of some thousand, read in a thread."""
    source = iter(records)
    while batch := await asyncio.to_thread(lambda: list(islice(source, _BATCH_ROWS))):
        yield batch
