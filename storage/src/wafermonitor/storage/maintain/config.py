"""What the operator sets of maintenance: how long things are kept, how soon they are compressed.

In: flags, environment, `wafer.toml`. Out: a frozen `Config`. Called by: `command`, `keeper`.
"""

from __future__ import annotations

from pydantic import Field

from wafermonitor.instrumentation.settings import ServiceConfig


class Config(ServiceConfig, component="maintain"):
    """How long things are kept. When days are archived and leave the store is the archive's own setting."""

    compress_after_hours: float = Field(
        default=24.0, ge=1, le=72, description="a day is compressed when it has been over for this long (TimescaleDB Community)"
    )
    rollup_years: float = Field(default=10.0, gt=0, description="rollups of jobs are kept for this long")
    dead_letter_days: float = Field(default=90.0, gt=0, description="items that could not be stored are kept for this long")
    alert_days: float = Field(
        default=180.0,
        gt=0,
        description="alerts, messages and expected runs that did not come are kept for this long after they are over",
    )
    met_days: float = Field(
        default=62.0, gt=0, description="expected runs that came are kept for this long: this month and the last"
    )
    log_days: float = Field(default=90.0, gt=0, description="entries of the maintenance log are kept for this long")
    drop_unarchived_days: int | None = Field(
        default=None,
        ge=1,
        description="only with archive.enabled = false: spans, log records, metrics are dropped after so many days",
    )
    drop_unarchived_run_days: int = Field(
        default=730,
        ge=1,
        description="with drop_unarchived_days: runs are dropped when their month has been over for so many days",
    )
