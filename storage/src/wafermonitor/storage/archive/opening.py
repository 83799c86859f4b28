"""The archive of an opened store: one round now, a round every interval, and a store whose reader also reads old days.

In: a `storage.protocol.Storage` and the archive's `Config`. Out: rounds, or another Storage. Called by: `wafer archive`,
`wafer maintain` (`run_once`), the read API (`merged`).

Importing this loads no driver: where the extra is missing, what is called says so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from wafermonitor.storage.archive.config import Config
from wafermonitor.storage.archive.protocol import Days, Step
from wafermonitor.storage.errors import StorageError, StorageRejected
from wafermonitor.storage.protocol import Reader, Storage, Writer

if TYPE_CHECKING:
    from wafermonitor.storage.archive.archiver import Done
    from wafermonitor.storage.archive.shelf import Shelf
    from wafermonitor.storage.watch import Watch

_log = logging.getLogger(__name__)


class Archive(NamedTuple):
    """What an archiver works with."""

    days: Days
    shelf: Shelf
    config: Config


class MergedStorage:
    """A store with a reader that also reads what has left it."""

    def __init__(self, storage: Storage, reader: Reader) -> None:
        self._storage = storage
        self._reader = reader

    @property
    def writer(self) -> Writer:
        """The store's."""
        return self._storage.writer

    @property
    def reader(self) -> Reader:
        """Store and archive as one."""
        return self._reader

    @property
    def watch(self) -> Watch | None:
        """The store's."""
        return self._storage.watch

    async def close(self) -> None:
        """Close the store; files are closed after each answer."""
        await self._storage.close()


async def run_once(
    storage: Storage, config: Config, *, now_ns: int | None = None, drop: bool = True, on_step: Step | None = None
) -> Done | None:
    """One round: archive, take late rows, drop, expire, delete. None when another process is at it; see `archiver.run_once`.

    Nothing is done while `config.enabled` is False. Raises StorageUnavailable, or StorageRejected when the store is not
    PostgreSQL or the extra "archive" is missing.
    """
    archive = attach(storage, config)
    with _extra():
        from wafermonitor.storage.archive import archiver
    if not config.enabled:
        return archiver.Done()
    at_ns = time.time_ns() if now_ns is None else now_ns
    step = on_step or archiver.quiet
    return await archiver.run_once(archive.days, archive.shelf, config, now_ns=at_ns, drop=drop, on_step=step)


async def keep(storage: Storage, config: Config, stop: asyncio.Event, *, clock: Callable[[], int] = time.time_ns) -> None:
    """A round every `interval_hours` until `stop` is set. Trouble is logged, and the next round tries again."""
    while not stop.is_set():
        try:
            done = await run_once(storage, config, now_ns=clock())
        except StorageError as error:
            _log.warning("archive: %s", error)
        else:
            if done is not None:
                _log.info("archive: %d days archived, %d dropped, %d rows", len(done.archived), len(done.dropped), done.rows)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), config.interval_hours * 3600)


async def merged(storage: Storage, config: Config) -> Storage:
    """The same store, whose reader also answers for days that have left it.

    A store that no day can leave is given back as it is. Without the extra "archive" so is any other, and a warning says so
    if it has an archive.
    """
    days = _days(storage)
    if days is None:
        return storage
    try:
        archive = attach(storage, config)
    except StorageRejected as error:
        if any(entry.dropped for entry in (await days.manifest()).entries):
            _log.warning("days that were archived are not shown: %s", error)
        return storage
    from wafermonitor.storage.archive.merged import MergedReader
    from wafermonitor.storage.archive.reader import Files

    files = Files(archive.shelf, max_files=config.max_files)
    return MergedStorage(storage, MergedReader(storage.reader, archive.days, files))


def attach(storage: Storage, config: Config) -> Archive:
    """The archive that belongs to a store. StorageRejected: no day can leave this store, or the extra is missing."""
    days = _days(storage)
    if days is None:
        raise StorageRejected("only a PostgreSQL store has an archive")
    with _extra():
        from wafermonitor.storage.archive.shelf import open_shelf
    return Archive(days, open_shelf(config), config)


def _days(storage: Storage) -> Days | None:
    try:
        from wafermonitor.storage.timescale import days, store
    except ModuleNotFoundError as error:
        if error.name != "asyncpg":
            raise
        return None
    return days.Days(storage.pool) if isinstance(storage, store.Storage) else None


@contextmanager
def _extra() -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name not in {"pyarrow", "msgspec"}:
            raise
        raise StorageRejected('the archive needs the extra "archive": pip install "wafermonitor[archive]"') from None
