"""What the canary says when what it wrote is missing or different, and when it cannot fly at all."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from tests.servers import otlp_sink
from wafermonitor.deploy import canary
from wafermonitor.deploy.canary import Written, differences, expected
from wafermonitor.deploy.command import canary as command
from wafermonitor.query.models import ProgressModel, RunModel

LABEL = "canary-1"
WRITTEN = Written("0" * 31 + "1-" + "0" * 15 + "1", "0" * 31 + "1-" + "0" * 15 + "2", LABEL, 7, 0.0)


def run_model(**changes: object) -> RunModel:
    """The API's run as it was written, but for `changes`."""
    trace, span = WRITTEN.run.split("-")
    found = {
        "run": WRITTEN.run,
        "site": "f1",
        "trace_id": trace,
        "span_id": span,
        "progress": ProgressModel(at="2026-01-01T00:00:00Z", completed=2, total=2),
        "attributes": {"wafer.param.number": 7, "wafer.param.text": canary.TEXT},
    }
    return RunModel.model_validate(found | expected(LABEL) | changes)


def test_a_run_as_it_was_written_has_no_differences():
    assert differences(WRITTEN, run_model()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "running"},
        {"result": "failure"},
        {"lot_ids": []},
        {"substrate_ids": [f"{LABEL}-02", f"{LABEL}-01"]},
        {"owner": None},
        {"attributes": {"wafer.param.number": 8, "wafer.param.text": canary.TEXT}},
        {"attributes": {"wafer.param.number": 7, "wafer.param.text": "?"}},
        {"progress": None},
    ],
    ids=str,
)
def test_a_difference_is_named(changes: dict[str, object]):
    (text,) = differences(WRITTEN, run_model(**changes))
    assert next(iter(changes)).removesuffix("s") in text or "wafer.param" in text


@pytest.fixture
def sink() -> Iterator[otlp_sink.Server]:
    """Where metrics go."""
    running = otlp_sink.start()
    yield running
    running.stop()


@pytest.mark.slow
def test_everything_is_missing_where_nobody_answers(tmp_path: Path, sink: otlp_sink.Server):
    metrics = {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": f"{sink.url}/v1/metrics"}
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        done = subprocess.run(
            [sys.executable, "-m", "wafermonitor.instrumentation.cli", "canary", "--once", "--within", "0.5s", "--json",
             "--api", f"http://{address}"],
            env=os.environ | {"SIDECAR_URL": f"http://{address}", "WAFER_SPOOL_DIR": str(tmp_path)} | metrics,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode == 1
    summary = json.loads(done.stdout)
    assert summary["missing"] == {"id": 1, "search": 1, "stream": 1, "kept": 0}
    assert (summary["ok"], summary["rounds"], summary["found"], summary["visible_worst_s"]) == (False, 1, 0, None)
    assert f"nobody answers at http://{address}" in done.stderr
    assert {item.resource["service.name"] for item in sink.metrics} == {"wafer canary"}
    points = {item.name: item.raw["sum" if "sum" in item.raw else "gauge"]["dataPoints"] for item in sink.metrics}
    assert points["wafer.canary.ok"][0]["asInt"] == "0"
    assert [int(point["asInt"]) for point in points["wafer.canary.missing"]] == [1, 1, 1, 0]


@pytest.mark.parametrize("mode", ["file", "off"])
def test_it_does_not_wait_for_what_is_never_sent(mode: str):
    done = CliRunner().invoke(command, ["--once"], env={"WAFER_MODE": mode})
    assert f"the mode is {mode}" in str(done.exception)


@pytest.mark.parametrize("flags", [["--for", "soon"], ["--every", "0"], ["--within", "-1"], ["--metrics-address", "9464"]])
def test_wrong_use_is_refused_by_name(flags: list[str]):
    done = CliRunner().invoke(command, flags)
    assert done.exit_code == 2
    assert repr(flags[1]) in done.output
