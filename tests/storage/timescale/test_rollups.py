"""Rollups say what a direct query over the runs says, however late, doubled or in disorder these were written."""

from __future__ import annotations

import asyncio
import dataclasses
import random
from datetime import datetime
from pathlib import Path

import asyncpg
import pytest

from tests.storage.contract import builders
from wafermonitor.runs.records import Batch, Run
from wafermonitor.storage.timescale import rollups
from wafermonitor.storage.timescale.session import open_session

pytestmark = pytest.mark.postgres

DIRECT = (Path(__file__).parent / "rollups_direct.sql").read_text()
LEVELS = {"job_hourly": "hour", "job_daily": "day", "job_weekly": "week", "job_monthly": "month"}
SECOND, HOUR, DAY = builders.SECOND, builders.HOUR, builders.DAY


async def differences(store) -> list[str]:
    """Rows of all four tables that a direct query would not give, or would give otherwise."""
    found = []
    for table, unit in LEVELS.items():
        rows = await store.pool.fetch(DIRECT.format(table=table, unit=unit))
        found += [f"{table}: {dict(row)}" for row in rows]
    return found


async def roll_up(store) -> rollups.Passed:
    done = await rollups.run_once(store.pool)
    assert done is not None
    return done


def ended(number: int, start_ns: int = builders.NOW - HOUR, seconds: float = 60, **given) -> Run:
    return builders.ended(number, **{"start_ns": start_ns, "end_ns": start_ns + int(seconds * SECOND)} | given)


def at(text: str) -> int:
    """Nanoseconds of a time in ISO form."""
    return int(datetime.fromisoformat(text).timestamp()) * SECOND


async def buckets(store, table: str) -> dict[str, int]:
    rows = await store.pool.fetch(
        f"SELECT to_char(bucket AT TIME ZONE wafer.time_zone(), 'YYYY-MM-DD HH24:MI') AS at, sum(ended)::int AS ended "
        f"FROM wafer_data.{table} WHERE dimension = 0 GROUP BY bucket ORDER BY bucket"
    )
    return {row["at"]: row["ended"] for row in rows}


async def in_zone(store, zone: str) -> None:
    await store.pool.execute("UPDATE wafer_data.setting SET value = $1 WHERE name = 'time_zone'", zone)
    await roll_up(store)


class Stream:
    """Runs of one writer's share, told in pieces: what is written is late, doubled, and in any order."""

    def __init__(self, seed: int, keys: int, now_ns: int = builders.NOW) -> None:
        self._random = random.Random(seed)
        self._keys = keys
        self._now_ns = now_ns

    def batch(self) -> Batch:
        return Batch(runs=[self._one() for _ in range(self._random.randrange(1, 60))])

    def _one(self) -> Run:
        pick = self._random
        number = pick.randrange(self._keys)
        start_ns = self._now_ns - (number % 60) * HOUR // (1 + number % 7) + number
        described = {
            "job": None if number % 23 == 0 else f"job {number % 5}",
            "site": f"f{number % 2}",
            "service": f"app {number % 3}",
            "equipment": pick.choice([None, f"tool {number % 4}"]),
            "recipe": f"recipe {number % 6}" if number % 2 else None,
            "product": pick.choice([None, "A", "B"]),
            "cpu_s": pick.choice([None, pick.random() * 100, 1e300]),
            "memory_bytes": pick.choice([None, pick.randrange(10**10)]),
            "nominal_time_ns": pick.choice([None, start_ns - pick.randrange(10**12)]),
            "parent_span_id": builders.span_id(1) if number % 4 == 0 else None,
            # A start that is told earlier than another writer told it moves the run: to another hour, day, week or month.
            "start_ns": pick.choice([start_ns, start_ns, start_ns, start_ns - HOUR, start_ns - 9 * DAY, None]),
        }
        if pick.random() < 0.3:
            return builders.run(number, **described)
        how = {
            "end_ns": start_ns + pick.choice([-5, 0, 1, pick.randrange(10**14)]),
            "result": pick.choice([None, "success", "failure", "error", "timeout", "cancellation", "skip"]),
            "end_rank": pick.choice([1, 2]),
        }
        return dataclasses.replace(builders.ended(number, **described), **how)


AUTUMN = "2026-11-01T12:00:00-05:00"
"""Clocks of New York went back at 2:00 of this day; the runs of a stream begin in the two days before, or in October."""
SPRING = "2026-10-04T12:00:00+11:00"
"""Clocks of Lord Howe went forward by half an hour at 2:00 of this day."""


@pytest.mark.parametrize(
    ("seed", "zone", "noon"), [(1, "UTC", None), (2, "America/New_York", AUTUMN), (3, "Australia/Lord_Howe", SPRING)]
)
async def test_four_writers_beside_the_worker_leave_no_group_different(store, seed, zone, noon):
    await store.pool.execute("UPDATE wafer_data.setting SET value = $1 WHERE name = 'time_zone'", zone)
    now_ns = at(noon) if noon else builders.NOW
    stop = asyncio.Event()
    worker = asyncio.create_task(rollups.keep(store.pool, stop, interval_s=0.01))
    told: dict[tuple[int, str], set[object]] = {}

    async def write(number: int) -> None:
        stream, writer = Stream(seed * 10 + number % 3, keys=400, now_ns=now_ns), store.another_writer()
        for _ in range(25):
            batch = stream.batch()
            for run in batch.runs:
                told.setdefault((run.span_id, "equipment"), set()).add(run.equipment)
                told.setdefault((run.span_id, "start"), set()).add(run.start_ns)
            await writer.write([batch] * (1 + number % 2))

    await asyncio.gather(*(write(number) for number in range(4)))
    stop.set()
    await worker
    await roll_up(store)
    assert await differences(store) == []
    assert await store.pool.fetchval("SELECT sum(ended) FROM wafer_data.job_daily WHERE dimension = 0") > 200
    # What is hard was there: tools learnt late, starts that moved, and hours of the day on which clocks change.
    learnt = [key for key, values in told.items() if key[1] == "equipment" and None in values and len(values) > 1]
    moved = [key for key, values in told.items() if key[1] == "start" and len(values - {None}) > 1]
    assert min(len(learnt), len(moved)) > 50
    if noon:
        day = await store.pool.fetchval("SELECT date_trunc('day', $1::timestamptz, $2)", now_ns // 1000, zone)
        hours = await store.pool.fetchval(
            "SELECT count(DISTINCT bucket) FROM wafer_data.job_hourly WHERE date_trunc('day', bucket, $2) = $1", day, zone
        )
        assert hours >= 6


async def test_a_tool_that_is_learnt_late_takes_the_run_into_its_row(store):
    await roll_up(store)
    await store.writer.write(builders.runs(ended(1, equipment=None, end_rank=1), ended(2, equipment="A")))
    await roll_up(store)
    await store.writer.write(builders.runs(ended(1, equipment="B", recipe="r")))
    await roll_up(store)
    found = await store.pool.fetch(
        "SELECT dimension, value, ended FROM wafer_data.job_monthly WHERE dimension IN (2, 3) ORDER BY value"
    )
    assert [tuple(row) for row in found] == [(2, "A", 1), (2, "B", 1), (3, "r", 1)]
    assert await differences(store) == []


async def test_a_run_whose_start_is_told_earlier_moves_through_all_four_tables(store):
    await roll_up(store)
    first = at("2026-06-01T00:10:00+00:00")  # a Monday, the first of its month
    await store.writer.write(builders.runs(ended(1, first, end_rank=1)))
    await roll_up(store)
    await store.writer.write(builders.runs(ended(1, first - HOUR)))
    await roll_up(store)
    assert await differences(store) == []
    assert [await buckets(store, table) for table in LEVELS] == [
        {"2026-05-31 23:00": 1},
        {"2026-05-31 00:00": 1},
        {"2026-05-25 00:00": 1},
        {"2026-05-01 00:00": 1},
    ]


async def test_the_same_runs_again_change_nothing(store):
    await roll_up(store)
    await store.writer.write(builders.runs(ended(1), ended(2)))
    assert (await roll_up(store)).runs == 2
    before = await store.pool.fetch("SELECT * FROM wafer_data.job_hourly ORDER BY dimension, value")
    await store.writer.write(builders.runs(ended(1), ended(2)))
    assert (await roll_up(store)).again == 0
    assert await store.pool.fetch("SELECT * FROM wafer_data.job_hourly ORDER BY dimension, value") == before


async def test_nothing_new_writes_nothing(store):
    await roll_up(store)
    state = await store.pool.fetchrow("SELECT xmin, * FROM wafer_data.rollup_state")
    assert await roll_up(store) == rollups.Passed(0, 0, building=False)
    assert await store.pool.fetchrow("SELECT xmin, * FROM wafer_data.rollup_state") == state


async def test_a_run_that_held_the_longest_duration_and_turns_out_shorter_takes_it_back_everywhere(store):
    await roll_up(store)
    await store.writer.write(builders.runs(ended(1, seconds=60), ended(2, seconds=600, end_rank=1)))
    await roll_up(store)
    await store.writer.write(builders.runs(ended(2, seconds=30)))
    await roll_up(store)
    for table in LEVELS:
        row = await store.pool.fetchrow(f"SELECT duration_min_ns, duration_max_ns FROM wafer_data.{table} WHERE dimension = 0")
        assert tuple(row) == (30 * SECOND, 60 * SECOND)
    assert await differences(store) == []


async def test_a_run_whose_job_becomes_known_moves_and_leaves_no_empty_row(store):
    await roll_up(store)
    await store.writer.write(builders.runs(ended(1, job=None, end_rank=1)))
    await roll_up(store)
    await store.writer.write(builders.runs(ended(1, job="known")))
    await roll_up(store)
    assert [row[0] for row in await store.pool.fetch("SELECT job FROM wafer_data.job_hourly WHERE dimension = 0")] == ["known"]
    assert await differences(store) == []


async def test_a_run_that_is_deleted_by_hand_is_no_longer_counted(store):
    await roll_up(store)
    await store.writer.write(builders.runs(ended(1), ended(2)))
    await roll_up(store)
    await store.pool.execute("DELETE FROM wafer_data.run WHERE run_id = 'run-1'")
    await store.pool.execute("UPDATE wafer_data.run SET equipment = 'by hand' WHERE run_id = 'run-2'")
    await roll_up(store)
    assert await differences(store) == []
    assert await store.pool.fetchval("SELECT ended FROM wafer_data.job_hourly WHERE dimension = 2 AND value = 'by hand'") == 1


async def test_runs_that_were_there_before_the_rollups_are_built_hour_by_hour(store):
    await store.writer.write(
        builders.runs(*(ended(number, builders.NOW - number * number * HOUR) for number in range(1, 30)), ended(99, DAY))
    )
    while True:
        async with store.pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            if not await connection.fetchval("SELECT building FROM wafer_data.roll_up(box => '0')"):
                break
    assert await differences(store) == []
    assert await store.pool.fetchval("SELECT sum(ended) FROM wafer_data.job_monthly WHERE dimension = 0") == 30


async def test_late_runs_meanwhile_are_counted_once(store):
    await store.writer.write(builders.runs(*(ended(number, builders.NOW - number * DAY) for number in range(1, 9))))
    late = [(1, 3), (2, 6), (3, 1)]
    for number, days in late:
        async with store.pool.acquire() as connection, connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("SELECT building FROM wafer_data.roll_up(box => '0')")
        await store.writer.write(builders.runs(ended(100 + number, builders.NOW - days * DAY)))
    await roll_up(store)
    assert await differences(store) == []


async def test_hours_whose_runs_are_gone_stay_as_they_are(store):
    await roll_up(store)
    old = builders.NOW - 3 * DAY
    await store.writer.write(builders.runs(ended(1, old), ended(2)))
    await roll_up(store)
    horizon_us = (builders.NOW - DAY) // 1000
    await store.pool.execute("SELECT wafer_data.raise_horizon($1)", horizon_us)
    await store.pool.execute("DELETE FROM wafer_data.run WHERE start_time < $1", horizon_us)
    await store.writer.write(builders.runs(ended(1, old)))  # sent again when it has long been dropped
    await roll_up(store)
    await store.pool.execute("UPDATE wafer_data.rollup_state SET built_from = 'infinity'")  # and made anew from what there is
    await roll_up(store)
    for table in LEVELS:
        assert await store.pool.fetchval(f"SELECT sum(ended) FROM wafer_data.{table} WHERE dimension = 0") == 2


async def test_a_store_that_was_restored_elsewhere_is_made_anew(store):
    await roll_up(store)
    await store.writer.write(builders.runs(ended(1), ended(2)))
    await roll_up(store)
    # As pg_dump brings them: numbers of transactions that this server has yet to reach.
    await store.pool.execute("UPDATE wafer_data.run SET changed_xid = '99999999999'")
    await store.pool.execute("UPDATE wafer_data.rollup_state SET system_identifier = 7")
    await roll_up(store)
    assert await differences(store) == []
    assert await roll_up(store) == rollups.Passed(0, 0, building=False)
    assert await differences(store) == []


async def test_a_run_that_came_with_the_number_of_a_transaction_under_way_is_counted_once(store, dsn):
    await roll_up(store)
    await store.writer.write(builders.runs(ended(1)))
    async with open_session(dsn) as other, store.pool.acquire() as connection:
        transaction = other.transaction()
        await transaction.start()
        under_way = await other.fetchval("SELECT pg_current_xact_id()::text")
        # As pg_dump brings it, by chance with the number of one that is neither over nor still to come.
        await connection.execute(f"UPDATE wafer_data.run SET changed_xid = '{under_way}'")
        await connection.execute("UPDATE wafer_data.rollup_state SET system_identifier = 7")
        await rollups.one_pass(connection)
        await rollups.one_pass(connection)
        await transaction.commit()
        await rollups.one_pass(connection)
    assert await differences(store) == []
    assert await buckets(store, "job_monthly") != {}


async def test_only_one_of_many_leads(store):
    async with store.pool.acquire() as leader:
        assert await leader.fetchval("SELECT pg_try_advisory_lock($1)", rollups.LOCK)
        assert await rollups.run_once(store.pool) is None
    assert await rollups.run_once(store.pool) is not None


async def test_a_day_has_23_or_25_hours_where_clocks_change(store):
    await in_zone(store, "America/New_York")
    spring, autumn = at("2026-03-08T00:30:00-05:00"), at("2026-11-01T00:30:00-04:00")
    await store.writer.write(
        builders.runs(
            *(ended(number, spring + number * HOUR) for number in range(23)),
            *(ended(100 + number, autumn + number * HOUR) for number in range(25)),
        )
    )
    await roll_up(store)
    assert await differences(store) == []
    assert await buckets(store, "job_daily") == {"2026-03-08 00:00": 23, "2026-11-01 00:00": 25}
    hours = await store.pool.fetch("SELECT ended FROM wafer_data.job_hourly WHERE dimension = 0")
    assert [row[0] for row in hours] == [1] * 48


async def test_hours_of_a_half_hour_zone_begin_with_its_clock(store):
    await in_zone(store, "Asia/Kolkata")
    midnight = at("2026-06-01T00:00:00+05:30")
    await store.writer.write(builders.runs(ended(1, midnight - 1), ended(2, midnight), ended(3, midnight + HOUR - 1)))
    await roll_up(store)
    assert await buckets(store, "job_hourly") == {"2026-05-31 23:00": 1, "2026-06-01 00:00": 2}
    assert await buckets(store, "job_monthly") == {"2026-05-01 00:00": 1, "2026-06-01 00:00": 2}


async def test_another_time_zone_makes_every_bucket_anew(store):
    await roll_up(store)
    await store.writer.write(builders.runs(*(ended(number, builders.NOW - number * HOUR // 2) for number in range(200))))
    await roll_up(store)
    assert await differences(store) == []
    for zone in ("Australia/Lord_Howe", "Asia/Kolkata", "UTC"):
        await in_zone(store, zone)
        assert await differences(store) == []


@pytest.mark.parametrize("zone", ["", "Asia/Kolkatta", "+05:30", "IST-5:30", "'"])
async def test_a_time_zone_that_nobody_knows_is_refused_and_all_goes_on(store, zone):
    await store.writer.write(builders.runs(ended(1)))
    with pytest.raises(asyncpg.InvalidParameterValueError, match="no time zone that this server knows"):
        await in_zone(store, zone)
    await roll_up(store)
    assert await differences(store) == []


async def test_a_time_zone_is_written_as_the_server_names_it(store):
    await in_zone(store, "asia/kolkata")
    assert await store.pool.fetchval("SELECT wafer.time_zone()") == "Asia/Kolkata"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE wafer_data.setting SET value = 'soon' WHERE name = 'margin_s'",
        "UPDATE wafer_data.setting SET value = '-1' WHERE name = 'dark_s'",
        "UPDATE wafer_data.setting SET name = 'zone' WHERE name = 'time_zone'",
        "DELETE FROM wafer_data.setting",
    ],
)
async def test_a_setting_that_would_stop_every_view_is_refused(store, change):
    with pytest.raises(asyncpg.InvalidParameterValueError):
        await store.pool.execute(change)
    await store.pool.execute("UPDATE wafer_data.setting SET value = '20.5' WHERE name = 'margin_s'")
    assert (await store.reader.limits()).margin_s == 20.5


async def test_weeks_begin_on_monday(store):
    await roll_up(store)
    monday = at("2026-06-01T00:00:00+00:00")
    await store.writer.write(builders.runs(ended(1, monday - 1), ended(2, monday), ended(3, monday + 7 * DAY - 1)))
    await roll_up(store)
    assert await buckets(store, "job_weekly") == {"2026-05-25 00:00": 1, "2026-06-01 00:00": 2}


ZONES = ("UTC", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana", "Atlantic/Azores", "Asia/Beirut")


@pytest.mark.parametrize("zone", ZONES)
async def test_no_hour_lies_in_two_days(store, zone):
    """Every quarter of an hour of two years: the day of its hour is its day, and no hour begins after it."""
    rows = await store.pool.fetch(
        "SELECT t FROM generate_series('2025-01-01'::timestamptz, '2027-01-01', '15 min') t, date_trunc('hour', t, $1) h "
        "WHERE date_trunc('day', h, $1) <> date_trunc('day', t, $1) OR h > t OR t - h >= '2 hours'",
        zone,
    )
    assert rows == []


HISTOGRAM = """
  SELECT array_agg(wafer_data.histogram_entry(bucket, n) ORDER BY bucket)
  FROM (SELECT wafer_data.histogram_bucket(value) AS bucket, count(*) AS n FROM unnest($1::bigint[]) value GROUP BY 1) b
"""


def durations(seed: int) -> list[int]:
    pick = random.Random(seed)
    return [int(2 ** pick.uniform(0, 62)) if seed % 2 else pick.randrange(10**9, 10**10) for _ in range(1 + seed * 7)]


@pytest.mark.parametrize("seed", range(8))
async def test_percentiles_are_within_two_percent_of_the_exact_ones(store, seed):
    rows = await store.pool.fetch(
        f"SELECT wafer.percentile(({HISTOGRAM}), share) * 1e9 AS estimate, "
        "(SELECT percentile_disc(share) WITHIN GROUP (ORDER BY value) FROM unnest($1::bigint[]) value) AS exact "
        "FROM unnest(ARRAY[0, 0.01, 0.5, 0.9, 0.95, 0.99, 1]::float8[]) share",
        durations(seed),
    )
    assert len(rows) == 7
    for row in rows:
        assert row["estimate"] == pytest.approx(row["exact"], rel=0.02, abs=1)


async def test_histograms_add_up_to_that_of_all_values_and_can_be_taken_away_again(store):
    async def histogram(values: list[int]) -> list[int]:
        return await store.pool.fetchval(HISTOGRAM, values) or []

    add = "SELECT wafer_data.add_histograms($1, $2)"
    minus = """
      SELECT ARRAY(
        SELECT wafer_data.histogram_entry(wafer_data.entry_bucket(e), -wafer_data.entry_count(e)) FROM unnest($1::bigint[]) e
      )"""
    for seed in range(12):
        one, other = durations(seed), durations(seed + 3)[: seed * 2]
        together = await store.pool.fetchval(add, await histogram(one), await histogram(other))
        assert together == await histogram(one + other)
        negative = await store.pool.fetchval(minus, await histogram(other))
        assert await store.pool.fetchval(add, together, negative) == await histogram(one)


async def test_no_runs_have_no_percentile(store):
    assert await store.pool.fetchval("SELECT wafer.percentile('{}', 0.5)") is None
