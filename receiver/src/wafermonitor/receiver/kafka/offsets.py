"""Which offsets may be committed, and how much of which partition may still be taken: bookkeeping without Kafka or clock.

In: offsets as they are taken and as their messages are settled, in any order. Out: the position up to which a partition has no
gap; the partitions that may take more. Called by: `consumer`.

A window lives from the assignment of its partition to its revocation. What finishes later tells its own, forgotten window, so
nothing in flight of a revoked partition can move a position.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple


class Partition(NamedTuple):
    """One partition of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"


class Window:
    """One partition while it is ours. `stalled` says that its oldest message must be tried again: then it takes no more."""

    def __init__(self, partition: Partition) -> None:
        self.partition = partition
        self.held_bytes = 0
        self.stalled = False
        self.closing = False
        self.known = False
        """Whether Kafka was asked where the group stands here."""
        self.tasks: set[asyncio.Task[None]] = set()
        self.moved = asyncio.Event()
        """Set, and replaced by a new one, when the oldest message is settled."""
        self._open: deque[int] = deque()
        self._sizes: dict[int, int] = {}
        self._next: int | None = None
        self._committed: int | None = None

    @property
    def oldest(self) -> int | None:
        """The offset of the oldest message that is not settled."""
        return self._open[0] if self._open else None

    @property
    def position(self) -> int | None:
        """Everything before it is settled; None until a message was taken or `begin` said where it stands."""
        return self._open[0] if self._open else self._next

    @property
    def due(self) -> int | None:
        """The position, if it has not been committed."""
        return self.position if self.position != self._committed else None

    def begin(self, position: int, *, kept: bool = True) -> None:
        """Say where the group stands, and whether Kafka has kept that; counts only until the first message is taken."""
        if self._next is None:
            self._next = position
            self._committed = position if kept else None

    def take(self, offset: int, size_bytes: int) -> None:
        """A message is in our hands. Offsets grow; those between may not exist (Kafka's own marks, compaction)."""
        if self._next is not None and offset < self._next:
            raise ValueError(f"{self.partition}: offset {offset} after {self._next}")
        self._open.append(offset)
        self._sizes[offset] = size_bytes
        self._next = offset + 1
        self.held_bytes += size_bytes

    def settle(self, offset: int) -> None:
        """The message is in the store, or a dead letter."""
        self.held_bytes -= self._sizes.pop(offset)
        moved = False
        while self._open and self._open[0] not in self._sizes:
            self._open.popleft()
            moved = True
        if moved:
            self.stalled = False
            self.moved.set()
            self.moved = asyncio.Event()

    def committed(self, position: int) -> None:
        """Kafka has kept `position`."""
        self._committed = position


class Due(NamedTuple):
    """A position to commit."""

    window: Window
    position: int


class Ledger:
    """The windows of all assigned partitions, and the bytes they hold together: at most about `limit_bytes`."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self.windows: dict[Partition, Window] = {}

    @property
    def held_bytes(self) -> int:
        """Bytes of messages that are not settled."""
        return sum(window.held_bytes for window in self.windows.values())

    @property
    def free_bytes(self) -> int:
        """What may still be taken; below zero when single messages were larger than the room."""
        return self._limit_bytes - self.held_bytes

    def assign(self, partitions: Iterable[Partition]) -> None:
        """Begin a window for each."""
        for partition in partitions:
            self.windows[partition] = Window(partition)

    def close(self, partitions: Iterable[Partition]) -> list[Window]:
        """Take nothing more of these; their windows, which can still be settled and committed."""
        windows = [self.windows[partition] for partition in partitions if partition in self.windows]
        for window in windows:
            window.closing = True
        return windows

    def forget(self, windows: Iterable[Window]) -> None:
        """These partitions are no longer ours."""
        for window in windows:
            if self.windows.get(window.partition) is window:
                del self.windows[window.partition]

    def takers(self) -> list[Partition]:
        """Partitions that may take more.

        Each may hold as much as is still free, so that one alone gets half of the room, several share it, and there is always
        some left for another. One that holds nothing may always take: whatever the others do, it goes on.
        """
        free = self.free_bytes
        return [
            partition
            for partition, window in self.windows.items()
            if not (window.closing or window.stalled) and (window.oldest is None or window.held_bytes < free)
        ]

    def due(self, windows: Sequence[Window] | None = None) -> list[Due]:
        """Positions that moved since they were committed: of those of `windows` that are still ours, or of all."""
        ours = self.windows.values()
        chosen = ours if windows is None else [window for window in windows if window in ours]
        return [Due(window, window.due) for window in chosen if window.due is not None]
