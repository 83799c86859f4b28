"""ClickHouse merges, judges and finds as Python does: hypothesis looks for a story or a question on which they differ."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("clickhouse_connect", reason="the extra clickhouse is not installed")

from tests.runs import strategies
from tests.storage.contract.builders import NOW, PROCESS, SECOND, beat, feed_beat, run, trace_id
from tests.storage.engines import in_memory
from tests.storage.timescale.test_engines_agree import answers, questions, worlds
from wafermonitor.runs.merge import merge_all
from wafermonitor.runs.records import Batch
from wafermonitor.storage.protocol import RunQuery

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("clickhouse"), pytest.mark.timeout(600)]
lasting = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12)
fresh = itertools.count(1)


@lasting
@given(story=st.lists(strategies.runs(), min_size=1, max_size=6), data=st.data())
async def test_merging_in_the_store_is_merging_in_python(store, story, data):
    """Shuffled, sent again and again, by two writers at once; before and after the server merges its parts."""
    number = next(fresh)
    story = [dataclasses.replace(message, trace_id=number.to_bytes(16)) for message in story]
    again = data.draw(st.lists(st.sampled_from(story), max_size=4))
    arrival = data.draw(st.permutations(story + again))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(arrival)), max_size=3)))
    groups = [arrival[start:end] for start, end in itertools.pairwise([0, *cuts, len(arrival)])]

    async def send(writer, share):
        for group in share:
            await writer.write([Batch(runs=group)])

    await asyncio.gather(send(store.writer, groups[::2]), send(store.another_writer(), groups[1::2]))
    (wanted,) = merge_all(story)
    assert [stored.run for stored in await store.reader.tree(number.to_bytes(16))] == [wanted]
    await store.writer._client.command("merge", "OPTIMIZE TABLE run FINAL")
    assert [stored.run for stored in await store.reader.tree(number.to_bytes(16))] == [wanted]


@lasting
@given(world=worlds(), asked=st.lists(questions, min_size=1, max_size=4), beats=st.booleans())
async def test_both_answer_alike(store, world, asked, beats):
    site = f"s{next(fresh)}"
    process = next(fresh).to_bytes(16)
    memory = in_memory()
    world = [dataclasses.replace(one, site=site, process_key=one.process_key and process) for one in world]
    batch = Batch(runs=world)
    if beats:
        batch.processes.append(beat(NOW - 35 * SECOND, 1.0, key=process))
        batch.feeds.append(feed_beat(NOW - 35 * SECOND, site=site))
    for engine in (memory, store):
        await engine.writer.write([batch])
    for query in [RunQuery(), RunQuery(order="failing", limit=3), *asked]:
        mine = dataclasses.replace(query, site=(site,))
        assert await answers(store, mine) == await answers(memory, mine)
    for trace in range(4):
        assert await store.reader.tree(trace_id(trace), site) == await memory.reader.tree(trace_id(trace), site)


async def test_a_run_lost_for_a_day_counts_as_ended_until_it_speaks_again(store):
    """What maintenance writes down on PostgreSQL is seen when it is read here."""
    quiet = {"heartbeat_interval_s": 10.0, "feed": None, "process_key": PROCESS}
    await store.writer.write([Batch(runs=[run(1, last_sign_ns=NOW - 86_401 * SECOND, **quiet)])])
    (stored,) = (await store.reader.runs(RunQuery(inferred=True))).items
    assert (str(stored.state), stored.run.inferred) == ("lost", True)
    assert (await store.reader.sites())[0].open_runs == {}
    await store.writer.write([Batch(runs=[run(1, last_sign_ns=NOW, **quiet)])])
    assert (await store.reader.runs(RunQuery(inferred=True))).items == []
    assert (await store.reader.sites())[0].open_runs == {"running": 1}
