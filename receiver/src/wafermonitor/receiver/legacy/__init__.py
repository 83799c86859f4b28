"""The older system's JSON events in: its routes, its bodies, its answers. What is stored are lifecycle events like any other.

In: what an application of the older system posts. Out: OTLP log records to the pipeline, one answer for each event.
Called by: `otlp_http` (routes), `server` (the lane). Source: design/2 §2.6; `docs/older-routes.md` has the mapping.
"""

from __future__ import annotations

__all__ = ["HEALTH_PATHS", "PATHS", "Lane", "Reply", "Routes", "health", "refusal_body"]

from wafermonitor.receiver.legacy.lane import Lane
from wafermonitor.receiver.legacy.routes import HEALTH_PATHS, PATHS, Reply, Routes, health, refusal_body
