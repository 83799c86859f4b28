"""A real Cassandra gets every item once, by the bridge and from a job itself, whatever is away or killed meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pytest

from tests.backends import corpus, proof
from tests.servers import cassandra as server
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.writers import cassandra, items
from wafermonitor.storage.writers.protocol import Fate, Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("cassandra"), pytest.mark.timeout(300)]

TABLES = {"traces": "otel_spans", "logs": "otel_logs", "metrics": "otel_metrics"}
SAME = {
    "traces": ("trace_id", "span_id", "parent_span_id", "name", "kind", "end_ns", "status", "status_message"),
    "logs": ("trace_id", "span_id", "severity", "severity_text", "event_name", "body", "observed_ns"),
    "metrics": ("name", "unit", "type", "temporality", "start_ns", "monotonic"),
}
"""Columns that hold what an item has under the same name."""


class Cassandra(proof.Backend):
    """A node, asked in CQL by its superuser."""

    name: ClassVar[str] = "cassandra"

    def __init__(self) -> None:
        self.server = server.start()

    @property
    def environment(self) -> Mapping[str, str]:
        host, port = self.server.node.split(":")
        return {
            "WAFER_CASSANDRA_NODES": self.server.node,
            "WAFER_CASSANDRA_HOST": host,
            "WAFER_CASSANDRA_PORT": port,
            "WAFER_CASSANDRA_USER": server.USER,
            "WAFER_CASSANDRA_PASSWORD": server.PASSWORD,
        }

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        for row in self.server.ask(f"SELECT * FROM wafermonitor.{TABLES[signal]}"):
            attributes = json.loads(row["attributes"])
            if corpus.KEY in attributes:
                yield proof.Kept(attributes[corpus.KEY], fields(signal, row) | {"attributes": attributes})

    def kill(self) -> None:
        self.server.kill()

    def restart(self) -> None:
        self.server.restart()


def fields(signal: Signal, row: dict[str, Any]) -> dict[str, Any]:
    """What is compared of a row."""
    same = {name: row[name] for name in ("time_ns", "site", "service", *SAME[signal])}
    if signal == "metrics":
        value = row["value"] if row["value_int"] is None else row["value_int"]
        same |= {"value": value, "summary": json.loads(row["summary"])}
    return same


@pytest.fixture(scope="module")
def backend() -> Iterator[Cassandra]:
    reason = server.missing()
    if reason is not None:
        pytest.skip(reason)
    backend = Cassandra()
    yield backend
    backend.server.stop()


@pytest.fixture
def writer(backend: Cassandra) -> Iterator[cassandra.Writer]:
    writer = cassandra.Writer(cassandra.Config.load(backend.environment))
    yield writer
    writer.close()


def keys(backend: Cassandra, signal: Signal, tag: str) -> set[str]:
    return {one.key for one in backend.read(signal) if one.key.startswith(f"{tag}-")}


# The stock exporter promises nothing, so there is nothing to prove of it.
@pytest.mark.parametrize("way", [way for way in proof.ways("cassandra") if way != "exporter"])
def test_nothing_is_lost_while_cassandra_is_away_and_nothing_is_there_twice(backend, way):
    proof.survives(backend, way)


def test_a_row_above_what_a_node_takes_is_refused_alone(backend, writer):
    whole = corpus.part("large", 0)
    message = items.parsed("logs", whole.requests["logs"])
    record = message.resource_logs[0].scope_logs[0].log_records[1]
    record.body.string_value = "ü" * 4_500_000
    (outcome,) = writer.write("logs", [message.SerializeToString()])
    assert (outcome.fate, outcome.rejected) == (Fate.ACCEPTED, 1)
    (remains,) = items.items("logs", outcome.remains)
    assert keys(backend, "logs", "large") == set(whole.items["logs"]) - {remains.attributes[corpus.KEY]}


def test_rows_that_the_node_refuses_are_told_from_those_beside_them(backend, writer, monkeypatch):
    monkeypatch.setattr(cassandra, "_LONGEST_SITE_BYTES", 10**6)
    good = corpus.part("judged", 0)
    message = items.parsed("logs", good.requests["logs"])
    message.resource_logs.add().CopyFrom(message.resource_logs[0])
    foreign = message.resource_logs[1]
    foreign.resource.attributes[0].value.string_value = "s" * 65_530
    del foreign.scope_logs[0].log_records[3:]
    (outcome,) = writer.write("logs", [message.SerializeToString()])
    assert (outcome.fate, outcome.rejected) == (Fate.ACCEPTED, 3)
    assert {one.resource.site for one in items.items("logs", outcome.remains)} == {"s" * 65_530}
    assert keys(backend, "logs", "judged") == set(good.items["logs"])


def test_a_broken_request_and_a_time_that_no_column_holds_harm_no_other(backend, writer):
    good = corpus.part("beside", 0)
    message = items.parsed("metrics", good.requests["metrics"])
    message.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points[0].time_unix_nano = 2**63
    outcomes = writer.write("metrics", [b"\xff\xff\xff", good.requests["metrics"], message.SerializeToString()])
    assert [(one.fate, one.rejected) for one in outcomes] == [(Fate.REJECTED, 0), (Fate.ACCEPTED, 0), (Fate.ACCEPTED, 1)]
    assert keys(backend, "metrics", "beside") == set(good.items["metrics"])


def test_a_value_that_is_not_finite_and_a_body_that_is_no_text_are_kept(backend, writer):
    part = corpus.part("odd", 0)
    points, records = items.parsed("metrics", part.requests["metrics"]), items.parsed("logs", part.requests["logs"])
    points.resource_metrics[0].scope_metrics[0].metrics[1].gauge.data_points[0].as_double = float("inf")
    body = records.resource_logs[0].scope_logs[0].log_records[0].body
    body.kvlist_value.values.append(corpus.pair("why", "because"))
    assert writer.write("metrics", [points.SerializeToString()])[0].fate is Fate.ACCEPTED
    assert writer.write("logs", [records.SerializeToString()])[0].fate is Fate.ACCEPTED
    found = [
        row
        for row in backend.server.ask("SELECT attributes, value FROM wafermonitor.otel_metrics")
        if "odd-" in row["attributes"]
    ]
    assert float("inf") in [row["value"] for row in found]
    (line,) = [row for row in backend.server.ask("SELECT body, body_json FROM wafermonitor.otel_logs") if row["body_json"]]
    assert (line["body"], json.loads(line["body_json"])) == (None, {"why": "because"})


def test_a_wrong_password_loses_nothing(backend):
    writer = cassandra.Writer(cassandra.Config.load(backend.environment, password="another"))
    (outcome,) = writer.write("logs", [corpus.part("password", 0).requests["logs"]])
    assert outcome.fate is Fate.RETRY
    assert "password" in outcome.reason
    assert "another" not in outcome.reason
    with pytest.raises(StorageUnavailable, match="password"):
        writer.check()


def test_tables_that_go_away_lose_nothing_and_are_made_again(backend):
    writer = cassandra.Writer(cassandra.Config.load(backend.environment, keyspace="passing"))
    part = corpus.part("passing", 0)
    assert writer.write("logs", [part.requests["logs"]])[0].fate is Fate.ACCEPTED
    backend.server.ask("DROP TABLE passing.otel_logs")
    (outcome,) = writer.write("logs", [part.requests["logs"]])
    assert outcome.fate is Fate.RETRY
    assert "tables" in outcome.reason
    outcome = writer.write("logs", [part.requests["logs"]])[0]
    writer.close()
    assert outcome.fate is Fate.ACCEPTED


def test_too_few_replicas_lose_nothing(backend):
    writer = cassandra.Writer(cassandra.Config.load(backend.environment, keyspace="thrice", replicas=3))
    (outcome,) = writer.write("logs", [corpus.part("thrice", 0).requests["logs"]])
    writer.close()
    assert outcome.fate is Fate.RETRY
    assert "replicas" in outcome.reason


def test_a_role_that_may_make_no_tables_writes_to_those_that_are_there(backend, writer):
    writer.check()
    backend.server.ask("CREATE ROLE guest WITH PASSWORD = 'x' AND LOGIN = true")
    for right in ("MODIFY", "SELECT"):
        backend.server.ask(f"GRANT {right} ON KEYSPACE wafermonitor TO guest")
    guest = cassandra.Writer(cassandra.Config.load(backend.environment, user="guest", password="x"))
    guest.check()
    (outcome,) = guest.write("traces", [corpus.part("guest", 0).requests["traces"]])
    guest.close()
    assert outcome.fate is Fate.ACCEPTED
