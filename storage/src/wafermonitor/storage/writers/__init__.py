"""Writers: one small module for each kind of backend that telemetry can be written to besides the store.

In: (signal, serialized OTLP requests). Out: an `Outcome` for each. Called by: the receiver as a bridge (`wafer receiver
--writer NAME`), jobs in mode `direct`, both by the entry-point group `wafermonitor.writers`.
"""

from wafermonitor.storage.writers.protocol import Fate, Outcome, Signal, Writer

__all__ = ["Fate", "Outcome", "Signal", "Writer"]
