"""Which rows of one request the store refuses, found by halving, so that the others are kept.

In: the batch of a request that the store rejected, and the Writer. Out: dead letters of the guilty rows; every other row is
committed. Called by: `pipeline`, when a request stands alone and is still rejected.

The lanes let nothing through that the store is known to refuse, so this runs only for what nobody foresaw.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from wafermonitor.receiver.dead_letters.rows import sample_of
from wafermonitor.receiver.errors import RequestRejected
from wafermonitor.receiver.transcode.policies import MAX_SAMPLE_BYTES
from wafermonitor.receiver.transcode.protocol import Request
from wafermonitor.runs.records import UNSET_SITE, Batch, DeadLetter
from wafermonitor.storage.errors import SchemaTooOld, StorageRejected
from wafermonitor.storage.protocol import Writer

MAX_CULPRITS = 32
"""A request with more is refused whole: what is wrong with it is not a matter of single rows, and each costs transactions."""
REASON = "the store refuses this row"

_Rows = list[tuple[str, Any]]
"""(field of Batch, row)."""


async def write_apart(writer: Writer, request: Request, batch: Batch) -> tuple[Batch, int]:
    """Commit what the store takes of `batch`, and dead letters for the rest: (what was taken, how many rows were not).

    RequestRejected, and one dead letter for the request, when there are too many. StorageUnavailable passes through: the sender
    tries again, and what was committed is not stored twice.
    """
    taken: _Rows = []
    culprits: _Rows = []
    waiting = [[(field.name, row) for field in dataclasses.fields(batch) for row in getattr(batch, field.name)]]
    while waiting:
        rows = waiting.pop()
        try:
            await writer.write([_batch(rows)])
            taken += rows
        except SchemaTooOld:
            raise
        except StorageRejected:
            middle = len(rows) // 2
            if middle:
                waiting += [rows[middle:], rows[:middle]]
                continue
            culprits += rows
            if len(culprits) > MAX_CULPRITS:
                await _bury(
                    writer, [_letter(request, UNSET_SITE, "the store refuses too many rows of this request", request.body)]
                )
                raise RequestRejected("the store will never accept the rows of this request") from None
    await _bury(writer, [_letter(request, _site(row), REASON, _sample(row)) for _, row in culprits])
    return _batch(taken), len(culprits)


def _batch(rows: _Rows) -> Batch:
    batch = Batch()
    for name, row in rows:
        getattr(batch, name).append(row)
    return batch


def _letter(request: Request, site: str, reason: str, sample: bytes) -> DeadLetter:
    return DeadLetter(site, request.signal.value, reason, sample[:MAX_SAMPLE_BYTES], request.received_ns)


def _sample(row: Any) -> bytes:
    """A request with this row alone: what the sender wrote was decoded long ago, together with its neighbours."""
    return sample_of(row) or repr(row).encode("utf-8", "replace")


async def _bury(writer: Writer, letters: list[DeadLetter]) -> None:
    await writer.write([Batch(dead=letters)])


def _site(row: Any) -> str:
    owner = getattr(row, "series", row)
    return str(getattr(getattr(owner, "resource", owner), "site", UNSET_SITE))
