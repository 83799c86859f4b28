"""Views and functions for readers: the names that were asked for, what they say of known runs, the examples of the guide."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest

from tests.storage.contract import builders
from tests.storage.timescale.test_rollups import ended, roll_up
from wafermonitor.runs.records import Batch
from wafermonitor.storage.timescale.session import SETTINGS, open_session

pytestmark = pytest.mark.postgres

GUIDE = Path(__file__).parents[3] / "docs" / "analytics.md"
EXAMPLES = re.findall(r"```sql\n(.*?)```", GUIDE.read_text(), re.DOTALL)
PANELS = re.findall(r"```grafana\n(.*?)```", GUIDE.read_text(), re.DOTALL)
NOW, SECOND, HOUR, DAY = builders.NOW, builders.SECOND, builders.HOUR, builders.DAY
VIEWS = {
    *("job_health_summary", "system_health", "app_success_rates", "recent_failures", "performance_outliers", "slow_queries"),
    *("compression_status", "chunk_health", "database_size_overview"),
    *("job_hourly_stats", "job_daily_stats", "job_weekly_stats", "job_monthly_stats"),
}
FUNCTIONS = {
    *(
        "calculate_job_metrics",
        "detect_anomalies",
        "generate_alerts",
        "get_job_stats",
        "get_slowest_jobs",
        "get_failure_analysis",
    ),
}


@pytest.fixture
async def reader(store, dsn, postgres):
    """A connection of a login that is no more than wafer_reader."""
    name = urlsplit(dsn).path.removeprefix("/") + "_reader"
    postgres.psql(f"CREATE ROLE \"{name}\" LOGIN PASSWORD 'reader' IN ROLE wafer_reader")
    async with open_session(postgres.login(dsn, name, "reader")) as connection:
        assert SETTINGS["timezone"] == "UTC"
        yield connection
    postgres.psql(f'DROP ROLE "{name}"')


async def test_the_names_that_were_asked_for_are_there(store):
    views = await store.pool.fetch("SELECT viewname FROM pg_views WHERE schemaname = 'wafer'")
    assert {row[0] for row in views} >= VIEWS
    functions = await store.pool.fetch("SELECT proname FROM pg_proc WHERE pronamespace = 'wafer'::regnamespace")
    assert {row[0] for row in functions} >= FUNCTIONS


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda text: re.search(r"wafer\.(\w+)", text)[1])
async def test_examples_of_the_guide_run_as_a_reader(reader, example):
    await reader.fetch(example)


def test_the_guide_names_every_view_and_function():
    assert {name for name in VIEWS | FUNCTIONS if f"`{name}" not in GUIDE.read_text()} == set()
    assert len(EXAMPLES) >= 12
    assert len(PANELS) >= 4


async def test_a_reader_can_neither_write_nor_see_secrets(reader):
    tables = await reader.fetch(
        "SELECT relname FROM pg_class WHERE relnamespace = 'wafer_data'::regnamespace AND relkind IN ('r', 'p')"
    )
    for (table,) in tables:
        for doing in (f"DELETE FROM wafer_data.{table}", f"TRUNCATE wafer_data.{table}"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await reader.execute(doing)
    for secret in ("SELECT rolpassword FROM pg_authid", "SELECT pg_read_file('postgresql.conf')", "CREATE TABLE wafer.mine ()"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.execute(secret)


HOURS_OF_JOBS = """
  WITH site AS (INSERT INTO wafer_data.site (name) VALUES ('f1') RETURNING site_id)
  INSERT INTO wafer_data.job_hourly (
    bucket, dimension, site_id, job, value, ended, success, failure, error, timeout, cancellation, skip, subjobs,
    duration_count, duration_ns, cpu_count, memory_count, queue_count, durations
  )
  SELECT
    date_trunc('hour', now()) - make_interval(hours => hour), 0, site_id, 'job ' || job, '',
    5, 5, 0, 0, 0, 0, 0, 0, 5, 5e9, 0, 0, 0, '{}'
  FROM site, generate_series(1, $1::int) job, generate_series(1, $2::int * 24) hour
"""
"""Rollups of so many jobs, for so many days: each ran in each hour."""


async def read_rows(connection) -> int:
    """Rows of job_hourly that were read by an index so far, in this session too."""
    await connection.execute("SELECT pg_stat_force_next_flush()")
    return await connection.fetchval(
        "SELECT idx_tup_fetch + seq_tup_read FROM pg_stat_user_tables WHERE relid = 'wafer_data.job_hourly'::regclass"
    )


def expanded(panel: str, from_time: datetime, to_time: datetime) -> str:
    """What Grafana's PostgreSQL data source sends: macros become text in UTC, variables of many values a list of literals."""
    begin, end = (f"'{at:%Y-%m-%dT%H:%M:%SZ}'" for at in (from_time, to_time))
    text = re.sub(r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN {begin} AND {end}", panel)
    text = text.replace("$__timeFrom()", begin).replace("$__timeTo()", end)
    return text.replace("$site", "'f1','f2'").replace("$job", "'lot_yield'")


@pytest.mark.parametrize("panel", PANELS, ids=range(len(PANELS)))
async def test_panels_of_the_guide_show_something_to_a_reader(store, reader, panel):
    await store.writer.write(
        builders.runs(
            ended(1, equipment="T1"),
            ended(2, result="failure", equipment="T2"),
            ended(3, site="f2", equipment="T1"),
            builders.run(4, expected_duration_s=60.0),
        )
    )
    await roll_up(store)
    now = datetime.fromtimestamp(NOW / SECOND, UTC)
    found = await reader.fetch(expanded(panel, now - timedelta(days=2), now + timedelta(minutes=5)))
    assert found
    for row in found:
        assert row.get("time", found) is not None
    if "$__" in panel:
        long_ago = now - timedelta(days=400)
        assert await reader.fetch(expanded(panel, long_ago, long_ago + timedelta(hours=6))) == []


async def test_a_reader_can_call_nothing_that_acts_with_rights_that_it_has_not(store):
    """A function that runs as its owner is closed to readers, or only tells which days there are."""
    names = await store.pool.fetch(
        "SELECT proname FROM pg_proc WHERE pronamespace IN ('wafer'::regnamespace, 'wafer_data'::regnamespace) "
        "AND prosecdef AND has_function_privilege('wafer_reader', oid, 'EXECUTE')"
    )
    assert {row[0] for row in names} <= {"fenced_before", "hot_window", "stray_partitions"}


async def rows(store, sql: str, *arguments) -> list[dict]:
    return [dict(row) for row in await store.pool.fetch(sql, *arguments)]


async def test_hours_say_what_was_rolled_up_what_was_not_yet_and_what_is_open(store):
    await roll_up(store)
    start = NOW - 3 * HOUR
    await store.writer.write(builders.runs(ended(1, start, 10), ended(2, start, 30, result="failure")))
    await roll_up(store)
    await store.writer.write(
        builders.runs(ended(3, start, 20, result="skip"), ended(2, start, 50, result="error"), builders.run(4, start_ns=start))
    )
    stats = "SELECT * FROM wafer.job_hourly_stats"
    unrolled = await rows(store, stats)
    await roll_up(store)
    (row,) = rolled = await rows(store, stats)
    assert unrolled == rolled
    assert (row["started"], row["open"], row["ended"], row["success"], row["error"], row["skip"], row["bad"]) == (
        4,
        1,
        3,
        1,
        1,
        1,
        1,
    )
    assert row["success_rate"] == 0.5
    assert row["duration_mean_s"] == pytest.approx(80 / 3)
    assert (row["duration_min_s"], row["duration_max_s"]) == (10, 50)
    assert row["duration_p50_s"] == pytest.approx(20, rel=0.02)


async def test_breakdowns_add_up_to_the_job_for_what_is_known(store):
    await store.writer.write(
        builders.runs(
            ended(1, equipment="A"),
            ended(2, equipment="B"),
            ended(3, equipment="B", recipe="r"),
            ended(4, parent_span_id=b"12345678"),
        )
    )
    await roll_up(store)
    found = await rows(
        store, "SELECT dimension, value, ended, subjobs FROM wafer.job_daily_breakdown ORDER BY dimension, value"
    )
    assert [tuple(row.values()) for row in found] == [
        ("app", "yield", 4, 1),
        ("equipment", "A", 1, 0),
        ("equipment", "B", 2, 0),
        ("recipe", "r", 1, 0),
    ]


async def test_health_names_what_is_wrong_with_a_job(store):
    await roll_up(store)
    await store.writer.write(
        [
            Batch(
                runs=[
                    ended(1, job="fine"),
                    ended(2, job="broken", result="error", error_type="ValueError"),
                    builders.run(3, job="gone", last_sign_ns=NOW - DAY // 2, heartbeat_interval_s=30.0),
                    builders.run(4, job="late", expected_duration_s=60.0, heartbeat_interval_s=None, last_sign_ns=None),
                    ended(5, job="recovered", start_ns=NOW - 2 * HOUR, result="failure"),
                    ended(6, job="recovered", start_ns=NOW - HOUR),
                ],
                feeds=[builders.feed_beat(time.time_ns(), time.time_ns())],
            )
        ]
    )
    found = await rows(
        store, "SELECT job, health, lost, overdue, bad_24h, last_error_type FROM wafer.job_health_summary ORDER BY job"
    )
    assert [tuple(row.values()) for row in found] == [
        ("broken", "failing", 0, 0, 1, "ValueError"),
        ("fine", "good", 0, 0, 0, None),
        ("gone", "failing", 1, 0, 0, None),
        ("late", "warning", 0, 1, 0, None),
        ("recovered", "warning", 0, 0, 1, None),
    ]
    (system,) = await rows(store, "SELECT open, lost, overdue, feeds, dead_letters, rollups_building FROM wafer.system_health")
    assert tuple(system.values()) == (2, 1, 1, 1, 0, False)
    alerts = await rows(store, "SELECT severity, kind, job FROM wafer.generate_alerts()")
    assert [tuple(row.values()) for row in alerts] == [("critical", "lost", "gone"), ("warning", "overdue", "late")]


async def test_apps_and_failures(store):
    await roll_up(store)
    lots = {"lot_ids": ("L1", "L2")}
    await store.writer.write(
        builders.runs(
            ended(1, service="a"),
            ended(2, service="a", result="failure", error_type="E1", equipment="T1", **lots),
            ended(3, NOW - HOUR + 3000, service="a", result="failure", error_type="E1", equipment="T1", **lots),
            ended(4, NOW - HOUR + 4000, service="a", result="failure", error_type="E1", equipment="T2"),
            ended(5, service="b", start_ns=NOW - 3 * DAY, result="timeout"),
        )
    )
    apps = await rows(store, "SELECT app, ended_24h, success_rate_24h, bad_7d FROM wafer.app_success_rates ORDER BY app")
    assert [tuple(row.values()) for row in apps] == [("a", 4, 0.25, 3), ("b", 0, None, 1)]
    assert [row["run_id"] for row in await rows(store, "SELECT run_id FROM wafer.recent_failures")] == [
        "run-4",
        "run-3",
        "run-2",
        "run-5",
    ]
    worst, other = await rows(store, "SELECT * FROM wafer.get_failure_analysis()")
    assert (
        worst["error_type"],
        worst["failures"],
        worst["share"],
        worst["top_equipment"],
        worst["top_equipment_failures"],
    ) == ("E1", 3, 0.75, "T1", 2)
    assert (worst["lots"], worst["equipments"]) == (2, 2)
    assert worst["last_trace_id"] == builders.trace_id(4).hex()
    assert (other["result"], other["failures"]) == ("timeout", 1)


async def test_outliers_on_both_sides_of_the_usual(store):
    usual = [ended(number, NOW - number * HOUR, 60 + number % 5) for number in range(1, 60)]
    await store.writer.write(
        builders.runs(*usual, ended(100, NOW - HOUR, 600), ended(101, NOW - HOUR, 1), ended(102, NOW - HOUR, 64))
    )
    await roll_up(store)
    found = await rows(store, "SELECT run_id, direction, score FROM wafer.performance_outliers")
    assert [(row["run_id"], row["direction"]) for row in found] == [("run-100", "slow"), ("run-101", "fast")]
    assert found[0]["score"] == pytest.approx((600 - 62) / (62 * 0.05 / 0.6745), rel=0.05)


async def test_stats_and_metrics_of_jobs(store):
    await roll_up(store)
    await store.writer.write(
        builders.runs(
            ended(1, NOW - 2 * HOUR, 10, job="quick"),
            ended(2, NOW - 2 * HOUR, 1000, job="slow", cpu_s=2.5, nominal_time_ns=NOW - 3 * HOUR),
            ended(3, NOW - 2 * HOUR, 30, job="quick", site="f2", result="error"),
            ended(4, NOW - 30 * HOUR, 20, job="quick"),
            builders.run(5, job="quick"),
        )
    )
    stats = await rows(store, "SELECT site_id, job, started, ended, bad FROM wafer.get_job_stats()")
    assert [tuple(row.values()) for row in stats] == [
        ("f1", "quick", 2, 1, 0),
        ("f1", "slow", 1, 1, 0),
        ("f2", "quick", 1, 1, 1),
    ]
    assert len(await rows(store, "SELECT FROM wafer.get_job_stats('quick', '7 days', 'f1')")) == 1
    assert await rows(store, "SELECT FROM wafer.get_job_stats(site => 'nowhere')") == []
    slowest = await rows(store, "SELECT job, duration_max_s FROM wafer.get_slowest_jobs(max_rows => 2)")
    assert [tuple(row.values()) for row in slowest] == [("slow", 1000), ("quick", 30)]
    (metrics,) = await rows(store, "SELECT * FROM wafer.calculate_job_metrics('quick', site => 'f1')")
    assert (metrics["started"], metrics["ended"], metrics["success_rate"], metrics["ended_before"]) == (2, 1, 1, 1)
    assert metrics["duration_p50_before_s"] == pytest.approx(20, rel=0.02)
    (slow,) = await rows(store, "SELECT * FROM wafer.calculate_job_metrics('slow')")
    assert (slow["cpu_mean_s"], slow["queue_delay_mean_s"]) == (2.5, 3600)
    (none,) = await rows(store, "SELECT * FROM wafer.calculate_job_metrics('unheard of')")
    assert (none["started"], none["success_rate"]) == (0, None)


async def test_the_slowest_job_is_found_among_more_busy_ones_than_are_listed(store):
    busy = [ended(number, job=f"job {number // 2}") for number in range(2 * 1010)]
    await store.writer.write(builders.runs(*busy, ended(9000, job="rare and slow", seconds=9000)))
    await roll_up(store)
    (slowest,) = await rows(store, "SELECT job, duration_max_s FROM wafer.get_slowest_jobs(max_rows => 1)")
    assert tuple(slowest.values()) == ("rare and slow", 9000)
    assert len(await rows(store, "SELECT FROM wafer.get_job_stats()")) == 1000


async def test_anomalies_read_no_more_than_what_is_asked_and_compared(store):
    """A careless question is cut: three months before the last week; and of these only the hours that are compared."""
    await store.pool.execute(HOURS_OF_JOBS, 40, 200)
    await store.pool.execute("ANALYZE wafer_data.job_hourly")
    one, all_ = "interval '1 hour', '91 days'", "interval '10 years', '10 years'"
    assert await rows(store, f"SELECT * FROM wafer.detect_anomalies({all_})") == await rows(
        store, "SELECT * FROM wafer.detect_anomalies('7 days', '91 days')"
    )
    async with store.pool.acquire() as connection:
        before = await read_rows(connection)
        await connection.fetch(f"SELECT * FROM wafer.detect_anomalies({one})")
        read = await read_rows(connection) - before
    # Three hours a week of 13 weeks, the hour that is asked, and for each job its first one.
    assert 40 * 30 < read < 40 * 60


async def test_anomalies_are_found_by_the_hour_of_the_week_on_both_sides(store):
    """A job that runs twice an hour on weekday-like hours, six weeks long; then one hour has none, one ten, one takes long."""
    this_hour = NOW // HOUR * HOUR
    runs = []
    for hour in range(1, 6 * 7 * 24):
        start = this_hour - hour * HOUR
        count, seconds = (0 if hour == 5 else 10 if hour == 3 else 2), (600 if hour == 2 else 60)
        runs += [ended(hour * 20 + number, start + number * SECOND, seconds, job="steady") for number in range(count)]
    for chunk in range(0, len(runs), 500):
        await store.writer.write(builders.runs(*runs[chunk : chunk + 500]))
    await roll_up(store)
    found = await rows(store, "SELECT bucket, metric, direction, value, expected FROM wafer.detect_anomalies() ORDER BY bucket")
    told = [(row["bucket"] * 1000, row["metric"], row["direction"], row["value"], row["expected"]) for row in found]
    # An hour may have ended since the test began: it has no runs.
    assert [row for row in told if row[0] < this_hour] == [
        (this_hour - 3 * HOUR, "runs", "high", 10, 2),
        (this_hour - 2 * HOUR, "duration_mean_s", "high", 600, 60),
    ]
    low = await rows(store, "SELECT bucket, metric FROM wafer.detect_anomalies(threshold => 1) WHERE direction = 'low'")
    assert [row["metric"] for row in low if row["bucket"] * 1000 < this_hour] == ["runs"]


async def test_tables_and_chunks_are_listed_with_their_problems(store):
    times = [NOW - days * DAY for days in range(4)]
    await store.writer.write(
        [Batch(spans=[builders.span(1, start_ns=at) for at in times], logs=[builders.log(1, time_ns=at) for at in times])]
    )
    (size,) = await rows(store, "SELECT parts, bytes FROM wafer.database_size_overview WHERE table_name = 'span'")
    assert size["parts"] > 3
    assert size["bytes"] > 0
    assert await rows(store, "SELECT FROM wafer.chunk_health WHERE problem IS NOT NULL") == []
    assert {row["table_name"] for row in await rows(store, "SELECT table_name FROM wafer.compression_status")} >= {
        "span",
        "log_record",
    }
    assert await rows(store, "SELECT * FROM wafer.slow_queries") == []
