"""What is told when each part of a site is killed or cut off: the alert that is right, once, and no other.

A job pulses all the time, and is expected all the time: whatever else is broken, it must never be said that it did not come.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import psutil
import pytest

from tests.flow.site import Site, wait_until
from tests.servers import http_sink
from wafermonitor.deploy.demo import work_folder

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.collector,
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.xdist_group("alerted site"),
]

LIMITS = {"margin_s": "2", "behind_s": "8", "loss_floor_s": "8"}
DECLARED = """
version: 1
rules:
  disk: {{enabled: false}}
expectations:
  pulse: {{job: pulse, every: 6s, start_margin: 12s, grace: 6s}}
channels:
  sink: {{url: "{url}/hook", engine: webhook}}
routes:
  - {{name: all, channels: [sink], wait: 0s, pause: 0s, cooldown: 0s}}
"""
PULSE = """
import select, sys, wafermonitor.instrumentation as wafer
while not select.select([sys.stdin], [], [], 2.0)[0]:
    with wafer.job("pulse"):
        pass
"""
DOOMED = """
import os, sys, wafermonitor.instrumentation as wafer
with wafer.job("doomed", run_id=os.environ["RUN"]):
    print("started", flush=True)
    sys.stdin.readline()
"""
ALERTS = (Path(__file__).parent / "alerts.sql").read_text()
TICKS = (Path(__file__).parent / "ticks.sql").read_text()
PULSES = (Path(__file__).parent / "pulses.sql").read_text()


class Watched:
    """A site that is evaluated, a job that pulses on it, and what was told."""

    def __init__(self, site: Site, sink: http_sink.Server) -> None:
        self.site = site
        self.sink = sink
        self._since = 0

    def begin(self) -> None:
        """From here on counts what is opened."""
        self.calm(1)
        self._since = time.time_ns()
        self.sink.requests.clear()

    def alerts(self) -> list[tuple[str, bool]]:
        """(rule, whether it is open) of every alert that was opened since `begin`."""
        return [(row["rule"], row["is_open"]) for row in self.ask(ALERTS, self._since)]

    def ticks(self) -> int:
        """How often it was evaluated."""
        rows = wait_until(lambda: self.ask(TICKS), within_s=60, what="the database answers")
        return int(rows[0]["epoch"])

    def told(self) -> Counter[tuple[str, str]]:
        """How often each (alert, kind of message) reached the sink."""
        messages = [request.json for request in self.sink.requests]
        return Counter((alert["id"], message["kind"]) for message in messages for alert in message["alerts"])

    def ask(self, sql: str, *arguments: object) -> list[asyncpg.Record]:
        """Rows; none while the database is coming back."""
        try:
            return self.site.execute(sql, *arguments)
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError):
            return []

    def calm(self, pulses: int = 2) -> None:
        """Wait until some pulses that are due from now on have come, and every one before them."""
        now_ns = time.time_ns()

        def come() -> bool:
            rows = self.ask(PULSES, now_ns)
            return bool(rows) and rows[0]["come"] >= pulses and rows[0]["lacking"] == 0

        wait_until(come, within_s=90, what="every pulse has come")

    @contextmanager
    def cut(self, service: str, program: str | None) -> Iterator[None]:
        """Stop a part as a cut link does: it lives, and says nothing."""
        pids = self.site.pids(service)
        if program is not None:
            pids = [pid for pid in pids[1:] if psutil.Process(pid).name().startswith(program)]

        os.kill(pids[0], signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pids[0], signal.SIGCONT)


@pytest.fixture(scope="module")
def watched(collector: None) -> Iterator[Watched]:
    """One site for all of them."""
    with work_folder("wafer-alerted-") as (folder, _), http_sink.start() as sink:
        rules = folder / "alerting.yaml"
        rules.write_text(DECLARED.format(url=sink.url))
        site = Site.start(folder, WAFER_ALERTING_RULES=str(rules), WAFER_ALERTING_TICK_S="0.5")
        pulse = site.run_python(PULSE, WAFER_INSTRUMENTATION_HEARTBEAT_S="2")
        try:
            for name, value in LIMITS.items():
                site.execute("UPDATE wafer_data.setting SET value = $2 WHERE name = $1", name, value)
            found = Watched(site, sink)
            wait_until(lambda: [row for row in found.ask(PULSES, 0) if row["come"]], within_s=60, what="a pulse has come")
            yield found
        finally:
            pulse.communicate("end\n", timeout=60)
            site.stop()


@pytest.fixture(autouse=True)
def _said(watched: Watched) -> Iterator[None]:
    """A test that fails shows what the site said meanwhile, and every alert."""
    said = len(watched.site.lines)
    yield
    print(*watched.site.lines[said:], sep="\n")
    print(*watched.ask("SELECT summary, opened_unix_ns, resolved_unix_ns FROM wafer_data.alert"), sep="\n")


def test_a_job_that_is_killed_is_silent_then_lost_and_nothing_else(watched: Watched):
    watched.begin()
    job = watched.site.run_python(DOOMED, RUN="killed", WAFER_INSTRUMENTATION_HEARTBEAT_S="2")
    assert job.stdout.readline() == "started\n"
    with watched.site.client as client:
        wait_until(lambda: client.jobs(run_id="killed").items, within_s=20, what="the run is listed")
    job.kill()
    job.communicate(timeout=10)
    wait_until(lambda: ("lost", True) in watched.alerts(), within_s=60, what="it is lost")
    watched.calm()
    assert sorted(watched.alerts()) == [("lost", True), ("silent", False)]
    wait_until(lambda: len(watched.told()) >= 3, within_s=20, what="silent, its end, lost are told")
    assert set(watched.told().values()) == {1}


@pytest.mark.parametrize(("service", "program"), [("receiver", None), ("collector", "otelcol")])
def test_a_part_that_is_cut_off_is_one_alert_about_its_feed_until_it_is_back(
    watched: Watched, service: str, program: str | None
):
    watched.begin()
    with watched.cut(service, program):
        wait_until(watched.alerts, within_s=60, what="the feed is behind")
        # Longer than what a pulse may be late before it is missed.
        began = watched.ticks()
        wait_until(lambda: watched.ticks() > began + 50, within_s=60, what="fifty ticks")
        assert watched.alerts() == [("feed-behind", True)]
    wait_until(lambda: watched.alerts() == [("feed-behind", False)], within_s=60, what="it is over")
    watched.calm()
    assert watched.alerts() == [("feed-behind", False)]
    wait_until(lambda: len(watched.told()) >= 2, within_s=20, what="beginning and end are told")
    assert sorted(kind for _, kind in watched.told().elements()) == ["firing", "resolved"]


VICTIMS = {
    "the Collector": lambda site: site.kill_below("collector", "otelcol"),
    "the Collector's supervisor": lambda site: site.kill("collector"),
    "the receiver": lambda site: site.kill("receiver"),
    "PostgreSQL": lambda site: site.kill_below("storage", "postgres"),
}


@pytest.mark.parametrize("victim", list(VICTIMS))
def test_a_part_that_comes_back_at_once_never_makes_a_job_missing(watched: Watched, victim: str):
    """Where it takes longer than the limits allow, the feed or the database is told of, once; no run, no expectation."""
    watched.begin()
    VICTIMS[victim](watched.site)
    watched.calm()
    opened = Counter(rule for rule, _ in watched.alerts())
    assert set(opened) <= {"feed-behind", "database"}
    assert set(opened.values()) <= {1}
    assert set(watched.told().values()) <= {1}


def test_an_evaluator_that_is_killed_tells_what_happened_meanwhile_once(watched: Watched):
    watched.begin()
    job = watched.site.run_python(DOOMED, RUN="meanwhile", WAFER_INSTRUMENTATION_HEARTBEAT_S="2")
    assert job.stdout.readline() == "started\n"
    with watched.site.client as client:
        wait_until(lambda: client.jobs(run_id="meanwhile").items, within_s=20, what="the run is listed")
    job.kill()
    job.communicate(timeout=10)
    for rule in ("silent", "lost"):
        wait_until(lambda rule=rule: rule in dict(watched.alerts()), within_s=60, what=f"it is {rule}")
        watched.site.kill("alerting")
    before = watched.ticks()
    wait_until(lambda: watched.ticks() > before + 2, within_s=60, what="it ticks again")
    watched.calm()
    assert sorted(watched.alerts()) == [("lost", True), ("silent", False)]
    wait_until(lambda: len(watched.told()) >= 3, within_s=90, what="all of it is told")
    # At most one message more than once: the one that was under way when its sender was killed.
    assert sorted(watched.told().values())[:2] == [1, 1]
