"""What a command still has to send: tried at the endpoint within a budget, else kept in the spool.

In: OTLP/JSON requests. Out: requests at the endpoint, or lines in the spool; the caller never waits longer than the budget and
never sees an error. Called by: `wafer run`, `wafer start/progress/end`.

One thread does all network work, because no time-out of a socket bounds name resolution or a server that answers by drops.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Sequence
from typing import Final

from wafermonitor.instrumentation.endpoint import Target
from wafermonitor.instrumentation.guard import once
from wafermonitor.instrumentation.spool import Request, Signal, Spool

_PROBE_EVERY_S: Final = 5.0


class _Item:
    """One request on its way: whoever takes it out of `open` first decides what became of it."""

    def __init__(self, signal: Signal, request: Request) -> None:
        self.signal = signal
        self.request = request
        self.done = threading.Event()
        self._open = threading.Lock()

    def claim(self) -> bool:
        """True for the first caller only."""
        return self._open.acquire(blocking=False)

    @property
    def decided(self) -> bool:
        """Somebody has taken it out already."""
        return self._open.locked()


class Outbox:
    """Sends in the background. `endpoint` None: everything goes to the spool; `spool` None: what fails is lost.

    `budget_s` is how long all calls of `flush` together may block.
    """

    def __init__(self, endpoint: Target | None, spool: Spool | None, *, budget_s: float) -> None:
        self.answers = False
        """Whether the endpoint took the last thing it was given."""
        self._endpoint = endpoint
        self._spool = spool
        self._left_s = budget_s
        self._failed_at: float | None = None
        self._queue: queue.SimpleQueue[_Item] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._keeping = threading.RLock()

    def put(self, signal: Signal, request: Request) -> None:
        """Send when possible; does not wait."""
        self._enqueue(_Item(signal, request))

    def flush(self, requests: Sequence[tuple[Signal, Request]], *, share: float = 1.0) -> None:
        """Send now, waiting at most `share` of what is left of the budget; what is not taken by then is in the spool."""
        items = [_Item(signal, request) for signal, request in requests]
        if self._endpoint is None or self._failed_at is not None:
            for item in items:
                self._keep(item)
            return
        began = time.monotonic()
        until = began + self._left_s * share
        for item in items:
            self._enqueue(item)
        for item in items:
            if not item.done.wait(max(0.0, until - time.monotonic())):
                self._failed_at = time.monotonic()
                self._keep(item)
        self._left_s = max(0.0, self._left_s - (time.monotonic() - began))

    def _enqueue(self, item: _Item) -> None:
        if self._endpoint is None:
            self._keep(item)
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, args=(self._endpoint,), name="wafer-outbox", daemon=True)
            self._thread.start()
        self._queue.put(item)

    def _work(self, endpoint: Target) -> None:
        while True:
            item = self._queue.get()
            try:
                self._send(endpoint, item)
            except Exception as error:  # noqa: BLE001 - telemetry never ends the thread that carries it
                once(f"cannot send: {type(error).__name__}: {error}", error)
                self._keep(item)

    def _send(self, endpoint: Target, item: _Item) -> None:
        if item.decided:
            return
        failed_at = self._failed_at
        if failed_at is not None and time.monotonic() - failed_at < _PROBE_EVERY_S:
            self._keep(item)
            return
        answer = endpoint.post(item.signal, json.dumps(item.request, separators=(",", ":")).encode())
        self.answers = answer.outcome == "accepted"
        if self.answers:
            self._failed_at = None
            item.claim()
            item.done.set()
            return
        self._failed_at = time.monotonic()
        self._keep(item)

    def _keep(self, item: _Item) -> None:
        # Who comes second waits until it is written: it may be the end of the process, which cuts the first one off.
        with self._keeping:
            if item.claim() and self._spool is not None:
                self._spool.append(item.signal, item.request)
        item.done.set()
