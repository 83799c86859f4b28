"""What the operator sets of the Collector: environment variables and flags, so that a tool host needs no file.

In: `os.environ`, flags. Out: a frozen `Config`, and the variables that the YAML files substitute. Called by: `command`,
`supervise`, `wafer config show`, the docs table.

The YAML's own names (`WAFER_OTLP_HTTP` …) are kept as they are, because a stock Collector without us reads them, too.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import platform
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Final

from wafermonitor.collector.errors import ConfigRejected
from wafermonitor.instrumentation import onward
from wafermonitor.instrumentation.environment import EnvironmentConfig, one_of, option, positive, shown, switch
from wafermonitor.instrumentation.folders import data_home, spool_home

_LEVELS: Final = ("debug", "info", "warn", "error")
_PORTS: Final = range(1, 65536)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) not in _PORTS:
        raise ValueError("host:port, for example 127.0.0.1:4317")
    return text


def _addresses(text: str) -> str:
    return ",".join(_address(part) for part in _names(text)) or _address(text)


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) not in _PORTS:
        raise ValueError("a port from 1 to 65535")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("a whole number above 0")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class Config(EnvironmentConfig):
    """How one Collector is run. Addresses are `host:port`; `_s` is seconds."""

    component: ClassVar[str] = "collector"
    rejected: ClassVar[type[ConfigRejected]] = ConfigRejected

    backends: tuple[str, ...] = option(
        _names, "Where telemetry goes: names of backends/*.yaml or paths of YAML files, by commas.", default=("managed",)
    )
    receivers: tuple[str, ...] = option(
        _names, "What is taken beside OTLP: names of receivers/*.yaml or paths of YAML files, by commas.", default=()
    )
    site_id: str = option(
        str, "The site, inserted where an application named none.", "WAFER_SITE_ID", "SITE_ID", default="unset", yaml=True
    )
    feed_id: str = option(str, "This Collector's feed.", "WAFER_FEED_ID", default=platform.node, yaml=True)
    otlp_grpc: str = option(_address, "Takes OTLP by gRPC.", "WAFER_OTLP_GRPC", default="127.0.0.1:4317", yaml=True)
    otlp_http: str = option(_address, "Takes OTLP by HTTP.", "WAFER_OTLP_HTTP", default="127.0.0.1:4318", yaml=True)
    health: str = option(_address, "Says whether it runs.", "WAFER_HEALTH_ENDPOINT", default="127.0.0.1:13133", yaml=True)
    metrics_port: int = option(
        _port, "Port of the Collector's own metrics, on loopback.", onward.PORT_VARIABLE, default=onward.DEFAULT_PORT, yaml=True
    )
    queue_dir: Path = option(  # noqa: RUF009 - makes a dataclass field, with a factory
        Path, "Folder of the persistent queues; one Collector each.", default=lambda: data_home() / "queue", yaml=True
    )
    queue_bytes: int = option(_count, "Size of each signal's queue.", default=1_000_000_000, yaml=True)
    memory_mib: int = option(_count, "Memory above which it refuses and senders wait.", default=400, yaml=True)
    log_level: str = option(
        one_of(*_LEVELS), "What the Collector says on stderr: debug, info, warn, error.", default="error", yaml=True
    )
    managed_endpoint: str = option(
        _address, "The receiver, by OTLP/gRPC.", "WAFER_MANAGED_ENDPOINT", default="127.0.0.1:14317", yaml=True
    )
    managed_insecure: bool | None = option(
        switch, "No TLS to the receiver; not set: only when it is on loopback.", "WAFER_MANAGED_INSECURE", yaml=True
    )
    ca_file: str = option(
        str, "Certificates that sign the receiver's; empty: the system's.", "WAFER_CA_FILE", default="", yaml=True
    )
    token: str = option(str, "Bearer token for the receiver.", "WAFER_TOKEN", default="", secret=True, yaml=True)
    kafka_brokers: str = option(
        _addresses, "Brokers of the backend `kafka`, by commas.", "WAFER_KAFKA_BROKERS", default="127.0.0.1:9092", yaml=True
    )
    file_dir: Path = option(  # noqa: RUF009 - makes a dataclass field, with a factory
        Path, "Folder of the backend `file`.", "WAFER_FILE_DIR", default=lambda: data_home() / "out", yaml=True
    )
    file_loopback: str = option(
        _address, "Second receiver of the backend `file`.", "WAFER_FILE_LOOPBACK", default="127.0.0.1:14406", yaml=True
    )
    drop_dir: Path = option(  # noqa: RUF009 - makes a dataclass field, with a factory
        Path,
        "Folder that the receiver `files` reads.",
        "WAFER_DROP_DIR",
        default=lambda: Path("/var/spool/wafermonitor/drop"),
        yaml=True,
    )
    spool_dir: Path = option(  # noqa: RUF009 - makes a dataclass field, with a factory
        Path,
        "Spool of the instrumentation, shipped while the Collector runs.",
        "WAFER_SPOOL_DIR",
        default=spool_home,
    )
    replay: bool = option(switch, "Ship the spool of the instrumentation.", default=True)
    beat_s: float = option(positive, "Interval of the feed's beat.", default=10.0)
    report_s: float = option(positive, "How often the state of the queue is said.", default=300.0)
    bin: str = option(str, "The Collector to use; empty: one on PATH that fits, else one built here.", default="")

    @property
    def insecure(self) -> bool:
        """Whether the receiver is reached without TLS: as set, else when it is on loopback."""
        return loopback(self.managed_endpoint) if self.managed_insecure is None else self.managed_insecure

    def substitutions(self) -> dict[str, str]:
        """What the YAML files substitute: variable → value. An empty value is left to the file's own default."""
        values = {
            self.variables(field)[0]: shown(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.metadata["yaml"]
        }
        values["WAFER_MANAGED_INSECURE"] = shown(self.insecure)
        return {name: value for name, value in values.items() if value}


def loopback(address: str) -> bool:
    """Whether `host:port` is this host's own loopback."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def reachable(address: str) -> tuple[str, int]:
    """Where to knock on a listener's `host:port`: one that listens everywhere answers on loopback."""
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), int(port)  # noqa: S104 - compared, not bound
