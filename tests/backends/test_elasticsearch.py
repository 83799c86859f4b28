"""Documents in a real Elasticsearch, read by its own client."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pytest
from elasticsearch import ApiError, Elasticsearch, TransportError

from tests.backends import alerts, corpus, elastic, proof
from tests.servers import elasticsearch
from tests.servers.fixtures import running
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.writers.elasticsearch import Config, Writer
from wafermonitor.storage.writers.protocol import Fate, Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("elasticsearch"), pytest.mark.timeout(300)]
_datasets = (f"set{number}" for number in itertools.count())


class Backend(proof.Backend):
    """The data streams of a node."""

    name: ClassVar[str] = "elasticsearch"

    def __init__(self, server: elasticsearch.Server) -> None:
        self.server = server
        self.client = Elasticsearch(server.url, basic_auth=(elasticsearch.USER, elasticsearch.PASSWORD), request_timeout=30)

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "WAFER_ELASTICSEARCH_URL": self.server.url,
            "WAFER_ELASTICSEARCH_USER": elasticsearch.USER,
            "WAFER_ELASTICSEARCH_PASSWORD": elasticsearch.PASSWORD,
        }

    def search(self, stream: str, query: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        try:
            self.client.indices.refresh(index=stream)
            hits = self.client.search(index=stream, query=query, size=elastic.SIZE)["hits"]["hits"]
        except (ApiError, TransportError) as error:
            raise OSError(str(error)) from error
        found: list[Mapping[str, Any]] = hits
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
    for server in running(elasticsearch):
        made = Backend(server)
        yield made
        made.client.close()


@pytest.fixture
def dataset() -> str:
    """Of data streams that nobody else writes to."""
    return next(_datasets)


def make(backend: Backend, **more: Any) -> Writer:
    return Writer(Config.load(backend.environment, **more))


@pytest.fixture
def writer(backend, dataset) -> Iterator[Writer]:
    made = make(backend, dataset=dataset)
    yield made
    made.close()


@pytest.mark.parametrize("way", proof.ways("elasticsearch"))
def test_nothing_is_lost_while_elasticsearch_is_away(backend, way):
    proof.survives(backend, way)


def test_attributes_that_contradict_one_another_are_kept(backend, writer, dataset):
    elastic.takes_what_contradicts(writer, backend.search, dataset)


def test_a_document_that_is_refused_comes_back_alone(backend, writer, dataset):
    elastic.keeps_what_it_can(writer, backend.search, dataset)


def test_an_index_that_is_closed_to_writes_is_waited_for(backend, writer, dataset):
    elastic.waits_for_the_operator(writer, backend.server, backend.search, dataset)


def test_many_small_bulk_requests_are_as_good_as_one(backend, dataset):
    writer = make(backend, dataset=dataset, bulk_bytes=2_000)
    part = corpus.part("small", 0)
    assert writer.write("traces", [part.requests["traces"]])[0].fate is Fate.ACCEPTED
    found = list(elastic.kept("traces", backend.search, dataset))
    assert {one.key for one in found} == set(part.items["traces"])
    writer.close()


def test_a_wrong_password_loses_nothing_and_says_which_setting(backend):
    writer = make(backend, password="wrong")
    (outcome,) = writer.write("logs", [elastic.logs([{"n": 1}])])
    assert outcome.fate is Fate.RETRY
    assert "WAFER_ELASTICSEARCH_USER" in outcome.reason
    with pytest.raises(StorageUnavailable, match="refuses the login"):
        writer.check()
    writer.close()


def test_an_account_that_may_only_write_is_enough_where_the_templates_are(backend, writer, dataset):
    writer.check()
    feeder = make(backend, dataset=dataset, user=elasticsearch.FEEDER)
    feeder.check()
    (outcome,) = feeder.write("logs", [elastic.logs([{"n": 1}])])
    assert outcome.fate is Fate.ACCEPTED, outcome.reason
    assert [one["_source"]["attributes"]["n"] for one in backend.search(f"logs-{dataset}.otel-default", {"match_all": {}})] == [
        1
    ]
    feeder.close()


def test_points_of_time_series_are_there_once(backend, dataset):
    """Elastic's own templates keep metrics as time series, whose documents may not be named by others."""
    name = f"metrics-{dataset}.otel-default"
    template = {
        "index_patterns": [name],
        "priority": 120,
        "data_stream": {},
        "template": {
            "settings": {"index.mode": "time_series", "index.routing_path": ["attributes.*", "_metric_names_hash"]},
            "mappings": {
                "dynamic_templates": [
                    {"counter_long": {"mapping": {"type": "long", "time_series_metric": "counter"}}},
                    {"gauge_double": {"mapping": {"type": "double", "time_series_metric": "gauge"}}},
                    {
                        "dimension": {
                            "path_match": "attributes.*",
                            "mapping": {"type": "keyword", "time_series_dimension": True},
                        }
                    },
                ],
                "properties": {
                    "@timestamp": {"type": "date"},
                    "_metric_names_hash": {"type": "keyword", "time_series_dimension": True},
                    "attributes": {"type": "passthrough", "dynamic": True, "priority": 30, "time_series_dimension": True},
                    "metrics": {"type": "passthrough", "dynamic": True, "priority": 10},
                },
            },
        },
    }
    assert backend.server.ask("PUT", f"/_index_template/series-{dataset}", template)[0] == 200
    part = corpus.part(f"series{time.time_ns()}", 0)
    # The feeder may not see of what kind the index is.
    for user, fates in ((elasticsearch.USER, [Fate.ACCEPTED] * 2), (elasticsearch.FEEDER, [Fate.RETRY, Fate.ACCEPTED])):
        writer = make(backend, dataset=dataset, user=user)
        for fate in fates:
            (outcome,) = writer.write("metrics", [part.requests["metrics"]])
            assert outcome.fate is fate, outcome.reason
            assert not outcome.rejected, outcome.reason
        writer.close()
    assert len(list(backend.search(name, {"match_all": {}}))) == len(part.items["metrics"])
    mapped = backend.server.ask("GET", f"/{name}/_mapping")[1].popitem()[1]["mappings"]["properties"]["metrics"]["properties"]
    assert mapped["wafers.done"] == {"type": "long", "time_series_metric": "counter"}


@pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")
def test_an_alert_is_a_document_and_told_again_it_is_the_same(backend):
    late = alerts.opened_now("job 0")
    alerts.tell(backend, late)
    alerts.tell(backend, late)
    alerts.tell(backend, late._replace(resolved_ns=late.opened_ns + corpus.SECOND_NS))
    found = [
        one["_source"] for one in backend.search("logs-generic.otel-default", {"term": {"attributes.wafer.alert.id": late.id}})
    ]
    told = sorted((one["attributes"]["wafer.alert.kind"], one["body"]["text"], one["severity_text"]) for one in found)
    assert told == [("firing", "job 0 is late", "WARN"), ("resolved", "job 0 is late", "WARN")]
