"""A job that dies without a word is silent, then lost, unknown while its link is cut; what is quiet but alive stays running."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from tests.flow.site import Site, wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.collector, pytest.mark.slow, pytest.mark.timeout(180)]

SHORT = {"margin_s": "1", "behind_s": "3", "loss_floor_s": "8"}
TREE = """
import os, sys, wafermonitor.instrumentation as wafer
with wafer.job("doomed", run_id=os.environ["RUN"]) as job:
    with job.subjob("doomed_step", run_id=os.environ["RUN"] + "-step"):
        print("started", flush=True)
        sys.stdin.readline()
"""


@pytest.fixture
def site_with_short_limits(site: Site) -> Iterator[Site]:
    """Limits are rows of a table; they are put back afterwards."""
    before = site.execute("SELECT name, value FROM wafer_data.setting")
    for name, value in SHORT.items():
        assert site.execute("UPDATE wafer_data.setting SET value = $2 WHERE name = $1 RETURNING 1", name, value), name
    yield site
    for row in before:
        site.execute("UPDATE wafer_data.setting SET value = $2 WHERE name = $1", row["name"], row["value"])


def states(site: Site, run: str) -> set[str]:
    with site.client as client:
        tree = client.tree(run)
    return {tree.run.state, *(child.run.state for child in tree.subjobs)}


def start_tree(site: Site, run_id: str):
    job = site.run_python(TREE, RUN=run_id)
    assert job.stdout.readline() == "started\n"
    with site.client as client:
        run = wait_until(lambda: client.jobs(run_id=run_id).items, within_s=10, what="the run is listed")[0].run
        wait_until(lambda: client.tree(run).subjobs, within_s=10, what="its subjob is listed")
    return job, run


def kill(job) -> None:
    os.kill(job.pid, signal.SIGKILL)
    job.communicate(timeout=10)


def test_every_open_run_of_a_killed_process_is_silent_then_lost(site_with_short_limits: Site):
    site = site_with_short_limits
    job, run = start_tree(site, "killed")
    assert states(site, run) == {"running"}
    kill(job)
    wait_until(lambda: states(site, run) == {"silent"}, within_s=15, what="both runs are silent")
    wait_until(lambda: states(site, run) == {"lost"}, within_s=30, what="both runs are lost")


def test_a_quiet_subjob_of_a_living_process_stays_running(site_with_short_limits: Site):
    site = site_with_short_limits
    job, run = start_tree(site, "quiet")
    with site.client as client:
        began = len([log for log in client.logs(run, scope="below").items if log.event_name == "wafer.job.heartbeat"])
        # Twelve heartbeats are longer than the silence that would make it lost.
        wait_until(
            lambda: (
                len([log for log in client.logs(run, scope="below").items if log.event_name == "wafer.job.heartbeat"])
                >= began + 12
            ),
            within_s=30,
            what="twelve heartbeats",
        )
    assert states(site, run) == {"running"}
    job.communicate("end\n", timeout=20)
    wait_until(lambda: states(site, run) == {"ended"}, within_s=10, what="it ended")


def test_with_the_link_cut_nobody_can_know(site_with_short_limits: Site):
    site = site_with_short_limits
    job, run = start_tree(site, "cut")
    (collector,) = [pid for pid in site.pids("collector")[1:] if psutil.Process(pid).name().startswith("otelcol")]
    os.kill(collector, signal.SIGSTOP)
    try:
        kill(job)
        wait_until(lambda: states(site, run) == {"unknown"}, within_s=30, what="both runs are unknown")
    finally:
        os.kill(collector, signal.SIGCONT)
    wait_until(lambda: states(site, run) == {"lost"}, within_s=60, what="both runs are lost once the link is back")
