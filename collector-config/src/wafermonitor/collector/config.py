"""What the operator sets of the Collector: environment variables and flags, so that a tool host needs no file.

In: `os.environ`, flags. Out: a frozen `Config`, and the variables that the YAML files substitute. Called by: `command`,
`supervise`, `wafer config show`, the docs table.

The YAML's own names (`WAFER_OTLP_HTTP` …) are kept as they are, because a stock Collector without us reads them, too.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from wafermonitor.collector.errors import ConfigRejected
from wafermonitor.instrumentation import onward
from wafermonitor.instrumentation.folders import data_home, spool_home
from wafermonitor.instrumentation.option import MASK, Option

_COMPONENT: Final = "collector"
_PREFIX: Final = "WAFER_COLLECTOR_"
_LEVELS: Final = ("debug", "info", "warn", "error")
_WORDS: Final = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_PORTS: Final = range(1, 65536)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name for name in (part.strip() for part in text.split(",")) if name)


def _address(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) not in _PORTS:
        raise ValueError("host:port, for example 127.0.0.1:4317")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) not in _PORTS:
        raise ValueError("a port from 1 to 65535")
    return int(text)


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("a number above 0")
    return value


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise ValueError("a whole number above 0")
    return int(text)


def _switch(text: str) -> bool:
    if text.lower() not in _WORDS:
        raise ValueError("true or false")
    return _WORDS[text.lower()]


def _level(text: str) -> str:
    if text.lower() not in _LEVELS:
        raise ValueError(f"known: {', '.join(_LEVELS)}")
    return text.lower()


def _option(
    read: Callable[[str], Any], doc: str, *names: str, default: Any = None, secret: bool = False, yaml: bool = False
) -> Any:
    """A field. `names` are its variables, strongest first, or the pattern; `yaml`: the YAML files substitute the first."""
    factory = default if callable(default) else lambda: default
    metadata = {"read": read, "doc": doc, "names": names, "secret": secret, "yaml": yaml}
    return dataclasses.field(default_factory=factory, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Config:
    """How one Collector is run. Addresses are `host:port`; `_s` is seconds."""

    backends: tuple[str, ...] = _option(
        _names, "Where telemetry goes: names of backends/*.yaml or paths of YAML files, by commas.", default=("managed",)
    )
    receivers: tuple[str, ...] = _option(
        _names, "What is taken beside OTLP: names of receivers/*.yaml or paths of YAML files, by commas.", default=()
    )
    site_id: str = _option(
        str, "The site, inserted where an application named none.", "WAFER_SITE_ID", "SITE_ID", default="unset", yaml=True
    )
    feed_id: str = _option(str, "This Collector's feed.", "WAFER_FEED_ID", default=platform.node, yaml=True)
    otlp_grpc: str = _option(_address, "Takes OTLP by gRPC.", "WAFER_OTLP_GRPC", default="127.0.0.1:4317", yaml=True)
    otlp_http: str = _option(_address, "Takes OTLP by HTTP.", "WAFER_OTLP_HTTP", default="127.0.0.1:4318", yaml=True)
    health: str = _option(_address, "Says whether it runs.", "WAFER_HEALTH_ENDPOINT", default="127.0.0.1:13133", yaml=True)
    metrics_port: int = _option(
        _port, "Port of the Collector's own metrics, on loopback.", onward.PORT_VARIABLE, default=onward.DEFAULT_PORT, yaml=True
    )
    queue_dir: Path = _option(  # noqa: RUF009 - makes a dataclass field, with a factory
        Path, "Folder of the persistent queues; one Collector each.", default=lambda: data_home() / "queue", yaml=True
    )
    queue_bytes: int = _option(_count, "Size of each signal's queue.", default=1_000_000_000, yaml=True)
    memory_mib: int = _option(_count, "Memory above which it refuses and senders wait.", default=400, yaml=True)
    log_level: str = _option(_level, "What the Collector says on stderr: debug, info, warn, error.", default="error", yaml=True)
    managed_endpoint: str = _option(
        _address, "The receiver, by OTLP/gRPC.", "WAFER_MANAGED_ENDPOINT", default="127.0.0.1:14317", yaml=True
    )
    managed_insecure: bool | None = _option(
        _switch, "No TLS to the receiver; not set: only when it is on loopback.", "WAFER_MANAGED_INSECURE", yaml=True
    )
    ca_file: str = _option(
        str, "Certificates that sign the receiver's; empty: the system's.", "WAFER_CA_FILE", default="", yaml=True
    )
    token: str = _option(str, "Bearer token for the receiver.", "WAFER_TOKEN", default="", secret=True, yaml=True)
    file_dir: Path = _option(  # noqa: RUF009 - makes a dataclass field, with a factory
        Path, "Folder of the backend `file`.", "WAFER_FILE_DIR", default=lambda: data_home() / "out", yaml=True
    )
    file_loopback: str = _option(
        _address, "Second receiver of the backend `file`.", "WAFER_FILE_LOOPBACK", default="127.0.0.1:14406", yaml=True
    )
    drop_dir: Path = _option(  # noqa: RUF009 - makes a dataclass field, with a factory
        Path,
        "Folder that the receiver `files` reads.",
        "WAFER_DROP_DIR",
        default=lambda: Path("/var/spool/wafermonitor/drop"),
        yaml=True,
    )
    spool_dir: Path = _option(  # noqa: RUF009 - makes a dataclass field, with a factory
        Path,
        "Spool of the instrumentation, shipped while the Collector runs.",
        "WAFER_SPOOL_DIR",
        default=spool_home,
    )
    replay: bool = _option(_switch, "Ship the spool of the instrumentation.", default=True)
    beat_s: float = _option(_positive, "Interval of the feed's beat.", default=10.0)
    report_s: float = _option(_positive, "How often the state of the queue is said.", default=300.0)
    bin: str = _option(str, "The Collector to use; empty: one on PATH that fits, else one built here.", default="")

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **flags: Any) -> Self:
        """Flags that are not None, then the environment, then defaults. ConfigRejected names field, value and fix."""
        environ = os.environ if environ is None else environ
        values = {name: value for name, value in flags.items() if value is not None}
        for field in dataclasses.fields(cls):
            name = _source(field, environ)
            if name is None or field.name in values:
                continue
            try:
                values[field.name] = field.metadata["read"](environ[name].strip())
            except ValueError as error:
                shown = MASK if field.metadata["secret"] else repr(environ[name])
                raise ConfigRejected(f"{_COMPONENT}.{field.name} = {shown}: {error} (set {name})") from None
        return cls(**values)

    @classmethod
    def options(cls) -> list[Option]:
        """Every option with its value and where that came from, secrets masked."""
        config, untouched = cls.load(), cls()
        rows = []
        for field in dataclasses.fields(cls):
            own, *others = _variables(field)
            value = _show(getattr(config, field.name))
            rows.append(
                Option(
                    component=_COMPONENT,
                    name=field.name,
                    environment=own,
                    aliases=tuple(others),
                    type=str(field.type),
                    default=_show(getattr(untouched, field.name)),
                    doc=field.metadata["doc"],
                    value=MASK if field.metadata["secret"] and value else value,
                    source="environment" if _source(field, os.environ) else "default",
                )
            )
        return rows

    @property
    def insecure(self) -> bool:
        """Whether the receiver is reached without TLS: as set, else when it is on loopback."""
        return loopback(self.managed_endpoint) if self.managed_insecure is None else self.managed_insecure

    def substitutions(self) -> dict[str, str]:
        """What the YAML files substitute: variable → value. An empty value is left to the file's own default."""
        values = {
            _variables(field)[0]: _show(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if field.metadata["yaml"]
        }
        values["WAFER_MANAGED_INSECURE"] = _show(self.insecure)
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


def _variables(field: dataclasses.Field[Any]) -> tuple[str, ...]:
    return field.metadata["names"] or (f"{_PREFIX}{field.name.upper()}",)


def _source(field: dataclasses.Field[Any], environ: Mapping[str, str]) -> str | None:
    return next((name for name in _variables(field) if environ.get(name, "").strip()), None)


def _show(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(value)
    return "" if value is None else str(value)
