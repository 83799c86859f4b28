"""A real PostgreSQL takes the native lane's streams and holds the same rows that the Python lane's records become."""

from __future__ import annotations

import pytest

from tests.receiver.native.agree import group
from tests.receiver.native.compared import python_outcome
from tests.storage.engines import on_postgres
from wafermonitor.storage.protocol import Part

pytestmark = pytest.mark.postgres

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


async def test_the_rows_of_both_lanes_are_stored_alike(decode, postgres):
    contents = []
    for native in (True, False):
        dsn = postgres.migrated()
        async with on_postgres(dsn) as engine:
            for seed in (1, 2, 3, 1, 4):  # one comes twice
                requests = group(seed, broken=seed == 3)
                outcomes = [python_outcome(request) for request in requests]
                batches = [outcome.batch for outcome in outcomes if not isinstance(outcome, str)]
                await engine.writer.write([Part(decode(requests), 0, len(requests))] if native else batches)
            contents.append(await stored(engine))
        postgres.drop(dsn)
    assert all(contents[0][table] for table in SOME)
    for table in TABLES:
        assert contents[0][table] == contents[1][table], table
