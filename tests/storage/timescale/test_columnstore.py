"""Days that are over are compressed where the server can; what is stored and read stays the same. The rest leaves them alone.

The Community edition is had where WAFER_TEST_TSL_DSN names a server (`WAFER_TEST_STORE=community`); the choice of chunks is
tested on the Apache edition, with a stand-in for the one function that it lacks.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

import pytest

from tests.storage.contract.builders import DAY, HOUR, NOW, SECOND, digest, log, point, span, trace_id
from tests.storage.engines import on_postgres
from wafermonitor.runs.records import Batch
from wafermonitor.storage.protocol import LogQuery, SpanQuery
from wafermonitor.storage.timescale import migrate
from wafermonitor.storage.timescale.session import open_session
from wafermonitor.storage.timescale.writer import Writer

KIND = os.environ.get("WAFER_TEST_STORE", "plain")
pytestmark = pytest.mark.servers
on_community = pytest.mark.skipif(KIND != "community", reason="WAFER_TEST_TSL_DSN names no server of the Community edition")
on_apache = pytest.mark.skipif(KIND != "apache", reason="runs where WAFER_TEST_STORE is apache")
STAND_IN = """
CREATE OR REPLACE FUNCTION wafer_data.tier() RETURNS text LANGUAGE sql STABLE RETURN 'community';
CREATE FUNCTION public.pretend(chunk text, if_not_compressed boolean) RETURNS void LANGUAGE sql AS 'SELECT';
CREATE OR REPLACE FUNCTION wafer_data.timescaledb(function_name text) RETURNS text LANGUAGE sql STABLE RETURN 'public.pretend';
"""


def batch(size: int = 40) -> Batch:
    """A batch with spans, lines and values on today and the three days before."""
    times = [NOW - (place % 4) * DAY - place * SECOND for place in range(size)]
    return Batch(
        spans=[span(place, trace_id=trace_id(1), start_ns=at) for place, at in enumerate(times)],
        logs=[log(place, trace_id=trace_id(1), digest=digest(place), time_ns=at) for place, at in enumerate(times)],
        points=[point(place, time_ns=at) for place, at in enumerate(times)],
    )


async def compress_all(store) -> int:
    """Every chunk of days that ended a day ago, at once: maintenance gives writers some time; how many."""
    await store.pool.execute("SELECT wafer_data.close_days($1)", NOW // 1000 - 24 * HOUR // 1000)
    done = 0
    while await store.pool.fetchval("SELECT wafer_data.compress_next(interval '0')") is not None:
        done += 1
    return done


async def read(store):
    """Everything of the trace, and the values."""
    spans = await store.reader.spans(SpanQuery(trace_id=trace_id(1), limit=1000))
    logs = await store.reader.logs(LogQuery(trace_id=trace_id(1), limit=1000))
    return spans.items, logs.items


async def compressed(store) -> int:
    return await store.pool.fetchval("SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed")


def due() -> int:
    """How many of the four days of `batch` ended a day ago or more."""
    before = datetime.fromtimestamp(NOW / SECOND, UTC) - timedelta(hours=24)
    days = {(datetime.fromtimestamp((NOW - place * DAY) / SECOND, UTC)).date() for place in range(4)}
    return sum(day < before.date() for day in days)


async def test_a_server_that_cannot_is_left_alone(store):
    if KIND == "community":
        pytest.skip("this server can")
    await store.writer.write([batch()])
    assert await compress_all(store) == 0
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.hot_day WHERE closed_at IS NOT NULL") == 0


@on_apache
async def test_the_newest_whole_day_that_is_settled_comes_first(store):
    await store.writer.write([batch()])
    await store.pool.execute(STAND_IN)
    next_one = "SELECT wafer_data.compress_next(interval '0')"
    assert await store.pool.fetchval(next_one) is None  # no day is closed yet
    today = datetime.fromtimestamp(NOW / SECOND, UTC).date()
    await store.pool.execute("UPDATE wafer_data.hot_day SET closed_at = now() WHERE day < $1::date - 1", today)
    assert await store.pool.fetchval("SELECT wafer_data.compress_next(interval '1 hour')") is None  # not for long enough
    chunk = await store.pool.fetchval(next_one)
    day, table = await store.pool.fetchrow(
        "SELECT range_start::date, hypertable_name FROM timescaledb_information.chunks "
        "WHERE format('%I.%I', chunk_schema, chunk_name) = $1",
        chunk,
    )
    assert (day, table) == (today - timedelta(days=2), "log_record")


@on_apache
async def test_closed_days_take_no_rows(store):
    await store.pool.execute("UPDATE wafer_data.hot_day SET closed_at = now() WHERE day < current_date - 1")
    await Writer(store.pool).write([batch()])
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span_late") == 20
    await store.pool.execute("SELECT wafer_data.keep_partitions(current_date - 3, current_date + 7, current_date)")
    assert await store.pool.fetchval("SELECT oldest::date = current_date - 1 FROM wafer_data.hot_window()")


@on_community
async def test_days_that_are_over_are_compressed_and_read_the_same(store):
    await store.writer.write([batch()])
    before = await read(store)
    assert await compress_all(store) == 3 * due()
    assert await compressed(store) == 3 * due()
    assert await read(store) == before
    assert await compress_all(store) == 0


@on_community
async def test_what_comes_again_for_a_compressed_day_is_read_once(store):
    await store.writer.write([batch()])
    before = await read(store)
    await compress_all(store)
    await Writer(store.pool).write([batch()])
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span") == 40
    assert await read(store) == before


@on_community
async def test_a_writer_that_has_not_heard_of_it_stores_nothing_twice_in_a_compressed_day(store):
    slow = Writer(store.pool, window_age_s=3600)
    await slow.write([batch()])
    await compress_all(store)
    more = Batch(spans=[span(900, trace_id=trace_id(1), start_ns=NOW - 3 * DAY)])
    await slow.write([batch(), more])
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span") == 41
    assert len((await read(store))[0]) == 41


@on_community
async def test_a_compressed_day_is_dropped_like_any_other(store):
    await store.writer.write([batch()])
    await compress_all(store)
    day = datetime.fromtimestamp((NOW - 3 * DAY) / SECOND, UTC).date()
    assert await store.pool.fetchval("SELECT wafer_data.drop_day('span', $1)", day)
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span WHERE start_time::date = $1", day) == 0


@on_community
async def test_an_archived_day_that_was_compressed_since_is_dropped_when_it_still_holds_what_was_archived(store):
    await store.writer.write([batch()])
    day = datetime.fromtimestamp((NOW - 3 * DAY) / SECOND, UTC).date()
    archived = await store.pool.fetchval("SELECT wafer_data.fingerprint('span', $1)", day)
    await compress_all(store)
    late = Batch(spans=[span(900, trace_id=trace_id(1), start_ns=NOW - 3 * DAY)])
    await Writer(store.pool, window_age_s=3600).write([late])
    async with store.pool.acquire() as connection:
        # What a writer that has not heard of it adds to the compressed chunk.
        await connection.execute("INSERT INTO wafer_data.span SELECT * FROM wafer_data.span_late")
        drop = "SELECT wafer_data.drop_archived('span', $1, $2)"
        assert not await connection.fetchval(drop, day, archived)
        assert await connection.fetchval(drop, day, await connection.fetchval("SELECT wafer_data.fingerprint('span', $1)", day))
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span WHERE start_time::date = $1", day) == 0


@on_community
async def test_a_chunk_that_took_rows_after_it_was_compressed_is_compressed_again(store):
    slow = Writer(store.pool, window_age_s=3600)
    await slow.write([batch()])
    await compress_all(store)
    await slow.write([Batch(spans=[span(900, trace_id=trace_id(1), start_ns=NOW - 3 * DAY)])])
    assert await compress_all(store) == 1
    assert await compress_all(store) == 0
    assert await store.pool.fetchval("SELECT count(*) FROM wafer_data.span") == 41


@on_community
async def test_the_extension_is_updated_under_compressed_days(postgres):
    older = postgres.psql(
        "SELECT version FROM pg_available_extension_versions v JOIN pg_available_extensions e USING (name) "
        "WHERE name = 'timescaledb' AND version <> default_version ORDER BY string_to_array(version, '.')::int[] DESC LIMIT 1"
    )
    if not older:
        pytest.skip("the server has one version of TimescaleDB only")
    dsn = postgres.database()
    postgres.psql(f"CREATE EXTENSION timescaledb VERSION '{older}'", dsn)
    async with open_session(dsn) as connection:
        await migrate.upgrade(connection)
    async with on_postgres(dsn) as store:
        await store.writer.write([batch()])
        before = await read(store)
        assert await compress_all(store) == 3 * due()
    postgres.psql("ALTER EXTENSION timescaledb UPDATE", dsn)
    async with on_postgres(dsn) as store:
        assert await store.pool.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'") != older
        assert await read(store) == before
        await store.writer.write([batch()])
        assert await read(store) == before
        day = datetime.fromtimestamp((NOW - 3 * DAY) / SECOND, UTC).date()
        assert await store.pool.fetchval("SELECT wafer_data.drop_day('span', $1)", day)
        assert await store.pool.fetchval("SELECT count(*) FROM wafer.compression_status WHERE compressed_chunks > 0") == 3
    postgres.drop(dsn)


@on_community
async def test_a_compressed_chunk_has_a_bloom_filter_of_its_trace_ids(store):
    """The unique index makes it, in versions that have them."""
    version = await store.pool.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'timescaledb'")
    if tuple(map(int, version.split(".")[:2])) < (2, 29):
        pytest.skip(f"TimescaleDB {version} may have none")
    await store.writer.write([batch()])
    await compress_all(store)
    names = await store.pool.fetch(
        "SELECT DISTINCT attname FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid "
        "WHERE c.relnamespace = '_timescaledb_internal'::regnamespace AND attname LIKE '\\_ts\\_meta%bloom%trace\\_id%'"
    )
    assert names


@on_community
async def test_sizes_count_what_is_compressed(store):
    await store.writer.write([batch(4000)])
    before = await store.pool.fetchval("SELECT bytes FROM wafer.database_size_overview WHERE table_name = 'span'")
    await compress_all(store)
    async with store.pool.acquire() as connection:
        await connection.execute("SET ROLE wafer_reader")
        size = "SELECT bytes, index_bytes, parts FROM wafer.database_size_overview WHERE table_name = 'span'"
        bytes_, index_bytes, parts = await connection.fetchrow(size)
        status = await connection.fetchrow("SELECT * FROM wafer.compression_status WHERE table_name = 'span'")
        listed = await connection.fetchval("SELECT sum(bytes)::bigint FROM wafer.chunk_health WHERE table_name = 'span'")
        await connection.execute("RESET ROLE")
    told = "SELECT sum(total_bytes)::bigint FROM chunks_detailed_size('wafer_data.span')"
    hypertable = await store.pool.fetchval(told)
    assert listed == hypertable
    assert hypertable <= bytes_ < before
    assert index_bytes < bytes_
    assert (status["chunks"], status["compressed_chunks"]) == (parts, due())
    assert status["compressed_bytes"] > 0
    assert status["uncompressed_bytes"] + status["compressed_bytes"] == listed
    assert status["ratio"] > 1


@pytest.mark.skipif(KIND == "plain", reason="runs where the server has TimescaleDB")
async def test_the_extension_may_stand_in_any_schema(postgres):
    dsn = postgres.database()
    postgres.psql('CREATE SCHEMA "Time Series"; CREATE EXTENSION timescaledb SCHEMA "Time Series"', dsn)
    async with open_session(dsn) as connection:
        await migrate.upgrade(connection)
    async with on_postgres(dsn) as store:
        await store.writer.write([batch()])
        done = await compress_all(store)
        assert done == (3 * due() if KIND == "community" else 0)
        async with store.pool.acquire() as connection:
            await connection.execute("SET ROLE wafer_reader")
            for view in ("database_size_overview", "chunk_health", "compression_status", "slow_queries", "system_health"):
                await connection.fetch(f"SELECT * FROM wafer.{view}")
            compressed_spans = "SELECT compressed_chunks FROM wafer.compression_status WHERE table_name = 'span'"
            assert await connection.fetchval(compressed_spans) == done / 3
            await connection.execute("RESET ROLE")
        day = datetime.fromtimestamp((NOW - 3 * DAY) / SECOND, UTC).date()
        assert await store.pool.fetchval("SELECT wafer_data.drop_day('span', $1)", day)
    postgres.drop(dsn)
