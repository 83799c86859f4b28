"""A real Prometheus gets every point, by remote write whatever is away or killed meanwhile, and by fetching a page."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.backends import corpus, proof
from tests.servers import collector, prometheus
from tests.servers.collector import free_ports, until
from wafermonitor.storage.writers.protocol import Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("prometheus"), pytest.mark.timeout(300)]

NAMES = {
    "queue_length_ratio": ("queue.length", "gauge"),
    "yield_ratio": ("yield", "gauge"),
    "heat_seconds": ("heat", "gauge"),
    "wafers_done_total": ("wafers.done", "sum"),
    "wafer_time_seconds_count": ("wafer.time", "histogram"),
}
"""What the corpus' metrics are called there; a histogram is known by its count."""
HOUR_NS = 3600 * corpus.SECOND_NS


class Prometheus(proof.Backend):
    """A Prometheus, asked for its samples as they are."""

    name: ClassVar[str] = "prometheus"
    time_unit_ns: ClassVar[int] = 1_000_000

    def __init__(self, scrape: str = "") -> None:
        self.server = prometheus.start(scrape=scrape)
        (self._loopback,) = free_ports(1)

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "WAFER_PROMETHEUS_URL": f"{self.server.url}/api/v1/write",
            "WAFER_PROMETHEUS_LOOPBACK": f"127.0.0.1:{self._loopback}",
        }

    def samples(self) -> list[dict[str, Any]]:
        """Every series of the last day: `metric` (its labels), `values` ([seconds, text] each)."""
        found: list[dict[str, Any]] = self.server.ask("query", query='{corpus_key!=""}[1d]')["result"]
        return found

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        assert signal == "metrics"
        buckets: dict[str, dict[str, float]] = defaultdict(dict)
        found = self.samples()
        for one in found:
            if one["metric"]["__name__"] == "wafer_time_seconds_bucket":
                buckets[one["metric"]["corpus_key"]][one["metric"]["le"]] = float(one["values"][-1][1])
        for one in found:
            labels = one["metric"]
            if labels["__name__"] in NAMES:
                yield from kept(labels, one["values"], buckets[labels["corpus_key"]])

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.server.restart()


class Scraping(Prometheus):
    """A Prometheus that fetches."""

    name: ClassVar[str] = "prometheus-scrape"

    def __init__(self) -> None:
        self._page = f"127.0.0.1:{free_ports(1)[0]}"
        super().__init__(self._page)

    @property
    def environment(self) -> Mapping[str, str]:
        return {"WAFER_PROMETHEUS_SCRAPE": self._page}


def kept(labels: dict[str, str], samples: list[list[Any]], buckets: dict[str, float]) -> Iterator[proof.Kept]:
    """The points of one series; those of a histogram are compared by its buckets, too."""
    name, kind = NAMES[labels["__name__"]]
    for seconds, text in samples:
        fields = {"name": name, "type": kind, "site": labels["wafer_site_id"], "time_ns": round(seconds * 1000) * 1_000_000}
        if kind == "histogram":
            assert (text, buckets) == ("6", {"0.5": 2.0, "1": 5.0, "+Inf": 6.0})
        elif name != "queue.length":  # above 2^53
            fields["value"] = float(text)
        yield proof.Kept(labels["corpus_key"], fields)


@pytest.fixture(scope="module")
def backend() -> Iterator[Prometheus]:
    reason = prometheus.missing()
    if reason is not None:
        pytest.skip(reason)
    backend = Prometheus()
    yield backend
    backend.server.stop()


@pytest.fixture
def scraping() -> Iterator[Scraping]:
    reason = prometheus.missing()
    if reason is not None:
        pytest.skip(reason)
    backend = Scraping()
    yield backend
    backend.server.stop()


@pytest.mark.parametrize("way", proof.ways("prometheus"))
def test_nothing_is_lost_while_prometheus_is_away_and_nothing_is_there_twice(backend, way):
    proof.survives(backend, way)


def test_what_waited_for_hours_is_taken_after_what_is_new(backend):
    now_ns = time.time_ns()
    sent = collector.start(("prometheus",), environ=backend.environment)
    try:
        for ago_ns in (0, 5 * HOUR_NS, 3 * HOUR_NS):
            request = ExportMetricsServiceRequest()
            point = request.resource_metrics.add().scope_metrics.add().metrics.add(name="late").gauge.data_points.add()
            point.time_unix_nano, point.as_double = now_ns - ago_ns, float(ago_ns)
            point.attributes.append(corpus.pair(corpus.KEY, "late"))
            until(lambda r=request: proof._posted(f"http://{sent.otlp_http}/v1/metrics", r.SerializeToString()), "it is taken")
        until(
            lambda: [len(one["values"]) for one in backend.samples() if one["metric"]["__name__"] == "late"] == [3], "all three"
        )
    finally:
        sent.stop()


@pytest.mark.parametrize("way", proof.ways("prometheus-scrape"))
def test_prometheus_fetches_what_is_shown(scraping, way):
    proof.arrives(scraping, way)
