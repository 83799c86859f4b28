"""An endpoint of a few lines gets every item, by a stock Collector, by the bridge, and from a job itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from typing import ClassVar

import pytest

from tests.backends import json_lines, proof
from tests.servers import http_sink
from wafermonitor.storage.writers.protocol import Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("webhook"), pytest.mark.timeout(300)]


class Webhook(proof.Backend):
    """An HTTP server that keeps what it was posted, also while it is away."""

    name: ClassVar[str] = "webhook"

    def __init__(self) -> None:
        self._port = 0
        self._earlier: list[http_sink.Request] = []
        self._running = ExitStack()
        self.restart()

    @property
    def environment(self) -> Mapping[str, str]:
        return {"WAFER_WEBHOOK_URL": self._sink.url}

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        for request in [*self._earlier, *self._sink.requests]:
            yield from json_lines.kept(signal, request.json)

    def kill(self) -> None:
        self._running.close()
        self._earlier += self._sink.requests

    def restart(self) -> None:
        self._sink = self._running.enter_context(http_sink.start(self._port))
        self._port = self._sink.port

    def stop(self) -> None:
        self._running.close()


@pytest.fixture(scope="module")
def backend() -> Iterator[Webhook]:
    endpoint = Webhook()
    yield endpoint
    endpoint.stop()


@pytest.mark.parametrize("way", proof.ways("webhook"))
def test_nothing_is_lost_while_the_endpoint_is_away(backend, way):
    proof.survives(backend, way)
