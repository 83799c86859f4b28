"""Where each service of one host listens.

In: the services' own settings, or the wish for free ports. Out: `Addresses`. Called by: `stack`, `demo`, `doctor`.
"""

from __future__ import annotations

import errno
import random
import socket
import sys
from contextlib import ExitStack
from dataclasses import dataclass, fields

from wafermonitor.collector.config import Config as CollectorConfig
from wafermonitor.deploy.errors import DeployRejected
from wafermonitor.query.config import Config as QueryConfig
from wafermonitor.receiver.config import Config as ReceiverConfig
from wafermonitor.ui.config import Config as UiConfig

LOOPBACK = "127.0.0.1"
SERVICE_PORTS = range(20_000, 32_000)
PORT_TRIES = 1000


@dataclass(frozen=True, slots=True)
class Addresses:
    """`host:port` of every listener of one host, in flow order."""

    collector_grpc: str
    collector_http: str
    collector_health: str
    collector_metrics: str
    receiver_grpc: str
    receiver_http: str
    query: str
    ui: str


def free_addresses() -> Addresses:
    """Loopback ports that nobody uses now. All are held until all are known, so no two are equal."""
    with ExitStack() as held:
        return Addresses(**{field.name: _free_address(held) for field in fields(Addresses)})


def _free_address(held: ExitStack) -> str:
    """Below the ports that systems give to outgoing connections, so that none of those takes it before its service does."""
    for _ in range(PORT_TRIES):
        listener = socket.socket()
        address = (LOOPBACK, random.choice(SERVICE_PORTS))  # noqa: S311 - picks a port, guards nothing
        try:
            listener.bind(address)
        except OSError:
            listener.close()
            continue
        held.enter_context(listener)
        return f"{LOOPBACK}:{address[1]}"
    raise DeployRejected(f"no free port on {LOOPBACK} between {SERVICE_PORTS.start} and {SERVICE_PORTS.stop - 1}")


def configured_addresses() -> Addresses:
    """The ports that the services' own settings name (design/1 §1.5 has the defaults)."""
    collector, receiver = CollectorConfig.load(), ReceiverConfig.load()
    return Addresses(
        collector_grpc=collector.otlp_grpc,
        collector_http=collector.otlp_http,
        collector_health=collector.health,
        collector_metrics=f"{LOOPBACK}:{collector.metrics_port}",
        receiver_grpc=receiver.grpc_address,
        receiver_http=receiver.http_address,
        query=QueryConfig.load().address,
        ui=UiConfig.load().address,
    )


def claim(address: str) -> socket.socket | None:
    """Held until it is closed: no other stack of this host that claims `address` gets it, also before anybody listens there.

    None where another has it. Linux keeps such names for each network, as it does ports; elsewhere nothing is claimed.
    """
    held = socket.socket(socket.AF_UNIX)
    if sys.platform != "linux" or address.endswith(":0"):
        return held
    try:
        held.bind(f"\0wafermonitor {address}")
    except OSError:
        held.close()
        return None
    return held


def is_taken(address: str) -> bool:
    """Does anybody listen on `host:port` already? An address that is none of this host's is left to the service to refuse."""
    host, _, port = address.rpartition(":")
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host.strip("[]") or None, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # what a closed connection leaves is no listener
            tried.bind(place)
    except OSError as error:
        return error.errno == errno.EADDRINUSE
    return False
