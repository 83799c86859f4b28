"""Hypothesis looks for a world and a question that memory and PostgreSQL answer differently."""

from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage.contract.builders import DAY, HOUR, NOW, PROCESS, SECOND, beat, feed_beat, run, span_id, trace_id
from tests.storage.engines import in_memory
from wafermonitor.runs.lifecycle import RESULTS
from wafermonitor.runs.records import Batch
from wafermonitor.runs.state import State
from wafermonitor.storage.protocol import RunQuery

pytestmark = pytest.mark.postgres
fresh = itertools.count(1)
WORDS = ("a", "B", "ab", "ä", "漢 b")
words = st.sampled_from(WORDS)
starts = st.none() | st.sampled_from([NOW - HOUR, NOW - HOUR + 1, NOW - 3 * DAY, NOW - 90 * DAY, 0, NOW + DAY])
word_lists = st.none() | st.lists(words, max_size=2, unique=True).map(tuple)


@st.composite
def worlds(draw):
    """A few runs that share words, ids and starts, so that questions have something to tell apart and ties to break."""
    records = []
    for number in range(draw(st.integers(1, 12))):
        end_rank = draw(st.sampled_from([0, 0, 1, 2]))
        records.append(
            run(
                number,
                trace_id=trace_id(draw(st.integers(0, 3))),
                start_ns=draw(starts),
                job=draw(st.none() | words),
                equipment=draw(st.none() | words),
                owner=draw(st.none() | words),
                lot_ids=draw(word_lists),
                parent_span_id=draw(st.none() | st.sampled_from([span_id(0), span_id(1)])),
                expected_duration_s=draw(st.none() | st.sampled_from([1.0, 3600.0, 1e6])),
                heartbeat_interval_s=draw(st.none() | st.sampled_from([1.0, 30.0])),
                last_sign_ns=draw(st.sampled_from([NOW, NOW - 40 * SECOND, NOW - DAY])),
                process_key=draw(st.none() | st.just(PROCESS)),
                attributes=draw(st.sampled_from(['{"k": "a"}', '{"k": 1}', '{"k": [1, "a"], "l": true}', "{}"])),
                end_rank=end_rank,
                end_ns=draw(st.sampled_from([NOW, NOW - 59 * 60 * SECOND])) if end_rank else None,
                result=draw(st.sampled_from(RESULTS)) if end_rank else None,
            )
        )
    return records


def some(values):
    return st.just(()) | st.lists(values, min_size=1, max_size=2, unique=True).map(tuple)


questions = st.builds(
    RunQuery,
    job=some(words),
    state=some(st.sampled_from(list(State))),
    result=some(st.sampled_from(RESULTS)),
    lot=some(words),
    equipment=some(words),
    attributes=some(st.sampled_from([("k", "a"), ("k", "1"), ("l", "true"), ("k", '[1, "a"]')])),
    text=st.none() | words,
    overdue=st.none() | st.booleans(),
    inferred=st.none() | st.booleans(),
    subjobs=st.none() | st.booleans(),
    parent=st.none() | st.just((trace_id(1), span_id(0))),
    from_ns=starts,
    to_ns=starts,
    min_duration_s=st.none() | st.just(60.0),
    max_duration_s=st.none() | st.just(60.0),
    order=st.sampled_from(["newest", "failing"]),
    limit=st.integers(1, 5),
)


async def answers(engine, query):
    """Every page of it."""
    found, cursor = [], None
    while True:
        page = await engine.reader.runs(dataclasses.replace(query, cursor=cursor))
        found += page.items
        cursor = page.cursor
        if cursor is None:
            return found


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=worlds(), asked=st.lists(questions, min_size=1, max_size=4), beats=st.booleans())
async def test_both_answer_alike(store, world, asked, beats):
    site = f"s{next(fresh)}"
    memory = in_memory()
    batch = Batch(runs=[dataclasses.replace(record, site=site) for record in world])
    if beats:
        batch.processes.append(beat(NOW - 35 * SECOND, 1.0))
        batch.feeds.append(feed_beat(NOW - 35 * SECOND, site=site))
    await store.pool.execute("DELETE FROM wafer_data.process")
    for engine in (memory, store):
        await engine.writer.write([batch])
    for query in [RunQuery(), RunQuery(order="failing", limit=3), *asked]:
        mine = dataclasses.replace(query, site=(site,))
        assert await answers(store, mine) == await answers(memory, mine)
    for trace in range(4):
        assert await store.reader.tree(trace_id(trace), site) == await memory.reader.tree(trace_id(trace), site)
