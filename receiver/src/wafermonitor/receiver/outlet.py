"""Requests that wait, groups of them on their way, and an answer for each: what every way out of the receiver has in common.

In: admitted `Request`s of every transport. Out: an `Answer` each, or the error to answer, after `_process` has seen to its
group. Implemented by: `pipeline` (the store), `bridge` (a writer). Called by: `otlp_grpc`, `otlp_http`, `kafka`; `server`
starts and drains it.

Whatever waited while the last group was written is the next group: no timer, so an idle receiver answers at once and a busy
one writes large groups.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import os
import time
from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor

from opentelemetry import trace

from wafermonitor.receiver import sites
from wafermonitor.receiver.admission import Hold
from wafermonitor.receiver.answers import Answer
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.errors import Draining, ReceiverError, ReceiverUnavailable
from wafermonitor.receiver.fair_queue import Done, FairQueue, Waiting
from wafermonitor.receiver.quota import Quotas
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode.protocol import Request

LOG = logging.getLogger(__name__)
SHORTEST_RETRY_S = 1.0
LONGEST_RETRY_S = 30.0
MEMORY = 0.8
"""How much of a rate's old value stays when a new group has been written."""
EAGER_BYTES = 64 * 1024
"""Beside a group that is being written another one begins only with so much: a commit costs as much as hundreds of spans."""
OWN_PEEK_BYTES = 1024
"""Where `service.name` stands in a request of our own spans."""


class Outlet(ABC):
    """The queue and the groups on their way, at most `config.writers` at once."""

    def __init__(self, config: Config, telemetry: Telemetry) -> None:
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
        self._written_bytes = 0
        self._bytes_per_s = 0.0
        self._threads = ThreadPoolExecutor(config.writers, thread_name_prefix="group")
        self._tasks: set[asyncio.Task[None]] = set()
        self._tracer = trace.get_tracer(__name__)
        self._own = (os.environ.get("OTEL_SERVICE_NAME") or "wafer-receiver").encode()

    @abstractmethod
    async def _process(self, group: list[Waiting]) -> None:
        """See `group` through: `_finish` each of it, or take it out of `group` and put it back into the queue."""

    def _group_bytes(self) -> int:
        """How much of the queue the next group may take."""
        return self._config.group_bytes

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

    async def _trace(self, group: list[Waiting]) -> None:
        """A span for each group, but none for one of nothing but our own spans: each would make the next."""
        if all(self._own in waiting.request.body[:OWN_PEEK_BYTES] for waiting in group):
            await self._process(group)
            return
        with self._tracer.start_as_current_span("receiver.group"):
            await self._process(group)

    def _measure(self, began: float) -> None:
        """The rate of commits, over all groups that were on their way at once, and without the time in which none was."""
        now = time.monotonic()
        passed_s = now - max(began, self._measured)
        self._measured = now
        if self._written_bytes:
            rate = self._written_bytes / max(passed_s, 1e-6)
            self._written_bytes = 0
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
