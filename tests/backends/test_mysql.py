"""A real MariaDB gets every item once, by the bridge and from a job itself, whatever is away or killed meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, ClassVar

import pymysql
import pytest

from tests.backends import corpus, proof
from tests.servers import mariadb
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.writers import items, mysql
from wafermonitor.storage.writers.protocol import SIGNALS, Fate, Signal

pytestmark = [pytest.mark.servers, pytest.mark.collector, pytest.mark.xdist_group("mariadb"), pytest.mark.timeout(300)]

TABLES = {"traces": "otel_spans", "logs": "otel_logs", "metrics": "otel_metrics"}
SAME = {
    "traces": ("trace_id", "span_id", "parent_span_id", "name", "kind", "end_ns", "status", "status_message"),
    "logs": ("trace_id", "span_id", "severity", "severity_text", "event_name", "body", "observed_ns"),
    "metrics": ("name", "unit", "type", "temporality", "start_ns"),
}
"""Columns that hold what an item has under the same name."""


class MySql(proof.Backend):
    """A MariaDB, asked in SQL by its superuser."""

    name: ClassVar[str] = "mysql"

    def __init__(self) -> None:
        self.server = mariadb.start()

    @property
    def environment(self) -> Mapping[str, str]:
        return {
            "WAFER_MYSQL_ADDRESS": self.server.address,
            "WAFER_MYSQL_DATABASE": mariadb.DATABASE,
            "WAFER_MYSQL_USER": mariadb.USER,
            "WAFER_MYSQL_PASSWORD": mariadb.PASSWORD,
        }

    def read(self, signal: Signal) -> Iterable[proof.Kept]:
        try:
            found = self.server.ask(f"SELECT * FROM {TABLES[signal]}")
        except pymysql.err.ProgrammingError as error:
            raise OSError("the tables are not there yet") from error
        for row in found:
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
        same |= {"value": value, "summary": json.loads(row["summary"]), "monotonic": bool(row["monotonic"])}
    return same


@pytest.fixture(scope="module")
def backend() -> Iterator[MySql]:
    reason = mariadb.missing()
    if reason is not None:
        pytest.skip(reason)
    backend = MySql()
    yield backend
    backend.server.stop()


@pytest.fixture
def writer(backend: MySql) -> Iterator[mysql.Writer]:
    writer = mysql.Writer(mysql.Config.load(backend.environment))
    yield writer
    writer.close()


@pytest.mark.parametrize("way", proof.ways("mysql"))
def test_nothing_is_lost_while_mariadb_is_away_and_nothing_is_there_twice(backend, way):
    proof.survives(backend, way)


def test_a_row_that_no_column_holds_is_refused_alone(backend, writer):
    whole = corpus.part("refused", 0)
    message = items.parsed("logs", whole.requests["logs"])
    record = message.resource_logs[0].scope_logs[0].log_records[2]
    record.event_name = "x" * 300
    (outcome,) = writer.write("logs", [message.SerializeToString()])
    assert (outcome.fate, outcome.rejected) == (Fate.ACCEPTED, 1)
    (remains,) = items.items("logs", outcome.remains)
    assert len(remains.event_name) == 300
    kept = [one.key for one in backend.read("logs") if one.key.startswith("refused-")]
    assert sorted(kept) == sorted(set(whole.items["logs"]) - {remains.attributes[corpus.KEY]})


def test_a_row_above_what_the_server_takes_at_once_is_refused_alone(backend, writer):
    (largest,) = backend.server.ask("SELECT @@max_allowed_packet AS size")
    whole = corpus.part("large", 0)
    message = items.parsed("logs", whole.requests["logs"])
    records = message.resource_logs[0].scope_logs[0].log_records
    records[1].body.string_value = "ü" * (largest["size"] // 2)
    records[3].body.string_value = "ü" * (largest["size"] // 3)
    (outcome,) = writer.write("logs", [message.SerializeToString()])
    assert (outcome.fate, outcome.rejected) == (Fate.ACCEPTED, 1)
    assert "max_allowed_packet" in outcome.reason
    assert len([one for one in backend.read("logs") if one.key.startswith("large-")]) == len(records) - 1


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_wrong_password_loses_nothing(backend, signal):
    writer = mysql.Writer(mysql.Config.load(backend.environment, password="another"))
    (outcome,) = writer.write(signal, [corpus.part("password", 0).requests[signal]])
    assert outcome.fate is Fate.RETRY
    assert "password" in outcome.reason
    assert mariadb.USER not in outcome.reason
    with pytest.raises(StorageUnavailable, match="password"):
        writer.check()


def test_a_connection_that_the_server_has_ended_is_opened_again_at_once(backend, writer):
    (first,) = writer.write("logs", [corpus.part("ended", 0).requests["logs"]])
    (one,) = backend.server.ask(f"SELECT id FROM information_schema.processlist WHERE user = '{mariadb.USER}'")
    backend.server.ask(f"KILL {one['id']}")
    (second,) = writer.write("logs", [corpus.part("ended", 1).requests["logs"]])
    assert (first.fate, second.fate) == (Fate.ACCEPTED, Fate.ACCEPTED)


def test_an_account_that_may_make_no_tables_writes_to_those_that_are_there(backend, writer):
    writer.check()
    backend.server.ask("CREATE USER guest IDENTIFIED BY 'x'")
    backend.server.ask(f"GRANT SELECT, INSERT, UPDATE ON {mariadb.DATABASE}.* TO guest")
    guest = mysql.Writer(mysql.Config.load(backend.environment, user="guest", password="x"))
    guest.check()
    (outcome,) = guest.write("traces", [corpus.part("guest", 0).requests["traces"]])
    guest.close()
    assert outcome.fate is Fate.ACCEPTED


def test_one_of_many_rows_beside_a_broken_request_is_written(backend, writer):
    good = corpus.part("beside", 0)
    outcomes = writer.write("metrics", [b"\xff\xff\xff", good.requests["metrics"], b"\xff"])
    assert [outcome.fate for outcome in outcomes] == [Fate.REJECTED, Fate.ACCEPTED, Fate.REJECTED]
    assert {one.key for one in backend.read("metrics")} >= set(good.items["metrics"])
