"""Rows in a DEFAULT partition are an alarm, but for those that slipped past a fence. Hypertables have none: not run there."""

from __future__ import annotations

import time

import pytest

from tests.storage.contract import builders
from wafermonitor.runs.records import Batch
from wafermonitor.storage.archive.protocol import day_of
from wafermonitor.storage.maintain import keeper
from wafermonitor.storage.maintain.steps import STEPS

pytestmark = pytest.mark.postgres
NOW, DAY = builders.NOW, builders.DAY
PARTITIONS = [step for step in STEPS if step.name == "partitions"]


async def test_stray_rows_are_an_alarm(store):
    await store.writer.write([Batch(spans=[builders.span()])])
    await store.pool.execute("UPDATE wafer_data.span SET start_time = start_time + interval '1 year'")
    (done,) = await keeper.run_round(store, PARTITIONS, now_ns=NOW)
    assert (done.outcome, done.report) == ("failed", "rows are outside every prepared day, in span_default")


async def test_rows_that_slip_past_the_fence_are_late_rows_and_no_alarm(store):
    """A writer may not have heard for a minute that a day is archived and dropped."""
    today_ns = time.time_ns()  # not when the module was loaded: the server's own clock bounds what is fenced
    old = today_ns - 3 * DAY
    await store.writer.write([Batch(spans=[builders.span(1, start_ns=old)])])
    await store.pool.execute("SELECT wafer_data.fence_days($1)", day_of(today_ns - DAY))
    assert await store.pool.fetchval("SELECT wafer_data.drop_day('span', $1)", day_of(old))
    await store.writer.write([Batch(spans=[builders.span(2, start_ns=old)])])
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span_default") == 1
    (done,) = await keeper.run_round(store, PARTITIONS, now_ns=today_ns)
    assert done.outcome == "nothing", done.report
    counts = "SELECT (SELECT count(*) FROM wafer_data.span_default), (SELECT count(*) FROM wafer_data.span_late)"
    assert tuple(await store.pool.fetchrow(counts)) == (0, 1)
