"""What the operator sets of the receiver: `WAFER_RECEIVER_<FIELD>`, flags, `[receiver]` in `wafer.toml`.

Out: a frozen `Config`. Called by: `command`, `server`, `wafer config show`, the docs table.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from wafermonitor.receiver.kafka.config import KafkaConfig
from wafermonitor.receiver.rate import Rate

MIB = 1024 * 1024
PORTS = range(65_536)


class Config(KafkaConfig, component="receiver"):
    """The receiver's options; those of Kafka stand in `kafka.config`."""

    grpc_address: str = Field("127.0.0.1:14317", description="Where OTLP/gRPC listens, host:port; port 0 takes a free one")
    http_address: str = Field("127.0.0.1:14318", description="Where OTLP/HTTP listens, host:port; port 0 takes a free one")
    legacy_port: int | None = Field(
        None,
        ge=0,
        lt=len(PORTS),
        description="Second port of the HTTP pages, on the host of http_address; the older sidecar had 17000",
    )
    token: SecretStr | None = Field(
        None, description="Bearer token that every sender must present; none lets everyone in who reaches the address"
    )
    lane: Literal["auto", "native", "python"] = Field(
        "auto", description="What decodes protobuf; auto: the native lane where wafermonitor-native is installed"
    )
    max_request_bytes: int = Field(
        64 * MIB, ge=1024, description="Largest request after decompression; a larger one is refused"
    )
    queue_bytes: int = Field(
        80 * MIB, ge=1024, description="Bytes of requests arriving or not yet answered; more are refused with a hint"
    )
    memory_bytes: int = Field(
        192 * MIB, ge=64 * MIB, description="Memory in use (allocated) above which whatever arrives is refused with a hint"
    )
    quota_bytes_per_s: float | None = Field(
        None, gt=0, description="What one site may send, bytes a second after decompression; more is answered with 429"
    )
    quota_items_per_s: float | None = Field(
        None, gt=0, description="What one site may send, spans, log records and points a second; more is answered with 429"
    )
    quota_by_site: dict[str, Rate] = Field(
        {}, description='Other quotas by site, as JSON: {"f1": {"bytes_per_s": 1e6, "items_per_s": null}}'
    )
    receive_s: float = Field(
        10.0, gt=0, description="How long a sender may take for a header, or stall in a body (64 KiB a second is no stall)"
    )
    idle_s: float = Field(75.0, gt=0, description="How long a connection without a request stays open")
    connection_age_s: float = Field(
        300.0, gt=0, description="After this long a connection is ended between two requests, so that senders spread anew"
    )
    max_connections: int = Field(
        2048, ge=1, description="HTTP and gRPC connections, each; at the limit the longest idle one goes"
    )
    group_spans: int = Field(
        16_384, ge=1, description="Most spans, log records, points and changes of runs that one transaction takes"
    )
    group_bytes: int = Field(64 * MIB, ge=1024, description="Most request bytes that one transaction takes")
    writers: int = Field(2, ge=1, le=64, description="Groups on their way at once: one is decoded while another commits")
    processes: int = Field(
        1, ge=1, le=64, description="Receivers on the same addresses; the kernel spreads connections over them"
    )
    share_port: bool = Field(default=False, description="Listen beside other receivers on the same addresses (SO_REUSEPORT)")
    metrics_address: str | None = Field(
        None,
        description="Where /metrics, /healthz, /readyz are served besides http_address; the second of several processes "
        "takes the next port, and so on",
    )
    writer: str | None = Field(
        None, description="Be a bridge: write to this backend instead of the store (`wafer receiver writers` names them)"
    )
    dead_letter_file: Path | None = Field(
        None, description="Where a bridge keeps what its backend will never take; dead-letters/WRITER.jsonl in the data folder"
    )
    drain_s: float = Field(10.0, gt=0, description="On SIGTERM, how long accepted requests may take to be committed")

    @property
    def quota(self) -> Rate:
        """What a site may send that has no quota of its own."""
        return Rate(self.quota_bytes_per_s, self.quota_items_per_s)

    @field_validator("quota_by_site", mode="before")
    @classmethod
    def _from_json(cls, value: Any) -> Any:
        return json.loads(value) if isinstance(value, str) else value

    @field_validator("grpc_address", "http_address", "metrics_address")
    @classmethod
    def _host_and_port(cls, address: str | None) -> str | None:
        if address is None:
            return None
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) not in PORTS:
            raise ValueError("must be host:port, with a port from 0 (any free one) to 65535")
        return address

    @model_validator(mode="after")
    def _one_request_fits(self) -> Config:
        if self.processes > 1 and self.legacy_port == 0:
            raise ValueError("legacy_port must be a port, not 0, when several processes share it")
        if self.writer and self.kafka:
            raise ValueError("writer: a bridge takes OTLP alone; leave kafka out, or run a receiver of its own for it")
        if self.writer and self.processes > 1:
            raise ValueError("writer: a bridge is one process; start another one on a port of its own for more")
        if self.queue_bytes < self.max_request_bytes:
            raise ValueError(f"queue_bytes = {self.queue_bytes} must be at least max_request_bytes = {self.max_request_bytes}")
        return self
