"""A real VictoriaMetrics gets every point by OTLP, whatever is away or killed meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import pytest

from tests.backends import corpus, proof
from tests.servers import victoriametrics
from wafermonitor.storage.writers.protocol import Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("prometheus"), pytest.mark.timeout(300)]

NAMES = {
    "queue.length": ("queue.length", "gauge"),
    "yield": ("yield", "gauge"),
    "heat": ("heat", "gauge"),
    "wafers.done": ("wafers.done", "sum"),
    "wafer.time_count": ("wafer.time", "histogram"),
}
"""What the corpus' metrics are called there; a histogram is known by its count."""


class VictoriaMetrics(proof.Backend):
    """A VictoriaMetrics, asked for everything it has."""

    name: ClassVar[str] = "victoriametrics"
    time_unit_ns: ClassVar[int] = 1_000_000

    def __init__(self) -> None:
        self.server = victoriametrics.start()

    @property
    def environment(self) -> Mapping[str, str]:
        return {"WAFER_VICTORIAMETRICS_URL": f"{self.server.url}/opentelemetry/v1/metrics"}

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        assert signal == "metrics"
        buckets: dict[str, dict[str, float]] = defaultdict(dict)
        found = self.server.export('{"corpus.key"!=""}')
        for one in found:
            if one["metric"]["__name__"] == "wafer.time_bucket":
                buckets[one["metric"][corpus.KEY]][one["metric"]["le"]] = one["values"][-1]
        for one in found:
            labels = one["metric"]
            if labels["__name__"] not in NAMES:
                continue
            name, kind = NAMES[labels["__name__"]]
            if kind == "histogram":
                assert (one["values"][-1], buckets[labels[corpus.KEY]]) == (6, {"0.5": 2, "1": 5, "+Inf": 6})
            for time_ms, value in zip(one["timestamps"], one["values"], strict=True):
                fields = {"name": name, "type": kind, "site": labels["wafer.site.id"], "service": labels["service.name"]}
                if kind != "histogram" and name != "queue.length":  # above 2^53
                    fields["value"] = value
                yield proof.Kept(labels[corpus.KEY], fields | {"time_ns": time_ms * 1_000_000})

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.server.restart()


@pytest.fixture(scope="module")
def backend() -> Iterator[VictoriaMetrics]:
    reason = victoriametrics.missing()
    if reason is not None:
        pytest.skip(reason)
    backend = VictoriaMetrics()
    yield backend
    backend.server.stop()


@pytest.mark.parametrize("way", proof.ways("victoriametrics"))
def test_nothing_is_lost_while_victoriametrics_is_away(backend, way):
    proof.survives(backend, way)
