"""What the writer to Cassandra does without a node: settings, columns, and what it says of errors."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
from importlib.resources import files

import pytest
from cassandra import AuthenticationFailed, InvalidRequest, OperationTimedOut, Unavailable
from cassandra.cluster import NoHostAvailable
from cassandra.query import UNSET_VALUE

from tests.backends import corpus
from wafermonitor.instrumentation.errors import ConfigRejected
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers import cassandra
from wafermonitor.storage.writers.items import items
from wafermonitor.storage.writers.protocol import SIGNALS, Fate

PART = corpus.part("columns", 0)
CQL = files("wafermonitor.storage.writers").joinpath("sql", "cassandra.cql").read_text("utf-8")


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_row_of_a_table_has_the_columns_of_the_table(signal):
    table = cassandra.rows.TABLES[signal]
    body = re.search(rf"otel_{table.removeprefix('otel_')} \((.*?)PRIMARY KEY", CQL, re.DOTALL)
    assert body is not None
    declared = re.findall(r"^ {4}(\w+) ", body[1], re.MULTILINE)
    found = {tuple(cassandra.columns_of(item)) for item in items(signal, PART.requests[signal])}
    assert len(found) == 1
    assert sorted(found.pop()) == sorted(declared)


def test_a_partition_is_an_hour_and_the_first_digit_of_the_id():
    for item in items("logs", PART.requests["logs"]):
        columns = cassandra.columns_of(item)
        assert columns["hour"] == item.time_ns // 3_600_000_000_000
        assert f"{columns['shard']:x}" == item.id[0]


def test_what_is_not_there_is_left_unset_and_deletes_nothing():
    spans = [cassandra.columns_of(item) for item in items("traces", PART.requests["traces"])]
    assert None not in [value for columns in spans for value in columns.values()]
    assert UNSET_VALUE in [columns["run_id"] for columns in spans]


@pytest.mark.parametrize(
    ("change", "said"),
    [({"time_ns": 2**63}, "2262"), ({"site": "ü" * 20_000}, "site"), ({"body": "ü" * 4_100_000}, "larger")],
)
def test_values_that_no_row_can_have_are_named(change, said):
    columns = cassandra.columns_of(items("logs", PART.requests["logs"])[0])
    assert cassandra._unfit(columns) == ""
    assert said in cassandra._unfit(columns | change)


def test_nobody_there_is_tried_again_and_no_address_is_told(unused_tcp_port):
    settings = {"nodes": f"127.0.0.1:{unused_tcp_port}", "user": "me", "password": "swordfish", "timeout_s": 2.0}
    writer = cassandra.Writer(cassandra.Config.load({}, **settings))
    (bad, good) = writer.write("logs", [b"\xff\xff", PART.requests["logs"]])
    assert (bad.fate, good.fate) == (Fate.REJECTED, Fate.RETRY)
    with pytest.raises(StorageUnavailable) as raised:
        writer.check()
    for text in (good.reason, str(raised.value)):
        assert not any(word in text for word in ("swordfish", "127.0.0.1", str(unused_tcp_port)))
    writer.close()
    writer.close()


def test_a_process_ends_at_once_while_a_node_that_says_nothing_is_connected_to():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = (
            "import threading, sys\n"
            "from wafermonitor.storage.writers import cassandra\n"
            f"writer = cassandra.Writer(cassandra.Config.load({{'WAFER_CASSANDRA_NODES': '127.0.0.1:{silent.getsockname()[1]}',"
            " 'WAFER_CASSANDRA_TIMEOUT_S': '60'}))\n"
            "threading.Thread(target=writer.check, daemon=True).start()\n"
            "sys.stdin.readline()\n"
        )
        process = subprocess.Popen([sys.executable, "-c", text], stdin=subprocess.PIPE)
        silent.settimeout(60)
        try:
            connection, _ = silent.accept()
            with connection:
                process.communicate(b"end\n", timeout=30)
        finally:
            process.kill()
            process.wait()
    assert process.returncode == 0


FULL = InvalidRequest(
    "Guardrail replica_disk_usage violated: Write request failed because disk usage exceeds failure threshold"
)


@pytest.mark.parametrize(("error", "fate"), [(FULL, Fate.RETRY), (InvalidRequest("Key may not be empty"), Fate.ACCEPTED)])
def test_a_full_disk_is_tried_again_although_it_is_told_as_the_rows_fault(error, fate, monkeypatch):
    writer = cassandra.Writer(cassandra.Config.load({}))
    monkeypatch.setattr(writer, "_insert", lambda _, lines: [(lines[0], error)])
    (outcome,) = writer.write("logs", [PART.requests["logs"]])
    assert outcome.fate is fate
    assert outcome.rejected == (fate is Fate.ACCEPTED)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (NoHostAvailable("none", {"10.0.0.1:9042": AuthenticationFailed("bad credentials of me")}), "password"),
        (NoHostAvailable("none", {"10.0.0.1:9042": OSError("refused 10.0.0.1")}), "NoHostAvailable"),
        (Unavailable("Cannot achieve consistency", 1, 2, 1), "replicas"),
        (OperationTimedOut({"10.0.0.1": "late"}), "in time"),
        (cassandra.StatementRefused(), "WAFER_CASSANDRA_CREATE"),
        (FULL, "guardrail"),
    ],
)
def test_each_error_has_a_reason_without_the_drivers_words(error, said):
    reason = cassandra._reason(error)
    assert said in reason
    assert "10.0.0.1" not in reason


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("NODES", "node"),
        ("NODES", "a:b"),
        ("KEYSPACE", "a; DROP"),
        ("KEYSPACE", "Wafer"),
        ("KEEP_DAYS", "-1"),
        ("CONSISTENCY", "SOME"),
    ],
)
def test_settings_that_cannot_be_are_named(name, value):
    with pytest.raises(ConfigRejected, match=f"WAFER_CASSANDRA_{name}"):
        cassandra.Config.load({f"WAFER_CASSANDRA_{name}": value})


def test_certificates_that_are_none_are_named_at_once(tmp_path):
    with pytest.raises(StorageRejected, match="WAFER_CASSANDRA_CA_FILE"):
        cassandra.Writer(cassandra.Config.load({}, ca_file=str(tmp_path / "none.pem")))


def test_rows_of_a_partition_go_together_up_to_a_bound(monkeypatch):
    monkeypatch.setattr(cassandra, "_TOGETHER_ROWS", 3)
    found = items("logs", PART.requests["logs"])
    lines = [cassandra._Row(0, position, cassandra.columns_of(item)) for position, item in enumerate(found)]
    groups = cassandra._by_partition(lines)
    assert sorted(line.position for group in groups for line in group) == list(range(len(found)))
    for group in groups:
        assert len(group) <= 3
        assert len({(line.values["site"], line.values["hour"], line.values["shard"]) for line in group}) == 1
    assert len(groups) < len(found)
    monkeypatch.setattr(cassandra, "_TOGETHER_CHARACTERS", 1)
    assert [len(group) for group in cassandra._by_partition(lines)] == [1] * len(found)
