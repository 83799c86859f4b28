"""`wafer collector status` and `doctor` name what is wrong with a real Collector, and why, and what to do next."""

from __future__ import annotations

import json
import os
import socket
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.servers.collector import free_ports, until
from wafermonitor.collector import condition
from wafermonitor.collector.command import doctor, status
from wafermonitor.collector.config import Config
from wafermonitor.instrumentation.onward import Page, Queue
from wafermonitor.instrumentation.spool import Spool


@pytest.fixture
def absent(tmp_path):
    """Settings of a Collector that does not run."""
    grpc, http, health, metrics = free_ports(4)
    return {
        "WAFER_OTLP_GRPC": f"127.0.0.1:{grpc}",
        "WAFER_OTLP_HTTP": f"127.0.0.1:{http}",
        "WAFER_HEALTH_ENDPOINT": f"127.0.0.1:{health}",
        "WAFER_METRICS_PORT": str(metrics),
        "WAFER_COLLECTOR_QUEUE_DIR": str(tmp_path / "queue"),
        "WAFER_SPOOL_DIR": str(tmp_path / "spool"),
    }


def steps(checks):
    return {check.step: check for check in checks}


def asked(command, environ, monkeypatch, *words):
    """Exit code and the checks by step, as a program gets them."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    done = CliRunner().invoke(command, [*words, "--json"], standalone_mode=False, catch_exceptions=False)
    answer = json.loads(done.output)
    assert answer["ok"] == (done.return_value == 0)
    return done.return_value, {check["step"]: check for check in answer["checks"]}


def test_a_collector_that_does_not_run_is_said_and_where_jobs_write_meanwhile(absent, monkeypatch):
    code, found = asked(status, absent, monkeypatch)
    assert code == 1
    assert found.keys() == {"process", "disk", "spool"}
    assert found["process"]["state"] == "fail"
    assert found["process"]["next"].startswith("wafer collector run")
    assert "spool" in found["process"]["next"]


def test_people_get_cause_and_next_step_below_what_was_found(absent, monkeypatch):
    for name, value in absent.items():
        monkeypatch.setenv(name, value)
    lines = CliRunner().invoke(status, [], standalone_mode=False).output.splitlines()
    assert lines[0].startswith(f"fail  {'process':<24} nobody has the queue folder")
    assert lines[1].strip().startswith("because the Collector is not running; next: wafer collector run")


def test_doctor_names_a_port_that_is_taken_and_a_file_that_is_wrong(absent, monkeypatch, tmp_path):
    (tmp_path / "mine.yaml").write_text("exporters: {otlp_grpc/mine: {endpont: 'x:1'}}\n")
    with socket.create_server(("127.0.0.1", int(absent["WAFER_OTLP_GRPC"].rpartition(":")[2]))):
        code, found = asked(doctor, absent, monkeypatch, "--backend", str(tmp_path / "mine.yaml"))
    assert code == 1
    assert "WAFER_OTLP_GRPC" in found["ports"]["cause"]
    assert (found["files"]["state"], "endpont" in found["files"]["cause"]) == ("fail", True)


def test_a_spool_that_nobody_sends_is_named_by_its_age(absent):
    config = Config.load(absent)
    spool = Spool(config.spool_dir)
    spool.append("logs", {"resourceLogs": []})
    assert condition.check_spool(config).state == "ok"
    [path] = config.spool_dir.glob("logs/*.jsonl")
    os.utime(path, (time.time() - 7200, time.time() - 7200))
    found = condition.check_spool(config)
    spool.close()
    assert (found.state, "120 min" in found.found) == ("warn", True)
    assert f"wafer replay {config.spool_dir}" in found.next


def test_a_disk_without_room_for_full_queues_is_named(absent):
    config = Config.load(absent | {"WAFER_COLLECTOR_QUEUE_BYTES": str(10**18)})
    found = condition.check_disk(config)
    assert (found.state, "WAFER_COLLECTOR_QUEUE_BYTES" in found.next) == ("warn", True)


@pytest.mark.parametrize(
    ("before", "after", "state", "words"),
    [
        (Page({}, {"x": 1.0}, {}), Page({}, {"x": 2.0}, {}), "ok", "2 records passed on"),
        (Page({}, {"x": 1.0}, {"x": {"401": 1.0}}), Page({}, {"x": 1.0}, {"x": {"401": 2.0}}), "fail", "set WAFER_TOKEN"),
        (Page({}, {"x": 1.0}, {"x": {"401": 2.0}}), Page({}, {"x": 5.0}, {"x": {"401": 2.0}}), "warn", "2 DROPPED"),
        (
            Page({"x": Queue(5.0, 95.0, 5.0, 0.0)}, {"x": 1.0}, {}),
            Page({"x": Queue(5.0, 95.0, 5.0, 0.0)}, {"x": 1.0}, {}),
            "warn",
            "it passed nothing on within 1 s",
        ),
        (
            Page({"x": Queue(0.0, 3.6e7, 0.0, 0.0)}, {"x": 1.0}, {}),
            Page({"x": Queue(1.0, 3.6e7, 0.0, 0.0)}, {"x": 2.0}, {}),
            "ok",
            "room for 10,000 h at 1 B/s",
        ),
        (
            Page({"x": Queue(90.0, 10.0, 90.0, 0.0)}, {"x": 1.0}, {}),
            Page({"x": Queue(90.0, 10.0, 90.0, 0.0)}, {"x": 2.0}, {}),
            "warn",
            "nearly full",
        ),
        (
            Page({"x": Queue(90.0, 0.0, 100.0, 0.0)}, {"x": 1.0}, {}),
            Page({"x": Queue(90.0, 0.0, 100.0, 7.0)}, {"x": 1.0}, {}),
            "fail",
            "its queue is full",
        ),
    ],
)
def test_each_state_of_an_exporter_is_told_apart(before, after, state, words):
    reports = {one.exporter: one for one in condition.queue.reports(before.queues, after.queues, 1.0)}
    drops = bool(condition.queue.losses(before, after))
    found = condition.check_exporter("x", before, after, reports.get("x"), drops=drops)
    assert found.state == state
    assert words in f"{found.found} {found.cause} {found.next}"


@pytest.mark.collector
@pytest.mark.slow
def test_a_collector_that_runs_is_seen_with_its_owner_and_what_it_holds_back(start, monkeypatch):
    [nobody] = free_ports(1)
    server = start(environ={"WAFER_MANAGED_ENDPOINT": f"127.0.0.1:{nobody}"})
    code, found = asked(doctor, server.environ, monkeypatch)
    assert code == 0, found
    assert found["process"]["found"].startswith(f"running as process {server.supervisor}")
    assert {found[step]["state"] for step in ("files", "binary", "health", "intake", "disk", "spool")} == {"ok"}
    assert "ports" not in found, "they are its own"

    def held_back():
        _, checks = asked(status, server.environ, monkeypatch)
        return checks.get("otlp_grpc/managed", {}).get("cause") == "it passed nothing on within 1 s"

    until(held_back, "the beat waits in the queue")
    server.end()
    code, found = asked(status, server.environ, monkeypatch)
    assert (code, found["process"]["state"]) == (1, "fail")


def test_a_collector_that_something_else_runs_is_told_from_ours(absent, monkeypatch, tmp_path):
    del tmp_path
    monkeypatch.setattr(condition, "healthy", lambda _: True)
    found = condition.check_process(Config.load(absent), None)
    assert (found.state, "wafer collector beat" in found.next) == ("warn", True)
    assert Path(absent["WAFER_COLLECTOR_QUEUE_DIR"]).exists() is False, "asking makes no folder"
