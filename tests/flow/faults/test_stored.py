"""The comparer that all faults rely on finds what is lost, doubled, changed or uncalled for."""

from __future__ import annotations

import pytest

from tests.flow.faults import stored
from tests.flow.faults.chain import arrived
from tests.flow.faults.corpus import Corpus
from tests.flow.faults.load import Grpc, Load
from tests.servers import receiver

pytestmark = [pytest.mark.postgres]
CHANGES = {
    "span: name": ("span", "name = 'other'"),
    "span: ns of its end": ("span", "duration_ns = duration_ns + 1"),
    "span: attribute": ("span", "attributes = '{\"x\": 1}'"),
    "log: body": ("log_record", "body = '1'"),
    "log: severity": ("log_record", "severity = 24 - severity"),
    "log: ns observed": ("log_record", "observed_ns = (observed_ns + 1) % 1000"),
    "point: value": ("metric_point", "value = value + 1"),
    "point: buckets": ("metric_point", "buckets = '{1}'"),
    "resource": ("resource", "attributes = '{}'"),
    "scope": ("scope", "version = '9'"),
}


@pytest.fixture(scope="module")
def filled(durable):
    dsn = durable.migrated()
    running = receiver.start(dsn)
    load = Load(Corpus("comparer"), [running.otlp_grpc], connect=Grpc, senders=1)
    with load.running():
        load.take(20)
    arrived(load, dsn, within_s=30)
    running.stop()
    return load, dsn


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_field_is_found(durable, filled, change):
    load, dsn = filled
    table, assignment = CHANGES[change]
    copy = durable.database(template=dsn)
    durable.psql(f"UPDATE wafer_data.{table} SET {assignment}", copy)
    assert stored.differences(load.taken, copy, "comparer")
    durable.drop(copy)


@pytest.mark.parametrize("table", ["span", "log_record", "metric_point", "run"])
def test_a_lost_row_is_found(durable, filled, table):
    load, dsn = filled
    copy = durable.database(template=dsn)
    durable.psql(f"DELETE FROM wafer_data.{table} WHERE ctid IN (SELECT ctid FROM wafer_data.{table} LIMIT 1)", copy)
    assert any("lost" in line for line in stored.differences(load.taken, copy, "comparer"))
    durable.drop(copy)


def test_a_row_that_is_there_twice_or_was_never_sent_is_found(durable, filled):
    load, dsn = filled
    copy = durable.database(template=dsn)
    durable.psql("INSERT INTO wafer_data.span_late SELECT * FROM wafer_data.span LIMIT 1", copy)
    assert any("twice" in line for line in stored.differences(load.taken, copy, "comparer"))
    assert any("never sent" in line for line in stored.differences(load.taken[1:], copy, "comparer"))
    durable.drop(copy)


def test_the_corpus_uses_every_field(filled):
    """A field that is empty everywhere could be lost without a word."""
    load, _ = filled
    seen: dict[str, set[str]] = {}
    for request in load.taken:
        for kind, _, fields in stored._items(request):
            for name, value in fields.items():
                if value not in (None, "", 0, [], {}, False):
                    seen.setdefault(kind, set()).add(name)
    for request in load.taken[:10]:
        for kind, _, fields in stored._items(request):
            assert seen[kind] == set(fields), set(fields) - seen[kind]
