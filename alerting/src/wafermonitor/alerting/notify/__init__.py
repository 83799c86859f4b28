"""Who is told, when, by which channel: routes, the plan of a tick, the outbox.

In: alerts. Out: messages. Called by: evaluator (plans), `wafer alerting` (sends).
"""

from __future__ import annotations

__all__ = ["Channel", "Quiet", "Route", "Routes", "Step", "plan", "read_routes"]

from wafermonitor.alerting.notify.planning import plan
from wafermonitor.alerting.notify.reading import read_routes
from wafermonitor.alerting.notify.routes import Channel, Quiet, Route, Routes, Step
