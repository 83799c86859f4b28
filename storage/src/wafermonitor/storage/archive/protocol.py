"""What the archive asks of a store, and what both say of a file: plain words, no driver and no Parquet.

In: nothing. Out: `Signal`, `Place`, `Entry`, the protocol `Days`. Implemented by: `storage.timescale.days`. Called by: the
other modules here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol

DAY_NS = 86_400 * 1_000_000_000
EPOCH = date(1970, 1, 1)


class Signal(StrEnum):
    """What is archived."""

    SPANS = "spans"
    LOGS = "logs"
    METRICS = "metrics"
    RUNS = "runs"


def day_of(at_ns: int) -> date:
    """The UTC day of a time in ns."""
    return datetime.fromtimestamp(at_ns // 1_000_000_000, UTC).date()


def start_of(day: date) -> int:
    """Midnight UTC at which a day begins, ns."""
    return (day - EPOCH).days * DAY_NS


class Place(NamedTuple):
    """Whose rows of which day: what one folder of the archive holds."""

    signal: Signal
    site: str
    day: date


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file, as the manifest knows it. It stands there only after the file was read back and counted.

    `checksum` is the sum of the rows' digests modulo 2^128, so that it does not depend on their order. `version` is the state
    of the archive that first had the file. `dropped`: the archive, and no longer the store, answers for the file's day.
    `recorded`: the day on which it came to the manifest.
    """

    path: str
    place: Place
    rows: int
    size_bytes: int
    sha256: bytes
    checksum: bytes
    from_ns: int
    to_ns: int
    version: int = 0
    dropped: bool = False
    recorded: date | None = None


class Manifest(NamedTuple):
    """The files that the archive has now, and how often days have come back from it."""

    restores: int
    entries: tuple[Entry, ...]


class Choice(NamedTuple):
    """Which files hold an answer: sites (none: all) and times, ns, both included; None is open-ended."""

    signal: Signal
    sites: tuple[str, ...] = ()
    from_ns: int | None = None
    to_ns: int | None = None


class DayState(NamedTuple):
    """A day that the archive holds whole: whether it has left the store, and until when it may not leave it again."""

    dropped: bool
    kept_until: date | None


class Held(NamedTuple):
    """How many rows the store has of something at one moment, and by what it knows whether they are still the same."""

    rows: int
    mark: str


class Identity(NamedTuple):
    """Which archive a store has, empty before its first round, and under which names the store used it last (see `owner`)."""

    archive: str = ""
    turns: tuple[str, ...] = ()


class Late(NamedTuple):
    """A row that came after its day was fenced, and by what the store finds exactly this row again."""

    record: Any
    handle: tuple[Any, ...]


class Days(Protocol):
    """A store whose days can leave it. Rows are records of `runs.records`. Raises StorageError.

    Days of runs leave the store by the month; what is said of one day then holds for all days of its month.
    """

    def leading(self) -> AbstractAsyncContextManager[bool]:
        """Whether this process is the only archiver, for as long as the context lasts, or until `confirm` raises."""

    async def confirm(self) -> None:
        """StorageUnavailable when this process leads no more. What changes the manifest or the days checks that by itself."""

    async def identity(self) -> Identity:
        """Which archive the store has."""

    async def identify(self, identity: Identity) -> None:
        """Remember it."""

    async def fence(self, before: date) -> date:
        """Rows of days before `before` are late from now on, whoever writes them (not so runs). The fence as it stands."""

    async def stored(self, signal: Signal, before: date) -> list[date]:
        """Days before `before` of which the store has rows, oldest first."""

    async def empty_months(self, before: date) -> list[date]:
        """Months of runs before `before` that the store has a table of and no run that ended, oldest first."""

    async def archived(self, signal: Signal) -> Mapping[date, DayState]:
        """Days that the archive holds whole."""

    async def gone(self, signal: Signal, days: Collection[date]) -> list[date]:
        """Those of `days` for which the store keeps no table, so that it can answer for none of them."""

    async def counts(self, signal: Signal, day: date) -> Mapping[str, int]:
        """How many rows each site has on a day, of those that can be archived: not rows whose resource or scope is missing."""

    def rows(self, place: Place) -> AsyncGenerator[list[Any]]:
        """A day's rows in the order of the archive, some thousand at a time, all of one moment."""

    async def fingerprint(self, signal: Signal, day: date) -> Held | None:
        """What the store has of a day, of runs of its month; None when it has no table of it."""

    async def drop(self, signal: Signal, day: date, held: Held) -> bool:
        """Delete them, unless they have changed since; the archive answers from then on."""

    async def hot_hours(self) -> float:
        """How long a day may stay where nothing else is set: long where its rows are compressed, short where they are not."""

    async def entries(self, signal: Signal, day: date) -> list[Entry]:
        """The files of a day, of every site."""

    async def restores(self) -> int:
        """How often days have come back: whoever asks the store and then the manifest sees whether one did in between."""

    async def files(self, choice: Choice, limit: int) -> Manifest:
        """Files of dropped days, the newest first."""

    async def manifest(self) -> Manifest:
        """Every file."""

    async def record(
        self,
        signal: Signal,
        entries: Sequence[Entry],
        *,
        retire: Sequence[str] = (),
        whole: date | None = None,
        late: Sequence[Late] = (),
        gone: Collection[date] = (),
    ) -> int:
        """In one transaction: add files, retire paths, mark the day `whole` as archived, delete `late` rows. The new version.

        Days that are `gone` from the store, or never were in it, are answered by the archive from then on.
        """

    async def late(
        self, signal: Signal, limit: int, *, runs_before: date | None = None, without: Collection[Place] = ()
    ) -> list[Late]:
        """Some late rows of days that are fenced and have no table in the store, but for those of some places.

        Of runs: of months that have left the store; with `runs_before` also of those before it that never had a table, which
        rollups do not count any more from then on. Open runs of such months too, with `runs_before` those without a sign since.
        """

    async def restore(self, signal: Signal, day: date, batches: AsyncGenerator[list[Any]], until: date) -> int:
        """Put a dropped day's rows back; the store answers until it is dropped again, not before `until`. How many."""

    async def forget_restore(self) -> None:
        """Throw away what a killed restore left, of which nobody reads."""

    async def give_back(self, runs: list[Any]) -> None:
        """Write runs to the store again, as if they had been sent once more."""

    async def known(self, paths: Sequence[str]) -> set[str]:
        """Which of these paths the manifest has, in any state."""

    async def removable(self, grace_hours: float) -> list[str]:
        """Paths that were retired longer ago than that and have not been removed."""

    async def removed(self, paths: Sequence[str]) -> None:
        """These files are gone."""


Step = Callable[[str, str, int], None]
"""Told what was just done: the step, where, how many rows. Tests end the process here."""
