"""One text of the schema: what the engine runs on a server, and what an operator applies to a cluster."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from click.testing import CliRunner

pytest.importorskip("clickhouse_connect", reason="the extra clickhouse is not installed")

from tests.storage.engines import on_clickhouse
from wafermonitor.storage.clickhouse import schema
from wafermonitor.storage.clickhouse.client import Client
from wafermonitor.storage.command import storage
from wafermonitor.storage.errors import SchemaTooOld, StorageRejected, StorageUnavailable

KEEP = schema.Keep(raw_days=7, run_days=365, arrival_seconds=60)
TABLES = {
    "app",
    "dead_letter",
    "feed",
    "first_arrival",
    "job_rollup",
    "log_record",
    "metric_point",
    "metric_series",
    "process",
    "resource",
    "rollup_state",
    "root_span",
    "run",
    "run_change",
    "run_measured",
    "run_start",
    "run_word",
    "scope",
    "setting",
    "site",
    "span",
}
COPIES = {"root_span_of_span", "run_start_of_run", "run_word_of_run"}
VIEWS = {"job_stats"} | {
    f"job_{unit}_{of}" for unit in ("hourly", "daily", "weekly", "monthly") for of in ("stats", "breakdown")
}
NAME = r"`wafer`\.(\w+)"


def rendered() -> list[str]:
    return [part.strip() for part in schema.render("fab", "wafer", KEEP).split(";\n") if part.strip()]


def plain() -> list[str]:
    return [statement for name in schema.migrations() for statement in schema.statements(name, KEEP)]


def body(statement: str) -> str:
    """Columns, order, partitions and settings, without names and engine."""
    text = re.sub(r" *--[^\n]*", "", statement[statement.index("CREATE") :])
    text = re.sub(r"ENGINE = \w+\(.*\).*", "", text)
    return text[text.index("(\n") :] if "MATERIALIZED" not in text else text[text.index("SELECT") :]


def test_a_cluster_has_each_table_twice_and_the_same_columns():
    made = {match[1]: text for text in rendered() if (match := re.search(rf"CREATE TABLE IF NOT EXISTS {NAME}", text))}
    assert set(made) == {form for name in (*TABLES, "schema_migration") for form in (name, f"{name}_local")}
    for statement in plain():
        name = re.search(r"CREATE TABLE IF NOT EXISTS (\w+)", statement)
        if name is not None:
            assert body(made[f"{name[1]}_local"]) == body(statement)


def test_a_cluster_replicates_every_table_and_sends_what_is_equal_to_one_shard():
    for text in rendered():
        assert text.startswith("INSERT") or "ON CLUSTER `fab`" in text
        if re.search(rf"CREATE TABLE IF NOT EXISTS {NAME}_local", text):
            assert re.search(r"ENGINE = Replicated(Replacing|Aggregating|)MergeTree\('/clickhouse/tables/\{shard\}/", text)
        elif "CREATE TABLE" in text:
            assert re.search(r"ENGINE = Distributed\('fab', 'wafer', '\w+_local', cityHash64\([\w, ]+\)\)", text)
    by_trace = {re.search(NAME, text)[1] for text in rendered() if text.endswith("cityHash64(trace_id))")}
    assert by_trace == {"span", "root_span", "log_record", "run", "run_start", "run_word", "run_change", "run_measured"}


def test_views_of_a_cluster_copy_from_one_local_table_to_another():
    views = [text for text in rendered() if "MATERIALIZED VIEW" in text]
    assert {re.search(NAME, text)[1] for text in views} == COPIES
    for text in views:
        assert re.search(rf"TO {NAME}_local AS", text)
        assert re.search(rf"FROM {NAME}_local AS \w+", text)


def test_views_for_readers_stand_over_the_distributed_tables():
    views = {match[1]: text for text in rendered() if (match := re.search(rf"CREATE VIEW IF NOT EXISTS {NAME}", text))}
    assert set(views) == VIEWS
    for text in views.values():
        sources = re.findall(r"FROM (\S+)", text[text.index("SELECT") :])
        assert sources
        assert all(re.match(NAME, source) and "_local" not in source for source in sources)


@pytest.mark.servers
@pytest.mark.xdist_group("clickhouse")
async def test_nothing_is_dropped_that_no_archive_holds_unless_it_is_said(clickhouse):
    client = await Client.open(clickhouse.database(), pool_size=1, timeout_s=60)
    for raw_days, run_days in ((None, None), (None, 30), (7, None), (7, 30), (None, None), (None, None)):
        await schema.upgrade(client, KEEP._replace(raw_days=raw_days, run_days=run_days))
        assert await schema.kept_days(client) == {"span": raw_days, "run": run_days}
        ruled = set(await schema._rules(client))
        assert {"first_arrival", "dead_letter", "job_rollup", "run_change"} <= ruled
        raw, runs = {"span", "root_span", "log_record", "metric_point", "resource"}, {"run", "run_start", "run_word", "process"}
        assert ruled & raw == (raw if raw_days else set())
        assert ruled & runs == (runs if run_days else set())
    await client.close()


@pytest.mark.servers
@pytest.mark.xdist_group("clickhouse")
async def test_migrate_and_status_say_which_rule_holds(clickhouse, monkeypatch):
    monkeypatch.setenv("WAFER_STORAGE_DSN", clickhouse.database())
    told = await asyncio.to_thread(CliRunner().invoke, storage, ["migrate"])
    assert "are never dropped (WAFER_STORAGE_CLICKHOUSE_RAW_DAYS is not set)" in told.output
    await asyncio.to_thread(CliRunner().invoke, storage, ["migrate", "--clickhouse-run-days", "30"])
    told = await asyncio.to_thread(CliRunner().invoke, storage, ["status", "--json"])
    facts = json.loads(told.output)
    assert (facts["raw_days"], facts["run_days"], facts["current"]) == (None, 30, True)
    told = await asyncio.to_thread(CliRunner().invoke, storage, ["status"])
    assert "runs are dropped, unarchived, after 30 days" in told.output


def test_a_cluster_has_rules_only_for_what_is_said():
    text = schema.render("fab", "wafer", schema.Keep(None, None, 60))
    assert len(re.findall("^TTL ", text, re.MULTILINE)) == 4
    assert "{" not in text.replace("{shard}", "").replace("{replica}", "")


def test_the_command_prints_it():
    result = CliRunner().invoke(storage, ["ddl", "--cluster", "fab", "--clickhouse-raw-days", "7"])
    assert result.exit_code == 0
    assert "CREATE DATABASE IF NOT EXISTS `wafer` ON CLUSTER `fab`;" in result.output
    assert "INTERVAL 7 DAY" in result.output


@pytest.mark.parametrize("name", ["", "a b", "x`; DROP", "1"])
def test_a_name_that_is_none_is_refused(name):
    with pytest.raises(StorageRejected):
        schema.render(name, "wafer", KEEP)


@pytest.mark.servers
@pytest.mark.xdist_group("clickhouse")
async def test_clickhouse_reads_every_statement_for_a_cluster(clickhouse):
    assert len(rendered()) == 2 * len({*TABLES, "schema_migration"}) + len(COPIES) + len(VIEWS) + 1 + len(schema.migrations())
    client = await Client.open(clickhouse.dsn("default"), pool_size=1, timeout_s=60)
    for statement in rendered():
        await client.command("read the statement", f"EXPLAIN AST {statement}")
    with pytest.raises(StorageUnavailable, match="code 62"):
        await client.command("read the statement", "EXPLAIN AST CREATE TABLE x ENGINE Merge(Tree")
    await client.close()


@pytest.mark.servers
@pytest.mark.xdist_group("clickhouse")
async def test_the_engine_runs_the_same_text(clickhouse):
    dsn = clickhouse.database()
    async with on_clickhouse(dsn):
        client = await Client.open(dsn, pool_size=1, timeout_s=60)
        rows = await client.query(
            "look", "SELECT name, engine, sorting_key FROM system.tables WHERE database = currentDatabase()"
        )
        engines = {name: (engine, key) for name, engine, key in rows}
        assert set(engines) == TABLES | COPIES | VIEWS | {"schema_migration"}
        for statement in plain():
            found = re.search(r"CREATE TABLE IF NOT EXISTS (\w+)(?s:.*)ENGINE = (\w+)\((?s:.*)ORDER BY (.*)", statement)
            if found is not None:
                assert engines[found[1]] == (found[2], found[3].strip("()"))
        await client.close()


@pytest.mark.servers
@pytest.mark.xdist_group("clickhouse")
async def test_a_schema_is_made_once_checked_and_kept_in_step_with_the_settings(clickhouse):
    client = await Client.open(clickhouse.database(), pool_size=1, timeout_s=60)
    with pytest.raises(SchemaTooOld):
        await schema.check(client)
    assert await schema.upgrade(client, KEEP) == schema.migrations()
    await schema.check(client)
    assert await schema.upgrade(client, KEEP._replace(raw_days=9)) == []
    assert await schema.kept_days(client) == {"span": 9, "run": 365}
    await client.command("pretend to be newer", "INSERT INTO schema_migration (name) VALUES ('9999_from_the_future')")
    for ask in (schema.check(client), schema.upgrade(client, KEEP)):
        with pytest.raises(StorageRejected, match="newer than this program"):
            await ask
    await client.close()
