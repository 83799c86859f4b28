"""OTLP in: gRPC and HTTP, one queue, one transaction per group, and the answer only after the commit.

In: OTLP traces, logs and metrics from a Collector or any OTLP exporter. Out: records in the store.
Called by: `wafer receiver`, and tests that want one in their own process (`receiver.server.start`).
"""

from __future__ import annotations

__all__ = ["ReceiverError", "ReceiverRejected", "ReceiverUnavailable"]

from wafermonitor.receiver.errors import ReceiverError, ReceiverRejected, ReceiverUnavailable
