"""SQL and Python judge, merge and find alike: hypothesis looks for a run, a clock, an order of arrival or a question on which
they differ.
"""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.runs import strategies
from tests.runs.strategies import feeds, limits, times
from tests.storage.twins import assert_alike, questions, stories, tell, worlds
from wafermonitor.runs.state import close_due, failing_rank, overdue, run_state
from wafermonitor.storage.timescale.writer import Writer

pytestmark = pytest.mark.postgres
lasting = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
fresh = itertools.count(1)

JUDGE = """
SELECT j.state, j.lost_for_s, o.overdue, wafer.failing_rank(j.state, o.overdue, $13) AS rank
FROM wafer.run_state($1, $2, $3, $4, $5, $6, $7, $8, $9, $10::text::wafer.limits) j,
  wafer.overdue($1, $11, $12, $14, $9) AS o (overdue)
"""


@lasting
@given(
    run=strategies.runs(),
    beat=st.none() | st.tuples(times, st.none() | st.floats(0.001, 1e6)),
    feed=feeds,
    moment=st.tuples(times | st.integers(0, 2**62), limits),
)
async def test_state_is_judged_alike(store, run, beat, feed, moment):
    now_ns, limit = moment
    if beat is not None:
        run = dataclasses.replace(run, process_beat_ns=beat[0], process_interval_s=beat[1])
    row = await store.pool.fetchrow(
        JUDGE,
        run.end_rank,
        run.heartbeat_interval_s,
        run.process_interval_s,
        run.last_sign_ns,
        run.process_beat_ns,
        None if feed is None else feed.watermark_ns,
        None if feed is None else feed.received_ns,
        None if feed is None else feed.skew_ns,
        now_ns,
        "(" + ",".join(map(repr, limit)) + ")",
        run.start_ns,
        run.expected_duration_s,
        run.result,
        run.deadline_ns,
    )
    state = run_state(run, feed, now_ns, limit)
    assert row["state"] == state
    assert row["overdue"] == overdue(run, now_ns)
    assert row["rank"] == failing_rank(run, state, overdue(run, now_ns))
    assert (row["lost_for_s"] is not None and row["lost_for_s"] > limit.close_after_s) == close_due(run, feed, now_ns, limit)


@lasting
@given(ns=st.integers(-(2**63), 2**63 - 1))
async def test_seconds_are_rounded_as_python_rounds_them(store, ns):
    assert await store.pool.fetchval("SELECT wafer.seconds($1)", ns) == ns / 1_000_000_000


@lasting
@given(story=stories, data=st.data())
async def test_merging_in_the_store_is_merging_in_python(store, story, data):
    wanted = await tell(story, data, (store.writer, Writer(store.pool)))
    assert [stored.run for stored in await store.reader.tree(wanted.trace_id)] == [wanted]
    places = await store.pool.fetch(
        "SELECT end_rank > 0 AS ended, is_open FROM wafer_data.known_run WHERE trace_id = $1", wanted.trace_id
    )
    assert [tuple(row) for row in places] == [(wanted.ended, not wanted.ended)]


@lasting
@given(world=worlds(), asked=st.lists(questions, min_size=1, max_size=4), beats=st.booleans())
async def test_the_store_and_memory_answer_alike(store, world, asked, beats):
    await assert_alike(store, world, asked, beats=beats)
