"""Senders that send each request until it is taken, like an SDK or Collector that never gives up, and remember every answer.

    load = Load(Corpus("r1"), [collector.otlp_http], per_s=25)
    with load.running():
        load.take(100)               # until a hundred more requests have been taken
    load.taken                       # the requests that were answered with success
    load.refusals                    # Counter of (code, whether it came with a hint when to try again)

`per_s` None sends as fast as the answers come. Several targets are tried in turn, so that one may go away. One sender is one
thread with one connection.
"""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, Protocol

import grpc
from google.rpc import error_details_pb2, status_pb2

from tests.flow.faults.corpus import Corpus, Sent, decoded
from tests.receiver.otlp import as_json
from tests.servers.otlp_relay import METHODS

ANSWER_S = 60.0
PAUSE_S = 0.1
GONE = 0
"""The code of an answer that never came: the connection was refused or lost."""
_METHOD = {
    signal: f"/{service}/Export"
    for signal in ("traces", "logs", "metrics")
    for service in METHODS
    if f".{signal[:-1]}" in service
}


class Answer(NamedTuple):
    """`code` is HTTP's status, or gRPC's number plus 1000; `hint`: it said when to try again."""

    code: int
    hint: bool = False
    took: bool = False


class Sender(Protocol):
    """One connection."""

    def send(self, sent: Sent) -> Answer:
        """The answer."""

    def close(self) -> None:
        """Let go of the connection."""


class Http:
    """OTLP/HTTP with protobuf."""

    media = "application/x-protobuf"

    def __init__(self, address: str) -> None:
        self._connection = http.client.HTTPConnection(address, timeout=ANSWER_S)

    def send(self, sent: Sent) -> Answer:
        try:
            self._connection.request("POST", f"/v1/{sent.signal}", self.encode(sent), {"content-type": self.media})
            answer = self._connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return Answer(GONE)
        return Answer(answer.status, answer.headers["retry-after"] is not None, answer.status == 200)

    def encode(self, sent: Sent) -> bytes:
        """The body as this transport has it."""
        return sent.body

    def close(self) -> None:
        self._connection.close()


class HttpJson(Http):
    """OTLP/HTTP with JSON."""

    media = "application/json"

    def encode(self, sent: Sent) -> bytes:
        return as_json(decoded(sent))


class Grpc:
    """OTLP/gRPC."""

    def __init__(self, address: str) -> None:
        backoff = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 200)]
        self._channel = grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1), *backoff])
        self._calls = {signal: self._channel.unary_unary(method) for signal, method in _METHOD.items()}

    def send(self, sent: Sent) -> Answer:
        try:
            self._calls[sent.signal](sent.body, timeout=ANSWER_S)
        except grpc.RpcError as error:
            details = dict(error.trailing_metadata() or ()).get("grpc-status-details-bin")
            if details is None and error.code() is grpc.StatusCode.UNAVAILABLE:
                return Answer(GONE)  # gRPC's own word for a connection that is lost
            return Answer(1000 + error.code().value[0], details is not None and _has_hint(details))
        return Answer(1000, took=True)

    def close(self) -> None:
        self._channel.close()


def _has_hint(details: bytes) -> bool:
    return any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in status_pb2.Status.FromString(details).details)


class Load:
    """Requests 0, 1, 2 … of a corpus on their way to `targets`."""

    def __init__(
        self,
        corpus: Corpus,
        targets: Sequence[str],
        *,
        per_s: float | None = None,
        senders: int = 4,
        connect: Callable[[str], Sender] = Http,
    ) -> None:
        self.corpus = corpus
        self.taken: list[Sent] = []
        self.tries = 0
        self.refusals: Counter[tuple[int, bool]] = Counter()
        self.longest_s = 0.0
        self._targets = targets
        self._per_s = per_s
        self._senders = senders
        self._connect = connect
        self._numbers = itertools.count()
        self._stopping = threading.Event()
        self._given_up = threading.Event()
        self._changed = threading.Condition()
        self._failures: list[BaseException] = []

    @contextmanager
    def running(self) -> Iterator[Load]:
        """Send until the block ends; then until what was begun has been taken, unless the block failed."""
        self._stopping.clear()
        self._began_s, self._first = time.monotonic(), next(self._numbers)
        self._numbers = itertools.count(self._first)
        threads = [threading.Thread(target=self._guarded, args=(number,), daemon=True) for number in range(self._senders)]
        for thread in threads:
            thread.start()
        try:
            yield self
        except BaseException:
            self._given_up.set()
            raise
        finally:
            self._stopping.set()
            for thread in threads:
                thread.join(2 * ANSWER_S)
        assert not any(thread.is_alive() for thread in threads), f"a sender does not end: {self.refusals}"
        if self._failures:
            raise self._failures[0]

    def take(self, number: int, within_s: float = ANSWER_S) -> None:
        """Until `number` more requests have been taken."""
        goal = len(self.taken) + number
        self._until(lambda: len(self.taken) >= goal, within_s, f"{number} more requests are taken")

    def meet(self, number: int, within_s: float = ANSWER_S) -> None:
        """Until `number` more tries have failed."""
        goal = self.refusals.total() + number
        self._until(lambda: self.refusals.total() >= goal, within_s, f"{number} more tries fail")

    def _until(self, condition: Callable[[], bool], within_s: float, what: str) -> None:
        with self._changed:
            held = self._changed.wait_for(lambda: condition() or self._failures, within_s)
        assert held, f"not within {within_s:g} s: {what}; taken {len(self.taken)}, refused {self.refusals}"

    def _guarded(self, number: int) -> None:
        try:
            self._work(number)
        except BaseException as error:
            with self._changed:
                self._failures.append(error)
                self._changed.notify_all()
            raise

    def _work(self, number: int) -> None:
        senders = [self._connect(target) for target in self._targets]
        turn = itertools.cycle(senders[number % len(senders) :] + senders[: number % len(senders)])
        sender = next(turn)
        try:
            while (request := self._next()) is not None:
                while not self._try(sender, request) and not self._given_up.is_set():
                    sender = next(turn)
                    time.sleep(PAUSE_S)
        finally:
            for one in senders:
                one.close()

    def _next(self) -> Sent | None:
        """The next request when it is due; None when no more are to be sent."""
        with self._changed:
            number = next(self._numbers)
        due_s = 0.0 if self._per_s is None else (number - self._first) / self._per_s - (time.monotonic() - self._began_s)
        if self._stopping.wait(max(due_s, 0.0)):
            return None
        return self.corpus.request(number)

    def _try(self, sender: Sender, request: Sent) -> bool:
        began_s = time.monotonic()
        answer = sender.send(request)
        with self._changed:
            self.tries += 1
            if answer.took:
                self.taken.append(request)
                self.longest_s = max(self.longest_s, time.monotonic() - began_s)
            else:
                self.refusals[answer.code, answer.hint] += 1
            self._changed.notify_all()
        return answer.took
