"""Kafka in: messages that a Collector's kafka exporter wrote, read as one member of a consumer group.

In: brokers, topics. Out: requests to the pipeline; offsets, after the store's commit. Called by: `receiver.server`, which
imports `consumer` only where brokers are named: the client library comes with the extra `kafka`.
"""

from __future__ import annotations

__all__ = ["KafkaError", "KafkaRejected", "KafkaUnavailable"]

from wafermonitor.receiver.kafka.errors import KafkaError, KafkaRejected, KafkaUnavailable
