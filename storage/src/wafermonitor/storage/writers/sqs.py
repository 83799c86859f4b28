"""Amazon SQS: messages of OTLP/JSON for programs that take them from a queue.

In: OTLP requests. Out: messages whose body is a request in OTLP/JSON (`{"resourceSpans": […]}` and the like), and whose
attribute `signal` says traces, logs or metrics. A request that is too large for one message becomes several.
Called by: `receiver.bridge`, jobs in mode direct.

Accepted is what SQS has answered with a message id for. A queue whose name ends in `.fifo` drops what comes again within five
minutes, because a message is named after its content; a standard queue keeps it twice, and may deliver any message twice: take
items by trace and span id, or by time and content, once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NamedTuple

from wafermonitor.instrumentation.environment import EnvironmentConfig, option, positive
from wafermonitor.instrumentation.otlp_json import request_from_proto
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.writers.aws import ERRORS, AwsConfig, Clients, Tally, outcome_of, unavailable
from wafermonitor.storage.writers.items import count, parsed, part
from wafermonitor.storage.writers.protocol import SIGNALS, Fate, Outcome, Signal

MOST_MESSAGES: Final = 10
_ATTRIBUTE_BYTES: Final = 64
"""Name, type and value of the attribute count as well."""
_FINAL: Final = frozenset({"InvalidMessageContents"})
_HINTS: Final = {"InvalidParameterValue": ": is WAFER_SQS_MESSAGE_BYTES above what the queue takes (MaximumMessageSize)?"}
"""What is mended by a setting, and tried again."""


@dataclass(frozen=True, kw_only=True)
class Config(AwsConfig):
    """One queue."""

    component: ClassVar[str] = "sqs"

    queue_url: str = option(str, "Address of the queue, as SQS names it.", default="")
    message_bytes: float = option(positive, "Largest message that the queue takes, and all of one call.", default=262_144.0)


class _Message(NamedTuple):
    """One message, and which items of which request it has."""

    place: int
    positions: range
    body: str


class Writer:
    """Sends batches of messages."""

    config_type: ClassVar[type[EnvironmentConfig]] = Config
    signals: ClassVar[frozenset[Signal]] = frozenset(SIGNALS)
    port: ClassVar[int] = 14502

    def __init__(self, config: Config) -> None:
        if not config.queue_url:
            raise StorageRejected("sqs.queue_url names no queue (set WAFER_SQS_QUEUE_URL)")
        self._queue_url = config.queue_url
        self._most = int(config.message_bytes)
        self._clients = Clients(config)

    def write(self, signal: Signal, requests: Sequence[bytes]) -> Sequence[Outcome]:
        """Cut into messages, and send as many at once as one call takes."""
        tally = Tally(signal, requests)
        messages: list[_Message] = []
        for place, request in enumerate(requests):
            try:
                messages += self._messages(tally, signal, place, request)
            except StorageRejected as error:
                tally.settle(place, Outcome(Fate.REJECTED, str(error)))
        later: Outcome | None = None
        for batch in self._batches(messages):
            later = later or self._send(tally, signal, batch)
            if later is not None:
                for message in batch:
                    tally.settle(message.place, later)
        return tally.outcomes()

    def check(self) -> None:
        """Whether the queue is there."""
        try:
            self._clients.of("sqs").get_queue_attributes(QueueUrl=self._queue_url, AttributeNames=["QueueArn"])
        except ERRORS as error:
            raise unavailable("SQS", error) from None

    def close(self) -> None:
        """End the connections."""
        self._clients.close()

    def _messages(self, tally: Tally, signal: Signal, place: int, request: bytes) -> Iterator[_Message]:
        """The request, or its halves, and their halves: the same request is cut the same way each time."""
        number = count(signal, request)
        waiting = [range(number)] if number else []
        while waiting:
            positions = waiting.pop()
            piece = request if len(positions) == number else part(signal, request, positions.__contains__)
            body = json.dumps(request_from_proto(parsed(signal, piece)), separators=(",", ":"))
            if len(body) + _ATTRIBUTE_BYTES <= self._most:
                yield _Message(place, positions, body)
            elif len(positions) == 1:
                tally.refuse(place, positions[0], f"larger than a message of {self._most} bytes")
            else:
                half = len(positions) // 2
                waiting += [positions[half:], positions[:half]]

    def _batches(self, messages: Sequence[_Message]) -> Iterator[list[_Message]]:
        batch: list[_Message] = []
        size = 0
        for message in messages:
            added = len(message.body) + _ATTRIBUTE_BYTES
            if batch and (len(batch) == MOST_MESSAGES or size + added > self._most):
                yield batch
                batch, size = [], 0
            batch.append(message)
            size += added
        if batch:
            yield batch

    def _send(self, tally: Tally, signal: Signal, batch: Sequence[_Message]) -> Outcome | None:
        """None when SQS has each of them or will never have it; else why all must be tried again."""
        entries = [self._entry(str(number), signal, message.body) for number, message in enumerate(batch)]
        try:
            answer = self._clients.of("sqs").send_message_batch(QueueUrl=self._queue_url, Entries=entries)
        except ERRORS as error:
            return outcome_of("SQS", error)
        for failed in answer.get("Failed", ()):
            code = str(failed.get("Code", "")).rpartition(".")[2]
            message = batch[int(failed["Id"])]
            if code not in _FINAL:
                return Outcome(Fate.RETRY, f"SQS answers {code}{_HINTS.get(code, '')}")
            for position in message.positions:
                tally.refuse(message.place, position, f"SQS answers {code}")
        return None

    def _entry(self, number: str, signal: Signal, body: str) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "Id": number,
            "MessageBody": body,
            "MessageAttributes": {"signal": {"DataType": "String", "StringValue": signal}},
        }
        if self._queue_url.endswith(".fifo"):
            entry |= {"MessageGroupId": signal, "MessageDeduplicationId": hashlib.sha256(body.encode()).hexdigest()}
        return entry
