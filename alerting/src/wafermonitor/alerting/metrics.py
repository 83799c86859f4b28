"""Alerting's own measures, and every open alert as a series, so that rules of Prometheus can take it from there.

In: what evaluator and notifier observe. Out: metrics in a registry, `/metrics` and `/healthz` on a port.
Called by: evaluator, notifier, `wafer alerting run`.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from wafermonitor.alerting.errors import AlertingRejected
from wafermonitor.runs.alerts import Alert, Severity

MOST_SERIES = 1_000
"""Open alerts shown one by one; the others are only counted."""
_LABELS = ["rule", "severity", "site", "job", "feed", "acknowledged"]


class Meters:
    """One process's measures, in a registry of their own. An evaluation more than `stale_s` ago is a dead evaluator's."""

    def __init__(self, stale_s: float = 60.0, clock: Callable[[], float] = time.time) -> None:
        self.registry = registry = CollectorRegistry()
        self._stale_s = stale_s
        self._clock = clock
        self._ticked_ns: int | None = None
        self.ticks = Counter(
            "wafer_alerting_ticks", "Evaluations by this process, by what became of them", ["end"], registry=registry
        )
        self.tick_s = Histogram(
            "wafer_alerting_tick_seconds",
            "Time that an evaluation took",
            buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
            registry=registry,
        )
        self.leads = Gauge("wafer_alerting_leader", "1 while this process evaluates, 0 while it stands by", registry=registry)
        Gauge(
            "wafer_alerting_last_tick_age_seconds",
            "Time since any process evaluated; +Inf before the first",
            registry=registry,
        ).set_function(self._age_s)
        self._open = Gauge("wafer_alerts_open", "Open alerts", ["severity", "acknowledged"], registry=registry)
        self._each = Gauge("wafer_alert", "1 for each open alert, summed where labels are the same", _LABELS, registry=registry)
        self._since = Gauge(
            "wafer_alert_since_timestamp_seconds",
            "Since when the oldest alert of these labels holds",
            _LABELS,
            registry=registry,
        )
        self.deliveries = Counter(
            "wafer_alerting_deliveries",
            "Messages by what became of an attempt: sent, retry, gave_up, dropped",
            ["channel", "kind", "end"],
            registry=registry,
        )
        self.failing = Gauge(
            "wafer_alerting_channel_failing", "1 while the last attempt on a channel failed", ["channel"], registry=registry
        )
        self.send_s = Histogram(
            "wafer_alerting_send_seconds",
            "Time until a channel answered",
            ["channel"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20),
            registry=registry,
        )
        self.show(())

    def ticked(self, ticked_ns: int | None) -> None:
        """When any process evaluated last, as the store has it."""
        self._ticked_ns = ticked_ns

    def show(self, alerts: Sequence[Alert]) -> None:
        """The alerts that are open now, and no others."""
        counts = {(severity.word, known): 0 for severity in Severity for known in ("false", "true")}
        series: dict[tuple[str, ...], list[int]] = {}
        for alert in alerts:
            known = "false" if alert.acknowledged_ns is None else "true"
            counts[alert.severity.word, known] += 1
            subject = alert.subject
            key = (alert.rule, alert.severity.word, subject.site or "", subject.job or "", subject.feed or "", known)
            if key in series or len(series) < MOST_SERIES:
                series.setdefault(key, []).append(alert.since_ns)
        for pair, number in counts.items():
            self._open.labels(*pair).set(number)
        self._each.clear()
        self._since.clear()
        for labels, times_ns in series.items():
            self._each.labels(*labels).set(len(times_ns))
            self._since.labels(*labels).set(min(times_ns) / 1e9)

    @property
    def healthy(self) -> bool:
        """Whether somebody evaluates."""
        return self._age_s() < self._stale_s

    def text(self) -> bytes:
        """The body of `/metrics`."""
        return generate_latest(self.registry)

    def _age_s(self) -> float:
        return math.inf if self._ticked_ns is None else max(0.0, self._clock() - self._ticked_ns / 1e9)


@contextmanager
def shown(meters: Meters, address: str) -> Iterator[int]:
    """Serve `/metrics` and `/healthz` (503 when nobody evaluates) at host:port while inside; the port, for 0 asks for any."""
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        raise AlertingRejected(f"alerting.metrics_address = {address!r}: expected host:port such as 127.0.0.1:9465")

    class Pages(BaseHTTPRequestHandler):
        timeout = 10

        def do_GET(self) -> None:
            """One of two pages."""
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._say(200, CONTENT_TYPE_LATEST, meters.text())
            elif path == "/healthz":
                well = meters.healthy
                self._say(200 if well else 503, "text/plain", b"ok\n" if well else b"nobody evaluates\n")
            else:
                self._say(404, "text/plain", b"/metrics and /healthz are here\n")

        def _say(self, status: int, kind: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: object) -> None:
            """Scrapes are no news."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    try:
        server = Server((host.strip("[]") or "127.0.0.1", int(port)), Pages)
    except OSError as error:
        raise AlertingRejected(f"cannot listen at {address}: {error.strerror}; set alerting.metrics_address") from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True, name="metrics")
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
