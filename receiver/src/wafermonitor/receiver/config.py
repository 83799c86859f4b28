"""What the operator sets of the receiver: `WAFER_RECEIVER_<FIELD>`, flags, `[receiver]` in `wafer.toml`.

Out: a frozen `Config`. Called by: `command`, `server`, `wafer config show`, the docs table.
"""

from __future__ import annotations

from pydantic import Field, SecretStr, field_validator, model_validator

from wafermonitor.receiver.kafka.config import KafkaConfig

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
    max_request_bytes: int = Field(
        64 * MIB, ge=1024, description="Largest request after decompression; a larger one is refused"
    )
    queue_bytes: int = Field(128 * MIB, ge=1024, description="Bytes of requests not yet answered; more are refused with a hint")
    receive_s: float = Field(30.0, gt=0, description="Longest time that an HTTP body may take to arrive; then 503")
    group_spans: int = Field(16_384, ge=1, description="Most spans, log records and points that one transaction takes")
    group_bytes: int = Field(64 * MIB, ge=1024, description="Most request bytes that one transaction takes")
    writers: int = Field(2, ge=1, le=64, description="Groups on their way at once: one is decoded while another commits")
    drain_s: float = Field(10.0, gt=0, description="On SIGTERM, how long accepted requests may take to be committed")

    @field_validator("grpc_address", "http_address")
    @classmethod
    def _host_and_port(cls, address: str) -> str:
        host, _, port = address.rpartition(":")
        if not host or not port.isdecimal() or int(port) not in PORTS:
            raise ValueError("must be host:port, with a port from 0 (any free one) to 65535")
        return address

    @model_validator(mode="after")
    def _one_request_fits(self) -> Config:
        if self.queue_bytes < self.max_request_bytes:
            raise ValueError(f"queue_bytes = {self.queue_bytes} must be at least max_request_bytes = {self.max_request_bytes}")
        return self
