"""A tool host gets OpenTelemetry, click and ours, and can report jobs with that alone."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

LIMIT_BYTES = 10_500_000  # about 10 MB, of which OpenTelemetry and what it needs are 7
LIMIT_WITH_BYTECODE = 21_000_000  # pip compiles the services, too, though a tool host loads none of them
BASE = {
    "wafermonitor",
    "click",
    "opentelemetry-api",
    "opentelemetry-exporter-http-transport",
    "opentelemetry-exporter-otlp-common",
    "opentelemetry-exporter-otlp-proto-common",
    "opentelemetry-exporter-otlp-proto-http",
    "opentelemetry-proto",
    "opentelemetry-sdk",
    "opentelemetry-semantic-conventions",
    # What these need.
    "certifi",
    "charset-normalizer",
    "googleapis-common-protos",
    "idna",
    "importlib-metadata",
    "protobuf",
    "requests",
    "typing-extensions",
    "urllib3",
    "zipp",
}
DRIVERS = [
    "pydantic", "pydantic_settings", "asyncpg", "grpc", "fastapi", "uvicorn", "httpx", "msgspec", "isal", "panel", "bokeh",
    "holoviews", "pandas", "numpy", "pyarrow", "prometheus_client", "yaml", "jinja2",
]  # fmt: skip
"""What services need. psutil is not among them: OpenTelemetry's SDK itself takes it where it is installed."""
JOB = """
import wafermonitor.instrumentation as wafer

with wafer.job("lot_yield", lot_ids=["GAL-LOT"]) as job:
    for number in job.track(range(3), unit="wafer"):
        with job.subjob("wafer_yield", substrate_ids=[f"GAL-LOT-{number:02d}"]):
            pass
"""
NEEDS = {"query": "query", "receiver": "receiver", "storage status": "timescale", "ui": "ui"}


def kept(spool: Path, signal: str, kind: str, key: str) -> list[dict[str, Any]]:
    """The records of one signal that the spool holds, out of their resources and scopes."""
    lines = [json.loads(line) for path in sorted(spool.glob(f"**/{signal}/*.jsonl")) for line in path.read_text().splitlines()]
    scopes = [scope for line in lines for resource in line[f"resource{kind}"] for scope in resource[f"scope{kind}"]]
    return [record for scope in scopes for record in scope[key]]


def spans(spool: Path) -> list[str]:
    """Names of the spans that the spool holds."""
    return sorted(span["name"] for span in kept(spool, "traces", "Spans", "spans"))


def test_only_opentelemetry_and_click_come_with_it(host):
    found = {path.name.partition("-")[0].replace("_", "-").lower() for path in host.packages.glob("*.dist-info")}
    assert found <= BASE
    assert {"wafermonitor", "click", "opentelemetry-sdk"} <= found


def test_it_takes_little_room(host):
    files = {path: path.stat().st_size for path in host.packages.rglob("*") if path.is_file()}
    size = sum(bytes_ for path, bytes_ in files.items() if path.suffix != ".pyc")
    assert size <= LIMIT_BYTES, f"{size / 1e6:.1f} MB"
    assert sum(files.values()) <= LIMIT_WITH_BYTECODE, f"{sum(files.values()) / 1e6:.1f} MB with bytecode"


def test_a_command_is_reported(host, tmp_path):
    done = host.run("wafer", "run", "--job", "nothing", "--", "true", spool=tmp_path / "spool")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert spans(tmp_path / "spool") == ["nothing"]


def test_a_python_job_is_reported(host, tmp_path):
    done = host.run("python", "-W", "error", "-c", JOB, spool=tmp_path / "spool")
    assert (done.returncode, done.stderr) == (0, "")
    assert spans(tmp_path / "spool") == ["lot_yield", *["wafer_yield"] * 3]
    events = [record.get("eventName") for record in kept(tmp_path / "spool", "logs", "Logs", "logRecords")]
    assert events.count("wafer.job.start") == events.count("wafer.job.end") == 4


def test_without_a_collector_nothing_fails(host, tmp_path):
    done = host.run("wafer", "run", "--", "sh", "-c", "exit 3", spool=tmp_path / "spool", mode="sidecar")
    assert done.returncode == 3


def test_help_names_every_command(host, tmp_path):
    done = host.run("wafer", "--help", spool=tmp_path / "spool")
    assert done.returncode == 0
    names = {entry.name for entry in entry_points(group="wafermonitor.commands")}
    assert names <= set(re.findall(r"^  (\w+)  ", done.stdout, re.MULTILINE))


@pytest.mark.parametrize(("command", "extra"), NEEDS.items())
def test_a_service_names_the_extra_that_it_needs(host, tmp_path, command, extra):
    done = host.run("wafer", *command.split(), spool=tmp_path / "spool")
    assert done.returncode != 0
    wanted = f'wafer {command.split()[0]} needs the extra "{extra}": pip install "wafermonitor[{extra}]"'
    assert wanted in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_collector_is_run_with_the_base_alone(host, tmp_path):
    done = host.run("wafer", "collector", "--help", spool=tmp_path / "spool")
    assert done.returncode == 0, done.stderr
    done = host.run("wafer", "config", "show", "collector", spool=tmp_path / "spool")
    assert done.returncode == 0, done.stderr
    assert "WAFER_OTLP_HTTP" in done.stdout


@pytest.mark.parametrize("names", ["", "names = [getattr(wafer, name) for name in wafer.__all__]"])
def test_the_instrumentation_loads_no_driver_even_where_all_are_installed(names):
    program = f"import sys, wafermonitor.instrumentation as wafer\n{names}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert not set(DRIVERS) & set(done.stdout.split())


def test_the_import_alone_does_not_even_load_opentelemetry():
    program = "import sys, wafermonitor.instrumentation\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert "opentelemetry.sdk" not in done.stdout.split()
