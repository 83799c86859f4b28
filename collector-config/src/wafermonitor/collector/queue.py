"""How full the Collector's queues are, and how many hours they hold at the present rate.

In: the Collector's own metrics page (Prometheus text). Out: one `Report` per exporter with a queue. Called by: `supervise`.

The Collector counts what enters a queue per exporter but the room per exporter and signal. So the hours are a lower bound:
all that enters is reckoned against the signal with the least room.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from wafermonitor.collector.errors import CollectorUnavailable

TIMEOUT_S: Final = 5.0
_HOUR_S: Final = 3600.0
_SAMPLE = re.compile(r"^(\w+)\{([^}]*)\} (\S+)$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_UNITS: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class Reading(NamedTuple):
    """One exporter at one moment, in bytes. `refused` counts items that found the queue full."""

    entered: float
    free: float
    used: float
    refused: float


class Report(NamedTuple):
    """`hours` is None while nothing enters. `refused` counts items since the last reading."""

    exporter: str
    rate: float
    used: float
    hours: float | None
    refused: float

    def __str__(self) -> str:
        if self.refused:
            return f"the queue of {self.exporter} is full: {self.refused:.0f} items were refused and wait at their senders"
        if self.hours is None:
            return f"the queue of {self.exporter} is idle, {size(self.used)} wait"
        hours = f"{self.hours:,.0f}" if self.hours >= 10 else f"{self.hours:.1f}"  # noqa: PLR2004 - two digits say enough
        return f"the queue of {self.exporter} holds {hours} h or more at {size(self.rate)}/s, {size(self.used)} wait"


def size(count: float) -> str:
    """`1.5 MB`."""
    return next((f"{count / factor:.1f} {unit}" for factor, unit in _UNITS if count >= factor), f"{count:.0f} B")


def read(port: int) -> dict[str, Reading]:
    """Exporter → its state now. CollectorUnavailable when the metrics page does not answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise CollectorUnavailable(f"the Collector's metrics on port {port} do not answer: {error}") from None
    finally:
        connection.close()
    return parse(text)


def parse(text: str) -> dict[str, Reading]:
    """The metrics page → exporter → its state. Exporters without a queue in bytes are left out."""
    capacity: dict[str, dict[str, float]] = {}
    used: dict[str, dict[str, float]] = {}
    entered: dict[str, float] = {}
    refused: dict[str, float] = {}
    for name, labels, value in _samples(text):
        exporter, signal = labels.get("exporter", ""), labels.get("data_type", "")
        if name == "otelcol_exporter_queue_capacity":
            capacity.setdefault(exporter, {})[signal] = value
        elif name == "otelcol_exporter_queue_size":
            used.setdefault(exporter, {})[signal] = value
        elif name == "otelcol_exporter_enqueue_size_bytes_sum":
            entered[exporter] = entered.get(exporter, 0.0) + value
        elif name.startswith("otelcol_exporter_enqueue_failed_"):
            refused[exporter] = refused.get(exporter, 0.0) + value
    return {
        exporter: Reading(
            entered=entered.get(exporter, 0.0),
            free=min(room - used.get(exporter, {}).get(signal, 0.0) for signal, room in rooms.items()),
            used=sum(used.get(exporter, {}).values()),
            refused=refused.get(exporter, 0.0),
        )
        for exporter, rooms in capacity.items()
    }


def reports(before: dict[str, Reading], after: dict[str, Reading], elapsed_s: float) -> list[Report]:
    """What happened between two readings. After a restart the counters begin anew, so that all of `after` is new."""
    found = []
    for exporter, now in sorted(after.items()):
        then = before.get(exporter)
        if then is None or then.entered > now.entered:
            then = Reading(0.0, now.free, 0.0, 0.0)
        rate = (now.entered - then.entered) / elapsed_s
        hours = max(now.free, 0.0) / rate / _HOUR_S if rate > 0 else None
        found.append(Report(exporter, rate, now.used, hours, now.refused - then.refused))
    return found


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    for line in text.splitlines():
        match = _SAMPLE.match(line)
        if match:
            yield match[1], dict(_LABEL.findall(match[2])), float(match[3])
