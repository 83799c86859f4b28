"""What the operator sets of `wafer up` and `wafer demo`; each service's own options stay its own.

In: flags, environment, `wafer.toml`. Out: a frozen `Config`. Called by: `command`, `wafer config show`.
"""

from __future__ import annotations

from pydantic import Field

from wafermonitor.instrumentation.settings import ServiceConfig


class Config(ServiceConfig, component="deploy"):
    """How long to wait for a service to come up and to end, in seconds."""

    start_s: float = Field(60.0, gt=0, description="how long a service may take until it answers")
    stop_s: float = Field(15.0, gt=0, description="how long a service may take to end before it is killed")
    restart_max_s: float = Field(30.0, gt=0, description="longest pause before a service that ended is started again")
