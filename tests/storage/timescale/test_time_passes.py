"""Thousands of runs over two years: whatever is said of a run, and whenever, is merged as Python merges it."""

from __future__ import annotations

import random
from typing import NamedTuple

import pytest

from tests.storage.contract.builders import DAY, HOUR, NOW, SECOND, TRACE, ended, run
from tests.storage.engines import on_postgres
from wafermonitor.runs.merge import merge
from wafermonitor.runs.records import Batch, Run

pytestmark = pytest.mark.postgres
RUNS = 2500
DAYS = (0, 1, 6, 8, 14, 23, 25, 31, 33, 40, 64, 90, 130, 366)
"""When something is said, in days from today."""
CLOCK = """
CREATE SCHEMA later;
CREATE TABLE later.clock (by interval);
INSERT INTO later.clock VALUES ('0');
CREATE FUNCTION later.now() RETURNS timestamptz LANGUAGE sql STABLE RETURN pg_catalog.now() + (SELECT by FROM later.clock);
GRANT ALL ON SCHEMA later TO PUBLIC;
SELECT wafer_data.keep_partitions(current_date, current_date + 400, current_date - 460)
"""
"""A function now() that is found before PostgreSQL's own."""


class Told(NamedTuple):
    """A run as it is by now, and the day on which something was said of it last."""

    run: Run
    day: int


def message(dice: random.Random, number: int, day: int) -> Run:
    """A start of these days, one of long ago or of a clock that is ahead, or none; the end, or a word in between."""
    now_ns = NOW + day * DAY
    start_ns = dice.choice(
        [
            None,
            now_ns - dice.randrange(HOUR),
            now_ns - dice.randrange(7 * DAY),
            now_ns - dice.randrange(40 * DAY),
            NOW - dice.randrange(60 * DAY),
            now_ns - dice.randrange(450 * DAY),
            now_ns + dice.randrange(40 * DAY),
        ]
    )
    fields = {
        "trace_id": TRACE,
        "start_ns": start_ns,
        "last_sign_ns": now_ns,
        "received_ns": now_ns,
        "cpu_s": float(dice.randrange(100)),
    }
    if dice.random() < 0.5:
        return run(number, **fields)
    return ended(number, end_ns=now_ns + SECOND, end_rank=dice.choice([1, 2]), **fields)


def is_another(known: Told, said: Run, day: int) -> bool:
    """The one case in which ids that come again are another run, as merge.sql has it."""
    now_ns = NOW + day * DAY
    return (
        known.run.ended
        and known.day < day - 24
        and known.run.start_ns is not None
        and known.run.start_ns < now_ns - 31 * DAY
        and said.start_ns is not None
        and abs(said.start_ns - now_ns) <= 7 * DAY
    )


async def test_runs_are_merged_as_in_python_whenever_something_is_said(dsn):
    dice = random.Random(1)
    told: dict[int, Told] = {}
    async with on_postgres(dsn, search_path="later, pg_catalog") as store:
        await store.pool.execute(CLOCK)
        for day in DAYS:
            await store.pool.execute("UPDATE later.clock SET by = make_interval(days => $1)", day)
            heard = [number for number in range(RUNS) for _ in range(dice.choice((0, 0, 0, 1, 1, 2)))]
            dice.shuffle(heard)
            known = dict(told)
            said = []
            for number in heard:
                one = message(dice, number, day)
                if number in known and is_another(known[number], one, day):
                    continue
                said.append(one)
                told[number] = Told(merge(told[number].run, one) if number in told else one, day)
            size = dice.choice((150, 1500))
            for start in range(0, len(said), size):
                await store.writer.write([Batch(runs=[one]) for one in said[start : start + size]])
            assert await store.pool.fetchval("SELECT wafer_data.sweep_ghosts()") == 0
        found = [item.run for item in await store.reader.tree(TRACE)]
    assert len(found) == len(told) > 2000
    assert {one.key: one for one in found} == {one.run.key: one.run for one in told.values()}
