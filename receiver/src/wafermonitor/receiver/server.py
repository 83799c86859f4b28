"""The receiver as one object: both listeners, the queue, and the way to stop without losing anything.

In: an opened store and a `Config`. Out: a `RunningReceiver` with the real ports. The store stays the caller's: `stop()` does
not close it. Called by: `command`, and any test that wants a receiver in its own process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import grpc.aio
import uvicorn

from wafermonitor.receiver import legacy, otlp_grpc, otlp_http
from wafermonitor.receiver.admission import Budget
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.errors import AddressRejected
from wafermonitor.receiver.pipeline import Pipeline
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode import json, python
from wafermonitor.receiver.transcode.protocol import Encoding, Lane
from wafermonitor.storage.errors import StorageError
from wafermonitor.storage.protocol import Storage

if TYPE_CHECKING:
    from wafermonitor.receiver.kafka.consumer import Consumer

READY_TIMEOUT_S = 2.0
KEEP_ALIVE_S = 75
BACKLOG = 1024
TICK_S = 0.1
TICKS_A_DAY = 864_000
CLOSE_POLL_S = 0.005
"""uvicorn says of its connections that they are there, not when they go."""
MARGIN_S = 0.5
"""Of the drain: what is left for answers to leave after the last commit."""


class RunningReceiver:
    """The listeners of a started receiver, and its consumer of Kafka if it has one. Without OTLP there is no gRPC (port 0)."""

    def __init__(
        self,
        config: Config,
        pipeline: Pipeline,
        grpc_server: grpc.aio.Server | None,
        http_server: _HttpServer,
        grpc_port: int,
        *,
        consumer: Consumer | None,
        older: _HttpServer | None = None,
    ) -> None:
        self.grpc_port = grpc_port
        self.http_port: int = http_server.port
        self.pipeline = pipeline
        self.consumer = consumer
        self._config = config
        self._grpc = grpc_server
        self._http = http_server
        self._older = older
        self._stopped: asyncio.Task[None] | None = None

    @property
    def grpc_address(self) -> str:
        """host:port of OTLP/gRPC."""
        return f"{self._config.grpc_address.rpartition(':')[0]}:{self.grpc_port}"

    @property
    def http_address(self) -> str:
        """host:port of OTLP/HTTP."""
        return f"{self._config.http_address.rpartition(':')[0]}:{self.http_port}"

    @property
    def legacy_address(self) -> str | None:
        """host:port of the second HTTP listener, where there is one."""
        return None if self._older is None else f"{self._config.http_address.rpartition(':')[0]}:{self._older.port}"

    async def stop(self) -> None:
        """Refuse what is new, commit and answer what was accepted, within `drain_s`. May be called twice."""
        if self._stopped is None:
            self._stopped = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopped)

    async def _stop(self) -> None:
        commit_s = max(self._config.drain_s - 2 * MARGIN_S, 0.0)
        http = asyncio.create_task(self._http.stop())
        stops = [http] if self._grpc is None else [http, asyncio.create_task(self._grpc.stop(commit_s + MARGIN_S))]
        if self._older is not None:
            stops.append(asyncio.create_task(self._older.stop()))
        if self.consumer is not None:
            stops.append(asyncio.create_task(self.consumer.stop(commit_s)))
        await self.pipeline.drain(commit_s)
        await asyncio.gather(*stops)


class _HttpServer(uvicorn.Server):
    """uvicorn in a loop that is not its own: signals are the caller's business, readiness can be awaited."""

    def __init__(self, application: otlp_http.Application, listening: socket.socket, drain_s: float) -> None:
        super().__init__(
            uvicorn.Config(
                application,
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                interface="asgi3",
                server_header=False,
                timeout_keep_alive=KEEP_ALIVE_S,
            )
        )
        self.port: int = listening.getsockname()[1]
        self._listening = listening
        self._ready = asyncio.Event()
        self._stopping = asyncio.Event()
        self._drain_s = drain_s - MARGIN_S
        self._task: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Listen."""
        self._task = asyncio.create_task(self.serve(sockets=[self._listening]), name="otlp-http")
        ready = asyncio.create_task(self._ready.wait())
        await asyncio.wait([ready, self._task], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        if self._task.done():
            self._task.result()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's; then ready."""
        await super().startup(sockets)
        self._ready.set()

    async def main_loop(self) -> None:
        """As uvicorn's (it keeps the Date header), but a stop is noticed at once."""
        ticks = 0
        while not await self.on_tick(ticks):
            ticks = (ticks + 1) % TICKS_A_DAY
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), TICK_S)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the listener and what is idle; give the rest until the end of the drain."""
        del sockets  # the servers own them
        for listener in self.servers:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                while self.server_state.connections:  # noqa: ASYNC110 - uvicorn has no event for it
                    await asyncio.sleep(CLOSE_POLL_S)
        for task in self.server_state.tasks:
            task.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """None of them."""
        yield

    async def stop(self) -> None:
        """Close idle connections, let the others finish."""
        self.should_exit = True
        self._stopping.set()
        if self._task is not None:
            await self._task


async def start(storage: Storage, config: Config) -> RunningReceiver:
    """Listen on both addresses. Raises AddressRejected when one cannot be had."""
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    telemetry = Telemetry(lambda: float(budget.held_bytes))
    lanes: dict[Encoding, Lane] = {Encoding.PROTOBUF: python.Lane(), Encoding.JSON: json.Lane(), Encoding.EVENTS: legacy.Lane()}
    pipeline = Pipeline(storage.writer, lanes, config, telemetry)
    budget = Budget(config.queue_bytes, pipeline.retry_s)

    async def ready() -> str | None:
        return await _trouble(storage, pipeline, None if config.otlp else consumer)

    consumer = _consumer(config, pipeline, storage, telemetry)
    sockets = _sockets(config)
    grpc_server, grpc_port = None, 0
    try:
        if config.otlp:
            service = otlp_grpc.Service(config, budget, pipeline, telemetry)
            grpc_server, grpc_port = await otlp_grpc.listen(config, service)
    except AddressRejected:
        for listening in sockets:
            listening.close()
        raise
    application = otlp_http.Application(config, budget, pipeline, telemetry, ready)
    http_server, *older = [_HttpServer(application, listening, config.drain_s) for listening in sockets]
    pipeline.start()
    await asyncio.gather(*(server.begin() for server in (http_server, *older)))
    if consumer is not None:
        consumer.start()
    return RunningReceiver(
        config, pipeline, grpc_server, http_server, grpc_port, consumer=consumer, older=next(iter(older), None)
    )


def _consumer(config: Config, pipeline: Pipeline, storage: Storage, telemetry: Telemetry) -> Consumer | None:
    """Kafka as a way in, where brokers are named; its client library is imported only then."""
    if not config.kafka:
        return None
    from wafermonitor.receiver.kafka.consumer import Consumer

    return Consumer(config, config.max_request_bytes, pipeline.submit, storage.writer, telemetry)


async def _trouble(storage: Storage, pipeline: Pipeline, only: Consumer | None) -> str | None:
    """Why a sender should rather go elsewhere, or None. Says nothing of the store but that it does not answer.

    Kafka counts where it is the only way in; a receiver that takes OTLP can still be sent to.
    """
    if pipeline.draining:
        return "stopping"
    if only is not None and only.state.trouble is not None:
        return "Kafka does not answer"
    try:
        async with asyncio.timeout(READY_TIMEOUT_S):
            await storage.reader.health()
    except (TimeoutError, StorageError):
        return "the store does not answer"
    return None


def _sockets(config: Config) -> list[socket.socket]:
    """The HTTP listener, and the one where older programs look for it."""
    first = _listen(config.http_address, "http_address")
    if config.legacy_port is None:
        return [first]
    try:
        return [first, _listen(f"{config.http_address.rpartition(':')[0]}:{config.legacy_port}", "legacy_port")]
    except AddressRejected:
        first.close()
        raise


def _listen(address: str, option: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        family, _, _, _, place = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=family, backlog=BACKLOG)
    except OSError:
        raise AddressRejected(
            f"{option}: {address} cannot be listened on: is it taken? Set WAFER_RECEIVER_{option.upper()}"
        ) from None
