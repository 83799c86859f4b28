"""A group of decoded requests: what is written together, halved when the store rejects some row, and answered after the commit.

In: requests as a lane decoded them. Out: Batches and Parts for `storage`'s Writer, in one order that halving keeps.
Called by: `pipeline`, `lanes`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from wafermonitor.receiver.fair_queue import Waiting
from wafermonitor.receiver.transcode.protocol import Transcoded
from wafermonitor.runs.records import Batch
from wafermonitor.storage.protocol import Block, Part


class Place(NamedTuple):
    """A request's place in a block of the native lane."""

    block: Block
    number: int


class Member(NamedTuple):
    """A decoded request. `rows` counts all that must be written for it, `items` its spans, log records and points.

    `timeless`: the digests of its items that say no time of their own.
    """

    waiting: Waiting
    content: Batch | Place
    items: int
    rows: int
    rejected: int
    message: str
    repaired: int
    timeless: Sequence[bytes] = ()


def member(waiting: Waiting, transcoded: Transcoded) -> Member:
    """A request that a lane turned into records."""
    batch, rejected, message, repaired, timeless = transcoded
    rows = batch.items + len(batch.runs) + len(batch.processes) + len(batch.feeds) + len(batch.dead)
    return Member(waiting, batch, batch.items, rows, rejected, message, repaired, timeless)


def contents(members: Sequence[Member]) -> list[Batch | Part]:
    """What the Writer gets for `members`: neighbours in a block become one Part. Members without rows give nothing."""
    found: list[Batch | Part] = []
    for one in members:
        if not one.rows:
            continue
        if not isinstance(one.content, Place):
            found.append(one.content)
            continue
        block, number = one.content
        last = found[-1] if found else None
        if isinstance(last, Part) and last.block is block and not _has_rows(block, last.last, number):
            found[-1] = Part(block, last.first, number + 1)
        else:
            found.append(Part(block, number, number + 1))
    return found


def _has_rows(block: Block, first: int, last: int) -> bool:
    """Whether requests between two members have rows: they are decoded anew, or wait for the next try."""
    return first < last and any(rows for _, rows, *_ in block.outcomes[first:last])


def transactions(members: Sequence[Member], limit_rows: int) -> Iterator[Sequence[Member]]:
    """`members` in pieces of at most `limit_rows` rows, or of one member that has more."""
    first = rows = 0
    for index, one in enumerate(members):
        if index > first and rows + one.rows > limit_rows:
            yield members[first:index]
            first, rows = index, 0
        rows += one.rows
    if first < len(members):
        yield members[first:]
