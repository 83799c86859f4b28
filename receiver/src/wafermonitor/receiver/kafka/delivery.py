"""One message until it is settled: in the store, or a dead letter.

In: messages in order of their offsets. Out: requests to the pipeline; a dead letter for what can never be stored, since nobody
waits for an answer here. Called by: `consumer`, one task for each message. Calls: the pipeline's `submit`, the store's Writer.

While something only fails for now, the oldest message of its partition is tried again and again and the later ones wait for it;
then all go at once. Other partitions are not touched by that.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from wafermonitor.receiver.admission import too_large
from wafermonitor.receiver.answers import Answer
from wafermonitor.receiver.errors import Draining, ReceiverRejected, ReceiverUnavailable, RequestRejected, StoreUnavailable
from wafermonitor.receiver.kafka.client import Message
from wafermonitor.receiver.kafka.offsets import Window
from wafermonitor.receiver.kafka.telemetry import KafkaTelemetry
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode.policies import MAX_SAMPLE_BYTES
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.runs.records import UNSET_SITE, Batch, DeadLetter
from wafermonitor.storage.errors import StorageError
from wafermonitor.storage.protocol import Writer

LOG = logging.getLogger(__name__)
LONGEST_PAUSE_S = 5.0
SAY_EVERY_S = 60.0
AHEAD_NS = 3_600_000_000_000
"""How far in the future a message's own time is believed."""

Submit = Callable[[Request], Awaitable[Answer]]


class Delivery:
    """Settles messages. `limit_bytes` is the largest request that the receiver takes."""

    def __init__(
        self, submit: Submit, writer: Writer, limit_bytes: int, telemetry: Telemetry, kafka_telemetry: KafkaTelemetry
    ) -> None:
        self._submit = submit
        self._writer = writer
        self._limit_bytes = limit_bytes
        self._telemetry = telemetry
        self._kafka = kafka_telemetry

    async def settle(self, message: Message, signal: Signal, window: Window) -> bool:
        """True when the message is in the store or a dead letter, however long that takes; False when the receiver stops."""
        began = said = time.monotonic()
        while True:
            try:
                await self._try(message, signal)
            except Draining:
                return False
            except ReceiverUnavailable as temporary:
                error = temporary
            except Exception:
                LOG.exception("%s could not be stored for a reason of our own; it is tried again", message)
                error = ReceiverUnavailable("a fault of ours", LONGEST_PAUSE_S)
            else:
                return True
            self._kafka.retries.labels(message.partition.topic).inc()
            window.stalled = True
            if window.oldest != message.offset:
                await window.moved.wait()
                continue
            if time.monotonic() - said >= SAY_EVERY_S:
                said = time.monotonic()
                LOG.error("%s has waited for %.0f s: %s", message, said - began, error)
            await asyncio.sleep(min(error.retry_s or LONGEST_PAUSE_S, LONGEST_PAUSE_S))

    async def _try(self, message: Message, signal: Signal) -> None:
        try:
            await self._submit(self._request(message, signal))
        except ReceiverRejected as error:
            await self._bury(message, signal, error)
            self._telemetry.answered("kafka", signal.value, error)
            self._kafka.messages.labels(message.partition.topic, "rejected").inc()
            LOG.error("%s can never be stored, a dead letter: %s", message, error)  # noqa: TRY400 - no fault of ours
        except ReceiverUnavailable as error:
            self._telemetry.answered("kafka", signal.value, error)
            raise
        else:
            self._telemetry.answered("kafka", signal.value, None)
            self._kafka.messages.labels(message.partition.topic, "stored").inc()

    def _request(self, message: Message, signal: Signal) -> Request:
        if message.body is None:
            raise RequestRejected("the message has no body")
        if len(message.body) > self._limit_bytes:
            raise too_large(self._limit_bytes)
        return Request(signal, Encoding.PROTOBUF, message.body, _received_ns(message))

    async def _bury(self, message: Message, signal: Signal, error: ReceiverRejected) -> None:
        sample = (message.body or b"")[:MAX_SAMPLE_BYTES]
        letter = DeadLetter(UNSET_SITE, signal.value, f"{error} (Kafka: {message})", sample, _received_ns(message))
        try:
            await self._writer.write([Batch(dead=[letter])])
        except StorageError as problem:
            LOG.warning("the store does not take a dead letter now: %s", problem)
            raise StoreUnavailable("the store cannot keep a dead letter now") from None


def _received_ns(message: Message) -> int:
    """When the message was written: the same at every redelivery, so that an item without a time of its own is stored once."""
    now_ns = time.time_ns()
    return message.written_ns if 0 < message.written_ns <= now_ns + AHEAD_NS else now_ns
