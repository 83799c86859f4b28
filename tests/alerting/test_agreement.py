"""What the evaluator stores, what Python judges and what SQL judges is one state, in whatever order things become known."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.alerting.fabs import HOUR, MINUTE, T0, Fab
from tests.servers.databases import Databases
from tests.storage.engines import Engine, on_postgres
from wafermonitor.alerting.expecting import Wish
from wafermonitor.alerting.schedule import Every
from wafermonitor.runs.expectations import expectation_state
from wafermonitor.storage.watch import ExpectedQuery

pytestmark = pytest.mark.postgres

HOURLY = Wish(Every(3600, T0), start_margin_s=300, grace_s=1200)
EMPTY = "; ".join(
    f"DELETE FROM wafer_data.{table}"
    for table in ("expectation", "expected_run", "alert", "alerting_note", "delivery", "run", "run_open", "feed")
)
JUDGED = """
SELECT e.nominal_unix_ns, v.state, v.settled, wafer.expectation_state(
  e.late_unix_ns, e.missed_unix_ns, e.start_unix_ns, wafer.known_until(ARRAY(SELECT f FROM wafer_data.feed f), $1, l), $1, l
) AS judged
FROM wafer_data.expected_run e
JOIN wafer.expected_runs v ON v.nominal_time = wafer.time_of(e.nominal_unix_ns)
CROSS JOIN wafer.limits l
"""
steps = st.lists(
    st.tuples(st.integers(1, 50), st.sampled_from(["linked", "linked", "cut"]), st.sampled_from(["none", "ran", "none"])),
    min_size=3,
    max_size=10,
)
"""Minutes until the next tick, whether the link holds, what the job does."""


@pytest.fixture
async def engine(postgres: Databases) -> AsyncIterator[Engine]:
    """PostgreSQL with the clock of a fab."""
    dsn = postgres.migrated()
    async with on_postgres(dsn) as store:
        yield store
    postgres.drop(dsn)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(story=steps)
async def test_evaluator_python_and_sql_never_disagree(engine: Engine, story: list[tuple[int, str, str]]):
    await engine.pool.execute(EMPTY)
    fab = Fab(engine)
    engine.clock.now_ns = fab.now()
    await fab.beat()
    await fab.expect(HOURLY)
    evaluator = fab.evaluator()
    for minutes, link, work in story:
        fab.at += minutes * MINUTE
        engine.clock.now_ns = fab.now()
        if work == "ran":
            key = await fab.runs(began=fab.at)
            await fab.write(int.from_bytes(key.trace_id), ended(fab.now()))
        if link == "linked":
            await fab.beat()
        assert await evaluator.tick() is not None
        await agree(engine)


def ended(now_ns: int) -> dict[str, object]:
    """The end of a run that announced itself."""
    return {"job": "etch", "feed": "h1", "end_rank": 1, "end_ns": now_ns, "result": "success", "received_ns": now_ns}


async def agree(engine: Engine) -> None:
    now_ns = engine.clock.now_ns
    rows = await engine.pool.fetch(JUDGED, now_ns)
    in_sql = {row["nominal_unix_ns"]: (row["state"], row["settled"], row["judged"]) for row in rows}
    page = await engine.watch.expected_runs(ExpectedQuery(limit=1000))
    limits = await engine.reader.limits()
    feeds = [feed for site in await engine.reader.sites() for feed in site.feeds]
    assert len(in_sql) == len(page.items) > 0
    for one in page.items:
        state, settled, judged = in_sql[one.due.nominal_ns]
        assert state == one.state
        if settled:
            assert state == ("missed" if one.start_ns is None else "met")
        else:
            assert state == judged == expectation_state(one.due, one.start_ns, feeds, now_ns, limits)
    assert any(one.due.nominal_ns > now_ns - HOUR for one in page.items)
