"""What the operator sets of the screens.

In: flags, `WAFER_UI_*`, `wafer.toml` `[ui]`. Out: a frozen `Config`. Called by: `ui.command`, `ui.app`.
"""

from __future__ import annotations

from pydantic import Field

from wafermonitor.instrumentation.settings import ServiceConfig


class Config(ServiceConfig, component="ui"):
    """Where the screens listen, and which read API they show."""

    address: str = Field(
        "127.0.0.1:8501", description="host:port to listen on; port 0 takes a free one", pattern=r".*:\d{1,5}$"
    )
    api_url: str = Field("http://127.0.0.1:18000", description="the read API (wafer query)", pattern=r"^https?://")
    public_hosts: str = Field("", description="host[:port] names under which browsers reach the page, separated by commas")
    refresh_s: float = Field(5.0, description="longest time between two looks at the API while a page is visible, s", ge=0.2)
    hidden_refresh_s: float = Field(60.0, description="the same while the page is in a hidden tab, s", ge=1.0)
    api_timeout_s: float = Field(10.0, description="how long one question to the API may take, s", gt=0)

    @property
    def host(self) -> str:
        """The host part of `address`."""
        return self.address.rpartition(":")[0].strip("[]") or "127.0.0.1"

    @property
    def port(self) -> int:
        """The port part of `address`."""
        return int(self.address.rpartition(":")[2])
