"""What the operator sets of alerting: `WAFER_ALERTING_<FIELD>`, flags, `[alerting]` in `wafer.toml`.

Out: a frozen `Config`. Called by: `command`, `wafer up`, `wafer config show`, the docs table.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator

from wafermonitor.instrumentation.settings import ServiceConfig


class Config(ServiceConfig, component="alerting"):
    """Options of the evaluator; rules, expectations and routes are data and stand in files of their own."""

    rules: Path | None = Field(
        None, description="YAML file, or folder of such files, with rules, expectations, calendars; none: the standard rules"
    )
    tick_s: float = Field(10.0, ge=0.1, le=60, description="Pause between the beginnings of two evaluations")
    catch_up_days: float = Field(
        7.0, gt=0, le=366, description="How far back expected runs are made up for after the evaluator was away"
    )
    disks: str = Field("", description="Folders whose disks are watched, separated by commas")
    certificates: str = Field("", description="PEM files whose certificates are watched, separated by commas")
    metrics_address: str | None = Field(None, description="Where /metrics and /healthz are served, host:port; none: nowhere")
    ping: SecretStr = Field(
        SecretStr(""),
        description="http(s) address asked once a minute while somebody evaluates, for a dead man's switch outside",
    )
    url: str = Field("", description="Address of the screens as people reach it, for links in messages; empty: no links")

    @field_validator("ping")
    @classmethod
    def _is_http(cls, value: SecretStr) -> SecretStr:
        if value.get_secret_value() and not value.get_secret_value().startswith(("http://", "https://")):
            raise ValueError("expected an address that starts with http:// or https://")
        return value

    @staticmethod
    def paths(text: str) -> list[Path]:
        """The paths of a list separated by commas."""
        return [Path(part.strip()).expanduser() for part in text.split(",") if part.strip()]
