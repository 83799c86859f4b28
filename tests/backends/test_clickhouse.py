"""ClickHouse's engine behind our own HTTP gets everything from the stock exporter, whatever is away or killed meanwhile.

No Collector that we can build has that exporter: this runs when WAFER_COLLECTOR_BIN names one that has it.
"""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar
from urllib.parse import urlencode

import pytest

from tests.backends import corpus, proof
from tests.servers import clickhouse, collector
from wafermonitor.semconv import attributes as names
from wafermonitor.storage.writers.protocol import Signal

__test__ = bool(proof.ways("clickhouse"))
pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("clickhouse"), pytest.mark.timeout(300)]

TABLES: Mapping[Signal, tuple[str, ...]] = {
    "traces": ("otel_traces",),
    "logs": ("otel_logs",),
    "metrics": ("otel_metrics_gauge", "otel_metrics_sum", "otel_metrics_histogram"),
}
ATTRIBUTES: Mapping[Signal, str] = {"traces": "SpanAttributes", "logs": "LogAttributes", "metrics": "Attributes"}
NS_PER_S = 1_000_000_000


class ClickHouse(proof.Backend):
    """chDB behind HTTP, asked in SQL."""

    name: ClassVar[str] = "clickhouse"

    def __init__(self) -> None:
        self.server = clickhouse.start()

    @property
    def environment(self) -> Mapping[str, str]:
        # The engine's HTTP knows no compression.
        return {"WAFER_CLICKHOUSE_URL": f"http://127.0.0.1:{self.server.port}?compress=none", "WAFER_CLICKHOUSE_USER": ""}

    def ask(self, statement: str) -> list[dict[str, Any]]:
        """Rows of a statement. OSError while it is away or the table is not there."""
        query = urlencode({"query": f"{statement} FORMAT JSONEachRow"})
        with urllib.request.urlopen(f"http://127.0.0.1:{self.server.port}/?{query}", data=b"", timeout=30) as answer:
            return [json.loads(line) for line in answer.read().splitlines()]

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        for table in TABLES[signal]:
            for row in self.ask(f"SELECT * FROM otel.{table}"):
                key = row[ATTRIBUTES[signal]].get(corpus.KEY)
                if key is not None:
                    yield proof.Kept(key, fields(signal, row))

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.server.restart()


def fields(signal: Signal, row: dict[str, Any]) -> dict[str, Any]:
    """What is compared of a row."""
    same = {"service": row["ServiceName"], "site": row["ResourceAttributes"][names.WAFER_SITE_ID]}
    if signal == "metrics":
        value = {"value": row["Value"]} if "Value" in row and row["MetricName"] != "queue.length" else {}
        return same | value | {"name": row["MetricName"], "unit": row["MetricUnit"]}
    same |= {"time_ns": nanoseconds(row["Timestamp"]), "trace_id": row["TraceId"], "span_id": row["SpanId"]}
    if signal == "logs":
        event = row["LogAttributes"].get("event.name", "")
        return same | {"event_name": event, "body": row["Body"], "severity": row["SeverityNumber"]}
    end_ns = same["time_ns"] + int(row["Duration"])
    return same | {"name": row["SpanName"], "parent_span_id": row["ParentSpanId"], "end_ns": end_ns}


def nanoseconds(text: str) -> int:
    """Of a time in UTC with nine digits behind the point."""
    whole, _, rest = text.partition(".")
    return int(datetime.fromisoformat(f"{whole}+00:00").timestamp()) * NS_PER_S + int(rest)


@pytest.fixture(scope="module")
def backend() -> Iterator[ClickHouse]:
    reason = clickhouse.missing()
    if reason is not None:
        pytest.skip(reason)
    backend = ClickHouse()
    try:
        # The tables are made by a Collector that is started for them.
        collector.start(("clickhouse",), environ={**backend.environment, "WAFER_CLICKHOUSE_CREATE": "true"}).stop()
        yield backend
    finally:
        backend.server.stop()


@pytest.mark.parametrize("way", proof.ways("clickhouse"))
def test_nothing_is_lost_while_clickhouse_is_away(backend, way):
    proof.survives(backend, way)
