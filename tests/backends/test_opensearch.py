"""Documents in a real OpenSearch, read by its own client."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pytest
from opensearchpy import OpenSearch
from opensearchpy.exceptions import OpenSearchException

from tests.backends import elastic, proof
from tests.servers import opensearch
from tests.servers.fixtures import running
from wafermonitor.storage.writers.opensearch import Config, Writer
from wafermonitor.storage.writers.protocol import Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("opensearch"), pytest.mark.timeout(300)]
_datasets = (f"set{number}" for number in itertools.count())


class Backend(proof.Backend):
    """The data streams of a node."""

    name: ClassVar[str] = "opensearch"

    def __init__(self, server: opensearch.Server) -> None:
        self.server = server
        self.client = OpenSearch(server.url, timeout=30, max_retries=0)

    @property
    def environment(self) -> Mapping[str, str]:
        return {"WAFER_OPENSEARCH_URL": self.server.url}

    def search(self, stream: str, query: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        try:
            self.client.indices.refresh(index=stream)
            answer = self.client.search(index=stream, body={"query": query, "size": elastic.SIZE})
        except OpenSearchException as error:
            raise OSError(f"{error}; {self.server.state()}") from error
        found: list[Mapping[str, Any]] = answer["hits"]["hits"]
        assert len(found) < elastic.SIZE
        return found

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        return elastic.kept(signal, self.search)

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.server.restart()


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    for server in running(opensearch):
        made = Backend(server)
        yield made
        made.client.close()


@pytest.fixture
def dataset() -> str:
    """Of data streams that nobody else writes to."""
    return next(_datasets)


@pytest.fixture
def writer(backend, dataset) -> Iterator[Writer]:
    made = Writer(Config.load(backend.environment, dataset=dataset))
    yield made
    made.close()


@pytest.mark.parametrize("way", proof.ways("opensearch"))
def test_nothing_is_lost_while_opensearch_is_away(backend, way):
    proof.survives(backend, way)


def test_attributes_that_contradict_one_another_are_kept(backend, writer, dataset):
    elastic.takes_what_contradicts(writer, backend.search, dataset)


def test_a_document_that_is_refused_comes_back_alone(backend, writer, dataset):
    elastic.keeps_what_it_can(writer, backend.search, dataset)


def test_an_index_that_is_closed_to_writes_is_waited_for(backend, writer, dataset):
    elastic.waits_for_the_operator(writer, backend.server, backend.search, dataset)


def test_the_templates_of_others_are_left_alone(backend, dataset):
    """`never`: an operator's own template decides, here one that keeps attributes without indexing them."""
    name = f"logs-{dataset}.otel-default"
    mappings = {"properties": {"@timestamp": {"type": "date_nanos"}, "attributes": {"type": "object", "enabled": False}}}
    template = {"index_patterns": [name], "priority": 120, "data_stream": {}, "template": {"mappings": mappings}}
    assert backend.server.ask("PUT", f"/_index_template/theirs-{dataset}", template)[0] == 200
    writer = Writer(Config.load(backend.environment, dataset=dataset, templates="never"))
    elastic.takes_what_contradicts(writer, backend.search, dataset)
    assert backend.server.ask("GET", f"/_index_template/wafermonitor-{name}")[0] == 404
    writer.close()
