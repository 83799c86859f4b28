"""What should have happened: expectations, rules, alerts, and who is told.

In: runs and feeds from the store, rules and routes from YAML. Out: alerts in the store, messages to people.
Called by: `wafer alerting`.
"""

from __future__ import annotations

__all__ = ["AlertingError", "AlertingRejected", "AlertingUnavailable"]

from wafermonitor.alerting.errors import AlertingError, AlertingRejected, AlertingUnavailable
