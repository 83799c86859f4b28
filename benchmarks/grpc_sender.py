"""OTLP over gRPC as raw bytes: a few channels, each a connection of its own, and many calls on their way.

In: a `Supply` of request bodies, an address. Out: a `Log`. Called by: `generator`.
"""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Any

import grpc

from benchmarks.supply import Answer, Log, Pace, Supply

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
CALL_S = 120.0
_OPTIONS = [
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.max_send_message_length", -1),
    ("grpc.enable_retries", 0),
]
_AGAIN = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
)
_DETAILS = "grpc-status-details-bin"


class GrpcSender:
    """Sends until told to stop; a request that is refused is not sent again."""

    def __init__(self, address: str, channels: int, in_flight: int) -> None:
        self._channels = [grpc.insecure_channel(address, options=_OPTIONS) for _ in range(channels)]
        for channel in self._channels:
            grpc.channel_ready_future(channel).result(timeout=10)
        self._calls = [channel.unary_unary(METHOD, None, None) for channel in self._channels]
        self._in_flight = in_flight
        self._free = threading.Semaphore(in_flight)
        self._open = True

    def run(self, supply: Supply, pace: Pace, log: Log, until_ns: int, grace_s: float) -> None:
        """Send until `until_ns`, then wait at most `grace_s` for what is on its way."""
        number = 0
        while (now_ns := time.monotonic_ns()) < until_ns:
            if not self._free.acquire(timeout=0.2):
                continue
            due_ns = self._due(pace, until_ns)
            turn = None if due_ns is None else supply.next()
            if turn is None or due_ns is None:
                self._free.release()
                break
            self._send(number % len(self._calls), turn, due_ns, log)
            number += 1
        end_ns = max(now_ns, until_ns) + int(grace_s * 1e9)
        for _ in range(self._in_flight):
            self._free.acquire(timeout=max(0.0, (end_ns - time.monotonic_ns()) / 1e9))
        self._open = False
        for channel in self._channels:
            channel.close()

    def _due(self, pace: Pace, until_ns: int) -> int | None:
        """Wait until a request is due; None when that is too late."""
        while (now_ns := time.monotonic_ns()) < until_ns:
            due_ns = pace.take(now_ns)
            if due_ns is not None:
                return due_ns
            time.sleep(pace.wait_s(now_ns))
        return None

    def _send(self, place: int, turn: tuple[int, bytes | memoryview], due_ns: int, log: Log) -> None:
        number, body = turn
        call = self._calls[place].future(bytes(body), timeout=CALL_S)
        call.add_done_callback(partial(self._done, number, due_ns, log))

    def _done(self, number: int, due_ns: int, log: Log, call: Any) -> None:
        log.add((number, due_ns, time.monotonic_ns(), _answer(call)))
        self._free.release()


def _answer(call: Any) -> Answer:
    code = call.code()
    if code is grpc.StatusCode.OK:
        return Answer.ACKED
    if code not in _AGAIN:
        return Answer.REJECTED
    trailing = dict(call.trailing_metadata() or ())
    if _DETAILS in trailing:
        return Answer.REFUSED
    if "closed" in (call.details() or "") or code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Answer.LOST
    return Answer.REFUSED_WITHOUT_HINT
