"""What the Collector on this host has done with what it was given, by its own metrics page.

In: the page's port. Out: per exporter what waits, what was passed on, what was dropped and why. Called by: `wafer status`,
the Collector's supervisor. Standard library only.

Source: the Collector's internal telemetry, level `detailed`, Prometheus text, 0.159.
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from wafermonitor.instrumentation.errors import InstrumentationUnavailable

PORT_VARIABLE: Final = "WAFER_METRICS_PORT"
DEFAULT_PORT: Final = 8888

_TIMEOUT_S: Final = 5.0
_PREFIX: Final = "otelcol_exporter_"
_SAMPLE: Final = re.compile(rf"^{_PREFIX}(\w+)\{{([^}}]*)\}} (\S+)$", re.MULTILINE)
_LABEL: Final = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ITEMS: Final = ("spans", "metric_points", "log_records")
_UNITS: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))


class Queue(NamedTuple):
    """One exporter's queues at one moment, in bytes; `free`: of the fullest. `refused` counts items that found it full."""

    entered: float
    free: float
    used: float
    refused: float


class Page(NamedTuple):
    """By exporter: its queues, the items it passed on, and those it dropped, by the kind of error as the Collector names it.

    An exporter without a queue drops nothing: what it cannot send goes back to the spool before it, or to the next level.
    """

    queues: dict[str, Queue]
    sent: dict[str, float]
    dropped: dict[str, dict[str, float]]


def read(port: int) -> Page:
    """The page now. InstrumentationUnavailable when no Collector shows one there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise InstrumentationUnavailable(f"the Collector's metrics on port {port} do not answer: {error}") from None
    finally:
        connection.close()
    if "otelcol_" not in text:
        raise InstrumentationUnavailable(f"what answers on port {port} is no Collector's metrics page; set {PORT_VARIABLE}")
    return parse(text)


def parse(text: str) -> Page:
    """The page's text. Exporters whose queue is not in bytes have no entry in `queues`."""
    room: dict[str, dict[str, float]] = {}
    used: dict[str, dict[str, float]] = {}
    entered: dict[str, float] = {}
    refused: dict[str, float] = {}
    page = Page({}, {}, {})
    for name, labels, value in _samples(text):
        exporter, signal = labels.get("exporter", ""), labels.get("data_type", "")
        kind, _, items = name.partition("_")
        if name == "queue_capacity":
            room.setdefault(exporter, {})[signal] = value
        elif name == "queue_size":
            used.setdefault(exporter, {})[signal] = value
        elif name == "enqueue_size_bytes_sum":
            _add(entered, exporter, value)
        elif name.startswith("enqueue_failed_"):
            _add(refused, exporter, value)
        elif kind == "sent" and items in _ITEMS:
            _add(page.sent, exporter, value)
        elif name.startswith("send_failed_") and value:
            _add(page.dropped.setdefault(exporter, {}), labels.get("error_type", ""), value)
    for exporter, rooms in room.items():
        held = used.get(exporter, {})
        page.queues[exporter] = Queue(
            entered=entered.get(exporter, 0.0),
            free=min(bytes_ - held.get(signal, 0.0) for signal, bytes_ in rooms.items()),
            used=sum(held.values()),
            refused=refused.get(exporter, 0.0),
        )
    return page._replace(dropped={exporter: kinds for exporter, kinds in page.dropped.items() if exporter in room})


def remedy(error_type: str) -> str:
    """What to mend when an exporter drops with this kind of error: a gRPC code's name, or an HTTP status."""
    if error_type in {"Unauthenticated", "PermissionDenied", "401", "403"}:
        return "the receiver does not accept the token: set WAFER_TOKEN where the Collector runs"
    if error_type in {"Unimplemented", "404"}:
        return "no receiver for this signal there: see WAFER_MANAGED_ENDPOINT"
    return "the Collector's own message says why"


def size(count: float) -> str:
    """`1.5 MB`."""
    return next((f"{count / factor:.1f} {unit}" for factor, unit in _UNITS if count >= factor), f"{count:.0f} B")


def _add(sums: dict[str, float], key: str, value: float) -> None:
    sums[key] = sums.get(key, 0.0) + value


def _samples(text: str) -> Iterator[tuple[str, dict[str, str], float]]:
    """(name, labels, value) of each of the exporters' samples; without the prefix, and the suffix that some Collectors add."""
    for match in _SAMPLE.finditer(text):
        yield match[1].removesuffix("_total"), dict(_LABEL.findall(match[2])), float(match[3])
