"""What a canary found, as metrics: shown to Prometheus, sent by OTLP, or both.

In: what became of each round. Out: a registry for a page of metrics; points over OTLP/HTTP. Called by: `canary`, `command`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.metrics import Meter, NoOpMeter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from wafermonitor.semconv import attributes as names

SERVICE: Final = "wafer canary"
ROUNDS: Final = "wafer.canary.rounds"
MISSING: Final = "wafer.canary.missing"
VISIBLE: Final = "wafer.canary.visible"
OK: Final = "wafer.canary.ok"
_BOUNDS_S: Final = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_VARIABLES: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")
_TOLD: Final = {
    ROUNDS: "Runs written and looked for",
    MISSING: "Runs that a check did not find as they were written",
    VISIBLE: "From the end of a run until it was found whole by id",
    OK: "Whether the last round found everything",
}


class Measures:
    """The instruments; in a registry of their own, and of `meter` where one is given. `checks`: what may be missing."""

    def __init__(self, checks: Iterable[str], meter: Meter | None = None) -> None:
        self.registry = registry = CollectorRegistry()
        self._rounds = Counter("wafer_canary_rounds", _TOLD[ROUNDS], registry=registry)
        self._missing = Counter("wafer_canary_missing", _TOLD[MISSING], ["check"], registry=registry)
        self._visible = Histogram("wafer_canary_visible_seconds", _TOLD[VISIBLE], buckets=_BOUNDS_S, registry=registry)
        self._well = Gauge("wafer_canary_ok", _TOLD[OK], registry=registry)
        sent = meter or NoOpMeter(SERVICE)
        self._sent_rounds = sent.create_counter(ROUNDS, "{run}", _TOLD[ROUNDS])
        self._sent_missing = sent.create_counter(MISSING, "{run}", _TOLD[MISSING])
        self._sent_visible = sent.create_histogram(VISIBLE, "s", _TOLD[VISIBLE], explicit_bucket_boundaries_advisory=_BOUNDS_S)
        self._sent_well = sent.create_gauge(OK, "1", _TOLD[OK])
        for check in checks:  # a series that is there and zero says more than one that is not there
            self._missing.labels(check)
            self._sent_missing.add(0, {"check": check})

    def round(self, missing: Iterable[str]) -> None:
        """One more round, and the checks that did not find what was written."""
        problems = list(missing)
        self._rounds.inc()
        self._sent_rounds.add(1)
        for check in problems:
            self._missing.labels(check).inc()
            self._sent_missing.add(1, {"check": check})
        self._well.set(not problems)
        self._sent_well.set(int(not problems))

    def visible(self, took_s: float) -> None:
        """A run was found whole after that time."""
        self._visible.observe(took_s)
        self._sent_visible.record(took_s)


def export(url: str | None) -> tuple[Meter | None, Callable[[], None]]:
    """A meter whose points go to `url` (a base, as `OTEL_EXPORTER_OTLP_ENDPOINT`), and what sends the last of them.

    Without `url` they go where OpenTelemetry's variables say; no meter when these say nothing. How often is up to
    `OTEL_METRIC_EXPORT_INTERVAL`. `OTEL_SERVICE_NAME` stands before the name `wafer canary`.
    """
    if url is None and not any(os.environ.get(name) for name in _VARIABLES):
        return None, lambda: None
    exporter = OTLPMetricExporter(endpoint=None if url is None else f"{url.rstrip('/')}/v1/metrics")
    resource = Resource.create({names.SERVICE_NAME: os.environ.get("OTEL_SERVICE_NAME") or SERVICE})
    provider = MeterProvider([PeriodicExportingMetricReader(exporter)], resource=resource, shutdown_on_exit=False)
    return provider.get_meter("wafer.canary"), provider.shutdown
