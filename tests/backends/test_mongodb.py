"""A stand-in for MongoDB gets every item once, by the bridge and from a job itself, whatever is away or killed meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pymongo
import pymongo.errors
import pytest

from tests.backends import corpus, proof
from tests.servers import mongo
from wafermonitor.storage.writers import items, mongodb
from wafermonitor.storage.writers.protocol import Fate, Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("mongodb"), pytest.mark.timeout(300)]

COLLECTIONS = {"traces": "otel_spans", "logs": "otel_logs", "metrics": "otel_metrics"}
SAME = {
    "traces": ("trace_id", "span_id", "parent_span_id", "name", "kind", "end_ns", "status", "status_message"),
    "logs": ("trace_id", "span_id", "severity", "severity_text", "event_name", "body", "observed_ns"),
    "metrics": ("name", "unit", "type", "temporality", "monotonic", "start_ns", "value", "summary"),
}
"""Fields that hold what an item has under the same name."""


class MongoDb(proof.Backend):
    """The stand-in, asked by MongoDB's driver."""

    name: ClassVar[str] = "mongodb"

    def __init__(self) -> None:
        self.server = mongo.start()
        self.client: pymongo.MongoClient[Any] = pymongo.MongoClient(self.server.uri, serverSelectionTimeoutMS=1000)

    @property
    def environment(self) -> Mapping[str, str]:
        return {"WAFER_MONGODB_URI": self.server.uri, "WAFER_MONGODB_TIMEOUT_S": "2"}

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        try:
            found = list(self.client.telemetry[COLLECTIONS[signal]].find())
        except pymongo.errors.AutoReconnect as error:
            raise OSError("the stand-in is not there yet") from error
        for one in found:
            attributes = {pair["k"]: pair["v"] for pair in one["attributes"]}
            if corpus.KEY in attributes:
                same = {name: one[name] for name in ("time_ns", "site", "service", *SAME[signal])}
                yield proof.Kept(attributes[corpus.KEY], same | {"attributes": attributes})

    def kill(self) -> None:
        self.server.end()

    def restart(self) -> None:
        self.server.restart()


@pytest.fixture(scope="module")
def backend() -> Iterator[MongoDb]:
    reason = mongo.missing()
    if reason is not None:
        pytest.skip(reason)
    backend = MongoDb()
    yield backend
    backend.client.close()
    backend.server.stop()


@pytest.mark.parametrize("way", proof.ways("mongodb"))
def test_nothing_is_lost_while_mongodb_is_away_and_nothing_is_there_twice(backend, way):
    proof.survives(backend, way)


def test_a_document_that_mongodb_cannot_hold_is_refused_alone(backend):
    writer = mongodb.Writer(mongodb.Config.load(backend.environment))
    writer.check()
    whole = corpus.part("refused", 0)
    message = items.parsed("metrics", whole.requests["metrics"])
    message.resource_metrics[0].scope_metrics[0].metrics[2].sum.data_points[0].time_unix_nano = 2**64 - 1
    outcomes = writer.write("metrics", [b"\xff\xff\xff", message.SerializeToString()])
    assert [(one.fate, one.rejected) for one in outcomes] == [(Fate.REJECTED, 0), (Fate.ACCEPTED, 1)]
    (remains,) = items.items("metrics", outcomes[1].remains)
    writer.close()
    kept = [one.key for one in backend.read("metrics") if one.key.startswith("refused-")]
    assert sorted(kept) == sorted(set(whole.items["metrics"]) - {remains.attributes[corpus.KEY]})


def test_an_index_serves_every_name_of_an_attribute(backend):
    spans = backend.client.telemetry.otel_spans
    spans.create_index([("attributes.k", 1), ("attributes.v", 1)])
    writer = mongodb.Writer(mongodb.Config.load(backend.environment))
    (outcome,) = writer.write("traces", [corpus.part("index", 0).requests["traces"]])
    writer.close()
    assert outcome.fate is Fate.ACCEPTED
    found = spans.find({"attributes": {"$elemMatch": {"k": corpus.KEY, "v": "index-0-traces-7"}}})
    assert [one["name"] for one in found] == ["step 2"]
