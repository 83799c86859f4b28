"""kill -9 of the Collector, the receiver and PostgreSQL in the middle of a job: nothing started is lost, nothing is doubled."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import pytest

from tests.flow.site import Site, wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.collector, pytest.mark.slow, pytest.mark.timeout(240)]

STEPS = 60
JOB = f"""
import os, sys, wafermonitor.instrumentation as wafer
with wafer.job("endured", run_id=os.environ["RUN"]) as job:
    for step in range({STEPS}):
        with job.subjob("step", run_id=f"step-{{step}}"):
            sys.stdin.readline()
        print(step, flush=True)
"""
EXPECTED = dict.fromkeys(("span", "wafer.job.end", "wafer.job.start"), (STEPS + 1, STEPS + 1))
ROWS = (Path(__file__).parent / "rows.sql").read_text()
VICTIMS = {
    "collector": lambda site: site.kill_below("collector", "otelcol"),
    "the Collector's supervisor": lambda site: site.kill("collector"),
    "receiver": lambda site: site.kill("receiver"),
    "PostgreSQL": lambda site: site.kill_below("storage", "postgres"),
}


@pytest.mark.parametrize("victim", list(VICTIMS))
def test_nothing_is_lost_and_nothing_doubled(site: Site, victim: str):
    run_id = f"endured-{victim.rsplit(maxsplit=1)[-1]}"
    job = site.run_python(JOB, RUN=run_id)
    for step in range(STEPS):
        job.stdin.write("next\n")
        job.stdin.flush()
        assert job.stdout.readline() == f"{step}\n", job.stderr.read()
        if step == STEPS // 3:
            VICTIMS[victim](site)
    job.communicate(timeout=60)
    assert job.returncode == 0

    try:
        wait_until(lambda: arrived(site, run_id) == EXPECTED, within_s=90, what=f"all rows after kill -9 of {victim}")
    except AssertionError:
        assert arrived(site, run_id) == EXPECTED  # says what is missing, or there too often
        raise
    with site.client as client:
        (run,) = client.jobs(run_id=run_id).items
        assert client.run(run.run).completeness.words == "complete"
        subjobs = client.tree(run.run).subjobs
    assert sorted(node.run.run_id for node in subjobs) == sorted(f"step-{step}" for step in range(STEPS))


def arrived(site: Site, run_id: str) -> dict[str, tuple[int, int]]:
    """What the store holds of the run's trace: kind of row → (rows, distinct runs)."""
    try:
        rows = site.execute(ROWS, run_id)
    except (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError):
        return {}  # the database itself is coming back
    return {row["kind"]: (row["rows"], row["runs"]) for row in rows}
