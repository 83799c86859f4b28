"""The receiver as one object: its listeners, the queue, and the way to stop without losing anything.

In: an opened store, or a writer for a bridge, and a `Config`. Out: a `RunningReceiver` with the real ports. The store stays the
caller's: `stop()` does not close it. Called by: `command`, and any test that wants a receiver in its own process.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

import grpc.aio

from wafermonitor.instrumentation.folders import data_home
from wafermonitor.receiver import lanes, legacy, memory, otlp_grpc, otlp_http, pages
from wafermonitor.receiver.admission import Budget
from wafermonitor.receiver.bridge import Bridge
from wafermonitor.receiver.config import Config
from wafermonitor.receiver.dead_letters.file import DeadLetterFile
from wafermonitor.receiver.http1.exchange import Routes
from wafermonitor.receiver.http1.listener import Limits, Listener, listening_socket
from wafermonitor.receiver.outlet import Outlet
from wafermonitor.receiver.pages import Trouble
from wafermonitor.receiver.pipeline import Pipeline
from wafermonitor.receiver.telemetry import Telemetry
from wafermonitor.receiver.transcode import json, python
from wafermonitor.receiver.transcode.protocol import Encoding, Lane
from wafermonitor.storage.errors import StorageError
from wafermonitor.storage.protocol import Storage
from wafermonitor.storage.writers.protocol import Writer as WriterOfBackend

if TYPE_CHECKING:
    from wafermonitor.receiver.kafka.consumer import Consumer

READY_TIMEOUT_S = 2.0
MARGIN_S = 0.5
"""Of the drain: what is left for answers to leave after the last commit."""
LANES: dict[Encoding, Lane] = {
    Encoding.PROTOBUF: python.Lane(),
    Encoding.JSON: json.Lane(),
    Encoding.EVENTS: legacy.Lane(),
}
OTLP, OLDER, METRICS = "http_address", "legacy_port", "metrics_address"
"""The HTTP ports, by the option that says where each is."""


class RunningReceiver:
    """The listeners of a started receiver, and its consumer of Kafka if it has one. Without OTLP there is no gRPC (port 0)."""

    def __init__(
        self,
        config: Config,
        outlet: Outlet,
        budget: Budget,
        grpc_server: tuple[grpc.aio.Server | None, int],
        http: Mapping[str, Listener],
        *,
        consumer: Consumer | None,
    ) -> None:
        self.outlet = outlet
        self.budget = budget
        self.consumer = consumer
        self.http_port = http[OTLP].port
        self._config = config
        self._grpc, self.grpc_port = grpc_server
        self._http = http
        self._stopped: asyncio.Task[None] | None = None
        self._giving_back = asyncio.create_task(memory.give_back(), name="memory")

    @property
    def lane(self) -> str:
        """Which lane decodes protobuf; empty for a bridge, which decodes nothing."""
        return self.outlet.lanes.name if isinstance(self.outlet, Pipeline) else ""

    @property
    def grpc_address(self) -> str:
        """host:port of OTLP/gRPC."""
        return f"{_host(self._config.grpc_address)}:{self.grpc_port}"

    @property
    def http_address(self) -> str:
        """host:port of OTLP/HTTP."""
        return f"{_host(self._config.http_address)}:{self.http_port}"

    @property
    def legacy_address(self) -> str | None:
        """host:port of the second HTTP listener, where there is one."""
        return f"{_host(self._config.http_address)}:{self._http[OLDER].port}" if OLDER in self._http else None

    @property
    def metrics_address(self) -> str:
        """host:port of this process's own /metrics: that of OTLP/HTTP, unless it has one for itself."""
        if self._config.metrics_address is None:
            return self.http_address
        return f"{_host(self._config.metrics_address)}:{self._http[METRICS].port}"

    async def stop(self) -> None:
        """Refuse what is new, commit and answer what was accepted, within `drain_s`. May be called twice."""
        if self._stopped is None:
            self._stopped = asyncio.create_task(self._stop())
        await asyncio.shield(self._stopped)

    async def _stop(self) -> None:
        commit_s = max(self._config.drain_s - 2 * MARGIN_S, 0.0)
        self.outlet.refuse_new()
        stops = [asyncio.create_task(listener.stop(commit_s + MARGIN_S)) for listener in self._http.values()]
        if self._grpc is not None:
            stops.append(asyncio.create_task(self._grpc.stop(commit_s + MARGIN_S)))
        if self.consumer is not None:
            stops.append(asyncio.create_task(self.consumer.stop(commit_s)))
        await self.outlet.drain(commit_s)
        if self._grpc is not None:
            # A call that gRPC took and handed to nobody while it stopped would keep it for the whole time.
            await self._grpc.stop(MARGIN_S)
        await asyncio.gather(*stops)
        self._giving_back.cancel()
        await asyncio.gather(self._giving_back, return_exceptions=True)


async def start(storage: Storage, config: Config) -> RunningReceiver:
    """Listen on every address, for the store. AddressRejected when one cannot be had, LaneRejected when the lane cannot."""
    telemetry = Telemetry(lambda: float(budget.held_bytes))
    chosen = lanes.choose(config.lane, LANES, storage.writer.row_format)
    pipeline = Pipeline(storage.writer, chosen, config, telemetry)
    budget = Budget(config.queue_bytes, pipeline.retry_s)
    consumer = _consumer(config, pipeline, storage, telemetry)

    async def trouble() -> str | None:
        return await _trouble(storage, pipeline, None if config.otlp else consumer)

    telemetry.info("lane", "1 for the lane that decodes protobuf", lane=chosen.name)
    return await _listen(config, pipeline, budget, telemetry, trouble, consumer=consumer)


async def start_bridge(name: str, writer: WriterOfBackend, config: Config) -> RunningReceiver:
    """Listen for OTLP/HTTP on the address of the writer `name`. AddressRejected when it cannot be had.

    The backend need not be there. The writer stays the caller's: `stop()` does not close it.
    """
    if "http_address" not in config.model_fields_set:
        config = config.model_copy(update={"http_address": f"{_host(config.http_address)}:{writer.port}"})
    telemetry = Telemetry(lambda: float(budget.held_bytes))
    path = config.dead_letter_file or data_home() / "dead-letters" / f"{name}.jsonl"
    bridge = Bridge(name, writer, DeadLetterFile(path, name), config, telemetry)
    budget = Budget(config.queue_bytes, bridge.retry_s)

    async def trouble() -> str | None:
        return "stopping" if bridge.draining else await bridge.trouble()

    telemetry.info("writer", "1 for the writer that this bridge passes to", writer=name)
    return await _listen(config, bridge, budget, telemetry, trouble, consumer=None)


async def _listen(
    config: Config, outlet: Outlet, budget: Budget, telemetry: Telemetry, trouble: Trouble, *, consumer: Consumer | None
) -> RunningReceiver:
    """The listeners of `outlet`. A bridge has no gRPC and no older routes: its Collector speaks OTLP/HTTP."""
    own = pages.routes(telemetry, trouble, lambda: {} if consumer is None else {"kafka": consumer.state._asdict()})
    with contextlib.ExitStack() as opened:
        listening = {
            option: opened.enter_context(listening_socket(address, option, share=config.share_port))
            for option, address in _addresses(config).items()
        }
        grpc_server: tuple[grpc.aio.Server | None, int] = (None, 0)
        if config.otlp and isinstance(outlet, Pipeline):
            grpc_server = await otlp_grpc.listen(config, otlp_grpc.Service(config, budget, outlet, telemetry))
        opened.pop_all()  # the listeners own the sockets from here on
    http = {option: _listener(option, config, budget, outlet, telemetry=telemetry, own=own) for option in listening}
    telemetry.gauge("queue_requests", "Requests that wait for a transaction", lambda: outlet.waiting)
    telemetry.gauge("http_connections", "Open HTTP connections", lambda: sum(len(one.connections) for one in http.values()))
    telemetry.gauge("memory_bytes", "Memory in use (allocated and not freed)", memory.used_bytes)
    outlet.start()
    for option, listener in http.items():
        await listener.start(listening[option])
    if consumer is not None:
        consumer.start()
    return RunningReceiver(config, outlet, budget, grpc_server, http, consumer=consumer)


def _addresses(config: Config) -> dict[str, str]:
    """Where HTTP is served, by the option that says so."""
    found = {OTLP: config.http_address}
    if config.legacy_port is not None:
        found[OLDER] = f"{_host(config.http_address)}:{config.legacy_port}"
    if config.metrics_address is not None:
        found[METRICS] = config.metrics_address
    return found


def _listener(option: str, config: Config, budget: Budget, outlet: Outlet, *, telemetry: Telemetry, own: Routes) -> Listener:
    limits = Limits(
        config.receive_s, config.idle_s, config.connection_age_s, config.max_connections, 2 * config.max_request_bytes
    )
    takes = config.otlp and option != METRICS
    older = isinstance(outlet, Pipeline)
    application = otlp_http.Application(config, budget, outlet, telemetry, own, takes_otlp=takes, takes_older=takes and older)
    return Listener(application, limits, lambda why: telemetry.connections.labels(why).inc())


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


def _host(address: str) -> str:
    return address.rpartition(":")[0]
