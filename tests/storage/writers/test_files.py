"""The writer of files: their names, their content in each format, and folders that are not there."""

from __future__ import annotations

import csv
import json
import math
import os
import time

import pytest
from pyarrow import parquet

from tests.backends import corpus
from wafermonitor.instrumentation.otlp_json import request_from_proto
from wafermonitor.storage.errors import StorageRejected, StorageUnavailable
from wafermonitor.storage.writers.files import Config, Writer
from wafermonitor.storage.writers.items import items, parsed
from wafermonitor.storage.writers.protocol import SIGNALS, Fate

PART = corpus.part("w", 0)
FORMATS = ("jsonl", "csv", "parquet")


def writer(folder, form="jsonl"):
    return Writer(Config(dir=str(folder), format=form))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("signal", SIGNALS)
def test_the_same_request_is_the_same_file(tmp_path, signal, form):
    for _ in range(2):
        assert [one.fate for one in writer(tmp_path, form).write(signal, [PART.requests[signal]])] == [Fate.ACCEPTED]
    (path,) = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert path.parent.parent == tmp_path / f"signal={signal}"
    assert path.parent.name.startswith("date=2")
    assert path.suffix == f".{form}"


def only(folder):
    (path,) = [path for path in folder.rglob("*") if path.is_file()]
    return path


@pytest.mark.parametrize("signal", SIGNALS)
def test_a_line_of_json_is_the_request(tmp_path, signal):
    writer(tmp_path).write(signal, [PART.requests[signal]])
    (line,) = only(tmp_path).read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == json.loads(json.dumps(request_from_proto(parsed(signal, PART.requests[signal]))))


def test_text_with_quotes_and_line_ends_reads_back_from_csv(tmp_path):
    writer(tmp_path, "csv").write("logs", [PART.requests["logs"]])
    with only(tmp_path).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [row["body"] for row in rows] == [item.body for item in items("logs", PART.requests["logs"])]
    assert rows[0]["id"] == items("logs", PART.requests["logs"])[0].id
    assert json.loads(rows[0]["resource"])["wafer.site.id"] == corpus.SITE


def test_integers_beyond_2_53_are_exact_in_parquet(tmp_path):
    writer(tmp_path, "parquet").write("metrics", [PART.requests["metrics"]])
    rows = parquet.read_table(only(tmp_path)).to_pylist()
    assert rows[0]["value_integer"] == corpus.BIG
    assert rows[1]["value"] == pytest.approx(0.2)
    assert rows[1]["value_integer"] is None
    assert json.loads(rows[3]["summary"])["count"] == 6


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_what_no_table_holds_is_written_all_the_same(tmp_path, form):
    metrics, logs = parsed("metrics", PART.requests["metrics"]), parsed("logs", PART.requests["logs"])
    metrics.resource_metrics[0].scope_metrics[0].metrics[1].gauge.data_points[0].as_double = math.nan
    record = logs.resource_logs[0].scope_logs[0].log_records[0]
    record.time_unix_nano = 2**64 - 1
    record.body.bytes_value = b"\x00\xff"
    out = writer(tmp_path, form)
    assert out.write("metrics", [metrics.SerializeToString()])[0].fate is Fate.ACCEPTED
    assert out.write("logs", [logs.SerializeToString()])[0].fate is Fate.ACCEPTED


def test_a_folder_that_is_away_is_never_made_and_nothing_is_lost(tmp_path):
    away = tmp_path / "share"
    out = writer(away)
    outcomes = out.write("logs", [PART.requests["logs"]] * 2)
    assert [one.fate for one in outcomes] == [Fate.RETRY] * 2
    assert str(tmp_path) not in outcomes[0].reason
    with pytest.raises(StorageUnavailable):
        out.check()
    assert not away.exists()
    away.mkdir()
    out.check()
    assert [one.fate for one in out.write("logs", [PART.requests["logs"]])] == [Fate.ACCEPTED]
    assert not [path for path in away.iterdir() if path.name.startswith(".")]


def test_what_a_killed_process_left_half_written_goes_away_later(tmp_path):
    out = writer(tmp_path)
    out.write("logs", [PART.requests["logs"]])
    folder = only(tmp_path).parent
    old, young = folder / ".old.part", folder / ".young.part"
    old.touch()
    young.touch()
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    writer(tmp_path).write("logs", [corpus.part("w", 1).requests["logs"]])
    assert [path.name for path in folder.glob(".*")] == [".young.part"]


def test_what_is_no_request_is_rejected_and_an_empty_one_is_nothing(tmp_path):
    outcomes = writer(tmp_path).write("logs", [b"\xff\xff", b"", PART.requests["logs"]])
    assert [one.fate for one in outcomes] == [Fate.REJECTED, Fate.ACCEPTED, Fate.ACCEPTED]
    only(tmp_path)


def test_no_folder_at_all_is_a_mistake_that_is_named():
    with pytest.raises(StorageRejected, match="WAFER_FILES_DIR"):
        Writer(Config())
