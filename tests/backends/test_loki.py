"""Loki (a stand-in for it) has every line and event, although it was away for a while."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar
from urllib.parse import urlencode

import pytest

from tests.backends import proof
from tests.servers import loki
from tests.servers.fixtures import running
from wafermonitor.storage.writers.protocol import Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("loki"), pytest.mark.timeout(300)]

TENANT = "fab"


class Loki(proof.Backend):
    """One Loki, asked by LogQL."""

    name: ClassVar[str] = "loki"

    def __init__(self, server: loki.Server) -> None:
        self._server = server

    @property
    def environment(self) -> Mapping[str, str]:
        return {"WAFER_LOKI_URL": self._server.url, "WAFER_LOKI_TENANT": TENANT}

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        for stream in self._ask('{service_name="sorter"} | wafer_site_id="fab1"'):
            labels = stream["stream"]
            for time_ns, text in stream["values"]:
                yield proof.Kept(
                    labels["corpus_key"],
                    {
                        "time_ns": int(time_ns),
                        "body": text,
                        "site": labels["wafer_site_id"],
                        "service": labels["service_name"],
                        "event_name": labels.get("event_name", ""),
                        "severity": int(labels["severity_number"]),
                        "trace_id": labels["trace_id"],
                        "span_id": labels["span_id"],
                    },
                )

    def kill(self) -> None:
        self._server.kill()

    def restart(self) -> None:
        self._server.restart()

    def _ask(self, query: str) -> list[dict]:
        words = urlencode({"query": query, "limit": 5000, "start": time.time_ns() - 600_000_000_000, "end": time.time_ns()})
        asked = urllib.request.Request(f"{self._server.url}/loki/api/v1/query_range?{words}", headers={"X-Scope-OrgID": TENANT})
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return json.load(answer)["data"]["result"]


@pytest.fixture(scope="module")
def backend() -> Iterator[Loki]:
    for server in running(loki):
        yield Loki(server)


@pytest.mark.parametrize("way", proof.ways("loki"))
def test_nothing_is_lost_while_loki_is_away(backend, way):
    proof.survives(backend, way)
