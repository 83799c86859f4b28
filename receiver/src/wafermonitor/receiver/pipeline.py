"""The one way in: requests wait, go as a group, are committed in one transaction, and are answered after it.

In: admitted `Request`s of every transport. Out: an `Answer` each, or the error to answer.
Called by: `otlp_grpc`, `otlp_http`; `server` starts and drains it. Calls: the lanes (in threads), `storage`'s Writer.

Whatever waited while the last group was written is the next group: no timer, so an idle receiver answers at once and a busy
one writes large groups. A group is a list of requests, each decoded within its own bounds. When the store rejects a group its
halves are written apart until the guilty request stands alone, and then its rows (`culprits`).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from opentelemetry import trace

from wafermonitor.receiver import culprits
from wafermonitor.receiver.answers import Answer
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.errors import Draining, ReceiverError, ReceiverUnavailable, RequestRejected, StoreUnavailable
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode.protocol import Encoding, Lane, Request, Transcoded
from wafermonitor.storage.errors import SchemaTooOld, StorageRejected, StorageUnavailable
from wafermonitor.storage.protocol import Writer

LOG = logging.getLogger(__name__)
SHORTEST_RETRY_S = 1.0
LONGEST_RETRY_S = 30.0
RATE_MEMORY = 0.8
"""How much of the drain rate's old value stays when a new group has been written."""


class _Waiting(NamedTuple):
    request: Request
    answer: asyncio.Future[Answer]


class _Member(NamedTuple):
    """A request of the group, decoded."""

    waiting: _Waiting
    transcoded: Transcoded


class Pipeline:
    """The queue and the tasks that empty it. `lanes` has one lane for each encoding."""

    def __init__(self, writer: Writer, lanes: Mapping[Encoding, Lane], config: Config, telemetry: Telemetry) -> None:
        self._writer = writer
        self._lanes = lanes
        self._config = config
        self._telemetry = telemetry
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._arrived = asyncio.Event()
        self._open: set[asyncio.Future[Answer]] = set()
        self._draining = False
        self._bytes_per_s = 0.0
        self._threads = ThreadPoolExecutor(config.writers, thread_name_prefix="transcode")
        self._tasks: list[asyncio.Task[None]] = []
        self._tracer = trace.get_tracer(__name__)

    def start(self) -> None:
        """Begin to take groups."""
        self._tasks = [asyncio.create_task(self._work(), name=f"writer-{number}") for number in range(self._config.writers)]

    @property
    def draining(self) -> bool:
        """It takes nothing new any more."""
        return self._draining

    @property
    def waiting(self) -> int:
        """How many requests wait for a group."""
        return len(self._waiting)

    async def submit(self, request: Request) -> Answer:
        """Wait until the rows of `request` are committed. Raises ReceiverUnavailable or ReceiverRejected."""
        if self._draining:
            raise Draining("this receiver is stopping; try again", SHORTEST_RETRY_S)
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open.add(answer)
        answer.add_done_callback(self._open.discard)
        self._waiting.append(_Waiting(request, answer))
        self._waiting_bytes += len(request.body)
        self._arrived.set()
        return await answer

    def retry_s(self) -> float:
        """When there should be room again: what waits, at the rate of the last groups."""
        if not self._bytes_per_s:
            return SHORTEST_RETRY_S
        return min(max(self._waiting_bytes / self._bytes_per_s, SHORTEST_RETRY_S), LONGEST_RETRY_S)

    async def drain(self, timeout_s: float) -> None:
        """Take nothing new, commit what was accepted, and end. What is not committed in time is answered with Draining."""
        self._draining = True
        if self._open:
            await asyncio.wait(set(self._open), timeout=timeout_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for answer in set(self._open):
            _fail(answer, Draining("this receiver stopped before the store had committed; try again", SHORTEST_RETRY_S))
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _work(self) -> None:
        while True:
            await self._arrived.wait()
            group = self._take()
            if not group:
                continue
            began = time.monotonic()
            try:
                await self._process(group)
            except Exception:
                LOG.exception("a group failed in the receiver itself")
                self._fail_all(group, ReceiverUnavailable("the receiver could not do it; try again", self.retry_s()))
            self._measure(group, time.monotonic() - began)

    def _take(self) -> list[_Waiting]:
        """What waits, up to `group_bytes`, at least one. A sender that went away is not served."""
        group: list[_Waiting] = []
        size = 0
        while self._waiting and (not group or size + len(self._waiting[0].request.body) <= self._config.group_bytes):
            waiting = self._waiting.popleft()
            self._waiting_bytes -= len(waiting.request.body)
            if not waiting.answer.done():
                group.append(waiting)
                size += len(waiting.request.body)
        if not self._waiting:
            self._arrived.clear()
        return group

    def _put_back(self, group: Sequence[_Waiting]) -> None:
        self._waiting.extendleft(reversed(group))
        self._waiting_bytes += sum(len(waiting.request.body) for waiting in group)
        if self._waiting:
            self._arrived.set()

    async def _process(self, group: list[_Waiting]) -> None:
        with self._tracer.start_as_current_span("receiver.group"):
            decoded = await asyncio.get_running_loop().run_in_executor(self._threads, self._transcode, group)
            self._put_back(group[len(decoded) :])
            del group[len(decoded) :]
            members = []
            for waiting, result in zip(group, decoded, strict=True):
                if isinstance(result, ReceiverError):
                    _fail(waiting.answer, result)
                else:
                    members.append(_Member(waiting, result))
            await self._write(members)

    def _transcode(self, group: Sequence[_Waiting]) -> list[Transcoded | ReceiverError]:
        """Decode from the front until the group has `group_spans` items; runs in a thread."""
        results: list[Transcoded | ReceiverError] = []
        items = 0
        for waiting in group:
            if results and items >= self._config.group_spans:
                break
            try:
                result = self._lanes[waiting.request.encoding].transcode(waiting.request)
            except ReceiverError as error:
                results.append(error)
            except Exception:
                LOG.exception("a request could not be decoded for a reason of our own")
                results.append(ReceiverUnavailable("the receiver could not read the request; try again", LONGEST_RETRY_S))
            else:
                results.append(result)
                items += result.batch.items
        return results

    async def _write(self, members: list[_Member]) -> None:
        """Write `members` in one transaction; halve them when the store rejects some row."""
        if not members:
            return
        batches = [member.transcoded.batch for member in members if _has_rows(member.transcoded)]
        began = time.monotonic()
        try:
            if batches:
                await self._writer.write(batches)
        except SchemaTooOld as error:
            self._postpone(members, error)
        except StorageRejected:
            await self._isolate(members)
        except Exception as error:  # noqa: BLE001 - it is logged there
            self._postpone(members, error)
        else:
            self._committed(members, time.monotonic() - began)

    async def _isolate(self, members: list[_Member]) -> None:
        if len(members) == 1:
            await self._write_apart(members[0])
            return
        middle = len(members) // 2
        await self._write(members[:middle])
        await self._write(members[middle:])

    async def _write_apart(self, member: _Member) -> None:
        """Write the rows of one request apart; those that the store refuses become dead letters."""
        waiting, transcoded = member
        began = time.monotonic()
        try:
            taken, refused = await culprits.write_apart(self._writer, waiting.request, transcoded.batch)
        except (RequestRejected, StorageRejected) as error:
            if isinstance(error, SchemaTooOld):
                self._postpone([member], error)
                return
            LOG.error("the store rejects a request for good: %d items", transcoded.batch.items)  # noqa: TRY400 - no fault of ours
            _fail(waiting.answer, RequestRejected("the store will never accept the rows of this request"))
        except Exception as error:  # noqa: BLE001 - it is logged there
            self._postpone([member], error)
        else:
            LOG.error("the store refuses %d rows for good; they are dead letters", refused)
            message = "; ".join(filter(None, (transcoded.message, f"{refused} refused by the store")))
            rest = transcoded._replace(batch=taken, rejected=transcoded.rejected + refused, message=message)
            self._committed([_Member(waiting, rest)], time.monotonic() - began)

    def _postpone(self, members: Sequence[_Member], error: Exception) -> None:
        """Nothing is wrong with the rows: their senders try again."""
        if isinstance(error, SchemaTooOld):
            # Permanent for the store, not for the data: the operator migrates and the sender's next try succeeds.
            LOG.error("the store must be migrated: %s", error)
        elif isinstance(error, StorageUnavailable):
            LOG.warning("the store is unavailable: %s", error)
        else:
            LOG.error("the store failed in an unexpected way", exc_info=error)
        self._fail_all(
            [member.waiting for member in members],
            StoreUnavailable("the store cannot commit now; try again", max(self.retry_s(), SHORTEST_RETRY_S)),
        )

    def _fail_all(self, group: Sequence[_Waiting], error: ReceiverError) -> None:
        for waiting in group:
            _fail(waiting.answer, error)

    def _committed(self, members: Sequence[_Member], took_s: float) -> None:
        for waiting, transcoded in members:
            if not waiting.answer.done():
                waiting.answer.set_result(Answer(transcoded.rejected, transcoded.message))
        self._telemetry.commit_s.observe(took_s)
        self._telemetry.group_requests.observe(len(members))
        self._telemetry.group_items.observe(sum(member.transcoded.batch.items for member in members))
        for waiting, transcoded in members:
            signal = waiting.request.signal.value
            self._telemetry.bytes.labels(signal).inc(len(waiting.request.body))
            self._telemetry.items.labels(signal, "stored").inc(transcoded.batch.items)
            self._telemetry.items.labels(signal, "repaired").inc(transcoded.repaired)
            self._telemetry.items.labels(signal, "rejected").inc(transcoded.rejected)

    def _measure(self, group: Sequence[_Waiting], took_s: float) -> None:
        rate = sum(len(waiting.request.body) for waiting in group) / max(took_s, 1e-6) * self._config.writers
        self._bytes_per_s = RATE_MEMORY * self._bytes_per_s + (1 - RATE_MEMORY) * rate if self._bytes_per_s else rate


def _has_rows(transcoded: Transcoded) -> bool:
    batch = transcoded.batch
    return bool(batch.items or batch.runs or batch.processes or batch.feeds or batch.dead)


def _fail(answer: asyncio.Future[Answer], error: ReceiverError) -> None:
    if not answer.done():
        answer.set_exception(error)
