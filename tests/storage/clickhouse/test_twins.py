"""ClickHouse merges, judges and finds as Python does: hypothesis looks for a story or a question on which they differ."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip("clickhouse_connect", reason="the extra clickhouse is not installed")

from tests.storage.contract.builders import NOW, PROCESS, SECOND, run
from tests.storage.twins import assert_alike, questions, stories, tell, worlds
from wafermonitor.runs.records import Batch
from wafermonitor.storage.protocol import RunQuery

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("clickhouse"), pytest.mark.timeout(600)]
lasting = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=12)


@lasting
@given(story=stories, data=st.data())
async def test_merging_in_the_store_is_merging_in_python(store, story, data):
    """Before and after the server merges its parts. Whether it is lost is judged when it is read, so that is left out."""
    wanted = await tell(story, data, (store.writer, store.another_writer()))
    for _ in range(2):
        (stored,) = await store.reader.tree(wanted.trace_id)
        assert dataclasses.replace(stored.run, inferred=wanted.inferred) == wanted
        await store.writer._client.command("merge", "OPTIMIZE TABLE run FINAL")


@lasting
@given(world=worlds(), asked=st.lists(questions, min_size=1, max_size=4), beats=st.booleans())
async def test_the_store_and_memory_answer_alike(store, world, asked, beats):
    await assert_alike(store, world, asked, beats=beats)


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
