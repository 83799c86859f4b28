"""The services of one host: which there are, in which order they start and stop.

In: addresses, settings. Out: running services, one child process each. Called by: `wafer up`, `wafer demo`.

Start: store first, then the rest side by side, then what maintains it and what watches. Stop: against the flow, so that nothing
accepted is lost and every reader ends before what it reads.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from wafermonitor.deploy.addresses import Addresses, claim, is_taken
from wafermonitor.deploy.config import Config
from wafermonitor.deploy.errors import DeployRejected
from wafermonitor.deploy.service import Plan, Service
from wafermonitor.storage.config import Config as StorageConfig

logger = logging.getLogger(__name__)
DSN = "WAFER_STORAGE_DSN"
SETTINGS = {
    "collector_grpc": "WAFER_OTLP_GRPC",
    "collector_http": "WAFER_OTLP_HTTP",
    "collector_health": "WAFER_HEALTH_ENDPOINT",
    "collector_metrics": "WAFER_METRICS_PORT",
    "receiver_grpc": "WAFER_RECEIVER_GRPC_ADDRESS",
    "receiver_http": "WAFER_RECEIVER_HTTP_ADDRESS",
    "query": "WAFER_QUERY_ADDRESS",
    "ui": "WAFER_UI_ADDRESS",
}
"""What places each of the `Addresses`."""
URL = "WAFER_ALERTING_URL"
"""Where the links of messages lead."""
OTLP = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""Where a process sends its own telemetry."""


class Stack:
    """Receiver, read API and screens on one store, and a Collector where one is asked for. An async context manager."""

    def __init__(
        self,
        addresses: Addresses,
        config: Config,
        *,
        environment: dict[str, str] | None = None,
        collector: bool = False,
        show: Callable[[str, str], None],
        held: tuple[int, ...] = (),
    ) -> None:
        """`held`: file descriptors that every service keeps open while it runs."""
        self.addresses = addresses
        self.services: list[Service] = []
        self._config = config
        self._environment = environment or {}
        self._collector = collector
        self._show = show
        self._held = held
        self._claims = ExitStack()

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def service(self, name: str) -> Service:
        """The running service of that name."""
        return next(service for service in self.services if service.plan.name == name)

    async def stop(self) -> None:
        """End every service, last started first."""
        while self.services:
            service = self.services.pop()
            await service.stop()
            logger.info("%s stopped", service.plan.name)
        self._claims.close()

    async def _start(self) -> None:
        refuse_taken(self.addresses, self._claims, collector=self._collector)
        environment = self._environment
        if not (environment.get(DSN) or os.environ.get(DSN) or os.environ.get("DATABASE_URL")):
            store = self._add(Plan("storage", ("storage", "serve", "--json"), environment=environment))
            await store.start()
            environment = environment | {
                DSN: read_dsn(store.announced)
            }  # not for the store itself, which would not start again
        await self._start_together(plans(self.addresses, environment, collector=self._collector))
        # Their first rounds are runs that they send to the receiver.
        own = environment | own_telemetry(self.addresses, environment)
        looking = [Plan("maintain", ("maintain", "run", "--json"), environment=own)]
        if keeps_alerts(environment):
            looking.append(Plan("alerting", ("alerting", "run", "--json"), environment=own | screens(self.addresses)))
        else:
            logger.warning("nothing is expected and nobody is told: ClickHouse keeps no alerts, set WAFER_ALERTING_DSN")
        await self._start_together(looking)

    async def _start_together(self, wanted: list[Plan]) -> None:
        starting = [asyncio.create_task(service.start()) for service in [self._add(plan) for plan in wanted]]
        try:
            await asyncio.gather(*starting)
        finally:
            for task in starting:
                task.cancel()
            await asyncio.gather(*starting, return_exceptions=True)

    def _add(self, plan: Plan) -> Service:
        service = Service(plan, self._config, show=self._show, held=self._held)
        self.services.append(service)
        return service


def refuse_taken(addresses: Addresses, claims: ExitStack, *, collector: bool) -> None:
    """DeployRejected when somebody else listens where a service is to listen; that one would be taken for ours.

    Until `claims` is closed, so is every other stack that wants one of these: two that start at once both find nobody there.
    """
    wanted = {
        setting: getattr(addresses, name) for name, setting in SETTINGS.items() if collector or not name.startswith("collector")
    }
    busy = []
    for setting, address in wanted.items():
        held = claim(address)
        if held is not None:
            claims.enter_context(held)
        if held is None or is_taken(address):
            busy.append(f"{address} (set {setting})")
    if busy:
        raise DeployRejected(
            f"another program listens on {', '.join(busy)}; is wafer up running already? End it, or choose another port"
        )


def read_dsn(announced: dict[str, str]) -> str:
    """The DSN from the file that `wafer storage serve` names: it holds a password, so it is never printed."""
    return Path(announced["dsn_file"]).read_text(encoding="utf-8").strip()


def plans(addresses: Addresses, environment: dict[str, str], *, collector: bool) -> list[Plan]:
    """What serves a store, in flow order. The Collector stands last, so it is the first to stop taking in."""
    receiver = {"WAFER_RECEIVER_GRPC_ADDRESS": addresses.receiver_grpc, "WAFER_RECEIVER_HTTP_ADDRESS": addresses.receiver_http}
    query = {"WAFER_QUERY_ADDRESS": addresses.query}
    ui = {"WAFER_UI_ADDRESS": addresses.ui, "WAFER_UI_API_URL": f"http://{addresses.query}"}
    found = [
        Plan("receiver", ("receiver",), f"http://{addresses.receiver_http}/readyz", environment | receiver),
        Plan("query", ("query",), f"http://{addresses.query}/readyz", environment | query),
        Plan("ui", ("ui",), f"http://{addresses.ui}/healthz", environment | ui),
    ]
    if collector:
        settings = collector_environment(addresses)
        run = ("collector", "run", "--backend", "managed")
        found.append(Plan("collector", run, f"http://{addresses.collector_health}/", environment | settings))
    return found


def keeps_alerts(environment: dict[str, str]) -> bool:
    """Whether the store of these settings has a place for expectations and alerts."""
    prefix = "WAFER_STORAGE_"
    given = {name.removeprefix(prefix).lower(): value for name, value in environment.items() if name.startswith(prefix)}
    config = StorageConfig.load(**given)
    return config.engine != "clickhouse" or config.alerting_dsn is not None


def screens(addresses: Addresses) -> dict[str, str]:
    """Where links in messages lead, unless the operator says how people reach the screens."""
    return {} if os.environ.get(URL) else {URL: f"http://{addresses.ui}"}


def own_telemetry(addresses: Addresses, environment: dict[str, str]) -> dict[str, str]:
    """What services do is runs like others: sent to our receiver, where nothing else is named."""
    if any(environment.get(name) or os.environ.get(name) for name in OTLP):
        return {}
    return {OTLP[0]: f"http://{addresses.receiver_http}"}


def collector_environment(addresses: Addresses) -> dict[str, str]:
    """The substitutions of the Collector's YAML that place its listeners and point it at our receiver."""
    host, _, port = addresses.collector_metrics.rpartition(":")
    if host != "127.0.0.1":
        raise DeployRejected(f"the Collector's metrics stay on the loopback; {addresses.collector_metrics} is elsewhere")
    return {
        "WAFER_OTLP_GRPC": addresses.collector_grpc,
        "WAFER_OTLP_HTTP": addresses.collector_http,
        "WAFER_HEALTH_ENDPOINT": addresses.collector_health,
        "WAFER_METRICS_PORT": port,
        "WAFER_MANAGED_ENDPOINT": addresses.receiver_grpc,
        "WAFER_MANAGED_INSECURE": "true",
    }
