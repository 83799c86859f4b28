"""What two engines are asked alike: a run's story told by two writers, a small world with questions about it.

In: stores. Out: the run that the story makes; an assertion that memory answers the same. Called by: the tests of each engine.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools

from hypothesis import strategies as st

from tests.runs import strategies
from tests.storage.contract.builders import DAY, HOUR, NOW, PROCESS, SECOND, beat, feed_beat, run, span_id, trace_id
from tests.storage.engines import in_memory
from wafermonitor.runs.lifecycle import RESULTS
from wafermonitor.runs.merge import merge_all
from wafermonitor.runs.records import Batch, Run
from wafermonitor.runs.state import State
from wafermonitor.storage.protocol import RunQuery, Writer

fresh = itertools.count(1)
stories = st.lists(strategies.runs(), min_size=1, max_size=6)
"""Messages about one run."""
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


async def tell(story: list[Run], data: st.DataObject, writers: tuple[Writer, Writer]) -> Run:
    """Tell it shuffled, sent again and again, by two writers at once; the run that it makes, of a trace of its own."""
    trace = next(fresh).to_bytes(16)
    story = [dataclasses.replace(message, trace_id=trace) for message in story]
    again = data.draw(st.lists(st.sampled_from(story), max_size=4))
    arrival = data.draw(st.permutations(story + again))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(arrival)), max_size=3)))
    groups = [arrival[start:end] for start, end in itertools.pairwise([0, *cuts, len(arrival)])]

    async def send(writer, share):
        for group in share:
            await writer.write([Batch(runs=[message]) for message in group])

    await asyncio.gather(send(writers[0], groups[::2]), send(writers[1], groups[1::2]))
    (wanted,) = merge_all(story)
    return wanted


async def assert_alike(store, world: list[Run], asked: list[RunQuery], *, beats: bool) -> None:
    """Store a world, of a site and a process of its own, here and in memory; both answer every question alike."""
    number = next(fresh)
    site, process = f"s{number}", number.to_bytes(16)
    batch = Batch(runs=[dataclasses.replace(one, site=site, process_key=one.process_key and process) for one in world])
    if beats:
        batch.processes.append(beat(NOW - 35 * SECOND, 1.0, key=process))
        batch.feeds.append(feed_beat(NOW - 35 * SECOND, site=site))
    memory = in_memory()
    for engine in (memory, store):
        await engine.writer.write([batch])
    for query in [RunQuery(), RunQuery(order="failing", limit=3), *asked]:
        mine = dataclasses.replace(query, site=(site,))
        assert await answers(store, mine) == await answers(memory, mine)
    for trace in range(4):
        assert await store.reader.tree(trace_id(trace), site) == await memory.reader.tree(trace_id(trace), site)
