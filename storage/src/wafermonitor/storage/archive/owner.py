"""Whose archive it is: a small file at its root says so, and nobody else writes there or deletes.

In: a store (`Days`), a shelf. Out: the archive's name, or ArchiveForeign. Called by: `archiver`.

A store names its archive once, and that name stands in `archive.json` and in the names of its files. Two databases can have the
same name: one that came from a backup of the other. So each use gets a name as well, a turn, noted by the database and in the
file. Whoever finds a turn there that it did not note knows that another database has been at it, and has a newer manifest.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import uuid
from typing import NamedTuple

from wafermonitor.storage.archive.protocol import Days, Identity, Step
from wafermonitor.storage.archive.shelf import Shelf, reading
from wafermonitor.storage.errors import ArchiveDamaged, ArchiveForeign

FILE = "archive.json"
_ELSEWHERE = "WAFER_ARCHIVE_FOLDER or WAFER_ARCHIVE_BUCKET"


class Owner(NamedTuple):
    """What the file says: the archive's name, and its last use."""

    archive: str
    turn: str


def mark(archive: str) -> str:
    """What the names of an archive's files begin with."""
    return archive[:8]


async def claim(days: Days, shelf: Shelf, on_step: Step) -> str:
    """The archive's name, after this store has proved to be the last that used it, or the first. ArchiveForeign: it is not."""
    mine = await days.identity()
    found = await asyncio.to_thread(_read, shelf)
    if found is None:
        if mine.archive and (await days.manifest()).entries:
            raise ArchiveForeign(
                f"this store has the archive {mine.archive}, and there is no {FILE} of it here: let {_ELSEWHERE} "
                "name the place where it is, or run `wafer archive adopt` where it was moved without that file"
            )
    elif not mine.archive:
        raise ArchiveForeign(
            f"the archive here is {found.archive}, of another store, and this store has none yet: let {_ELSEWHERE} "
            "name an empty place, or run `wafer archive adopt` if this store replaces the other"
        )
    elif found.archive != mine.archive:
        raise ArchiveForeign(
            f"the archive here is {found.archive}, and that of this store is {mine.archive}: "
            f"let {_ELSEWHERE} name the place of its own"
        )
    elif found.turn not in mine.turns:
        raise ArchiveForeign(
            f"another database has used the archive {found.archive} since this one did: one of them is an older copy of the "
            "other. Run `wafer archive adopt` on the one that is to go on, and give the other an archive of its own"
        )
    return await _take_turn(days, shelf, found, mine, on_step)


async def adopt(days: Days, shelf: Shelf, on_step: Step) -> str:
    """The archive's name, which this store takes over from whoever used it last. ArchiveForeign: it has another archive."""
    mine = await days.identity()
    found = await asyncio.to_thread(_read, shelf)
    if found is None and not mine.archive:
        raise ArchiveForeign(f"there is no archive here, for there is no {FILE}: let {_ELSEWHERE} name the place where it is")
    if found is not None and mine.archive and found.archive != mine.archive:
        raise ArchiveForeign(
            f"the archive here is {found.archive}, and this store has {mine.archive} already: "
            "only a store without an archive takes one over"
        )
    return await _take_turn(days, shelf, found, mine, on_step)


async def _take_turn(days: Days, shelf: Shelf, found: Owner | None, mine: Identity, on_step: Step) -> str:
    """First the database has both names, then the file the new one: killed in between, either is known."""
    archive = found.archive if found is not None else mine.archive or str(uuid.uuid4())
    turn = secrets.token_hex(8)
    await days.identify(Identity(archive, (turn,) if found is None else (found.turn, turn)))
    on_step("claiming", archive, 0)
    await asyncio.to_thread(_write, shelf, Owner(archive, turn))
    on_step("claimed", archive, 0)
    return archive


def _read(shelf: Shelf) -> Owner | None:
    if FILE not in shelf.names(""):
        return None
    with reading(), shelf.open(FILE) as source:
        content = source.read()
    try:
        told = json.loads(content)
        return Owner(str(told["archive"]), str(told["turn"]))
    except (ValueError, KeyError, TypeError):
        raise ArchiveDamaged(
            f"{FILE} of the archive is damaged: put it back from a copy, or delete it and run `wafer archive adopt`"
        ) from None


def _write(shelf: Shelf, owner: Owner) -> None:
    content = json.dumps({"what": "the archive of a WaferMonitor store", **owner._asdict()}, indent=1) + "\n"
    with shelf.create(FILE) as sink:
        sink.write(content.encode())
