"""What rows MySQL is given, and how it is told apart what to try again. The server itself: tests/backends/test_mysql.py."""

from __future__ import annotations

import json
import math
import re
from importlib.resources import files

import pytest

from tests.backends import corpus
from wafermonitor.storage.errors import StorageUnavailable
from wafermonitor.storage.writers import mysql, rows
from wafermonitor.storage.writers.items import Log, Point, Resource, Scope
from wafermonitor.storage.writers.protocol import SIGNALS, Fate

RESOURCE, SCOPE = Resource("f1", "sorter", {}, ""), Scope("tests", "1", {})
TABLE = re.compile(r"CREATE TABLE IF NOT EXISTS (\w+) \((.*?)\n\)", re.DOTALL)


def log(body: object) -> dict[str, object]:
    return mysql.columns_of(rows.row(Log("1" * 32, RESOURCE, SCOPE, 5, 5, "", "", 9, "INFO", "", body, {})).values)


def point(value: float | None) -> dict[str, object]:
    one = Point("1" * 32, RESOURCE, SCOPE, "n", "1", "gauge", "unspecified", False, 0, 5, value, {}, {})
    return mysql.columns_of(rows.row(one).values)


@pytest.mark.parametrize("signal", SIGNALS)
def test_the_columns_written_are_those_of_the_table(signal):
    text = files("wafermonitor.storage.writers").joinpath("sql", "mysql.sql").read_text("utf-8")
    made = {name: set(re.findall(r"^    ([a-z]\w*) ", body, re.MULTILINE)) for name, body in TABLE.findall(text)}
    for item in corpus.part("t", 0).items[signal].values():
        table, values = rows.row(item)
        assert set(mysql.columns_of(values)) == made[table]


def test_a_time_is_a_column_in_utc_as_well():
    item = next(iter(corpus.part("t", 0).items["traces"].values()))
    found = mysql.columns_of(rows.row(item).values | {"time_ns": 1_700_000_000_123_456_789})
    assert found["time"].isoformat() == "2023-11-14T22:13:20.123456"


def test_a_body_that_is_no_text_is_json():
    assert (log("a line")["body"], log("a line")["body_json"]) == ("a line", None)
    assert (log(None)["body"], log(None)["body_json"]) == (None, None)
    found = log({"a": [1, b"\x00\xff", math.inf, None]})
    assert found["body"] is None
    assert json.loads(str(found["body_json"])) == {"a": [1, "AP8=", "Infinity", None]}


def test_a_whole_value_keeps_its_last_digit():
    found = point(2**53 + 1)
    assert (found["value"], found["value_int"]) == (float(2**53), 2**53 + 1)
    assert point(0.1)["value_int"] is None


def test_a_value_that_is_no_number_is_said_in_words():
    found = point(math.nan)
    assert (found["value"], found["summary"]) == (None, '{"value":"NaN"}')
    assert (point(None)["value"], point(None)["summary"]) == (None, "{}")


def test_who_is_not_there_is_tried_again_and_not_named(unused_tcp_port):
    config = mysql.Config(address=f"127.0.0.1:{unused_tcp_port}", user="someone", password="hidden", timeout_s=1.0)
    writer = mysql.Writer(config)
    good = corpus.part("t", 0).requests["logs"]
    kept, broken = writer.write("logs", [good, b"\xff\xff\xff"])
    assert kept.fate is Fate.RETRY
    assert "127.0.0.1" not in kept.reason
    assert "someone" not in kept.reason
    assert broken.fate is Fate.REJECTED
    with pytest.raises(StorageUnavailable, match="nobody answers"):
        writer.check()
    writer.close()
    writer.close()


def test_a_missing_file_of_certificates_is_named_by_its_option(tmp_path):
    writer = mysql.Writer(mysql.Config(ca_file=str(tmp_path / "none.pem")))
    (outcome,) = writer.write("logs", [corpus.part("t", 0).requests["logs"]])
    assert outcome.fate is Fate.RETRY
    assert "ca_file" in outcome.reason
    assert str(tmp_path) not in outcome.reason
