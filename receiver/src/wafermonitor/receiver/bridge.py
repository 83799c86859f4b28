"""The receiver as a bridge: what is accepted goes to a writer instead of the store, and is answered after its backend has it.

In: groups of `Request`s. Out: an `Answer` each, or the error to answer; what the backend will never take goes to the
dead-letter file first. Called by: `outlet`, which has the queue; `server`. Calls: a writer of `storage.writers`, in threads.

The Collector's own queue on disk stands in front and tries again; nothing is kept here. So the bridge may be killed at any
moment, and the writer makes what comes twice the same document, row or file where its backend can.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import threading
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from wafermonitor.instrumentation.otlp_json import proto_from_request
from wafermonitor.receiver.answers import Answer
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.dead_letters.file import DeadLetterFile
from wafermonitor.receiver.errors import BackendUnavailable, ReceiverError, RequestRejected
from wafermonitor.receiver.fair_queue import Waiting
from wafermonitor.receiver.outlet import Outlet
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode.protocol import Encoding, Signal
from wafermonitor.storage.errors import StorageError, StorageRejected
from wafermonitor.storage.writers.items import count
from wafermonitor.storage.writers.protocol import ACCEPTED, Fate, Outcome, Writer
from wafermonitor.storage.writers.protocol import Signal as Wire

LOG = logging.getLogger(__name__)
GROUP_BYTES: Final = 4 * 1024 * 1024
"""What a writer gets at once: an answer must come before the Collector gives up on it and sends again."""
SILENCE_S: Final = 60.0
"""The same trouble is told again after so long."""
OPEN: Final = Outcome(Fate.RETRY, "not written yet")
FAILED: Final = Outcome(Fate.RETRY, "the writer failed; the log of its bridge says why")
MOST_FAILURES: Final = 3
"""Unexpected ones in one group."""


class _Result(NamedTuple):
    """What became of one request, and how many items it has."""

    outcome: Outcome | ReceiverError
    items: int


class Bridge(Outlet):
    """From requests to a writer. `name` is the writer's; `dead` keeps what its backend refuses."""

    def __init__(self, name: str, writer: Writer, dead: DeadLetterFile, config: Config, telemetry: Telemetry) -> None:
        super().__init__(config, telemetry)
        self.name = name
        self._writer = writer
        self._dead = dead
        self._told: dict[str, float] = {}
        self._checking: asyncio.Task[str | None] | None = None
        self._inside: set[int] = set()

    @property
    def writing(self) -> bool:
        """The writer is at it, perhaps for nobody any more."""
        return bool(self._inside)

    async def trouble(self) -> str | None:
        """Why the backend would take nothing now, or None. One question at a time."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(asyncio.to_thread(self._check), name="ask the backend")
        return await asyncio.shield(self._checking)

    def _check(self) -> str | None:
        try:
            self._writer.check()
        except StorageError as error:
            return str(error)
        except Exception:
            LOG.exception("the writer %s cannot say how its backend is", self.name)
            return f"the writer {self.name} cannot say how its backend is; its log says why"
        return None

    def _group_bytes(self) -> int:
        return min(self._config.group_bytes, GROUP_BYTES)

    async def _process(self, group: list[Waiting]) -> None:
        for signal in Signal:
            chosen = [waiting for waiting in group if waiting.request.signal is signal]
            if chosen:
                await self._pass_on(signal, chosen)

    async def _pass_on(self, signal: Signal, group: Sequence[Waiting]) -> None:
        if signal not in self._writer.signals:
            error = RequestRejected(f"the writer {self.name} has no place for {signal}: leave them out of its pipelines")
            for waiting in group:
                self._finish(waiting, error)
            return
        began = time.monotonic()
        results = await asyncio.get_running_loop().run_in_executor(self._threads, self._write, signal, group)
        self._answer(group, results, signal, time.monotonic() - began)

    def _write(self, signal: Signal, group: Sequence[Waiting]) -> list[_Result]:
        """In a thread. What is refused is in the dead-letter file before it is answered."""
        self._inside.add(threading.get_ident())
        try:
            return self._written(signal, group)
        finally:
            self._inside.discard(threading.get_ident())

    def _written(self, signal: Signal, group: Sequence[Waiting]) -> list[_Result]:
        wire: Wire = signal.value
        bodies: list[bytes] = []
        results: list[_Result] = []
        for waiting in group:
            body = waiting.request.body
            try:
                body = body if waiting.request.encoding is Encoding.PROTOBUF else _protobuf(wire, body)
                items = count(wire, body)
                # Nothing is in it, or its sender went away just now: no backend shall have an empty message for it.
                results.append(_Result(OPEN if items else ACCEPTED, items))
                bodies.extend([body] if items else [])
            except (RequestRejected, StorageRejected) as error:
                results.append(_Result(RequestRejected(str(error)), 0))
        written = zip(self._outcomes(wire, bodies), bodies, strict=True)
        for place, result in enumerate(results):
            if result.outcome is OPEN:
                outcome, body = next(written)
                results[place] = _Result(self._keep_refused(wire, outcome, body, result.items), result.items)
        return results

    def _outcomes(self, signal: Wire, bodies: Sequence[bytes]) -> Sequence[Outcome]:
        """What the writer says. When it fails at a group, each is written apart: the one that it fails at holds up no other."""
        if len(bodies) > 1:
            with contextlib.suppress(Exception):  # it is logged for the request that is to blame
                return self._writer.write(signal, bodies)
        failures = 0
        outcomes: list[Outcome] = []
        for body in bodies:
            try:
                # After so many no request is to blame: the backend is what fails, and each try may take long.
                outcomes.extend([FAILED] if failures == MOST_FAILURES else self._writer.write(signal, [body]))
            except Exception:
                LOG.exception("the writer %s failed in an unexpected way", self.name)
                outcomes.append(FAILED)
                failures += 1
        return outcomes

    def _keep_refused(self, signal: Wire, outcome: Outcome, body: bytes, items: int) -> Outcome:
        refused = body if outcome.fate is Fate.REJECTED else outcome.remains
        number = items if outcome.fate is Fate.REJECTED else outcome.rejected
        if outcome.fate is Fate.RETRY or not refused:
            return outcome
        try:
            self._dead.append(signal, refused, number, outcome.reason)
        except OSError as error:
            return Outcome(Fate.RETRY, f"the dead-letter file cannot be written ({error.strerror})")
        return Outcome(outcome.fate, outcome.reason, number)

    def _answer(self, group: Sequence[Waiting], results: Sequence[_Result], signal: Signal, took_s: float) -> None:
        fates: Counter[tuple[str, str]] = Counter()
        size = requests = 0
        for waiting, (outcome, items) in zip(group, results, strict=True):
            if isinstance(outcome, ReceiverError):
                self._finish(waiting, outcome)
                continue
            if outcome.fate is Fate.RETRY:
                self._tell(outcome.reason)
                self._finish(waiting, BackendUnavailable(outcome.reason or "the backend does not answer", self.retry_s()))
                continue
            requests += 1
            size += waiting.size
            fates[signal.value, "stored"] += items - outcome.rejected
            if outcome.rejected:
                fates[signal.value, "rejected"] += outcome.rejected
                told = (self.name, outcome.rejected, signal.value, outcome.reason, self._dead.path)
                LOG.error("%s refuses %d %s for good: %s; kept in %s", *told)
            self._finish(waiting, Answer(outcome.rejected, outcome.reason if outcome.rejected else ""))
        if requests:
            self._written_bytes += size
            self._telemetry.committed(took_s, requests, fates, {signal.value: size})

    def _tell(self, reason: str) -> None:
        now = time.monotonic()
        if now - self._told.get(reason, -SILENCE_S) >= SILENCE_S:
            self._told = {reason: now}
            LOG.warning("%s; senders keep their data and try again", reason)


def _protobuf(signal: Wire, body: bytes) -> bytes:
    """A JSON body as the writers have it."""
    try:
        return bytes(proto_from_request(signal, json.loads(body)).SerializeToString())
    except (ValueError, RecursionError):
        raise RequestRejected(f"not an OTLP/JSON request of {signal}") from None
