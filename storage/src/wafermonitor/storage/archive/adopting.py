"""A database takes an archive over: after an older backup was restored, or when the database is lost and a new one goes on.

In: an `Archiver` that leads. Out: a manifest that has every file. Called by: `wafer archive adopt`.
"""

from __future__ import annotations

from datetime import date
from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

from wafermonitor.storage.archive.copies import batches_of, place_of
from wafermonitor.storage.archive.protocol import Place, Signal

if TYPE_CHECKING:
    from wafermonitor.storage.archive.archiver import Archiver


class Adopted(NamedTuple):
    """How many files and rows the manifest did not have, and what failed and why."""

    files: int
    rows: int
    failed: tuple[str, ...]


async def adopt(steps: Archiver) -> Adopted:
    """Take every file of the archive into the manifest. From then on no other database may use the archive.

    Days that the store still has a table of leave it at once, because it has only some of their rows. Runs whose month is
    stored are written to it again. Killed, it goes on where it was. Raises ArchiveForeign when the store has another archive.
    """
    copies, days = steps.copies, steps.days
    await copies.adopt()
    fence = await days.fence(steps.archived_before())
    unknown = await copies.unknown()
    rows = 0
    for place, paths in groupby(sorted(unknown, key=_sort_key), key=place_of):
        if place is not None:
            named = f"{place.signal} {place.day} of {place.site}"
            rows += await steps.guarded(named, _take_in(steps, place, list(paths))) or 0
    found: dict[Signal, set[date]] = {}
    for entry in (await days.manifest()).entries:
        if not entry.dropped:
            found.setdefault(entry.place.signal, set()).add(entry.place.day)
    for signal, of_days in found.items():
        gone = await days.gone(signal, of_days)
        if gone:
            await days.record(signal, [], gone=gone)
        for day in sorted(of_days - set(gone)):
            if signal is not Signal.RUNS and day < fence and any(_is_of(path, signal, day) for path in unknown):
                await steps.guarded(f"{signal} {day}", steps.drop_day(signal, day))
    left = await copies.unknown()
    failed = [*steps.failed, *(f"{path}: not a file of the archive, or damaged" for path in left)]
    missing = await copies.missing()
    if missing:
        failed.append(
            f"{len(missing)} files that the manifest has are not here, such as {missing[0]}: if the archive stands elsewhere, "
            "let WAFER_ARCHIVE_FOLDER or WAFER_ARCHIVE_BUCKET name that place, and adopt it there"
        )
    return Adopted(len(unknown) - len(left), rows, tuple(failed))


async def _take_in(steps: Archiver, place: Place, paths: list[str]) -> int:
    if place.signal is Signal.RUNS and not await steps.days.gone(place.signal, [place.day]):
        for path in paths:
            async for runs in batches_of(steps.copies.records_of(path, place)):
                await steps.days.give_back(runs)
    return await steps.copies.take_in(place)


def _sort_key(path: str) -> tuple[str, str]:
    return path.rpartition("/")[0], path


def _is_of(path: str, signal: Signal, day: date) -> bool:
    place = place_of(path)
    return place is not None and (place.signal, place.day) == (signal, day)
