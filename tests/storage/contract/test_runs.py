"""A run is what all its messages say together, in whatever order and number they come; its state follows its feed's clock."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools

import pytest

from tests.storage.contract.builders import (
    DAY,
    HOUR,
    NOW,
    PROCESS,
    SECOND,
    beat,
    ended,
    feed_beat,
    run,
    runs,
    span_id,
    trace_id,
)
from wafermonitor.runs.merge import merge_all
from wafermonitor.runs.records import Batch, Progress
from wafermonitor.runs.state import State
from wafermonitor.storage.errors import CursorRejected
from wafermonitor.storage.protocol import RunQuery

BARE = {"start_ns": None, "job": None, "run_id": None, "service": None, "feed": None, "attributes": None}
STORY = [
    run(1, last_sign_ns=NOW - 50, heartbeat_interval_s=30.0, lot_ids=("L1",)),
    run(1, **BARE | {"last_sign_ns": NOW - 40}, progress=Progress(NOW - 40, 0.25, message="a quarter")),
    run(1, **BARE | {"last_sign_ns": NOW - 30}, progress=Progress(NOW - 30, 0.5), cpu_s=2.0, memory_bytes=100),
    run(1, **BARE | {"last_sign_ns": NOW - 20}, end_rank=1, end_ns=NOW - 20, result="failure", error_type="E"),
    ended(1, last_sign_ns=NOW - 10, end_ns=NOW - 10, result="success", lot_ids=("L0",), cpu_s=3.0),
]


async def only(engine, number=1):
    return await engine.reader.run(trace_id(number), span_id(number))


async def test_every_order_of_arrival_tells_one_story(engine):
    (wanted,) = merge_all(STORY)
    orders = list(itertools.permutations(STORY))
    keys = [{"trace_id": trace_id(number), "span_id": span_id(number)} for number in range(len(orders))]
    for arriving in zip(*orders, strict=True):  # a call brings the next message of each run, each in an order of its own
        await engine.writer.write(runs(*(dataclasses.replace(one, **key) for one, key in zip(arriving, keys, strict=True))))
    for number, key in enumerate(keys):
        assert (await only(engine, number)).run == dataclasses.replace(wanted, **key)


async def test_nothing_reopens_a_run_that_has_ended(engine):
    await engine.writer.write(runs(ended(1)))
    await engine.writer.write(runs(run(1, last_sign_ns=NOW + DAY, progress=Progress(NOW + DAY, 0.1))))
    stored = await only(engine)
    assert (stored.state, stored.run.result, stored.run.end_ns) == (State.ENDED, "success", ended(1).end_ns)
    assert stored.run.progress == Progress(NOW + DAY, 0.1)
    assert len((await engine.reader.runs(RunQuery())).items) == 1


async def test_an_end_without_a_start_finds_the_run_that_is_open(engine):
    await engine.writer.write(runs(run(1)))
    await engine.writer.write(runs(run(1, **BARE, end_rank=1, end_ns=NOW, result="error")))
    stored = await only(engine)
    assert (stored.run.start_ns, stored.run.job, stored.run.result) == (run(1).start_ns, "lot_yield", "error")
    assert len((await engine.reader.runs(RunQuery())).items) == 1


async def test_a_start_that_comes_after_the_end_completes_the_run(engine):
    await engine.writer.write(runs(run(1, **BARE, end_rank=1, end_ns=NOW, result="error")))
    await engine.writer.write(runs(run(1)))
    stored = await only(engine)
    assert (stored.state, stored.run.start_ns, stored.run.job) == (State.ENDED, run(1).start_ns, "lot_yield")
    assert len((await engine.reader.runs(RunQuery())).items) == 1


@pytest.mark.parametrize("age_ns", [3 * DAY, 400 * DAY, NOW, -30 * DAY], ids=["days", "a year", "1970", "ahead"])
async def test_a_run_of_any_day_ends(engine, age_ns):
    await engine.writer.write(runs(run(1, start_ns=NOW - age_ns)))
    await engine.writer.write(runs(ended(1, start_ns=NOW - age_ns)))
    await engine.writer.write(runs(ended(1, start_ns=NOW - age_ns, end_rank=1, result="error")))
    stored = await only(engine)
    assert (stored.run.start_ns, stored.run.result, stored.run.end_rank) == (NOW - age_ns, "success", 2)
    assert len((await engine.reader.runs(RunQuery())).items) == 1


async def test_messages_that_disagree_about_the_start_are_one_run(engine):
    for start_ns in (NOW - HOUR, NOW - 40 * DAY, NOW - 2 * DAY, None, 7):
        await engine.writer.write(runs(run(1, start_ns=start_ns), run(2, start_ns=start_ns)))
        await engine.writer.write(runs(ended(1, start_ns=start_ns)))
    assert sorted(stored.run.start_ns for stored in (await engine.reader.runs(RunQuery())).items) == [7, 7]


async def test_two_writers_that_end_and_announce_one_run_at_once_lose_nothing(engine):
    one, two = engine.another_writer(), engine.another_writer()
    numbers = range(1, 31)
    starts = [run(number, cpu_s=float(number), last_sign_ns=NOW - 9) for number in numbers]
    ends = [ended(number, memory_bytes=number) for number in numbers]
    for _ in range(3):
        await asyncio.gather(
            *(one.write(runs(*starts[first : first + 10])) for first in (0, 10, 20)),
            *(two.write(runs(*reversed(ends[first : first + 15]))) for first in (0, 15)),
        )
    stored = (await engine.reader.runs(RunQuery(limit=1000))).items
    wanted = {item.run_id: item for item in merge_all(starts + ends)}
    assert {item.run.run_id: item.run for item in stored} == wanted
    assert len(stored) == 30


async def states(engine):
    return {stored.run.run_id: str(stored.state) for stored in (await engine.reader.runs(RunQuery())).items}


async def test_states_follow_the_clock_and_the_feed(engine):
    alive = run(1, heartbeat_interval_s=10.0, last_sign_ns=NOW)
    await engine.writer.write([Batch(runs=[alive], feeds=[feed_beat(NOW)])])
    seen = {}
    for after_s in (0, 40, 50, 400, 500):
        engine.clock.now_ns = NOW + after_s * SECOND
        await engine.writer.write([Batch(feeds=[feed_beat(engine.clock.now_ns, engine.clock.now_ns)])])
        seen[after_s] = (await states(engine))["run-1"]
    assert seen == {0: "running", 40: "running", 50: "silent", 400: "lost", 500: "lost"}
    await engine.writer.write(runs(run(1, **BARE | {"last_sign_ns": engine.clock.now_ns})))
    assert await states(engine) == {"run-1": "running"}


async def test_a_cut_link_makes_runs_unknown_and_a_dark_one_lost(engine):
    await engine.writer.write([Batch(runs=[run(1, heartbeat_interval_s=10.0, last_sign_ns=NOW)], feeds=[feed_beat(NOW)])])
    seen = {}
    for after_s in (20, 40, 3600, 90_000):
        engine.clock.now_ns = NOW + after_s * SECOND
        seen[after_s] = (await states(engine))["run-1"]
    assert seen == {20: "running", 40: "unknown", 3600: "unknown", 90_000: "lost"}


async def test_a_feed_whose_clock_is_wrong_judges_its_own_runs(engine):
    """The host's clock is an hour slow: its runs and its beats agree, so nothing looks late."""
    slow_ns = NOW - HOUR
    await engine.writer.write(
        [Batch(runs=[run(1, heartbeat_interval_s=10.0, last_sign_ns=slow_ns)], feeds=[feed_beat(slow_ns, NOW, HOUR)])]
    )
    assert await states(engine) == {"run-1": "running"}
    engine.clock.now_ns = NOW + 60 * SECOND
    await engine.writer.write([Batch(feeds=[feed_beat(slow_ns + 60 * SECOND, NOW + 60 * SECOND, HOUR)])])
    assert await states(engine) == {"run-1": "silent"}


async def test_a_beat_of_the_process_keeps_all_its_runs_running(engine):
    quiet = {"heartbeat_interval_s": 10.0, "last_sign_ns": NOW - DAY, "process_key": PROCESS, "feed": None}
    await engine.writer.write(runs(run(1, **quiet), run(2, **quiet), run(3, **quiet | {"process_key": b"2" * 16})))
    assert set((await states(engine)).values()) == {"lost"}
    await engine.writer.write([Batch(processes=[beat(NOW, 10.0)])])
    assert await states(engine) == {"run-1": "running", "run-2": "running", "run-3": "lost"}


async def test_a_run_that_announced_no_interval_is_only_ever_overdue(engine):
    await engine.writer.write(
        runs(
            run(1, last_sign_ns=NOW - DAY, expected_duration_s=3601.0),
            run(2, last_sign_ns=NOW - DAY, deadline_ns=NOW - 1),
            run(3, last_sign_ns=NOW - DAY, expected_duration_s=3599.0),
        )
    )
    stored = {item.run.run_id: (item.state, item.overdue) for item in (await engine.reader.runs(RunQuery())).items}
    assert stored == {
        "run-1": (State.RUNNING, False),
        "run-2": (State.RUNNING, True),
        "run-3": (State.RUNNING, True),
    }


async def test_changes_since_a_token_are_told(engine):
    await engine.writer.write(runs(run(1), run(2)))
    start = await engine.reader.changes(None)
    assert start.runs == []
    await engine.writer.write(runs(ended(1), run(3)))
    first = await engine.reader.changes(start.token)
    assert {(item.run.run_id, str(item.state)) for item in first.runs} == {("run-1", "ended"), ("run-3", "running")}
    assert (await engine.reader.changes(first.token)).runs == []
    await engine.writer.write([Batch(processes=[beat()], feeds=[feed_beat()])])
    assert (await engine.reader.changes(first.token)).runs == []


async def test_changes_come_in_bounded_portions_and_none_is_left_out(engine):
    token = (await engine.reader.changes(None)).token
    for number in range(1, 26):
        await engine.writer.write(runs(run(number)))
    seen = []
    while True:
        portion = await engine.reader.changes(token, limit=4)
        if not portion.runs:
            break
        assert len(portion.runs) <= 4
        seen += [item.run.run_id for item in portion.runs]
        token = portion.token
    assert seen == [f"run-{number}" for number in range(1, 26)]


@pytest.mark.parametrize("token", ["", "x", "-1", "0", "1:2", "5:4:", "漢", "9999999999999:9999999999999:", f"{'0' * 32}.0"])
async def test_a_token_of_somebody_else_is_refused(engine, token):
    with pytest.raises(CursorRejected):
        await engine.reader.changes(token)
