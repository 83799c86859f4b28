"""A program that knows nothing of us, auto-instrumented, shows up as plain spans, and as a run when it names one."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from tests.flow.site import Site, wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.collector, pytest.mark.timeout(120)]

PROGRAM = """
import os, threading
import fastapi, httpx, uvicorn
from opentelemetry import trace

app = fastapi.FastAPI()

@app.get("/lots/{lot}")
def lot(lot: str) -> dict:
    return {"lot": lot}

@app.get("/relay/{lot}")
def relay(lot: str) -> dict:
    return httpx.get(f"http://127.0.0.1:{os.environ['PORT']}/lots/{lot}").json()

@app.get("/fit/{lot}")
def fit(lot: str) -> dict:
    attributes = {"wafer.job.name": "stock_fit", "wafer.lot.ids": [lot]}
    with trace.get_tracer("fit").start_as_current_span("fit", attributes=attributes):
        return relay(lot)

uvicorn.run(app, host="127.0.0.1", port=int(os.environ["PORT"]), log_level="warning")
"""


@pytest.fixture
def program(site: Site, tmp_path: Path, unused_tcp_port: int):
    """The program under `opentelemetry-instrument`, exporting to the site's Collector."""
    source = tmp_path / "program.py"
    source.write_text(PROGRAM)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "WAFER_"))}
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("opentelemetry-instrument")), sys.executable, str(source)],
        env=kept
        | {
            "PORT": str(unused_tcp_port),
            "OTEL_SERVICE_NAME": "stock-program",
            "OTEL_PYTHON_DISTRO": "distro",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{site.addresses.collector_http}",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_METRICS_EXPORTER": "none",
            "OTEL_LOGS_EXPORTER": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "200",
        },
        stderr=subprocess.PIPE,
        text=True,
    )
    url = f"http://127.0.0.1:{unused_tcp_port}"

    def up() -> bool:
        assert process.poll() is None, process.stderr.read()
        try:
            return urllib.request.urlopen(f"{url}/lots/L0", timeout=2).status == 200
        except OSError:
            return False

    try:
        wait_until(up, within_s=30, what="the program answers")
        yield url
    finally:
        process.terminate()
        process.wait(10)
        process.stderr.close()


def test_a_program_that_knows_nothing_of_us_shows_as_plain_spans(site: Site, program: str):
    urllib.request.urlopen(f"{program}/relay/L1", timeout=10).read()
    with site.client as client:
        roots = wait_until(
            lambda: [span for span in client.root_spans(app="stock-program").items if "relay" in span.name],
            within_s=15,
            what="its root span is listed",
        )
        assert roots[0].job is None
        run = f"{roots[0].trace_id}-{roots[0].span_id}"
        spans = wait_until(
            lambda: found if len(found := client.spans(run).items) >= 3 else None,
            within_s=10,
            what="server, client and inner server span",
        )
        assert {"server", "client"} <= {span.kind for span in spans}
        detail = client.run(run)
        assert detail.plain
        assert "stock-program" in [app.service for app in client.apps()]
        assert run not in [item.run for item in client.jobs(app="stock-program").items]


def test_a_span_with_a_job_name_is_a_run(site: Site, program: str):
    urllib.request.urlopen(f"{program}/fit/L9", timeout=10).read()
    with site.client as client:
        # Its start may be seen first: an event goes at once, a span with its program's next batch.
        (run,) = wait_until(
            lambda: [item for item in client.jobs(job="stock_fit").items if item.state == "ended"],
            within_s=15,
            what="the run is listed as ended",
        )
        assert (run.result, run.lot_ids) == ("success", ["L9"])
