"""What the operator sets of the instrumentation: environment variables, and beneath them the file of `WAFER_SDK_CONFIG`.

In: `os.environ`, the file. Out: a frozen `Config`. Called by: `providers`, the `wafer` commands, `wafer config show`, the docs
table. A job needs no file and no flag.

OpenTelemetry's own variables keep their meaning and win over ours, and the environment wins over the file. Inside a job a wrong
value is reported once and the default is taken, because telemetry never stops a job; the `wafer` commands refuse it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Final, Self

from wafermonitor.instrumentation.environment import WORDS, EnvironmentConfig, Given, one_of, option, positive, switch
from wafermonitor.instrumentation.folders import spool_home
from wafermonitor.instrumentation.sdk_file import VARIABLE, Backend, named, read

DEFAULT_ENDPOINT: Final = "http://127.0.0.1:4318"
MODES: Final = ("sidecar", "direct", "file", "off")
_PARENT_FLAGS: Final = ("sample", "keep")
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")

_logger = logging.getLogger("wafermonitor")


def whole(text: str) -> int:
    """A whole number, 0 or more."""
    value = int(text)
    if value < 0:
        raise ValueError("a whole number, 0 or more")
    return value


@dataclass(frozen=True, kw_only=True)
class Config(EnvironmentConfig):
    """How this process reports its jobs."""

    component: ClassVar[str] = "instrumentation"

    mode: str = option(
        one_of(*MODES),
        "Where telemetry goes: sidecar (Collector on this host), direct (direct_backends, or any OTLP endpoint), "
        "file (the spool only), off.",
        "WAFER_MODE",
        default="sidecar",
    )
    sdk_config: Path | None = option(  # noqa: RUF009 - as spool_dir
        Path, "Configuration file of the instrumentation of every language (JSON), beneath the environment.", VARIABLE
    )
    direct_backends: tuple[Backend, ...] = option(
        named,
        "In mode direct: the backends that this process writes to itself, by commas; the first that takes a request has it.",
        "WAFER_DIRECT_BACKENDS",
        default=(),
    )
    app_name: str = option(
        str, "The program's name (service.name); empty: its file's.", "OTEL_SERVICE_NAME", "WAFER_APP_NAME", default=""
    )
    app_version: str = option(str, "The program's version (service.version).", "WAFER_APP_VERSION", default="")
    site_id: str = option(
        str, "The site of this host; empty: the Collector fills it in.", "WAFER_SITE_ID", "SITE_ID", default=""
    )
    area_name: str = option(str, "The area of the site, for example litho.", "WAFER_AREA_NAME", default="")
    endpoint: str = option(
        str,
        "Base URL that takes OTLP over HTTP.",
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "WAFER_INSTRUMENTATION_ENDPOINT",
        "SIDECAR_URL",
        default=DEFAULT_ENDPOINT,
    )
    timeout_s: float = option(
        positive,
        "How long the background sender waits for one answer.",
        "OTEL_EXPORTER_OTLP_TIMEOUT",
        default=1.0,
    )
    retries: int = option(
        whole, "How often a request is tried again at once, before it goes to the spool and is sent from there.", default=0
    )
    token: str = option(str, "Bearer token sent with every request.", "WAFER_TOKEN", default="", secret=True)
    spool_dir: Path = option(  # noqa: RUF009 - a field like the others; ruff takes the Path in it for a call's result
        Path, "Folder that keeps what no endpoint took.", "WAFER_SPOOL_DIR", default=spool_home
    )
    parent_flag: str = option(
        one_of(*_PARENT_FLAGS),
        "Sampled flag handed to children of a run: sample (always), or keep (as the upstream decided).",
        "WAFER_PARENT_FLAG",
        default="sample",
    )
    heartbeat_s: float = option(positive, "Interval of the process's heartbeat while it has an open run.", default=30.0)
    blocking_s: float = option(positive, "How long all runs of the process together may wait for the endpoint.", default=0.3)
    logs: bool = option(switch, "Send the program's own log records, bound to the run.", default=True)
    log_level: str = option(one_of(*_LEVELS), "Lowest level of the program's log records that is sent.", default="INFO")
    stacktrace: bool = option(switch, "Send stack traces with exceptions; they may show values.", default=False)
    metrics: bool = option(switch, "Send CPU, memory, uptime and run durations as metrics.", default=True)
    bar: bool = option(switch, "Let track() draw a bar when stderr is a terminal.", default=True)

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, *, strict: bool = True, **flags: Any) -> Self:
        """As the base does; `OTEL_SDK_DISABLED` is mode off."""
        environ = os.environ if environ is None else environ
        config = super().load(environ, strict=strict, **flags)
        return replace(config, mode="off") if WORDS.get(environ.get("OTEL_SDK_DISABLED", "").lower()) else config

    @classmethod
    def beneath(cls, environ: Mapping[str, str], *, strict: bool) -> Mapping[str, Given]:
        """What the file says. ConfigRejected names every mistake in it; not strict: a warning each, and the rest counts."""
        named = environ.get(VARIABLE, "").strip()
        if not named:
            return {}
        file = read(Path(named).expanduser(), environ)
        if file.problems and strict:
            raise cls.rejected("\n".join(file.problems))
        for problem in file.problems:
            _logger.warning("%s; it is left out", problem)
        return file.values

    @property
    def writes_itself(self) -> bool:
        """Telemetry goes to the direct backends, and to no OTLP endpoint."""
        return self.mode == "direct" and bool(self.direct_backends)

    @property
    def sends_otlp(self) -> bool:
        """Telemetry goes to an OTLP endpoint."""
        return self.mode in {"sidecar", "direct"} and not self.writes_itself
