"""What `wafer up` runs to keep the store in order: people see its rounds, and it outlives its own death."""

from __future__ import annotations

import pytest

from tests.flow.site import Site, wait_until

pytestmark = [pytest.mark.postgres, pytest.mark.collector, pytest.mark.slow]


def test_a_round_of_maintenance_is_a_run_with_a_subjob_for_each_rare_step(site: Site):
    with site.client as client:
        (run,) = wait_until(
            lambda: [run for run in client.jobs(job="maintain").items if run.state == "ended"],
            within_s=60,
            what="the first round is listed",
        )[-1:]
        assert (run.result, run.service) == ("success", "wafer-maintain")
        steps = {node.run.job for node in client.tree(run.run).subjobs}
    assert {"maintain.archive", "maintain.compaction", "maintain.compression"} <= steps


def test_a_maintainer_that_is_killed_comes_back(site: Site):
    def starts() -> int:
        return sum(line.startswith("maintain") and '"ready"' in line for line in site.lines)

    before = starts()
    assert before > 0
    site.kill("maintain")
    wait_until(lambda: starts() > before, within_s=30, what="it runs again")
    failing = "SELECT step FROM wafer.maintenance_status WHERE failing"
    assert site.execute(failing) == []
