"""One wafer job from application to API, through a stock Collector, a receiver and PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.flow.site import Site, wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.collector, pytest.mark.timeout(180)]


def run_demo(*arguments: str) -> dict:
    done = subprocess.run(
        [sys.executable, "-m", "wafermonitor.instrumentation.cli", "demo", "--once", "--json", *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return json.loads(done.stdout)


@pytest.mark.slow
def test_the_real_lot_is_true_in_the_store_after_one_demo(collector, shared_data):
    summary = run_demo("--stdf", str(shared_data / "stdf" / "lot2.stdf.gz"))
    assert (summary["job"], summary["state"], summary["result"]) == ("lot_yield", "ended", "success")
    assert summary["attributes"]["wafer.param.dies"] == 1569
    assert summary["attributes"]["wafer.lot.ids"] == ["GAL-LOT"]
    assert summary["saw_running_before_end"] is True
    assert summary["subjobs"] == 2
    assert summary["spans"] == 3
    assert summary["heartbeats"] >= 2


def test_a_job_is_seen_while_it_runs_and_after(site: Site):
    job = site.run_python(
        """
import sys, wafermonitor.instrumentation as wafer
with wafer.job("etch_fit", run_id="seen", lot_ids=["LOT-1"], equipment_id="E7") as job:
    job.progress(3, 12, unit="wafer")
    with job.subjob("fit_one", substrate_ids=["LOT-1-03"]):
        sys.stdin.readline()
"""
    )
    with site.client as client:
        running = wait_until(lambda: client.jobs(run_id="seen").items, within_s=10, what="the run is listed")[0]
        assert (running.state, running.job, running.lot_ids, running.equipment) == ("running", "etch_fit", ["LOT-1"], "E7")
        progress = wait_until(lambda: client.run(running.run).progress, within_s=5, what="its progress is known")
        assert (progress.completed, progress.total, progress.ratio) == (3, 12, 0.25)
        tree = wait_until(lambda: client.tree(running.run).subjobs, within_s=5, what="its subjob is known")
        assert (tree[0].run.job, tree[0].run.state, tree[0].run.parent) == ("fit_one", "running", running.run)
        assert [span.open for span in client.spans(running.run).items] == [True, True]

        job.communicate("go on\n", timeout=30)
        assert job.returncode == 0
        ended = wait_until(
            lambda: (found := client.run(running.run)).completeness.verdict == "complete" and found,
            within_s=10,
            what="the run is complete",
        )
        assert (ended.state, ended.result, ended.completeness.words) == ("ended", "success", "complete")
        assert [span.open for span in client.spans(running.run).items] == [False, False]
        names = [log.event_name for log in client.logs(running.run, scope="below").items]
        assert names.count("wafer.job.start") == 2
        assert names.count("wafer.job.end") == 2


def test_a_failing_job_says_why(site: Site):
    job = site.run_python(
        """
import wafermonitor.instrumentation as wafer
with wafer.job("etch_fit", run_id="failing"):
    raise LookupError("no recipe R12")
"""
    )
    assert "LookupError" in job.communicate(timeout=30)[1]
    assert job.returncode == 1
    with site.client as client:
        run = wait_until(
            lambda: [run for run in client.jobs(run_id="failing").items if run.state == "ended"],
            within_s=10,
            what="it ended",
        )[0]
        assert (run.result, run.error_type) == ("failure", "LookupError")
        errors = client.logs(run.run, severity="error").items
        assert any(log.attributes.get("exception.message") == "no recipe R12" for log in errors)


def test_a_tree_crosses_processes_and_languages(site: Site):
    command = [sys.executable, "-m", "wafermonitor.instrumentation.cli", "run", "--job", "outer", "--run-id", "tree", "--"]
    inner = f"{sys.executable} -m wafermonitor.instrumentation.cli run --job inner -- perl -e 'exit 3'"
    done = subprocess.run([*command, "sh", "-c", inner], env=site.job_environment(), timeout=60, check=False)
    assert done.returncode == 3
    with site.client as client:
        outer = wait_until(lambda: client.jobs(run_id="tree", state="ended").items, within_s=10, what="it ended")[0]
        (inner_run,) = wait_until(lambda: client.tree(outer.run).subjobs, within_s=5, what="the inner run is its subjob")
        assert (inner_run.run.job, inner_run.run.result, inner_run.run.attributes["process.exit.code"]) == (
            "inner",
            "failure",
            3,
        )


def test_the_stream_tells_what_changes(site: Site):
    def first_of(run_id: str) -> str:
        with site.client as client:
            return next(event.run.job for event in client.stream() if event.run is not None and event.run.run_id == run_id)

    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(first_of, "streamed")
        # A stream tells what changes after it has begun; so the job runs until one run came after that.
        while not seen.done():
            job = site.run_python("import wafermonitor.instrumentation as w\nwith w.job('streamed', run_id='streamed'): pass")
            job.communicate(timeout=30)
    assert seen.result() == "streamed"


@pytest.mark.slow
def test_metrics_of_a_run_come_with_it(site: Site):
    job = site.run_python(
        """
import sys, wafermonitor.instrumentation as wafer
with wafer.job("measured", run_id="measured"):
    sys.stdin.readline()
"""
    )
    with site.client as client:
        run = wait_until(lambda: client.jobs(run_id="measured").items, within_s=10, what="the run is listed")[0]
        job.communicate("end\n", timeout=30)
        series = wait_until(lambda: client.metrics(run.run), within_s=15, what="its process's metrics are there")
        assert {"process.cpu.time", "process.memory.usage"} <= {one.name for one in series}
