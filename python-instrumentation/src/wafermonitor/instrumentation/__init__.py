"""Batch jobs become spans, and say while they run how they are doing.

In: a block of a program, or a command. Out: OTLP to the Collector on this host. Called by: applications.

    import wafermonitor.instrumentation as wafer

    with wafer.job("lot_yield", lot_ids=["GAL-LOT"]) as job:
        for file in job.track(files, unit="wafer"):
            with job.subjob("wafer_yield"):
                ...

Importing this costs next to nothing; OpenTelemetry is loaded with the first name that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wafermonitor.instrumentation.carrier import bind
    from wafermonitor.instrumentation.config import Config
    from wafermonitor.instrumentation.errors import InstrumentationError
    from wafermonitor.instrumentation.jobs import Job, current, flush, job, subjob
    from wafermonitor.instrumentation.providers import install

__all__ = ["Config", "InstrumentationError", "Job", "bind", "current", "flush", "install", "job", "subjob"]

_WHERE = {
    "Config": "config",
    "InstrumentationError": "errors",
    "Job": "jobs",
    "bind": "carrier",
    "current": "jobs",
    "flush": "jobs",
    "install": "providers",
    "job": "jobs",
    "subjob": "jobs",
}


def __getattr__(name: str) -> Any:
    module = _WHERE.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f"{__name__}.{module}"), name)
    return found
