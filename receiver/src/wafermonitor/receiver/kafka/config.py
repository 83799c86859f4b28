"""What the operator sets of Kafka: the fields `kafka…` of the receiver's options.

Out: a base of `receiver.config.Config`, so `WAFER_RECEIVER_KAFKA_…`, `--kafka-…`, `[receiver]` in `wafer.toml`.
Called by: `receiver.config`, `client`, `consumer`. Imports no client library.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import Field, SecretStr, field_validator, model_validator

from wafermonitor.instrumentation.settings import ServiceConfig

MIB = 1024 * 1024
PORTS = range(1, 65_536)


class KafkaConfig(ServiceConfig):
    """The part of the receiver's options that is about Kafka. Topics are those of the Collector's kafka exporter by default."""

    kafka: str = Field("", description="Brokers of Kafka to read from, host:port by commas; empty: Kafka is not read")
    otlp: bool = Field(
        default=True,
        description="Take OTLP; without it Kafka is the only way in, and the HTTP address serves health and metrics alone",
    )
    kafka_group: str = Field("wafermonitor", min_length=1, description="Consumer group; receivers of one store share it")
    kafka_traces: str = Field("otlp_spans", description="Topics of traces (otlp_proto), by commas; empty: none")
    kafka_logs: str = Field("otlp_logs", description="Topics of logs (otlp_proto), by commas; empty: none")
    kafka_metrics: str = Field("otlp_metrics", description="Topics of metrics (otlp_proto), by commas; empty: none")
    kafka_from: Literal["earliest", "latest"] = Field(
        "earliest", description="Where a group begins that has never read: earliest (all that Kafka has) or latest"
    )
    kafka_bytes: int = Field(32 * MIB, ge=MIB, description="Bytes of messages taken from Kafka and not yet in the store")
    kafka_session_s: float = Field(
        10.0, ge=0.5, le=1800, description="How long after a receiver's death the others take its partitions"
    )
    kafka_tls: bool = Field(default=False, description="Reach the brokers by TLS")
    kafka_ca_file: str = Field("", description="Certificates (PEM) that sign the brokers'; empty: the system's")
    kafka_certificate_file: str = Field("", description="Our own certificate (PEM), where the brokers ask for one")
    kafka_key_file: str = Field("", description="Its key (PEM); empty: in the same file")
    kafka_key_password: SecretStr | None = Field(None, description="Password of that key")
    kafka_sasl: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "", description="How to log in: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; empty: not at all"
    )
    kafka_user: str = Field("", description="Who logs in")
    kafka_password: SecretStr | None = Field(None, description="The password of that user")

    @property
    def kafka_topics(self) -> Mapping[str, str]:
        """Topic → signal ("traces", "logs", "metrics")."""
        chosen = (("traces", self.kafka_traces), ("logs", self.kafka_logs), ("metrics", self.kafka_metrics))
        return {topic: signal for signal, text in chosen for topic in _parts(text)}

    @field_validator("kafka")
    @classmethod
    def _brokers(cls, text: str) -> str:
        for broker in _parts(text):
            host, _, port = broker.rpartition(":")
            if not host or not port.isdecimal() or int(port) not in PORTS:
                raise ValueError(f"{broker!r} must be host:port, with a port from 1 to 65535")
        return ",".join(_parts(text))

    @model_validator(mode="after")
    def _complete(self) -> KafkaConfig:
        topics = [*_parts(self.kafka_traces), *_parts(self.kafka_logs), *_parts(self.kafka_metrics)]
        if len(topics) != len(set(topics)):
            raise ValueError("kafka_traces, kafka_logs and kafka_metrics must not share a topic: each holds one signal")
        if self.kafka and not topics:
            raise ValueError("kafka names brokers, so name a topic by kafka_traces, kafka_logs or kafka_metrics")
        if self.kafka_sasl and not (self.kafka_user and self.kafka_password):
            raise ValueError("kafka_sasl needs kafka_user, and kafka_password by WAFER_RECEIVER_KAFKA_PASSWORD")
        if not self.otlp and not self.kafka:
            raise ValueError("without otlp there must be brokers to read from: set kafka")
        return self


def _parts(text: str) -> list[str]:
    return [part for part in (part.strip() for part in text.split(",")) if part]
