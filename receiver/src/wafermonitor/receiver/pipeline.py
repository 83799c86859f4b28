"""The one way in: requests wait, go as a group, are committed in one transaction, and are answered after it.

In: admitted `Request`s of every transport. Out: an `Answer` each, or the error to answer.
Called by: `otlp_grpc`, `otlp_http`, `kafka`; `server` starts and drains it. Calls: `lanes` (in threads), `storage`'s Writer.

Whatever waited while the last group was written is the next group: no timer, so an idle receiver answers at once and a busy
one writes large groups. A group is a list of requests, each decoded within its own bounds. When the store rejects a group its
halves are written apart until the guilty request stands alone, and then its rows (`culprits`).
"""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from opentelemetry import trace

from wafermonitor.receiver import arrivals, culprits, sites
from wafermonitor.receiver.admission import Hold
from wafermonitor.receiver.answers import Answer
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.errors import Draining, ReceiverError, ReceiverUnavailable, RequestRejected, StoreUnavailable
from wafermonitor.receiver.fair_queue import Done, FairQueue, Waiting
from wafermonitor.receiver.group import Member, Place, contents, transactions
from wafermonitor.receiver.lanes import Lanes
from wafermonitor.receiver.quota import Quotas
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode.protocol import Request
from wafermonitor.runs.records import Batch
from wafermonitor.storage.errors import SchemaTooOld, StorageRejected, StorageUnavailable
from wafermonitor.storage.protocol import Writer

LOG = logging.getLogger(__name__)
SHORTEST_RETRY_S = 1.0
LONGEST_RETRY_S = 30.0
MEMORY = 0.8
"""How much of a rate's old value stays when a new group has been written."""
NEARLY = 0.9
"""A group should not be a few rows too large: these would be a transaction of their own."""
EAGER_BYTES = 64 * 1024
"""Beside a group that is being written another one begins only with so much: a commit costs as much as hundreds of spans."""
OWN_PEEK_BYTES = 1024
"""Where `service.name` stands in a request of our own spans."""


class Pipeline:
    """The queue and the groups on their way, at most `config.writers` at once."""

    def __init__(self, writer: Writer, lanes: Lanes, config: Config, telemetry: Telemetry) -> None:
        self.lanes = lanes
        self._writer = writer
        self._config = config
        self._telemetry = telemetry
        self._quotas = Quotas(config.quota, config.quota_by_site)
        self._queue = FairQueue()
        self._open: set[Waiting] = set()
        self._open_bytes = 0
        self._empty = asyncio.Event()
        self._started = False
        self._draining = False
        self._busy = 0
        self._measured = 0.0
        self._committed_bytes = 0
        self._bytes_per_s = 0.0
        self._bytes_per_row = 0.0
        self._threads = ThreadPoolExecutor(config.writers, thread_name_prefix="transcode")
        self._tasks: set[asyncio.Task[None]] = set()
        self._tracer = trace.get_tracer(__name__)
        self._own = (os.environ.get("OTEL_SERVICE_NAME") or "wafer-receiver").encode()

    def start(self) -> None:
        """Begin to take groups."""
        self._started = True
        self._begin()

    @property
    def draining(self) -> bool:
        """It takes nothing new any more."""
        return self._draining

    @property
    def waiting(self) -> int:
        """How many requests wait for a group."""
        return len(self._queue)

    def enqueue(self, request: Request, done: Done, share: Hold | None = None) -> Waiting:
        """Have `done` called once, with an Answer after the rows of `request` are committed, or with the error to answer.

        `share` is what holds the body's bytes; they count for the site from now on. Raises Draining, Throttled or QueueFull
        at once; then `done` is not called.
        """
        if self._draining:
            raise Draining("this receiver is stopping; try again", SHORTEST_RETRY_S)
        site = sites.peek(request)
        if share is not None:
            share.assign(site)
        if self._quotas.enabled:  # last: what is refused for another reason is not charged
            self._quotas.take(site, len(request.body))
        waiting = Waiting(request, site, done)
        self._open.add(waiting)
        self._open_bytes += waiting.size
        self._queue.push(waiting)
        self._begin()
        return waiting

    async def submit(self, request: Request, share: Hold | None = None) -> Answer:
        """Wait until the rows of `request` are committed. Raises ReceiverUnavailable or ReceiverRejected."""
        future: asyncio.Future[Answer | ReceiverError] = asyncio.get_running_loop().create_future()

        def done(outcome: Answer | ReceiverError) -> None:
            if not future.done():  # cancelled in this very turn of the loop: `leave` is still to come
                future.set_result(outcome)

        waiting = self.enqueue(request, done, share)
        try:
            outcome = await future
        except asyncio.CancelledError:
            self.leave(waiting)
            raise
        if isinstance(outcome, Answer):
            return outcome
        try:
            raise copy.copy(outcome)  # many may wait for the same
        finally:
            del outcome

    def leave(self, waiting: Waiting) -> None:
        """The sender of `waiting` went away: it is not served if it still waits, and not answered."""
        waiting.leave()
        self._close(waiting)

    def retry_s(self) -> float:
        """When there should be room again: what is accepted and not answered, at the rate of the last commits."""
        if not self._bytes_per_s:
            return SHORTEST_RETRY_S
        return min(max(self._open_bytes / self._bytes_per_s, SHORTEST_RETRY_S), LONGEST_RETRY_S)

    def refuse_new(self) -> None:
        """Take nothing new from now on."""
        self._draining = True
        if not self._open:
            self._empty.set()

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, commit what was accepted, and end. What is not committed in time is answered with Draining."""
        self.refuse_new()
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            LOG.warning("%d requests are not committed in time; their senders try again", len(self._open))
        tasks = set(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        error = Draining("this receiver stopped before the store had committed; try again", SHORTEST_RETRY_S)
        for waiting in list(self._open):
            self._finish(waiting, error)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        """One more group if there is something to do, and either nothing is being written or enough waits for a second one."""
        if not self._started or not len(self._queue) or self._busy >= self._config.writers:
            return
        if self._busy and self._queue.bytes < EAGER_BYTES:
            return
        self._busy += 1
        task = asyncio.create_task(self._serve(), name="group")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self) -> None:
        """Take a group and see it through."""
        group = self._queue.take(self._group_bytes())
        began = time.monotonic()
        try:
            if group:
                await self._trace(group)
        except Exception:
            LOG.exception("a group failed in the receiver itself")
            error = ReceiverUnavailable("the receiver could not do it; try again", self.retry_s())
            for waiting in group:
                self._finish(waiting, error)
        finally:
            self._busy -= 1
        self._measure(began)
        self._begin()

    def _group_bytes(self) -> int:
        """As much as should make nearly `group_spans` rows, after what the last groups made.

        More would be decoded, and kept, for a transaction that is still to come.
        """
        if not self._bytes_per_row:
            return self._config.group_bytes
        return min(self._config.group_bytes, int(NEARLY * self._config.group_spans * self._bytes_per_row) + 1)

    async def _trace(self, group: list[Waiting]) -> None:
        """A span for each group, but none for one of nothing but our own spans: each would make the next."""
        if all(self._own in waiting.request.body[:OWN_PEEK_BYTES] for waiting in group):
            await self._process(group)
            return
        with self._tracer.start_as_current_span("receiver.group"):
            await self._process(group)

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
        self._committed_bytes += size
        if rows:
            seen = size / rows
            self._bytes_per_row = MEMORY * self._bytes_per_row + (1 - MEMORY) * seen if self._bytes_per_row else seen

    def _measure(self, began: float) -> None:
        """The rate of commits, over all groups that were on their way at once, and without the time in which none was."""
        now = time.monotonic()
        passed_s = now - max(began, self._measured)
        self._measured = now
        if self._committed_bytes:
            rate = self._committed_bytes / max(passed_s, 1e-6)
            self._committed_bytes = 0
            self._bytes_per_s = MEMORY * self._bytes_per_s + (1 - MEMORY) * rate if self._bytes_per_s else rate

    def _finish(self, waiting: Waiting, outcome: Answer | ReceiverError) -> None:
        self._close(waiting)
        try:
            waiting.finish(outcome)
        except Exception:
            LOG.exception("a request could not be answered")

    def _close(self, waiting: Waiting) -> None:
        if waiting in self._open:
            self._open.discard(waiting)
            self._open_bytes -= waiting.size
            if self._draining and not self._open:
                self._empty.set()


_WHOLE = Answer()
