"""What the indexes of `run` cost and spare, where names are rare or all the same."""

from __future__ import annotations

import pytest

from wafermonitor.storage.protocol import RunQuery

pytestmark = pytest.mark.postgres
RUNS = 20_000
FILL = """
INSERT INTO wafer_data.run (trace_id, span_id, site_id, end_rank, start_time, start_unix_ns, run_id)
SELECT md5(n::text)::uuid, n, CASE WHEN n % 5000 = 0 THEN 2 ELSE 1 END, 1, at, extract(epoch FROM at) * 1000000000, 'nightly'
FROM (SELECT n, now() - n * interval '1 second' AS at FROM generate_series(1, $1) n) AS made
"""


@pytest.fixture
async def filled(store):
    """Many runs with one run id, four of them of the site `rare`."""
    await store.pool.execute("INSERT INTO wafer_data.site (name) VALUES ('common'), ('rare')")
    await store.pool.execute(FILL, RUNS)
    await store.pool.execute("ANALYZE wafer_data.run")
    return store


async def counted(store, query):
    async with store.pool.acquire() as connection:
        await connection.execute("SELECT pg_stat_force_next_flush()")
        return await connection.fetchval(query)


async def test_another_run_with_the_same_id_costs_no_more_than_the_first(filled):
    blocks = await counted(
        filled,
        "SELECT sum(idx_blks_hit + idx_blks_read) FROM pg_statio_user_indexes WHERE indexrelname ~ 'run_id_idx'",
    )
    assert 0 < blocks < RUNS * 10


async def test_runs_of_a_site_with_few_are_found_without_reading_the_others(filled):
    read = "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_user_tables WHERE relname ~ '^run_'"
    before = await counted(filled, read)
    assert len((await filled.reader.runs(RunQuery(site=("rare",)))).items) == RUNS // 5000
    assert await counted(filled, read) - before < 1000
