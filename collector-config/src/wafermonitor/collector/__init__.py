"""A stock OpenTelemetry Collector: its YAML as package data, and the command that finds, builds, runs and watches it.

In: OTLP from the jobs of a host. Out: the same to every chosen backend, from a queue on disk.
Called by: `wafer collector`, and `wafer demo`, which starts it as a process of its own.
"""

from wafermonitor.collector.config import Config
from wafermonitor.collector.errors import CollectorError, CollectorRejected, CollectorUnavailable

__all__ = ["CollectorError", "CollectorRejected", "CollectorUnavailable", "Config"]
