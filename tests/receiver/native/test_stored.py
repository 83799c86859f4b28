"""A real PostgreSQL, and a real ClickHouse, hold the same rows whichever lane decoded."""

from __future__ import annotations

import pytest

from tests.receiver.native.agree import group
from tests.receiver.native.compared import inserting, python_outcome
from tests.receiver.otlp import spans
from tests.storage.engines import Engine, on_clickhouse, on_postgres
from wafermonitor.receiver.transcode.native import Decode
from wafermonitor.receiver.transcode.protocol import Encoding, Request, Signal
from wafermonitor.storage.errors import StorageRejected
from wafermonitor.storage.protocol import Part

TABLES = {
    "site": "name",
    "resource": "key",
    "scope": "key",
    "metric_series": "key",
    "app": "service, site_id",
    "span": "trace_id, span_id, start_time, start_ns, site_id",
    "span_late": "trace_id, span_id, start_time, start_ns, site_id",
    "log_record": "time, digest",
    "log_late": "time, digest",
    "metric_point": "series_id, time, time_ns",
    "metric_late": "series_id, time, time_ns",
    "run": "trace_id, span_id, site_id",
    "run_open": "trace_id, span_id, site_id",
    "process": "process_key",
    "feed": "site_id, feed_id",
    "dead_letter": "key",
}
SOME = ("span_late", "log_late", "metric_late", "run", "run_open", "process", "feed", "dead_letter")
"""Those that the generated groups certainly fill; their times are not those of any prepared day."""


async def stored(engine) -> dict[str, list[str]]:
    """Every row as text, without the transaction that wrote it."""
    found = {}
    for table, key in TABLES.items():
        rows = await engine.pool.fetch(f"SELECT to_jsonb(t) - 'changed_xid' AS row FROM wafer_data.{table} t ORDER BY {key}")
        found[table] = [row["row"] for row in rows]
    return found


async def write(engine: Engine, decode: Decode | None) -> None:
    """Some groups, one of them twice; without `decode` as the Python lane's records."""
    for seed in (1, 2, 3, 1, 4):
        requests = group(seed, broken=seed == 3)
        outcomes = [python_outcome(request) for request in requests]
        batches = [outcome.batch for outcome in outcomes if not isinstance(outcome, str)]
        await engine.writer.write(batches if decode is None else [Part(decode(requests), 0, len(requests))])


@pytest.mark.postgres
async def test_postgresql_stores_the_rows_of_both_lanes_alike(decode, postgres):
    contents = []
    for lane in (decode, None):
        dsn = postgres.migrated()
        async with on_postgres(dsn) as engine:
            await write(engine, lane)
            contents.append(await stored(engine))
        postgres.drop(dsn)
    assert all(contents[0][table] for table in SOME)
    for table in TABLES:
        assert contents[0][table] == contents[1][table], table


INSERTED = (
    *("site", "resource", "scope", "metric_series", "app", "span", "root_span", "log_record", "metric_point"),
    *("run", "run_start", "run_change", "process", "feed", "dead_letter"),
)
CHANGING = frozenset({"precedence", "seen", "changed_us", "call"})
"""Columns that say when a call wrote the row."""
COLUMNS = (
    "SELECT name FROM system.columns WHERE database = currentDatabase() AND table = {table:String} AND default_kind != 'ALIAS'"
)


@pytest.mark.servers
@pytest.mark.xdist_group("clickhouse")
@pytest.mark.usefixtures("decode")
async def test_clickhouse_stores_the_rows_of_both_lanes_alike(clickhouse):
    contents = []
    for lane in (inserting(), None):
        async with on_clickhouse(clickhouse.database()) as engine:
            await write(engine, lane)
            contents.append(await inserted(engine))
    assert all(contents[0][table] for table in INSERTED)
    for table in INSERTED:
        assert contents[0][table] == contents[1][table], table


async def inserted(engine: Engine) -> dict[str, list[list[object]]]:
    """Every row as readers see it, one for each key."""
    client = engine.writer._client
    found = {}
    for table in INSERTED:
        columns = await client.query("look", COLUMNS, {"table": table})
        shown = ", ".join(f"hex(toString({name}))" for (name,) in columns if name not in CHANGING)
        final = "" if table == "run_change" else "FINAL"
        found[table] = await client.query("look", f"SELECT DISTINCT {shown} FROM {table} {final} ORDER BY ALL")
    return found


@pytest.mark.servers
@pytest.mark.xdist_group("clickhouse")
async def test_rows_in_the_words_of_the_other_database_are_refused(decode, clickhouse):
    block = decode([Request(Signal.TRACES, Encoding.PROTOBUF, spans(1).SerializeToString(), 1)])
    async with on_clickhouse(clickhouse.database()) as engine:
        with pytest.raises(StorageRejected):
            await engine.writer.write([Part(block, 0, 1)])
