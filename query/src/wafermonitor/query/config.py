"""What the operator sets of the read API.

In: flags, `WAFER_QUERY_*`, `wafer.toml` section `[query]`. Out: a frozen `Config`. Called by: command, app, server, stream.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from wafermonitor.instrumentation.settings import ServiceConfig

MAX_PORT = 65_535


class Config(ServiceConfig, component="query"):
    """The read API's settings."""

    address: str = Field("127.0.0.1:18000", description="Where the API listens, host:port; port 0 takes a free one")
    deadline_s: float = Field(10.0, gt=0, description="Longest time for one answer, then 503")
    max_rows: int = Field(1_000_000, ge=1, description="Most rows of one CSV or NDJSON answer")
    max_trace_spans: int = Field(100_000, ge=1, description="Most spans of one trace read to find who belongs to whom")
    max_streams: int = Field(500, ge=1, description="Most open event streams; one more gets 503")
    stream_poll_s: float = Field(0.25, gt=0, description="How often the store is asked for changed runs while a stream is open")
    stream_states_s: float = Field(1.0, gt=0, description="How often the states of open runs are judged again for streams")
    stream_alerts_s: float = Field(
        1.0, gt=0, description="How often the store is asked for changed alerts while a stream is open"
    )
    stream_heartbeat_s: float = Field(15.0, gt=0, description="A comment line is sent on a stream that was quiet for this long")
    stream_queue: int = Field(1_000, ge=1, description="Messages kept for a slow stream before it is told to load afresh")
    changes: Literal["off", "loopback", "any"] = Field(
        "loopback",
        description="From where acknowledgements, silences, answers to proposals are taken: off, loopback (this host) or any",
    )
    stop_s: float = Field(5.0, gt=0, description="Time for open requests to finish when the service stops")

    @field_validator("address")
    @classmethod
    def _has_port(cls, address: str) -> str:
        split_address(address)
        return address


def split_address(address: str) -> tuple[str, int]:
    """`host:port` or `[v6]:port` → (host, port); ValueError says what is expected."""
    host, colon, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > MAX_PORT:
        raise ValueError(f"{address!r} is no address: expected host:port, such as 127.0.0.1:18000")
    return host, int(port)
