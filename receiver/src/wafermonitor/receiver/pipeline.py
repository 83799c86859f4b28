"""From requests to rows: a group is decoded, committed in one transaction, and answered after it.

In: groups of `Request`s. Out: an `Answer` each, or the error to answer. Called by: `outlet`, which has the queue; `server`.
Calls: `lanes` (in threads), `storage`'s Writer.

A group is a list of requests, each decoded within its own bounds. When the store rejects a group its halves are written apart
until the guilty request stands alone, and then its rows (`culprits`).
"""

from __future__ import annotations

import asyncio
import logging
import sys
import time
from collections import Counter
from collections.abc import Sequence

from wafermonitor.receiver import arrivals, culprits
from wafermonitor.receiver.answers import Answer
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.errors import ReceiverError, RequestRejected, StoreUnavailable
from wafermonitor.receiver.fair_queue import Waiting
from wafermonitor.receiver.group import Member, Place, contents, transactions
from wafermonitor.receiver.lanes import Lanes
from wafermonitor.receiver.outlet import MEMORY, Outlet
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.runs.records import Batch
from wafermonitor.storage.errors import SchemaTooOld, StorageRejected, StorageUnavailable
from wafermonitor.storage.protocol import Writer

LOG = logging.getLogger(__name__)
NEARLY = 0.9
"""A group should not be a few rows too large: these would be a transaction of their own."""


class Pipeline(Outlet):
    """From requests to rows of the store."""

    def __init__(self, writer: Writer, lanes: Lanes, config: Config, telemetry: Telemetry) -> None:
        super().__init__(config, telemetry)
        self.lanes = lanes
        self._writer = writer
        self._bytes_per_row = 0.0

    def _group_bytes(self) -> int:
        """As much as should make nearly `group_spans` rows, after what the last groups made.

        More would be decoded, and kept, for a transaction that is still to come.
        """
        if not self._bytes_per_row:
            return self._config.group_bytes
        return min(self._config.group_bytes, int(NEARLY * self._config.group_spans * self._bytes_per_row) + 1)

    async def _process(self, group: list[Waiting]) -> None:
        decoded = await asyncio.get_running_loop().run_in_executor(
            self._threads, self.lanes.decode, group, self._config.group_spans
        )
        if decoded.rest:
            self._queue.put_back(decoded.rest)
            rest = set(decoded.rest)
            group[:] = [waiting for waiting in group if waiting not in rest]
            self._begin()
        for waiting, error in decoded.refused:
            self._finish(waiting, error)
        members = await self._with_first_arrivals(decoded.members)
        if self._quotas.enabled:
            for member in members:
                self._quotas.charge_items(member.waiting.site, member.items)
        for part in transactions(members, self._config.group_spans):
            await self._write(part)

    async def _with_first_arrivals(self, members: list[Member]) -> list[Member]:
        """`members`, in which an item without a time of its own has that of its first delivery, whoever took it."""
        try:
            late = await arrivals.ask(self._writer, members)
        except Exception as error:  # noqa: BLE001 - it is logged there
            self._postpone([member for member in members if member.timeless], error)
            return [member for member in members if not member.timeless]
        if not late:
            return members
        # All bytes were decoded once before, so nothing of them is too much now.
        again = await asyncio.get_running_loop().run_in_executor(
            self._threads, self.lanes.decode, [member.waiting for member in late], sys.maxsize
        )
        for waiting, refusal in again.refused:
            self._finish(waiting, refusal)
        self._queue.put_back(again.rest)
        done = {member.waiting: member for member in again.members}
        gone = {member.waiting for member in late} - done.keys()
        return [done.get(member.waiting, member) for member in members if member.waiting not in gone]

    async def _write(self, members: Sequence[Member]) -> None:
        """Write `members` in one transaction; halve them when the store rejects some row."""
        rows = contents(members)
        began = time.monotonic()
        try:
            if rows:
                await self._writer.write(rows)
        except SchemaTooOld as error:
            self._postpone(members, error)
        except StorageRejected:
            await self._isolate(members)
        except Exception as error:  # noqa: BLE001 - it is logged there
            self._postpone(members, error)
        else:
            self._committed(members, time.monotonic() - began)

    async def _isolate(self, members: Sequence[Member]) -> None:
        if len(members) == 1:
            await self._write_apart(members[0])
            return
        middle = len(members) // 2
        await self._write(members[:middle])
        await self._write(members[middle:])

    async def _write_apart(self, member: Member) -> None:
        """Write the rows of one request apart; those that the store refuses become dead letters."""
        began = time.monotonic()
        try:
            member, batch = await self._as_records(member)
            taken, refused = await culprits.write_apart(self._writer, member.waiting.request, batch)
        except (RequestRejected, StorageRejected) as error:
            if isinstance(error, SchemaTooOld):
                self._postpone([member], error)
                return
            LOG.error("the store rejects a request for good: %d items", member.items)  # noqa: TRY400 - no fault of ours
            self._finish(member.waiting, RequestRejected("the store will never accept the rows of this request"))
        except ReceiverError as error:
            self._finish(member.waiting, error)
        except Exception as error:  # noqa: BLE001 - it is logged there
            self._postpone([member], error)
        else:
            LOG.error("the store refuses %d rows for good; they are dead letters", refused)
            message = "; ".join(filter(None, (member.message, f"{refused} refused by the store")))
            rest = member._replace(items=taken.items, rejected=member.rejected + refused, message=message)
            self._committed([rest], time.monotonic() - began)

    async def _as_records(self, member: Member) -> tuple[Member, Batch]:
        """A member whose rows can be taken apart: what the native lane decoded is decoded again in Python."""
        if isinstance(member.content, Place):
            loop = asyncio.get_running_loop()
            member = await loop.run_in_executor(self._threads, self.lanes.decode_one, member.waiting)
        assert isinstance(member.content, Batch)
        return member, member.content

    def _postpone(self, members: Sequence[Member], error: Exception) -> None:
        """Nothing is wrong with the rows: their senders try again."""
        if isinstance(error, SchemaTooOld):
            # Permanent for the store, not for the data: the operator migrates and the sender's next try succeeds.
            LOG.error("the store must be migrated: %s", error)
        elif isinstance(error, StorageUnavailable):
            LOG.warning("the store is unavailable: %s", error)
        else:
            LOG.error("the store failed in an unexpected way", exc_info=error)
        refusal = StoreUnavailable("the store cannot commit now; try again", self.retry_s())
        for member in members:
            self._finish(member.waiting, refusal)

    def _committed(self, members: Sequence[Member], took_s: float) -> None:
        fates: Counter[tuple[str, str]] = Counter()
        sizes: Counter[str] = Counter()
        for member in members:
            waiting = member.waiting
            signal = waiting.request.signal.value
            sizes[signal] += waiting.size
            fates[signal, "stored"] += member.items
            if member.repaired or member.rejected:
                fates[signal, "repaired"] += member.repaired
                fates[signal, "rejected"] += member.rejected
            self._finish(waiting, Answer(member.rejected, member.message) if member.rejected else _WHOLE)
        self._telemetry.committed(took_s, len(members), fates, sizes)
        self._count(sum(sizes.values()), sum(member.rows for member in members))

    def _count(self, size: int, rows: int) -> None:
        """What was committed, for the rate; and how many bytes make a row, for the size of the next groups."""
        self._written_bytes += size
        if rows:
            seen = size / rows
            self._bytes_per_row = MEMORY * self._bytes_per_row + (1 - MEMORY) * seen if self._bytes_per_row else seen


_WHOLE = Answer()
