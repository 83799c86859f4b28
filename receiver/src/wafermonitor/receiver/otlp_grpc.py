"""OTLP/gRPC: the `Export` methods of the three services, as raw bytes.

Generated deserializers are not used: they decode in the event loop, and answer a body they cannot read with UNKNOWN, and a
Collector then drops the data. The methods are served as streams of one message, which is the same on the wire: so a call can
be refused before its message is read, and the message has a deadline.

In: gRPC calls. Out: response bytes, or a status with `google.rpc.Status` in `grpc-status-details-bin`.
Called by: `server`. Calls: `admission`, `outlet`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from wafermonitor.receiver import answers, memory
from wafermonitor.receiver.admission import GZIP_MAGIC, Budget, Hold, authorize, inflate
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.errors import AddressRejected, Draining, ReceiverError, ReceiverUnavailable, RequestRejected, TooSlow
from wafermonitor.receiver.outlet import Outlet
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal

LOG = logging.getLogger(__name__)
DETAILS_KEY = "grpc-status-details-bin"
SERVICES = {
    "opentelemetry.proto.collector.trace.v1.TraceService": Signal.TRACES,
    "opentelemetry.proto.collector.logs.v1.LogsService": Signal.LOGS,
    "opentelemetry.proto.collector.metrics.v1.MetricsService": Signal.METRICS,
}
LOOK_S = 0.01
ALONE_BYTES = 48 * 1024 * 1024
MAX_STREAMS = 256
"""Calls of one connection at once; each may have sent one window of bytes before we let it in."""
_CODES = {code.value[0]: code for code in grpc.StatusCode}

Export = Callable[[Any, Any], Awaitable[bytes]]


class Readers:
    """Messages that are being read. Nobody is told how large they are, so the memory they take is watched.

    gRPC needs three times a message's size while it hands it over. So a large message is read alone: when memory has grown by
    more than ALONE_BYTES since the eldest began, all but it are refused, and so are new ones until it is there. While more than
    `limit_bytes` are in use nothing else is read at all.
    """

    def __init__(self, limit_bytes: int, budget: Budget) -> None:
        self._limit = limit_bytes
        self._budget = budget
        self._level = 0
        self._alone = False
        self._reading: dict[asyncio.Task[Any], int] = {}
        self._watch: asyncio.TimerHandle | None = None
        self._crowded: set[asyncio.Task[Any]] = set()

    async def read(self, context: Any, timeout_s: float) -> Any:
        """The message, or grpc.aio.EOF. Raises TooSlow, or QueueFull when there is no memory for it."""
        task = asyncio.current_task()
        assert task is not None
        self._budget.check()
        if self._alone:
            raise self._budget.full()
        if self._watch is None:
            self._level = memory.used_bytes() - self._budget.held_bytes
            self._watch = asyncio.get_running_loop().call_later(LOOK_S, self._look)
        self._reading[task] = self._level
        self._budget.arriving = len(self._reading)
        try:
            async with asyncio.timeout(timeout_s):
                return await context.read()
        except TimeoutError:
            raise TooSlow(f"the message did not arrive within {timeout_s:g} s; try again") from None
        except asyncio.CancelledError:
            if task in self._crowded:
                self._crowded.discard(task)
                task.uncancel()
                raise self._budget.full() from None
            raise
        finally:
            self._reading.pop(task, None)
            self._budget.arriving = len(self._reading)
            if not self._reading:
                self._alone = False  # what was read is counted by now, or gone: who comes next is not refused for it

    def _look(self) -> None:
        """Runs while anything is being read for longer than LOOK_S, and until there is room again."""
        used = memory.used_bytes()
        others = list(self._reading)[1:]
        self._level = used - self._budget.held_bytes
        self._alone = self._level - next(iter(self._reading.values()), self._level) > ALONE_BYTES
        # While nothing else is on its way the eldest goes on whatever is in use: what is to become free of itself, otherwise?
        self._budget.crowded = used > self._limit and bool(self._budget.held_bytes or others)
        if self._alone or self._budget.crowded:
            self._refuse(*others)
        self._watch = None
        if self._reading or self._budget.crowded:
            self._watch = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _refuse(self, *readers: asyncio.Task[Any]) -> None:
        for task in readers:
            del self._reading[task]
            self._crowded.add(task)
            task.cancel()


class Service:
    """The three services on one outlet."""

    def __init__(self, config: Config, budget: Budget, outlet: Outlet, telemetry: Telemetry) -> None:
        self._token = config.token.get_secret_value() if config.token else None
        self._limit = config.max_request_bytes
        self._receive_s = config.receive_s
        self._budget = budget
        self._outlet = outlet
        self._telemetry = telemetry
        self._readers = Readers(config.memory_bytes, budget)

    def handlers(self) -> list[grpc.GenericRpcHandler[Any, Any]]:
        """One generic handler for each service."""
        return [
            grpc.method_handlers_generic_handler(name, {"Export": grpc.stream_unary_rpc_method_handler(self._method(signal))})
            for name, signal in SERVICES.items()
        ]

    def _method(self, signal: Signal) -> Export:
        async def export(messages: Any, context: Any) -> bytes:
            del messages
            try:
                answer = await self._export(signal, context)
            except ReceiverError as error:
                refusal = error.without_frames()
            except Exception:
                LOG.exception("a gRPC call failed in the receiver itself")
                refusal = ReceiverUnavailable("the receiver could not do it; try again")
            else:
                self._telemetry.answered("grpc", signal.value, None)
                return answers.response(signal, answer)
            self._telemetry.answered("grpc", signal.value, refusal)
            details = answers.status(refusal).SerializeToString()
            await context.abort(_CODES[refusal.code], str(refusal), ((DETAILS_KEY, details),))
            raise refusal  # abort never returns

        return export

    async def _export(self, signal: Signal, context: Any) -> answers.Answer:
        if self._token is not None:
            headers = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
            authorize(self._token, headers.get("authorization"))
        if self._outlet.draining:
            raise Draining("this receiver is stopping; try again")
        message = await self._readers.read(context, self._receive_s)
        if message is grpc.aio.EOF:  # type: ignore[attr-defined]  # the stubs do not know it
            raise RequestRejected("the call ended without a message")
        with self._budget.hold() as share:
            body = await self._inflated(message, share)
            del message
            return await self._outlet.submit(Request(signal, Encoding.PROTOBUF, body, time.time_ns()), share)

    async def _inflated(self, message: bytes, share: Hold) -> bytes:
        """GRPC hands compressed messages on as they are; no OTLP message begins as gzip does (field 3, wire type 7)."""
        share.add(len(message))
        if not message.startswith(GZIP_MAGIC):
            return message
        body = await inflate(message, "gzip", self._limit)
        share.drop(len(message))
        share.add(len(body))
        return body


def _options(config: Config) -> tuple[tuple[str, int], ...]:
    """GRPC's channel arguments. Source: grpc/impl/channel_arg_names.h."""
    receive_ms, age_ms = int(config.receive_s * 1000), int(config.connection_age_s * 1000)
    return (
        # gRPC's own default is 4 MiB; over the limit it answers RESOURCE_EXHAUSTED without RetryInfo, as OTLP wants it.
        ("grpc.max_receive_message_length", config.max_request_bytes),
        # isal inflates six times as fast as gRPC does, and in a thread.
        ("grpc.per_message_decompression", 0),
        # Unless it is wanted: two receivers on one port share its connections without a word.
        ("grpc.so_reuseport", int(config.share_port)),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.max_allowed_incoming_connections", config.max_connections),
        ("grpc.server_handshake_timeout_ms", receive_ms),
        ("grpc.max_connection_idle_ms", int(config.idle_s * 1000)),
        ("grpc.max_connection_age_ms", age_ms),
        ("grpc.max_connection_age_grace_ms", int(config.drain_s * 1000)),
        # A peer that is gone without a word is noticed within 40 s; a Collector may ping us as often as every 10 s.
        ("grpc.keepalive_time_ms", 30_000),
        ("grpc.keepalive_timeout_ms", receive_ms),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
    )


async def listen(config: Config, service: Service) -> tuple[grpc.aio.Server, int]:
    """A started server and its port. AddressRejected when the address cannot be had."""
    server = grpc.aio.server(options=_options(config))
    server.add_generic_rpc_handlers(service.handlers())
    try:
        port = server.add_insecure_port(config.grpc_address)
    except RuntimeError:
        port = 0
    if not port:
        raise AddressRejected(
            f"grpc_address = {config.grpc_address!r} cannot be listened on: is it taken? Set WAFER_RECEIVER_GRPC_ADDRESS"
        )
    await server.start()
    return server, port
