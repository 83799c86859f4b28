"""What `/metrics` says of Kafka, in the receiver's own registry.

In: what `consumer` and `delivery` see. Out: counters and gauges `wafer_receiver_kafka_…`. Called by: `consumer`, `delivery`.
"""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge

from wafermonitor.receiver.kafka.offsets import Partition


class KafkaTelemetry:
    """One consumer's measures."""

    def __init__(self, registry: CollectorRegistry, held_bytes: Callable[[], float], stalled: Callable[[], float]) -> None:
        self.messages = Counter(
            "wafer_receiver_kafka_messages", "Messages by what became of them", ["topic", "fate"], registry=registry
        )
        self.retries = Counter(
            "wafer_receiver_kafka_retries", "Tries that could not be stored for now", ["topic"], registry=registry
        )
        self.rebalances = Counter(
            "wafer_receiver_kafka_rebalances", "How often the group's partitions were shared out anew", registry=registry
        )
        self.expired = Counter(
            "wafer_receiver_kafka_expired", "Messages that Kafka deleted before they were read", ["topic"], registry=registry
        )
        self.connected = Gauge("wafer_receiver_kafka_connected", "1 while the brokers answer", registry=registry)
        held = Gauge("wafer_receiver_kafka_held_bytes", "Bytes of messages taken and not yet in the store", registry=registry)
        held.set_function(held_bytes)
        waiting = Gauge("wafer_receiver_kafka_stalled", "Partitions whose oldest message is tried again", registry=registry)
        waiting.set_function(stalled)
        self._lag = Gauge(
            "wafer_receiver_kafka_lag",
            "Messages in Kafka that are not yet in the store",
            ["topic", "partition"],
            registry=registry,
        )

    def lag(self, partition: Partition, messages: int) -> None:
        """How far behind one partition is."""
        self._lag.labels(partition.topic, str(partition.number)).set(messages)

    def forget(self, partition: Partition) -> None:
        """Another receiver tells of it now."""
        self._lag.remove(partition.topic, str(partition.number))
