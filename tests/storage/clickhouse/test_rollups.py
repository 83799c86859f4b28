"""Rollups say what the runs say, however late, doubled or in disorder these were written; figured out anew in Python."""

from __future__ import annotations

import asyncio
import math
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

pytest.importorskip("clickhouse_connect", reason="the extra clickhouse is not installed")

from tests.storage.contract import builders
from tests.storage.engines import in_memory
from tests.storage.timescale.test_rollups import Stream, at, ended
from wafermonitor.runs.records import Batch, Run
from wafermonitor.storage.clickhouse import rollups, rows, schema
from wafermonitor.storage.clickhouse.rollups import Rollups
from wafermonitor.storage.errors import StorageUnavailable

pytestmark = [pytest.mark.servers, pytest.mark.xdist_group("clickhouse"), pytest.mark.timeout(300)]
SECOND, HOUR, DAY = builders.SECOND, builders.HOUR, builders.DAY
UNITS = ("hour", "day", "week", "month")
RESULTS = ("success", "failure", "error", "timeout", "cancellation", "skip")
COLUMNS = """
bucket site_id job started open ended success failure error timeout cancellation skip other bad success_rate subjobs
duration_sum_s duration_mean_s duration_min_s duration_p50_s duration_p95_s duration_p99_s duration_max_s
cpu_sum_s cpu_mean_s cpu_min_s cpu_max_s memory_mean_bytes memory_min_bytes memory_max_bytes
queue_delay_mean_s queue_delay_min_s queue_delay_max_s durations
"""
ROLLED = """
SELECT unit, toUnixTimestamp(bucket), site, job, dimension, value,
  open, ended, success, failure, error, timeout, cancellation, skip, subjobs,
  duration_count, toString(duration_ns), duration_min_ns, duration_max_ns,
  cpu_count, toString(cpu_ns), cpu_min_ns,
  cpu_max_ns, memory_count, toString(memory_bytes), memory_min_bytes, memory_max_bytes, queue_count, toString(queue_ns),
  queue_min_ns, queue_max_ns, durations
FROM job_rollup FINAL
WHERE zone = (SELECT argMax(zone, at_us) FROM rollup_state) AND open + ended > 0
"""


def bucket_of(unit: str, start_ns: int, zone: ZoneInfo) -> int:
    """What PostgreSQL's date_trunc says, in seconds."""
    local = datetime.fromtimestamp(start_ns // SECOND, UTC).astimezone(zone)
    offset_s = int((local.utcoffset() or timedelta()).total_seconds())
    hour_s = start_ns // SECOND - (start_ns // SECOND + offset_s) % 3600
    if unit == "hour":
        return hour_s
    day = datetime.fromtimestamp(hour_s, UTC).astimezone(zone).date()
    first = {"day": day, "week": day - timedelta(day.weekday()), "month": day.replace(day=1)}[unit]
    return int(datetime(first.year, first.month, first.day, tzinfo=zone).timestamp())


def measures(run: Run) -> list[int | None]:
    """Duration, CPU, memory and queue delay, as far as they count."""
    start_ns = run.start_ns or 0
    cpu_s, memory, nominal_ns = run.cpu_s, run.memory_bytes, run.nominal_time_ns
    return [
        run.end_ns - start_ns if run.end_ns is not None and run.end_ns >= start_ns else None,
        round(cpu_s * 1e9) if cpu_s is not None and 0 <= cpu_s <= 1e9 else None,
        memory if memory is not None and memory >= 0 else None,
        start_ns - nominal_ns if nominal_ns is not None and nominal_ns > 0 else None,
    ]


def direct(runs: list[Run], zone: ZoneInfo) -> dict[tuple, list]:
    """Every group of these runs and what stands in its row."""
    groups: dict[tuple, list[Run]] = defaultdict(list)
    for run in runs:
        names = {"": "", "app": run.service, "equipment": run.equipment, "recipe": run.recipe, "product": run.product}
        for unit in UNITS if run.start_ns is not None else ():
            for dimension, value in names.items():
                if value is not None:
                    bucket = bucket_of(unit, run.start_ns, zone)
                    groups[unit, bucket, run.site, run.job or "", dimension, value].append(run)
    return {key: row_of(group) for key, group in groups.items()}


def row_of(group: list[Run]) -> list:
    over = [run for run in group if run.ended]
    row: list = [len(group) - len(over), len(over), *(sum(run.result == name for run in over) for name in RESULTS)]
    row.append(sum(run.parent_span_id is not None for run in over))
    columns = [[value for value in column if value is not None] for column in zip(*map(measures, over), strict=True)] or [
        []
    ] * 4
    for column in columns:
        row += [len(column), str(sum(column)), min(column, default=None), max(column, default=None)]
    counts = Counter(0 if ns <= 1 else math.ceil(math.log(ns) * 25.968510736806735) for ns in columns[0])
    return [*row, [sorted(counts), [counts[bucket] for bucket in sorted(counts)]]]


async def differences(client, runs: list[Run], zone: str = "UTC") -> list[tuple]:
    """Groups in which the rollups and the runs differ."""
    rolled = {tuple(row[:6]): row[6:] for row in await client.query("look", ROLLED)}
    wanted = direct(runs, ZoneInfo(zone))
    return [(key, wanted.get(key), rolled.get(key)) for key in wanted.keys() | rolled if wanted.get(key) != rolled.get(key)]


async def told(batches: list[Batch]) -> list[Run]:
    """What all messages tell together, by the engine in dictionaries."""
    memory = in_memory()
    await memory.writer.write(batches)
    keys = {run.key for batch in batches for run in batch.runs}
    found = [await memory.reader.run(key.trace_id, key.span_id, key.site) for key in keys]
    return [stored.run for stored in found if stored is not None]


@pytest.fixture
def client(store):
    return store.reader._client


@pytest.fixture
def worker(client):
    return Rollups(client)


async def in_zone(client, zone: str) -> None:
    await client.command("set", f"INSERT INTO setting (name, words) VALUES ('time_zone', '{zone}')")


@pytest.mark.parametrize("seed", [1, 2])
async def test_four_writers_beside_the_worker_leave_no_group_different(store, client, worker, seed):
    stop = asyncio.Event()
    keeping = asyncio.create_task(worker.keep(stop, interval_s=0.01))
    written: list[Batch] = []

    async def write(number: int) -> None:
        stream, writer = Stream(seed * 10 + number % 3, keys=400), store.another_writer()
        for _ in range(12):
            batch = stream.batch()
            written.append(batch)
            await writer.write([batch] * (1 + number % 2))

    await asyncio.gather(*(write(number) for number in range(4)))
    stop.set()
    await keeping
    await worker.run_once()
    runs = await told(written)
    assert sum(run.ended for run in runs) > 200
    assert await differences(client, runs) == []


async def test_a_run_that_moves_and_gets_another_name_leaves_nothing_behind(store, client, worker):
    """Three starts and two jobs, each rolled up before the next is told."""
    first = ended(1, builders.NOW - 3 * HOUR, job="announced", end_rank=1, seconds=600)
    later = [
        builders.run(1, start_ns=builders.NOW - 5 * HOUR, job="announced"),
        builders.run(1, start_ns=builders.NOW - 30 * HOUR, job="announced"),
        ended(1, builders.NOW - 3 * HOUR, job="final", equipment="other", seconds=60),
    ]
    written = [Batch(runs=[first])]
    await store.writer.write(written)
    await worker.run_once()
    for message in later:
        written.append(Batch(runs=[message]))
        await store.writer.write(written[-1:])
        assert (await worker.run_once()).runs == 1
        assert await differences(client, await told(written)) == []


async def test_open_runs_are_counted_until_they_end(store, client, worker):
    await store.writer.write([Batch(runs=[builders.run(1), builders.run(2)])])
    await worker.run_once()
    look = "SELECT started, open, ended, success_rate, duration_p50_s FROM job_daily_stats"
    assert await client.query("look", look) == [[2, 2, 0, None, None]]
    await store.writer.write([Batch(runs=[builders.ended(1)])])
    await worker.run_once()
    ((started, still_open, over, rate, p50),) = await client.query("look", look)
    assert (started, still_open, over, rate) == (2, 1, 1, "1")
    assert float(p50) == pytest.approx(1800, rel=0.02)


async def test_nothing_new_writes_nothing_and_the_same_again_changes_nothing(store, client, worker):
    batch = Batch(runs=[ended(1), ended(2)])
    await store.writer.write([batch])
    await worker.run_once()
    count = "SELECT count() FROM job_rollup"
    before = await client.query("count", count)
    assert await worker.run_once() == rollups.Passed(0, 0, more=False)
    assert await client.query("count", count) == before
    await store.writer.write([batch])
    await worker.run_once()
    assert await differences(client, await told([batch])) == []


@pytest.mark.parametrize("table", ["rollup_hour", "rollup_longer", "measure_changed", "rollup_state"])
async def test_a_pass_that_was_cut_off_is_made_good_by_the_next(store, client, worker, table):
    written = [Batch(runs=[ended(1, job="announced", end_rank=1)])]
    await store.writer.write(written)
    await worker.run_once()
    written.append(Batch(runs=[ended(1, job="final"), ended(2)]))
    await store.writer.write(written[1:])

    class CutOff(Rollups):
        async def _write(self, name, *given):
            if name == table:
                raise StorageUnavailable("cut off")
            await super()._write(name, *given)

        async def _note(self, *given):
            raise StorageUnavailable("cut off")

    broken = CutOff(client)
    broken._name = worker._name
    with pytest.raises(StorageUnavailable):
        await broken.one_pass()
    await worker.run_once()
    assert await differences(client, await told(written)) == []


async def test_two_workers_at_once_come_to_the_same(store, client, worker, monkeypatch):
    monkeypatch.setattr(rollups, "LEASE_S", 0.0)
    other = Rollups(client)
    stop = asyncio.Event()
    keeping = [asyncio.create_task(one.keep(stop, interval_s=0.01)) for one in (worker, other)]
    stream, written = Stream(7, keys=60), []
    for _ in range(10):
        written.append(stream.batch())
        await store.writer.write(written[-1:])
    stop.set()
    await asyncio.gather(*keeping)
    await worker.run_once()
    assert await differences(client, await told(written)) == []


async def test_whoever_worked_last_goes_on_until_it_is_silent(client, worker):
    other = Rollups(client)
    assert await worker.run_once() is not None
    assert await other.run_once() is None
    stop = asyncio.Event()
    stop.set()
    await worker.keep(stop, interval_s=1)
    assert await other.run_once() is not None
    ((now_us,),) = await client.query("look", "SELECT toUnixTimestamp64Micro(now64(6))")
    await client.command("clear", "TRUNCATE TABLE rollup_state")
    gone = rows.ROLLUPS._replace(columns=("at_us", *rows.ROLLUPS.columns))
    silent = rows.uint64(now_us - int(rollups.LEASE_S * 1e6) - 1) + rows.rollup_row("gone", "", "UTC")
    await client.insert("pretend", gone, [silent])
    assert await worker.run_once() is not None


async def test_runs_that_were_there_before_are_found_and_so_are_those_of_a_long_stop(store, client, worker):
    written = [Batch(runs=[ended(number, builders.NOW - number * number * HOUR) for number in range(1, 30)])]
    await store.writer.write(written)
    await client.command("forget", "TRUNCATE TABLE run_change")
    assert (await worker.run_once()).runs >= 29
    assert await differences(client, await told(written)) == []
    written.append(Batch(runs=[ended(99, builders.NOW - 50 * DAY)]))
    await store.writer.write(written[1:])
    await client.command("forget", "TRUNCATE TABLE run_change")
    await worker._note(f"{builders.NOW // 1000 - 2 * 86_400 * 10**6:016}:", "UTC")
    await worker.run_once()
    assert await differences(client, await told(written)) == []


async def test_hours_whose_runs_may_be_gone_stay_as_they_are(store, client):
    old, young = ended(1, builders.NOW - 9 * DAY), ended(2, builders.NOW - 2 * DAY)
    await store.writer.write([Batch(runs=[old, young])])
    await Rollups(client).run_once()
    before = await client.query("look", ROLLED + " ORDER BY ALL")
    for table in ("run", "run_start", "run_measured"):
        await client.command("drop", f"DELETE FROM {table} WHERE trace_id = unhex('{old.trace_id.hex()}')")
    await schema.upgrade(client, schema.Keep(None, 8, 3600))
    late = Rollups(client)
    await client.command("take over", "TRUNCATE TABLE rollup_state")
    await late.run_once()
    await store.writer.write([Batch(runs=[ended(3, builders.NOW - 9 * DAY)])])
    await late.run_once()
    assert await client.query("look", ROLLED + " ORDER BY ALL") == before
    await in_zone(client, "Asia/Kolkata")
    await late.run_once()
    counts = "SELECT unit, sum(ended) FROM job_stats WHERE dimension = '' GROUP BY unit ORDER BY unit"
    assert await client.query("look", counts) == [[unit, 2] for unit in sorted(UNITS)]


async def test_a_day_has_23_or_25_hours_where_clocks_change(store, client, worker):
    await in_zone(client, "America/New_York")
    spring, autumn = at("2026-03-08T00:30:00-05:00"), at("2026-11-01T00:30:00-04:00")
    written = [
        Batch(runs=[ended(number, spring + number * HOUR) for number in range(23)]),
        Batch(runs=[ended(100 + number, autumn + number * HOUR) for number in range(25)]),
    ]
    await store.writer.write(written)
    await worker.run_once()
    assert await differences(client, await told(written), "America/New_York") == []
    days = "SELECT toString(toTimeZone(bucket, 'America/New_York')), ended FROM job_daily_stats ORDER BY bucket"
    assert await client.query("look", days) == [["2026-03-08 00:00:00", 23], ["2026-11-01 00:00:00", 25]]


async def test_another_time_zone_makes_every_bucket_anew(store, client, worker):
    """Half hours, quarters, a clock that changes by half an hour, at midnight, or across a year of hours."""
    written = [Batch(runs=[ended(number, builders.NOW - number * 97 * HOUR // 4) for number in range(300)])]
    await store.writer.write(written)
    await worker.run_once()
    runs = await told(written)
    for zone in ("Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana", "UTC"):
        await in_zone(client, zone)
        await worker.run_once()
        assert await differences(client, runs, zone) == []


async def test_percentiles_are_within_two_percent_of_the_exact_ones(store, client, worker):
    seconds = [1.07**number for number in range(200)]
    await store.writer.write([Batch(runs=[ended(number, seconds=value) for number, value in enumerate(seconds)])])
    await worker.run_once()
    look = "SELECT duration_p50_s, duration_p95_s, duration_p99_s, value FROM job_monthly_breakdown WHERE dimension = 'app'"
    ((p50, p95, p99, _),) = await client.query("look", look)
    for told_s, share in ((p50, 0.5), (p95, 0.95), (p99, 0.99)):
        assert float(told_s) == pytest.approx(seconds[math.ceil(200 * share) - 1], rel=0.02)


async def test_views_have_the_columns_of_those_on_postgresql(client):
    """Their names, as wafer.job_hourly_stats has them."""
    wanted = set(COLUMNS.split())
    for name in ("hourly", "daily", "weekly", "monthly"):
        for view, more in ((f"job_{name}_stats", set()), (f"job_{name}_breakdown", {"dimension", "value"})):
            found = {row[0] for row in await client.query("look", f"DESCRIBE TABLE {view}")}
            assert found == wanted | more
