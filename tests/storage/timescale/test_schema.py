"""The list of tables in the design is complete, and people's words stand in the schema that people read."""

from __future__ import annotations

import pytest

from tests.storage.contract import builders
from tests.storage.tables import TABLES
from wafermonitor.storage.timescale.rows import DELTA_COLUMNS

pytestmark = pytest.mark.postgres


async def test_the_tables_are_those_of_the_design(store):
    rows = await store.pool.fetch(
        "SELECT relname FROM pg_class "
        "WHERE relnamespace = 'wafer_data'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
    )
    assert {row["relname"] for row in rows} == set(TABLES)


@pytest.mark.parametrize(("hot", "late"), [("span", "span_late"), ("log_record", "log_late"), ("metric_point", "metric_late")])
async def test_a_late_table_has_the_columns_and_the_key_of_its_hot_one(store, hot, late):
    async def shape(table):
        columns = await store.pool.fetch(
            "SELECT attname, format_type(atttypid, atttypmod), attnotnull, attcollation FROM pg_attribute "
            "WHERE attrelid = $1::text::regclass AND attnum > 0 ORDER BY attnum",
            f"wafer_data.{table}",
        )
        keys = await store.pool.fetch(
            "SELECT pg_get_indexdef(indexrelid, 0, true) AS key FROM pg_index "
            "WHERE indrelid = $1::text::regclass AND indisunique",
            f"wafer_data.{table}",
        )
        return [tuple(column) for column in columns], [row["key"].partition("USING")[2] for row in keys]

    assert await shape(hot) == await shape(late)


async def test_texts_that_are_merged_or_ordered_compare_by_their_bytes(store):
    rows = await store.pool.fetch(
        "SELECT attname FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation "
        "WHERE attrelid = 'wafer_data.run'::regclass AND collname <> 'C'"
    )
    assert rows == []


async def test_a_delta_has_every_column_of_a_run_but_those_that_the_table_makes(store):
    rows = await store.pool.fetch(
        "SELECT attname FROM pg_attribute "
        "WHERE attrelid = 'wafer_data.run'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )
    made = {"changed_xid", "duration_ns"}
    assert [row["attname"] for row in rows if row["attname"] not in made] == list(DELTA_COLUMNS)


async def test_span_has_its_two_indexes_and_no_third(store):
    rows = await store.pool.fetch("SELECT indexname FROM pg_indexes WHERE schemaname = 'wafer_data' AND tablename = 'span'")
    assert {row["indexname"] for row in rows} == {"span_key", "span_root"}


async def test_a_sign_of_life_changes_no_index_of_the_open_runs(store):
    """Only then can PostgreSQL put the new version beside the old one (HOT)."""
    rows = await store.pool.fetch("SELECT indexname FROM pg_indexes WHERE schemaname = 'wafer_data' AND tablename = 'run_open'")
    assert {row["indexname"] for row in rows} == {"run_open_key", "run_open_start", "run_open_beating", "run_open_process"}
    await store.writer.write(builders.runs(builders.run(1, heartbeat_interval_s=30.0, process_key=builders.PROCESS)))
    signs = {"changed_xid", "last_sign_unix_ns", "received_unix_ns", "progress_unix_ns", "cpu_s", "memory_bytes"}
    values = {name: name for name in DELTA_COLUMNS} | dict.fromkeys(signs, "1") | {"changed_xid": "pg_current_xact_id()"}
    given = ", ".join(f"{name} = {value}" for name, value in values.items())
    async with store.pool.acquire() as connection, connection.transaction():
        assert await connection.execute(f"UPDATE wafer_data.run_open SET {given}") == "UPDATE 1"
        hot = "SELECT pg_stat_get_xact_tuples_hot_updated('wafer_data.run_open'::regclass)"
        assert await connection.fetchval(hot) == 1
