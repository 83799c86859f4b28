"""Names of the lifecycle events, which are OTLP log records with an EventName.

In: nothing. Out: one constant per event. Called by: instrumentation and collector (send them), runs (reads them).

Generated from otel-semconv/registry by `make generate`; change it there.
"""

from typing import Final

WAFER_JOB_START: Final = "wafer.job.start"
"""A run began; sent at once."""

WAFER_JOB_PROGRESS: Final = "wafer.job.progress"
"""How far a run is; at most once a second or once a percent, the last one always."""

WAFER_JOB_HEARTBEAT: Final = "wafer.job.heartbeat"
"""A process with open runs lives; it counts for all of them and names the oldest."""

WAFER_JOB_EXCEPTION: Final = "wafer.job.exception"
"""An exception that nobody handled."""

WAFER_JOB_END: Final = "wafer.job.end"
"""A run ended; the span itself may come later and outranks this event."""

WAFER_FEED_BEAT: Final = "wafer.feed.beat"
"""A feed is alive up to this moment; it takes the same queue as the events above."""

WAFER_ALERT: Final = "wafer.alert"
"""Somebody is told of an alert, or of its end; written to other backends for those who look there."""
