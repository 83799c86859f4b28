"""From a queue to the endpoint, or to the spool: nothing that was started is lost, and the job hardly waits.

In: finished spans, log records and collected metrics. Out: OTLP requests, or lines in the spool when nothing answers.
Called by: `processor`, `logs` and `providers` (put), `jobs` and `exits` (flush, close).

One thread for each process sends. A caller waits for it only within the process-wide `Budget`. The first answer that does not
come in time makes the endpoint count as down: from then on everything goes to the spool, and the thread asks again later.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, Final

from wafermonitor.instrumentation.guard import guarded, once
from wafermonitor.instrumentation.otlp_json import request_from_proto
from wafermonitor.instrumentation.spool import SIGNALS, Signal, Spool
from wafermonitor.instrumentation.transport import Batch, Outcome, Transport

BATCH_ITEMS: Final = 512
QUEUE_ITEMS: Final = 65_536
SOON_S: Final = 0.02
"""A lifecycle event waits so long for company."""
LINGER_S: Final = 0.5
"""Other telemetry waits so long for company."""
_PROBE_FIRST_S: Final = 1.0
_PROBE_LAST_S: Final = 30.0
_REFILL: Final = 0.01


class Budget:
    """Seconds that all runs of the process together may wait. While the endpoint answers, 1 % of the time passed comes back."""

    def __init__(self, seconds: float) -> None:
        self._full_s = self._left_s = seconds
        self._seen_s = time.monotonic()

    def left_s(self, *, keep: float = 0.0, refill: bool) -> float:
        """What a caller may wait now. `keep` is the share (0…1) of the whole that stays for more important ones."""
        now_s = time.monotonic()
        if refill:
            self._left_s = min(self._full_s, self._left_s + _REFILL * (now_s - self._seen_s))
        self._seen_s = now_s
        return self._left_s - keep * self._full_s

    def charge(self, seconds: float) -> None:
        """A caller has waited."""
        self._left_s -= seconds
        self._seen_s = time.monotonic()


class Sender:
    """The queue of one process and the thread that empties it. A forked child makes its own.

    `transport` is None in mode `file`: everything goes to the spool. `send_spool` is called in a thread of its own when the
    endpoint answers for the first time, or again.
    """

    def __init__(
        self, transport: Transport | None, spool: Spool, *, blocking_s: float, send_spool: Callable[[], object]
    ) -> None:
        self.spool = spool
        self._send_spool = send_spool
        self._shipping: threading.Thread | None = None
        self._transport = transport
        self._budget = Budget(blocking_s)
        self._queues: dict[Signal, deque[Any]] = {signal: deque() for signal in SIGNALS}
        self._lock = threading.Lock()
        self._keeping = threading.RLock()  # a warning of the spool may lead back here
        self._wake = threading.Event()
        self._tickets: list[Future[bool]] = []
        self._flying: Batch | None = None
        self._armed = self._urgent = self._closed = False
        self._down = transport is None
        self._probe_after_s = _PROBE_FIRST_S
        self._probe_at_s = time.monotonic()
        self._thread: threading.Thread | None = None

    def put(self, signal: Signal, item: Any, *, soon: bool = False) -> None:
        """Queue one item; `soon` for lifecycle events, which someone watches."""
        queue = self._queues[signal]
        if len(queue) >= QUEUE_ITEMS:
            once(f"the queue of {signal} is full ({QUEUE_ITEMS}): what comes now is dropped")
            return
        queue.append(item)
        if self._closed:
            self.spill()
        elif soon and not self._urgent:
            self._urgent = True
            self._awaken()
        elif not self._armed:
            self._armed = True
            self._awaken()

    @guarded
    def flush(self, *, keep: float = 0.0) -> bool:
        """Wait until what is queued has left this process: True delivered, False in the spool or still on its way."""
        allowance_s = self._budget.left_s(keep=keep, refill=not self._down)
        if allowance_s <= 0:
            self._awaken(urgent=True)
            return False
        began_s = time.monotonic()
        try:
            if self._down:
                self.spill()
                return False
            return self._ticket().result(allowance_s)
        except FutureTimeout:
            self._give_up()
            return False
        finally:
            self._budget.charge(time.monotonic() - began_s)

    async def flush_async(self, *, keep: float = 0.0) -> bool:
        """As `flush`, and the event loop goes on meanwhile."""
        import asyncio

        allowance_s = self._budget.left_s(keep=keep, refill=not self._down)
        if self._down or allowance_s <= 0:
            return bool(self.flush(keep=keep))
        began_s = time.monotonic()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(self._ticket()), allowance_s)
        except TimeoutError:
            self._give_up()
            return False
        except Exception as error:  # noqa: BLE001 - as in `guarded`, which is for plain functions
            once(f"flush failed: {type(error).__name__}: {error}", error)
            return False
        finally:
            self._budget.charge(time.monotonic() - began_s)

    @guarded
    def close(self) -> None:
        """The process ends: send what can be sent within the budget, the rest goes to the spool."""
        if not self._down and (self._flying or any(self._queues.values())):
            self.flush()
        if self._shipping is not None and self._shipping.is_alive():
            self._shipping.join(max(self._budget.left_s(refill=not self._down), 0.0))
        with self._lock:
            self._closed = True  # from now on the thread takes nothing from the queues
        self._wake.set()
        self.spill()
        self.spool.close()
        if self._transport is not None:
            self._transport.close(max(self._budget.left_s(refill=False), 0.0))

    @guarded
    def spill(self) -> None:
        """Write what is queued, and what is on its way without an answer, to the spool. In the caller's thread."""
        with self._lock:
            flying = self._flying
        if flying is not None:
            self._keep(flying)
        for signal in SIGNALS:
            while (batch := self._take(signal)) is not None:
                self._keep(batch)

    def _ticket(self) -> Future[bool]:
        ticket: Future[bool] = Future()
        with self._lock:
            if self._closed:
                ticket.set_result(False)  # nobody would answer it; `put` has written to the spool
                return ticket
            self._tickets.append(ticket)
        self._awaken(urgent=True)
        return ticket

    @guarded
    def _awaken(self, *, urgent: bool = False) -> None:
        if urgent:
            self._urgent = True
        self._wake.set()
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name="wafer-export", daemon=True)
                    self._thread.start()

    def _give_up(self) -> None:
        """No answer in time: count the endpoint as down and keep a copy of what it may or may not have taken."""
        self._fail()
        self.spill()

    def _fail(self) -> None:
        self._down = True
        self._probe_at_s = time.monotonic() + self._probe_after_s
        self._probe_after_s = min(2 * self._probe_after_s, _PROBE_LAST_S)
        once(f"no answer from the endpoint; telemetry goes to {self.spool.directory}; the next run or `wafer replay` sends it")

    def _keep(self, batch: Batch) -> None:
        # Who comes second waits until it is written: it may be the end of the process, which cuts the first one off.
        with self._keeping:
            if not batch.spilled:
                batch.spilled = True
                self.spool.append(batch.signal, request_from_proto(batch.message))

    def _take(self, signal: Signal) -> Batch | None:
        queue = self._queues[signal]
        items: list[Any] = []
        limit = 1 if signal == "metrics" else BATCH_ITEMS
        while len(items) < limit:
            try:
                items.append(queue.popleft())
            except IndexError:
                break
        return Batch(signal, items) if items else None

    # The rest runs in the sender's own thread.

    def _run(self) -> None:
        while not self._closed:
            self._idle()
            with self._lock:
                tickets, self._tickets = self._tickets, []
            self._armed = self._urgent = False
            _answer(tickets, delivered=bool(self._drain()))
            if self._down and self._transport is not None and time.monotonic() >= self._probe_at_s:
                self._probe()
        with self._lock:
            _answer(self._tickets, delivered=False)

    def _idle(self) -> None:
        """Sleep until there is something to do; then a moment more, so that requests are not made of single items."""
        probing = self._down and self._transport is not None
        self._wake.wait(max(self._probe_at_s - time.monotonic(), 0.0) if probing else None)
        self._wake.clear()
        began_s = time.monotonic()
        while not self._tickets and not self._closed and (self._armed or self._urgent):
            rest_s = began_s + (SOON_S if self._urgent else LINGER_S) - time.monotonic()
            if rest_s <= 0 or not self._wake.wait(rest_s):
                break
            self._wake.clear()

    @guarded
    def _drain(self) -> bool:
        delivered = True
        for signal in SIGNALS:
            while True:
                with self._lock:
                    batch = self._flying = None if self._closed else self._take(signal)
                if batch is None:
                    break
                delivered &= self._send(batch)
        return delivered

    def _send(self, batch: Batch) -> bool:
        try:
            if self._down or self._transport is None:
                self._keep(batch)
                return False
            outcome = self._transport.send(batch)
            if outcome is Outcome.RETRY:
                self._fail()
                self._keep(batch)
            elif outcome is Outcome.REJECTED:
                once(f"the endpoint refuses a request of {batch.signal}; `wafer replay` sets it aside and says why")
                self._keep(batch)
            else:
                self._recover()
            return outcome is Outcome.DELIVERED
        finally:
            self._flying = None

    def _recover(self) -> None:
        """It answers. A caller may have given up on this very request meanwhile."""
        self._probe_after_s = _PROBE_FIRST_S
        if not self._down and self._shipping is not None:
            return
        self._down = False
        if self._shipping is None or not self._shipping.is_alive():
            self._shipping = threading.Thread(target=guarded(self._ship), name="wafer-replay", daemon=True)
            self._shipping.start()

    def _ship(self) -> None:
        if any(any((self.spool.directory / signal).glob("*.jsonl")) for signal in SIGNALS):
            self._send_spool()

    @guarded
    def _probe(self) -> None:
        assert self._transport is not None
        if self._transport.send(Batch("logs", [])) is Outcome.DELIVERED:
            self._recover()
        else:
            self._fail()


def _answer(tickets: list[Future[bool]], *, delivered: bool) -> None:
    """Tell those who wait."""
    for ticket in tickets:
        if ticket.set_running_or_notify_cancel():
            ticket.set_result(delivered)
