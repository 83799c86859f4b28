"""The spool: one writer per file, whole lines below the limit, private files, a bound, and a fork that writes its own files."""

import contextlib
import json
import logging
import os
import stat
import threading

import pytest

from wafermonitor.instrumentation import spool as spool_module
from wafermonitor.instrumentation.spool import LINE_LIMIT_BYTES, Spool, lines, size_bytes


def spans(count, size=10):
    items = [
        {"name": f"{number}", "attributes": [{"key": "text", "value": {"stringValue": "x" * size}}]} for number in range(count)
    ]
    return {"resourceSpans": [{"resource": {"attributes": []}, "scopeSpans": [{"scope": {"name": "wafer"}, "spans": items}]}]}


def names(data):
    for line in data.splitlines():
        for resource in json.loads(line)["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                yield from (span["name"] for span in scope["spans"])


def only_file(folder):
    (path,) = folder.iterdir()
    return path


def test_writes_one_line_per_request_into_the_folder_of_its_signal(tmp_path):
    spool = Spool(tmp_path / "spool")
    spool.append("traces", spans(2))
    spool.append("traces", spans(1))
    spool.append("logs", {"resourceLogs": []})
    path = only_file(tmp_path / "spool" / "traces")
    host, pid, start = path.stem.rsplit("-", 2)
    assert host == spool_module.host_name()
    assert int(pid) == os.getpid()
    assert int(start) > 1_000_000_000_000_000_000
    assert path.read_bytes().count(b"\n") == 2
    assert all(line.startswith(b'{"resourceSpans"') for line in path.read_bytes().splitlines())
    assert only_file(tmp_path / "spool" / "logs").name == path.name


def test_files_are_private(tmp_path):
    spool = Spool(tmp_path / "state" / "spool")
    spool.append("logs", {"resourceLogs": []})
    folder = tmp_path / "state" / "spool" / "logs"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(only_file(folder).stat().st_mode) == 0o600


def test_splits_a_long_request_by_records_and_loses_none():
    request = spans(3000, size=700)
    request["resourceSpans"].append(spans(1)["resourceSpans"][0])
    parts = list(lines(request))
    assert len(parts) > 3
    assert all(len(part) < LINE_LIMIT_BYTES for part in parts)
    assert list(names(b"".join(parts))) == [str(number) for number in range(3000)] + ["0"]


def test_splits_one_metric_by_its_points():
    points = [
        {"asDouble": float(number), "attributes": [{"key": "k", "value": {"stringValue": "y" * 900}}]} for number in range(1000)
    ]
    metric = {"name": "m", "sum": {"aggregationTemporality": 1, "dataPoints": points}}
    request = {"resourceMetrics": [{"resource": {}, "scopeMetrics": [{"scope": {}, "metrics": [metric]}]}]}
    parts = [json.loads(part) for part in lines(request)]
    got = [part["resourceMetrics"][0]["scopeMetrics"][0]["metrics"][0] for part in parts]
    assert [point["asDouble"] for item in got for point in item["sum"]["dataPoints"]] == [
        float(number) for number in range(1000)
    ]
    assert all(item["name"] == "m" and item["sum"]["aggregationTemporality"] == 1 for item in got)


def test_shortens_the_texts_of_a_single_record_that_is_too_long():
    (part,) = lines(spans(1, size=2_000_000))
    assert len(part) < LINE_LIMIT_BYTES
    (resource,) = json.loads(part)["resourceSpans"]
    kept = resource["scopeSpans"][0]["spans"][0]["attributes"][0]["value"]["stringValue"]
    assert kept == "x" * 65_536


def test_a_forked_child_writes_a_file_of_its_own(tmp_path):
    spool = Spool(tmp_path)
    spool.append("traces", spans(1))
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException):
            spool.append("traces", spans(2))
        os._exit(0)
    os.waitpid(child, 0)
    spool.append("traces", spans(1))
    files = {int(path.stem.rsplit("-", 2)[1]): path.read_bytes().count(b"\n") for path in (tmp_path / "traces").iterdir()}
    assert files == {os.getpid(): 2, child: 1}


def test_threads_never_mix_their_lines(tmp_path):
    spool = Spool(tmp_path)
    workers = [
        threading.Thread(target=lambda: [spool.append("traces", spans(3, size=5000)) for _ in range(50)]) for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(list(names(only_file(tmp_path / "traces").read_bytes()))) == 600


def test_stops_at_its_bound_and_says_so_once(tmp_path, caplog):
    spool = Spool(tmp_path, max_bytes=3000)
    with caplog.at_level(logging.WARNING):
        for _ in range(100):
            spool.append("traces", spans(1))
    assert 0 < size_bytes(tmp_path) <= 3000
    assert spool.dropped > 50
    (record,) = caplog.records
    assert "limit of 3000 bytes" in record.getMessage()
    assert "wafer replay" in record.getMessage()


def test_the_bound_counts_what_others_left_there(tmp_path, caplog):
    Spool(tmp_path).append("traces", spans(20))
    second = Spool(tmp_path, max_bytes=1000)
    with caplog.at_level(logging.WARNING):
        second.append("traces", spans(1))
    assert second.dropped == 1


@pytest.mark.parametrize("bad", [{"resourceSpans": [float("nan")]}, {"resourceSpans": [object()]}])
def test_never_raises_for_what_cannot_be_written(tmp_path, caplog, bad):
    spool = Spool(tmp_path)
    with caplog.at_level(logging.WARNING):
        spool.append("traces", bad)
    assert spool.dropped == 1


def test_never_raises_when_the_folder_cannot_be_made(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    spool = Spool(tmp_path / "file" / "spool")
    with caplog.at_level(logging.WARNING):
        spool.append("traces", spans(1))
    assert spool.dropped == 1
    assert "WAFER_SPOOL_DIR" in caplog.text


def test_a_full_disk_is_counted_and_the_next_line_starts_afresh(tmp_path, caplog, monkeypatch):
    spool = Spool(tmp_path)
    spool.append("traces", spans(1))
    write = os.write
    monkeypatch.setattr(spool_module.os, "write", lambda descriptor, data: write(descriptor, data[: len(data) // 2]))
    with caplog.at_level(logging.WARNING):
        spool.append("traces", spans(1))
    monkeypatch.undo()
    spool.append("traces", spans(1))
    good, half, after = only_file(tmp_path / "traces").read_bytes().splitlines()
    assert json.loads(good) == json.loads(after)
    with pytest.raises(ValueError):
        json.loads(half)
    assert "no space left" in caplog.text
