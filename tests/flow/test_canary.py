"""R15: the canary writes through a stock Collector and reads everything back; what is taken away it misses."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.flow.site import Site, wait_until
from tests.servers.collector import free_ports, until
from wafermonitor.deploy import canary
from wafermonitor.deploy.measures import Measures
from wafermonitor.query.client import AsyncClient

pytestmark = [pytest.mark.postgres, pytest.mark.collector, pytest.mark.slow, pytest.mark.timeout(900)]

COMMAND = (sys.executable, "-m", "wafermonitor.instrumentation.cli", "canary")
POINTS = Path(__file__).with_name("canary_points.sql").read_text()
WRITE = "import json, sys; from wafermonitor.deploy.canary import write; print(json.dumps(write(int(sys.argv[1]))))"


def test_r15_canary_finds_everything_and_says_so_in_metrics(site: Site, soak: bool):
    """To Prometheus on a page, and by OTLP through the Collector into the store."""
    (port,) = free_ports(1)
    flags = ["--api", f"http://{site.addresses.query}", "--metrics-address", f"127.0.0.1:{port}", "--json"]
    flags += ["--otlp", f"http://{site.addresses.collector_http}"]
    length = "10m" if soak else "10s"
    with subprocess.Popen(
        [*COMMAND, "--for", length, "--every", "0.5s", "--within", "30s", *flags],
        env=site.job_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        page = until(lambda: shown(port), "a round is counted")
        told, said = process.communicate(timeout=800)
    assert "wafer_canary_ok 1.0" in page
    assert 'wafer_canary_missing_total{check="stream"} 0.0' in page
    summary = json.loads(told)
    assert (process.returncode, summary["problems"]) == (0, []), said
    assert summary["found"] == summary["rounds"] >= 2
    sent = {("wafer.canary.missing", check): 0 for check in canary.CHECKS} | {("wafer.canary.ok", None): 1}
    sent |= {(f"wafer.canary.{name}", None): summary["rounds"] for name in ("rounds", "visible")}
    wait_until(lambda: stored(site) == sent, within_s=30, what=f"the store holds {sent}")


def stored(site: Site) -> dict[tuple[str, str | None], float]:
    """The canary's metrics as they are stored: name and check → newest value."""
    return {(row["name"], row["looked"]): row["value"] for row in site.execute(POINTS)}


def shown(port: int) -> str | None:
    """The metrics page once the first round is on it."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            page = answer.read().decode()
    except OSError:
        return None
    return page if "wafer_canary_ok 1.0" in page else None


def test_r15_canary_misses_a_run_that_is_taken_away(site: Site):
    def write(number: int) -> canary.Written:
        if number > 1:
            assert site.execute("DELETE FROM wafer_data.run WHERE job = $1 RETURNING 1", canary.JOB)
        words = [sys.executable, "-c", WRITE, str(number)]
        done = subprocess.run(words, env=site.job_environment(), capture_output=True, text=True, timeout=60, check=True)
        return canary.Written(*json.loads(done.stdout))

    report, told = canary.Report(), []

    async def watch() -> None:
        async with AsyncClient(f"http://{site.addresses.query}") as client:
            bird = canary.Canary(client, write, Measures(canary.CHECKS), report)
            await bird.watch(canary.Plan(rounds=2, for_s=None, every_s=0.1, within_s=5), told.append)

    asyncio.run(watch())
    assert report.missing == {"id": 0, "search": 0, "stream": 0, "kept": 1}
    assert [problem.check for problem in told] == ["kept"]
    assert not report.ok
