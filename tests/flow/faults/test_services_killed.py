"""kill -9 of the Collector, the receiver and PostgreSQL in the middle of a job: nothing started is lost, nothing is doubled."""

from __future__ import annotations

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
VICTIMS = {
    "collector": lambda site: site.kill_below("collector", "otelcol"),
    "the Collector's supervisor": lambda site: site.kill("collector"),
    "receiver": lambda site: site.kill("receiver"),
    "PostgreSQL": lambda site: site.kill_below("storage", "postgres"),
}


def alive(site: Site) -> bool:
    with site.client as client:
        return bool(client.sites() is not None)


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

    def complete():
        try:
            with site.client as client:
                found = client.jobs(run_id=run_id).items
                return found and client.run(found[0].run).completeness.words == "complete" and found[0]
        except Exception:  # noqa: BLE001 - the API itself may be away while its database is
            return None

    run = wait_until(complete, within_s=90, what=f"the run is complete after kill -9 of {victim}")
    with site.client as client:
        subjobs = client.tree(run.run).subjobs
    assert sorted(node.run.run_id for node in subjobs) == sorted(f"step-{step}" for step in range(STEPS))
    trace = site.execute(
        "SELECT count(*) AS rows, count(DISTINCT span_id) AS spans FROM wafer_data.span WHERE trace_id = $1::uuid", run.trace_id
    )[0]
    assert (trace["rows"], trace["spans"]) == (STEPS + 1, STEPS + 1)
    events = site.execute(
        "SELECT event_name, count(*) AS rows, count(DISTINCT span_id) AS runs FROM wafer_data.log_record"
        " WHERE trace_id = $1::uuid AND event_name IN ('wafer.job.start', 'wafer.job.end') GROUP BY event_name ORDER BY 1",
        run.trace_id,
    )
    assert [(row["event_name"], row["rows"], row["runs"]) for row in events] == [
        ("wafer.job.end", STEPS + 1, STEPS + 1),
        ("wafer.job.start", STEPS + 1, STEPS + 1),
    ]
