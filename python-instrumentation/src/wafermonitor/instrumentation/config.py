"""What the operator sets of the instrumentation: environment variables only, so that a job needs no file and no flag.

In: `os.environ`. Out: a frozen `Config`. Called by: `providers`, the `wafer` commands, `wafer config show`, the docs table.

OpenTelemetry's own variables keep their meaning and win over ours. Inside a job a wrong value is reported once and the default
is taken, because telemetry never stops a job; the `wafer` commands refuse it.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.instrumentation.folders import spool_home
from wafermonitor.instrumentation.option import MASK, Option

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:4318"
_MODES: Final = ("sidecar", "direct", "file", "off")
_PARENT_FLAGS: Final = ("sample", "keep")
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_WORDS: Final = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
_PREFIX: Final = "WAFER_INSTRUMENTATION_"
_COMPONENT: Final = "instrumentation"

_logger = logging.getLogger("wafermonitor")


def _one_of(*known: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        for word in known:
            if text.lower() == word.lower():
                return word
        raise ValueError(f"known: {', '.join(known)}")

    return read


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError("a number of seconds above 0")
    return value


def _switch(text: str) -> bool:
    if text.lower() not in _WORDS:
        raise ValueError("true or false")
    return _WORDS[text.lower()]


def _option(read: Callable[[str], Any], doc: str, *names: str, default: Any = None, secret: bool = False) -> Any:
    """A field: `names` are its variables, strongest first; the pattern `WAFER_INSTRUMENTATION_<FIELD>` is always known."""
    factory = default if callable(default) else lambda: default
    return dataclasses.field(default_factory=factory, metadata={"read": read, "doc": doc, "names": names, "secret": secret})


@dataclass(frozen=True, kw_only=True)
class Config:
    """How this process reports its jobs."""

    mode: str = _option(
        _one_of(*_MODES),
        "Where telemetry goes: sidecar (Collector on this host), direct (any OTLP endpoint), file (the spool only), off.",
        "WAFER_MODE",
        default="sidecar",
    )
    site_id: str = _option(
        str, "The site of this host; empty: the Collector fills it in.", "WAFER_SITE_ID", "SITE_ID", default=""
    )
    area_name: str = _option(str, "The area of the site, for example litho.", "WAFER_AREA_NAME", default="")
    endpoint: str = _option(
        str,
        "Base URL that takes OTLP over HTTP.",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        f"{_PREFIX}ENDPOINT",
        "SIDECAR_URL",
        default=DEFAULT_ENDPOINT,
    )
    timeout_s: float = _option(
        _seconds,
        "How long the background sender waits for one answer.",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        default=1.0,
    )
    token: str = _option(str, "Bearer token sent with every request.", "WAFER_TOKEN", default="", secret=True)
    spool_dir: Path = _option(  # noqa: RUF009 - a field like the others; ruff takes the Path in it for a call's result
        Path, "Folder that keeps what no endpoint took.", "WAFER_SPOOL_DIR", default=spool_home
    )
    parent_flag: str = _option(
        _one_of(*_PARENT_FLAGS),
        "Sampled flag handed to children of a run: sample (always), or keep (as the upstream decided).",
        "WAFER_PARENT_FLAG",
        default="sample",
    )
    heartbeat_s: float = _option(_seconds, "Interval of the process's heartbeat while it has an open run.", default=30.0)
    blocking_s: float = _option(_seconds, "How long all runs of the process together may wait for the endpoint.", default=0.3)
    logs: bool = _option(_switch, "Send the program's own log records, bound to the run.", default=True)
    log_level: str = _option(_one_of(*_LEVELS), "Lowest level of the program's log records that is sent.", default="INFO")
    stacktrace: bool = _option(_switch, "Send stack traces with exceptions; they may show values.", default=False)
    metrics: bool = _option(_switch, "Send CPU, memory, uptime and run durations as metrics.", default=True)
    bar: bool = _option(_switch, "Let track() draw a bar when stderr is a terminal.", default=True)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, *, strict: bool = True) -> Self:
        """Read the environment. ConfigRejected names field, value and fix; not strict: one warning, and the default."""
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            name = _source(field, environ)
            if name is None:
                continue
            try:
                values[field.name] = field.metadata["read"](environ[name].strip())
            except ValueError as error:
                shown = MASK if field.metadata["secret"] else repr(environ[name])
                message = f"{_COMPONENT}.{field.name} = {shown}: {error} (set {name})"
                if strict:
                    raise ConfigRejected(message) from None
                _logger.warning("%s; the default is used", message)
        if _WORDS.get(environ.get("OTEL_SDK_DISABLED", "").lower()):
            values["mode"] = "off"
        return cls(**values)

    @classmethod
    def options(cls) -> list[Option]:
        """Every option with its value and where that came from, secrets masked."""
        config, untouched = cls.load(), cls()
        rows = []
        for field in dataclasses.fields(cls):
            own, *others = _names(field)
            if own.startswith("OTEL_"):
                own, others = others[0], [own, *others[1:]]
            value = str(getattr(config, field.name))
            rows.append(
                Option(
                    component=_COMPONENT,
                    name=field.name,
                    environment=own,
                    aliases=tuple(others),
                    type=str(field.type),
                    default=str(getattr(untouched, field.name)),
                    doc=field.metadata["doc"],
                    value=MASK if field.metadata["secret"] and value else value,
                    source="environment" if _source(field, os.environ) else "default",
                )
            )
        return rows


def _names(field: dataclasses.Field[Any]) -> list[str]:
    """The variables of a field, strongest first. Those without a name of their own follow the pattern."""
    names = list(field.metadata["names"])
    pattern = f"{_PREFIX}{field.name.upper()}"
    if all(name.startswith("OTEL_") for name in names):
        names.append(pattern)
    return names


def _source(field: dataclasses.Field[Any], environ: Mapping[str, str]) -> str | None:
    return next((name for name in _names(field) if environ.get(name, "").strip()), None)
