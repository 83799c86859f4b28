"""What is planned once for a connection, without the values, still finds its rows by an index."""

from __future__ import annotations

import pytest

from tests.storage.contract.builders import DAY, NOW, PROCESS, SITE, point
from wafermonitor.runs.records import Batch
from wafermonitor.storage.protocol import MetricQuery

pytestmark = pytest.mark.postgres
PROGRAMS = 20_000
FILL = """
WITH made AS (
  INSERT INTO wafer_data.resource (key, site_id, service, process_key, attributes)
  SELECT sha256(n::text::bytea), site_id, 'other', gen_random_uuid(), '{}' FROM wafer_data.site, generate_series(1, $1) n
  RETURNING resource_id, key
)
INSERT INTO wafer_data.metric_series (key, resource_id, scope_id, name, unit, type, temporality, monotonic, attributes)
SELECT made.key, made.resource_id, scope_id, name, unit, type, temporality, monotonic, attributes
FROM wafer_data.metric_series, made
"""
READ = """
SELECT sum(seq_tup_read + idx_tup_fetch) FROM pg_stat_user_tables
WHERE relid IN ('wafer_data.resource'::regclass, 'wafer_data.metric_series'::regclass)
"""


async def names_read(store):
    async with store.pool.acquire() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        return await connection.fetchval(READ)


@pytest.mark.parametrize("process", [PROCESS, None], ids=["process", "service"])
async def test_points_of_a_program_are_found_without_reading_the_names_of_others(store, process):
    await store.writer.write([Batch(points=[point()])])
    await store.pool.execute(FILL, PROGRAMS)
    await store.pool.execute("ANALYZE wafer_data.resource, wafer_data.metric_series")
    wanted = MetricQuery(site=SITE, process_key=process, service="yield", from_ns=NOW - DAY, to_ns=NOW + DAY)
    before = await names_read(store)
    assert len(await store.reader.metrics(wanted)) == 1
    assert 0 < await names_read(store) - before < PROGRAMS / 10
