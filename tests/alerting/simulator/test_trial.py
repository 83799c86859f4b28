"""The evaluator as shipped, in a fab whose links fail, while evaluators die: it tells what is so, all of it, once, and in time.

A small fab here; the full one (ten thousand expected runs, fifty outages and more) where WAFER_TEST_SOAK is set.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.servers import postgres as server
from tests.servers.databases import Databases
from tests.servers.fixtures import running
from tests.storage.engines import on_postgres
from wafermonitor.alerting.simulator.accelerated import Clock, Trouble
from wafermonitor.alerting.simulator.fab import START_NS, Size
from wafermonitor.alerting.simulator.score import Score, Verdict
from wafermonitor.alerting.simulator.trial import trial
from wafermonitor.alerting.simulator.truth import What
from wafermonitor.storage.memory import Storage

SMALL = Size(sites=3, hosts=2, jobs=5, days=0.25, outages=6.0, never=0.02, late=0.02, killed=0.02, slow=0.02, stalled=0.01)
SMALLEST = Size(sites=1, hosts=2, jobs=5, days=0.1, outages=20.0, never=0.05, late=0.03, killed=0.05, slow=0.05)
WRONG = Size(sites=2, hosts=3, jobs=5, days=0.2, outages=5.0, killed=0.03, lead_s=3600.0, own_lead_s=86_400.0)
FULL = Size(sites=5, hosts=4, jobs=5, days=1.25, outages=3.0)
ROUGH = Trouble(renewed=0.02, together=0.05, twice=0.05, torn=0.03, away=0.001)


@pytest.fixture(scope="module")
def postgres() -> Iterator[Databases]:
    yield from running(server)


def hold(found: Score) -> None:
    """What is promised, whatever the seed."""
    why = "\n".join(found.wrong)
    assert not found.false_in_outage, why
    assert not {what: found.false[what] for what in What if found.false[what]}, why
    assert found.false["feed_behind"] == 0, why
    assert found.outages.keys() == {1}, why
    assert not found.doubled, why
    for what in What:
        told = found.told[what]
        assert not told[Verdict.NEVER], why
        assert not told[Verdict.TOO_LATE], why
    assert not found.span_only[Verdict.NEVER], why


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_a_small_fab_is_told_of_truly_completely_once_and_in_time():
    clock = Clock()
    found = await trial(7, SMALL, Storage(clock=clock), clock, trouble=ROUGH)
    hold(found)
    assert found.expected > 300
    assert sum(found.outages.values()) >= 5
    assert all(found.told[what][Verdict.IN_TIME] for what in What)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [5, 16])
async def test_clocks_that_are_wrong_make_nothing_false(seed):
    """The clock of a host an hour ahead, and those of single applications a day, in outages of up to two hours."""
    clock = Clock()
    found = await trial(seed, WRONG, Storage(clock=clock), clock, trouble=ROUGH)
    hold(found)
    assert found.told[What.MISSED][Verdict.IN_TIME]


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(600)
async def test_postgres_keeps_alerts_as_well(postgres):
    async with on_postgres(postgres.migrated()) as engine:
        engine.clock.now_ns = START_NS
        found = await trial(3, SMALLEST, engine, engine.clock, trouble=ROUGH)
    hold(found)
    assert found.told[What.MISSED][Verdict.IN_TIME]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(not os.environ.get("WAFER_TEST_SOAK"), reason="ten thousand expected runs take minutes: make soak")
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_fab_of_full_size(seed):
    clock = Clock()
    found = await trial(seed, FULL, Storage(clock=clock), clock)
    hold(found)
    assert found.expected >= 10_000
    assert sum(found.outages.values()) >= 50
    assert found.false_slow_per_job_month <= 1
